"""Speed of convolutional networks that lose whole channels, beside torch-pruning.

The networks keep 70 % of their multiply-adds.  They have random weights with a fixed seed, and see images of
224 × 224.  Both tools rank channels by the norms of their weights over the whole network, and round widths to multiples
of 16.  torch-pruning narrows the module that archc emitted, in steps, until at most the same share is left.  All
programs run on one thread with interleaved runs.  The table has the median of the processor times, and its share of the
network before pruning.

torch-pruning is no requirement of archc, and is left out if it is not installed.  Its ONNX models come from
`torch.onnx.export`.

    .venv/bin/pip install --no-deps --target out/rivals torch-pruning
    PYTHONPATH=out/rivals .venv/bin/python -m benchmarks.narrowed_cnns [--models resnet18 mobilenet_v2]
        [--share 0.7] [--batches 1 8] [--rounds 15]
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import archc
from archc.analysis.cost import cost
from archc.codegen.onnx import run_session, session
from archc.codegen.torch.load import load_module
from benchmarks.processes import ROOT
from benchmarks.tables import markdown
from benchmarks.timing import interleaved

MODELS = ("resnet18", "mobilenet_v2")
BEFORE, OURS, PEER = "as it is", "archc", "torch-pruning"
MULTIPLE = 16
STEPS = 40
"""Number of steps in which torch-pruning removes its largest share of channels."""


@dataclass(frozen=True)
class Narrowed:
    """Network in both runtimes.

    Attributes:
        share: multiply-adds, as a share of those of the network before pruning.
    """

    module: nn.Module
    path: Path
    share: float


def by_archc(model: str, share: float, side: int, folder: Path) -> dict[str, Narrowed]:
    """The network as it is, and narrowed by archc."""
    passes = {BEFORE: "", OURS: f'prune(macs = {share}, scheme = "channel", method = "magnitude")'}
    sizes, found, total = {"H": side, "W": side}, {}, 0
    for title, text in passes.items():
        compiled = archc.compile(ROOT / "specs" / f"{model}.arch", passes=text, sizes=sizes)
        name, count = compiled.name, cost(compiled.graph, {"N": 1, **sizes}).multiply_adds
        total = total or count
        compiled.write(folder / title.replace(" ", "-"), check=False)
        path = folder / title.replace(" ", "-") / f"{name}.py"
        found[title] = Narrowed(load_module(path).load(), path.with_suffix(".onnx"), count / total)
    return found


def by_torch_pruning(module: nn.Module, share: float, image: torch.Tensor, folder: Path) -> Narrowed:
    """The network narrowed by torch-pruning, by the norms of weights over the whole network.

    Args:
        module: an emitted module, which changes.
    """
    import torch_pruning

    before, _ = torch_pruning.utils.count_ops_and_params(module, image)
    pruner = torch_pruning.pruner.MagnitudePruner(
        module,
        image,
        torch_pruning.importance.MagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=0.9,
        iterative_steps=STEPS,
        round_to=MULTIPLE,
        ignored_layers=[layer for layer in module.modules() if isinstance(layer, nn.Linear)],
    )
    after = before
    while after > share * before:
        pruner.step()
        after, _ = torch_pruning.utils.count_ops_and_params(module, image)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "narrowed.onnx"
    names = {"input_names": ["image"], "dynamic_axes": {"image": {0: "N"}}}
    torch.onnx.export(module, (image,), path, dynamo=False, **names)
    return Narrowed(module, path, after / before)


def rows(model: str, found: dict[str, Narrowed], batches: Sequence[int], side: int, rounds: int) -> list[list[str]]:
    """Table row for each network and batch size."""
    lines = []
    for batch in batches:
        image = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))
        feeds = {"image": image.numpy()}
        calls: dict[str, dict[str, Callable[[], Any]]] = {"PyTorch": {}, "ONNX Runtime": {}}
        for title, each in found.items():
            calls["PyTorch"][title] = partial(each.module, image)
            calls["ONNX Runtime"][title] = partial(run_session, session(each.path), feeds)
        with torch.inference_mode():
            times = [interleaved(each, rounds, 0.02, time.process_time) for each in calls.values()]
        for title, each in found.items():
            cells = [f"{time[title] * 1e3:.2f} ms ({time[title] / time[BEFORE]:.2f})" for time in times]
            lines.append([model, str(batch), title, f"{each.share:.2f}", *cells])
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, help="specs (default: resnet18 mobilenet_v2)")
    parser.add_argument("--share", type=float, default=0.7, help="multiply-adds that remain (default: %(default)s)")
    parser.add_argument("--side", type=int, default=224, help="height and width of images (default: %(default)s)")
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 8), help="batch sizes (default: 1 8)")
    parser.add_argument("--rounds", type=int, default=15, help="number of interleaved rounds (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/narrowed_cnns"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    lines = []
    for model in options.models:
        folder = options.out / model
        found = by_archc(model, options.share, options.side, folder)
        if importlib.util.find_spec("torch_pruning"):
            image = torch.randn(1, 3, options.side, options.side)
            module = load_module(next((folder / BEFORE.replace(" ", "-")).glob("*.py"))).load()
            found[PEER] = by_torch_pruning(module, options.share, image, folder / PEER)
        lines += rows(model, found, options.batches, options.side, options.rounds)
    print(markdown(["model", "batch", "channels", "multiply-adds", "PyTorch", "ONNX Runtime"], lines))


if __name__ == "__main__":
    main()
