"""Latency of quantized models relative to float ones, in PyTorch and ONNX Runtime, on one thread.

Every model is compiled with random weights, without passes and with each pipeline.  The runs of its programs are
interleaved, and timed in processor time, which depends less on other work on the machine.  The table has the median
latency and, in brackets, the speed relative to the float program in the same runtime.  Speeds below 0.95 are marked as
slower.

With `--widths`, the models are perceptrons of five layers of these widths, which show the width from which int8 is
faster.  `--between` replaces the `relu` between the layers by another function.

    python -m benchmarks.int8_models [--models cnn resnet18] [--batches 1 32] [--pipelines quant]
    python -m benchmarks.int8_models --widths 256 512 [--between tanh]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import archc
from archc.codegen import onnx
from archc.codegen.torch.load import load_module
from benchmarks.processes import ROOT
from benchmarks.tables import markdown
from benchmarks.timing import interleaved

MODELS: Mapping[str, tuple[int, ...]] = {
    "cnn": (1, 28, 28),
    "mlp": (784,),
    "lenet5": (1, 28, 28),
    "resnet18": (3, 64, 64),
}
"""Shape of one input, without the batch axis, by spec."""
WIDE = ("quant(least = 0)", 'quant(scheme = "dynamic", least = 0)', "quant")
PIPELINES = ("quant", 'quant(scheme = "dynamic")', 'quant(scheme = "weight")', "lowrank(ratio = 0.25), quant")
SLOWER = 0.95


@dataclass(frozen=True)
class Model:
    """Spec with attribute values.

    Attributes:
        size: shape of one input, without the batch axis.
        values: values of the attributes of the spec.
        between: operator that replaces each `relu`.
    """

    spec: str
    size: tuple[int, ...]
    values: Mapping[str, int] = field(default_factory=dict)
    between: str = "relu"

    @property
    def title(self) -> str:
        width = "".join(f", {name} {value}" for name, value in self.values.items() if name == "width")
        return self.spec + width + (f", `{self.between}`" if self.between != "relu" else "")

    @property
    def text(self) -> Path | str:
        path = ROOT / "specs" / f"{self.spec}.arch"
        return path if self.between == "relu" else path.read_text(encoding="utf-8").replace("relu", self.between)


def perceptron(width: int, between: str) -> Model:
    return Model("mlp", (width,), {"features": width, "width": width, "depth": 4}, between)


@dataclass(frozen=True)
class Program:
    """Compiled model, loaded in both runtimes."""

    title: str
    in_torch: Callable[[np.ndarray[Any, Any]], object]
    in_onnxruntime: Callable[[np.ndarray[Any, Any]], object]


def load(model: Model, passes: str, folder: Path) -> Program:
    """Compile a model with a pipeline, write the programs, and load them."""
    feed = next(iter(archc.parse(model.text).inputs)).name or ""
    calibration = {feed: np.random.default_rng(1).standard_normal((16, *model.size), np.float32)}
    compiled = archc.compile(model.text, set=model.values, passes=passes, calib=calibration if passes else None)
    compiled.write(folder, emit=("torch", "onnx"))
    module = load_module(folder / f"{model.spec}.py").load()
    session = onnx.session(folder / f"{model.spec}.onnx")

    def in_torch(x: np.ndarray[Any, Any]) -> object:
        with torch.inference_mode():
            return module(torch.from_numpy(x))

    return Program(passes or "float", in_torch, lambda x: session.run(None, {feed: x}))


def compare(model: Model, batch: int, programs: list[Program], rounds: int, seconds: float) -> list[list[str]]:
    """Rows of one model at one batch size; the first program is the reference of the speeds."""
    x = np.random.default_rng(0).standard_normal((batch, *model.size), np.float32)
    times = [
        interleaved({program.title: partial(run, x) for program, run in runs}, rounds, seconds, time.process_time)
        for runs in (
            [(program, program.in_torch) for program in programs],
            [(program, program.in_onnxruntime) for program in programs],
        )
    ]
    reference = programs[0].title
    return [
        [
            f"{model.title}, batch {batch}" + (f", `{program.title}`" if program.title != reference else ""),
            *(_cell(runtime[program.title], runtime[reference]) for runtime in times),
        ]
        for program in programs
    ]


def _cell(seconds: float, reference: float) -> str:
    ratio = reference / seconds
    return f"{seconds * 1e3:.3f} ms ({ratio:.2f}×{' slower' if ratio < SLOWER else ''})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument(
        "--widths", nargs="+", type=int, default=[], help="widths of perceptrons, which replace the models"
    )
    parser.add_argument("--between", default="relu", help="operator between the layers (default: %(default)s)")
    parser.add_argument("--pipelines", nargs="+", help="default: PIPELINES, or WIDE with --widths")
    parser.add_argument("--rounds", type=int, default=11, help="number of interleaved rounds (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=0.02, help="duration of a program in one round (default: %(default)s)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[list[str]] = []
    models = [perceptron(width, options.between) for width in options.widths] or [
        Model(name, MODELS[name]) for name in options.models
    ]
    pipelines = options.pipelines or (WIDE if options.widths else PIPELINES)
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            programs = [
                load(model, passes, Path(folder) / str(number)) for number, passes in enumerate(["", *pipelines])
            ]
            for batch in options.batches:
                rows += compare(model, batch, programs, options.rounds, options.seconds)
    print(markdown(["", "PyTorch", "ONNX Runtime"], rows))


if __name__ == "__main__":
    main()
