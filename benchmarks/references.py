"""Inference time of emitted PyTorch modules and of the same models in `transformers`.

Weights are random.  On the CPU, the time is process time on one thread, which excludes waiting for other processes.  On
a GPU, it is the time until the device is synchronized.  `--compile` adds rows with `torch.compile`.  Runs of both
modules are interleaved.  The ratio is the median over the pairs of runs, with the minimum and maximum.  Below 1, the
emitted module is faster.

    python -m benchmarks.references [--batches 1 32] [--length 128] [--pairs 7] [--compile] [--device cuda]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, ResNetConfig, ResNetForImageClassification

import archc
from archc.codegen.torch.load import load_module
from benchmarks.processes import ROOT
from benchmarks.tables import markdown

Run = Callable[[], object]
Prepare = Callable[[nn.Module], nn.Module]


def load(spec: str) -> nn.Module:
    """Compile a spec to a PyTorch module with random weights."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = archc.compile(ROOT / "specs" / f"{spec}.arch")
        compiled.write(folder, emit=("torch",))
        module: nn.Module = load_module(Path(folder) / f"{compiled.name}.py").load()
    return module


def bert(batch: int, length: int, device: str, prepare: Prepare) -> tuple[Run, Run]:
    """Return a run of the emitted and of the reference BERT base, on padded token sequences."""
    own, other = prepare(load("bert").to(device)), prepare(BertModel(BertConfig()).eval().to(device))
    tokens = torch.randint(30_522, (batch, length), device=device)
    segments = torch.zeros_like(tokens)
    mask = (torch.arange(length) < length - torch.arange(batch)[:, None]).to(device)
    return lambda: own(tokens, segments, mask), lambda: other(tokens, mask, segments)


def resnet50(batch: int, length: int, device: str, prepare: Prepare) -> tuple[Run, Run]:
    """Return runs of the emitted and the reference ResNet-50, on images of 224 × 224 pixels."""
    images: Tensor = torch.randn(batch, 3, 224, 224, device=device)
    reference = ResNetForImageClassification(ResNetConfig(num_labels=1000)).eval()
    own, other = prepare(load("resnet50").to(device)), prepare(reference.to(device))
    return lambda: own(images), lambda: other(images)


MODELS = {"BERT base": bert, "ResNet-50": resnet50}


def seconds(run: Run, device: str) -> float:
    if device == "cpu":
        start = time.process_time()
        run()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turns(own: Run, other: Run, device: str, first: int) -> tuple[float, float]:
    """Return the seconds of both runs; `other` runs first if `first` is 1.

    The order alternates, because the second run may benefit from caches.
    """
    if first:
        theirs = seconds(other, device)
        return seconds(own, device), theirs
    return seconds(own, device), seconds(other, device)


def row(name: str, batch: int, length: int, device: str, pairs: int, compiled: bool) -> list[str]:
    own, other = MODELS[name](batch, length, device, torch.compile if compiled else lambda model: model)
    for _ in range(2):  # warm-up: first runs are slower
        own(), other()
    times = [in_turns(own, other, device, first=pair % 2) for pair in range(pairs)]
    ratios = [mine / theirs for mine, theirs in times]
    return [
        name + (", `torch.compile`" if compiled else ""),
        str(batch),
        *(f"{milliseconds(statistics.median(column))} ms" for column in zip(*times, strict=True)),
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
    ]


def milliseconds(time: float) -> str:
    """Format seconds as milliseconds: two decimals below 10 ms, one below 100 ms, and none above."""
    return f"{1000 * time:,.{0 if time >= 0.1 else 1 if time >= 0.01 else 2}f}"


def run(batches: Sequence[int], length: int, device: str, pairs: int, compiled: bool) -> str:
    """Measure all models, and return the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kinds = (False, True) if compiled else (False,)
    with torch.no_grad():
        rows = [row(name, batch, length, device, pairs, kind) for name in MODELS for kind in kinds for batch in batches]
    return markdown(["", "batch", "archc", "`transformers`", "ratio"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32], help="default: 1 32")
    parser.add_argument("--length", type=int, default=128, help="length of token sequences (default: 128)")
    parser.add_argument("--pairs", type=int, default=7, help="runs of each module (default: 7)")
    parser.add_argument("--compile", action="store_true", help="also measure both modules with `torch.compile`")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    options = parser.parse_args()
    print(run(options.batches, options.length, options.device, options.pairs, options.compile))


if __name__ == "__main__":
    main()
