"""Speed of recurrent layers in int8 in ONNX Runtime, relative to floats.

Operand and state have the same width.  The int8 layer has int8 weights, and quantizes its operands in each run: an
`lstm` by `DynamicQuantizeLSTM`, the others by a `Scan` of standard operators.  The weights are random.

The values of `recurrent_step` in `archc/targets/onnx.py` follow from the multiply-adds in a step at which both are
equally fast at batch 1.

    python -m benchmarks.recurrent_int8 [--operators lstm gru rnn] [--widths 64 128 256 512] [--batches 1 8]
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import numpy as np
import onnxruntime

import archc
from archc.codegen import onnx
from benchmarks.tables import markdown
from benchmarks.timing import interleaved

INT8 = 'quant(scheme = "weight")'
STEPS = 64


def session(operator: str, width: int, quantized: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    layer = f"{operator}({width}{', dynamic = (0,)' if quantized else ''})"
    text = f"model m {{ input x: f32[N, T, {width}]  output y = x -> r: {layer} }}"
    model = onnx.to_model(archc.compile(text, passes=INT8 if quantized else "").graph)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def row(operator: str, width: int, batch: int, rounds: int) -> list[str]:
    """Measure one layer."""
    sessions = {name: session(operator, width, name == "int8") for name in ("float", "int8")}
    feeds = {"x": np.random.default_rng(0).standard_normal((batch, STEPS, width), np.float32)}
    floats, integers = (ready.run(None, feeds)[0] for ready in sessions.values())
    calls = {name: partial(ready.run, None, feeds) for name, ready in sessions.items()}
    times = interleaved(calls, rounds, 0.05, time.process_time)
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[operator]
    error = float(np.linalg.norm(integers - floats) / np.linalg.norm(floats))
    return [
        operator,
        f"{width}",
        f"{2 * gates * width * width:,}",
        f"{batch}",
        *(f"{times[name] / STEPS * 1e6:.1f} µs" for name in sessions),
        f"{times['float'] / times['int8']:.2f}×",
        f"{error:.1%}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operators", nargs="+", choices=("lstm", "gru", "rnn"), default=["lstm", "gru", "rnn"])
    parser.add_argument("--widths", nargs="+", type=int, default=[64, 128, 256, 384, 512, 1024])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], help="sequences in a batch (default: 1 8)")
    parser.add_argument("--rounds", type=int, default=11, help="rounds of the timing (default: 11)")
    options = parser.parse_args()
    titles = ["operator", "width", "multiply-adds in a step", "batch", "float step", "int8 step", "speed", "error"]
    rows = [
        row(operator, width, batch, options.rounds)
        for operator in options.operators
        for width in options.widths
        for batch in options.batches
    ]
    print(markdown(titles, rows))


if __name__ == "__main__":
    main()
