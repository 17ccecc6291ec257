"""Speed of recurrent layers in int8 in PyTorch and ONNX Runtime, relative to floats.

Operand and state have the same width.  The int8 layer has int8 weights, and quantizes its operands in each run.  In
ONNX Runtime, an `lstm` is `DynamicQuantizeLSTM`, and the others are a `Scan` of standard operators.  In PyTorch, `lstm`
and `gru` call `torch.quantized_lstm` and `torch.quantized_gru`, at each width, and an `rnn` calls
`torch.ops.quantized.linear_dynamic` in each step.  The weights are random.

The values of `recurrent_step` in `archc/targets` follow from the multiply-adds in a step at which both are equally fast
at batch 1.

    python -m benchmarks.recurrent_int8 [--runtimes torch onnx] [--operators lstm gru rnn] [--widths 64 128 256 512]
        [--batches 1 8]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

import archc
from archc.codegen import onnx
from archc.codegen.torch.load import load_module
from benchmarks.tables import markdown
from benchmarks.timing import interleaved

INT8 = 'quant(scheme = "weight")'
STEPS = 64
OPERATORS = ("lstm", "gru", "rnn")


def compiled(operator: str, width: int, quantized: bool) -> archc.Compiled:
    layer = f"{operator}({width}{', dynamic = (0,)' if quantized else ''})"
    text = f"model m {{ input x: f32[N, T, {width}]  output y = x -> r: {layer} }}"
    return archc.compile(text, passes=INT8 if quantized else "")


def in_onnx(made: archc.Compiled, x: np.ndarray) -> Callable[[], np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnx.to_model(made.graph).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def in_torch(made: archc.Compiled, x: np.ndarray) -> Callable[[], np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        made.write(folder, emit=("torch",), check=False)
        program = load_module(Path(folder) / "m.py")
        for name in {"Int8LSTM", "Int8GRU", "Int8RNN"} & vars(program).keys():
            getattr(program, name).least = 0
        module, operand = program.load(), torch.from_numpy(x)

    def run() -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = module(operand).numpy()
        return found

    return run


RUNTIMES = {"torch": in_torch, "onnx": in_onnx}


def row(runtime: str, operator: str, width: int, batch: int, rounds: int) -> list[str]:
    """Measure one layer."""
    x = np.random.default_rng(0).standard_normal((batch, STEPS, width), np.float32)
    calls = {name: RUNTIMES[runtime](compiled(operator, width, name == "int8"), x) for name in ("float", "int8")}
    floats, integers = (call() for call in calls.values())
    times = interleaved(calls, rounds, 0.05, time.process_time)
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[operator]
    error = float(np.linalg.norm(integers - floats) / np.linalg.norm(floats))
    return [
        {"torch": "PyTorch", "onnx": "ONNX Runtime"}[runtime],
        operator,
        f"{width}",
        f"{2 * gates * width * width:,}",
        f"{batch}",
        *(f"{times[name] / STEPS * 1e6:.1f} µs" for name in calls),
        f"{times['float'] / times['int8']:.2f}×",
        f"{error:.1%}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=list(RUNTIMES))
    parser.add_argument("--operators", nargs="+", choices=OPERATORS, default=OPERATORS)
    parser.add_argument("--widths", nargs="+", type=int, default=[64, 128, 256, 384, 512, 1024])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], help="sequences in a batch (default: 1 8)")
    parser.add_argument("--rounds", type=int, default=11, help="rounds of the timing (default: 11)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    titles = ["runtime", "operator", "width", "multiply-adds in a step", "batch"]
    titles += ["float step", "int8 step", "speed", "error"]
    rows = [
        row(runtime, operator, width, batch, options.rounds)
        for runtime in options.runtimes
        for operator in options.operators
        for width in options.widths
        for batch in options.batches
    ]
    print(markdown(titles, rows))


if __name__ == "__main__":
    main()
