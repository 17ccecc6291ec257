"""Comparison of ONNX Runtime's `quantize_dynamic` with archc's scheme `dynamic`, on one thread.

Every model has random weights.  Its float ONNX model is written in two forms: with the weights inside, as `--emit onnx`
writes it, and with weights that it shares with a safetensors file.  `quantize_dynamic` quantizes each form with its
default options.  The runs of all programs are interleaved, and timed in processor time, which depends less on other
work on the machine.

    python -m benchmarks.quantize_dynamic [--models mlp minilm] [--batches 1 32] [--length 64]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import quantize_dynamic

import archc
from archc.codegen.onnx import emit, run_session, session
from archc.driver.compiled import Compiled
from archc.interpreter.sample_inputs import random_inputs
from archc.weights import safetensors
from benchmarks.processes import ROOT
from benchmarks.tables import markdown
from benchmarks.timing import interleaved

MODELS: Mapping[str, Mapping[str, int]] = {
    "mlp": {},
    "minilm": {"vocab": 1000},
    "bert": {"vocab": 1000, "depth": 2},
    "vit": {"depth": 2},
}
"""Values of attributes by spec.  A small vocabulary and few layers save time, and change no layer."""
INSIDE, SHARED, ARCHC = "weights inside", "weights shared", 'archc `quant(scheme = "dynamic")`'
SLOWER = 0.95


@dataclass(frozen=True)
class Program:
    """ONNX model, loaded in ONNX Runtime.

    Attributes:
        bytes: size of its files, weights included.
        operators: number of its nodes by operator.
    """

    run: Callable[[Mapping[str, np.ndarray[Any, Any]]], object]
    bytes: int
    operators: Counter[str]


def loaded(path: Path) -> Program:
    """Load a model that is alone in its folder."""
    ready = session(path)
    nodes = onnx.load(path, load_external_data=False).graph.node
    size = sum(file.stat().st_size for file in path.parent.iterdir())
    return Program(lambda feeds: run_session(ready, feeds), size, Counter(node.op_type for node in nodes))


def with_shared_weights(compiled: Compiled, path: Path) -> None:
    """Write the model with its weights in a safetensors file, as for models of 100 MB or more."""
    tensors = compiled.graph.tensors
    assert tensors is not None
    file = path.with_suffix(".safetensors")
    emit(compiled.graph, path, weights_file=file, offsets=safetensors.write(file, tensors), large=1)


def programs(spec: str, folder: Path) -> tuple[Compiled, dict[tuple[str, str], Program]]:
    """The float model, and its programs by the form of their weights and by the quantizer."""
    names = [folder / name / f"{spec}.onnx" for name in ("inside", "shared", "inside-int8", "shared-int8", "archc")]
    for name in names:
        name.parent.mkdir()
    inside, shared, inside_int8, shared_int8, ours = names
    text = ROOT / "specs" / f"{spec}.arch"
    compiled = archc.compile(text, set=MODELS[spec])
    compiled.write(inside.parent, emit="onnx", check=False)
    with_shared_weights(compiled, shared)
    quantize_dynamic(inside, inside_int8)
    quantize_dynamic(shared, shared_int8)
    quantized = archc.compile(text, set=MODELS[spec], passes='quant(scheme = "dynamic")')
    quantized.write(ours.parent, emit="onnx", check=False)
    for report in folder.glob("*/report.json"):
        report.unlink()
    return compiled, {
        (INSIDE, "float"): loaded(inside),
        (INSIDE, "int8"): loaded(inside_int8),
        (SHARED, "float"): loaded(shared),
        (SHARED, "int8"): loaded(shared_int8),
        (ARCHC, "int8"): loaded(ours),
    }


def compare(spec: str, batches: list[int], length: int, rounds: int, seconds: float) -> list[list[str]]:
    """Rows of one model: three programs for each batch size."""
    with tempfile.TemporaryDirectory() as folder:
        compiled, made = programs(spec, Path(folder))
    layers = sum(node.op.name == "linear" for node in compiled.graph.nodes())
    rows = []
    for batch in batches:
        feeds = {
            name: np.resize(x, (*x.shape[:1], length)) if x.ndim == 2 and x.dtype.kind != "f" else x
            for name, x in random_inputs(compiled.graph, batch=batch).items()
        }
        calls = {" ".join(key): partial(program.run, feeds) for key, program in made.items()}
        times = interleaved(calls, rounds, seconds, time.process_time)
        for form in (INSIDE, SHARED, ARCHC):
            before = (INSIDE if form is ARCHC else form, "float")
            after = (form, "int8")
            speed = times[" ".join(before)] / times[" ".join(after)]
            rows.append(
                [
                    f"{spec}, batch {batch}, {form}",
                    f"{made[after].operators['MatMulInteger']} of {layers}",
                    *(f"{made[each].bytes / 1e6:.1f} MB" for each in (before, after)),
                    *(f"{times[' '.join(each)] * 1e3:.3f} ms" for each in (before, after)),
                    f"{speed:.2f}×{' slower' if speed < SLOWER else ''}",
                ]
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--length", type=int, default=64, help="number of tokens of a text (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=11, help="number of interleaved rounds (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=0.02, help="duration of a program in one round (default: %(default)s)"
    )
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)  # `quantize_dynamic` advises to preprocess the model
    rows = [
        row
        for spec in options.models
        for row in compare(spec, options.batches, options.length, options.rounds, options.seconds)
    ]
    head = ["", "int8 layers", "bytes, float", "bytes, int8", "latency, float", "latency, int8", "speed"]
    print(markdown(head, rows))


if __name__ == "__main__":
    main()
