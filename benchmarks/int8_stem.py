"""Latency of the int8 im2col form of a first convolution, and a profile of the digit classifier.

The script prints two tables, measured in ONNX Runtime on one thread with interleaved runs.  Speeds in brackets are
relative to the float program.

1. Networks of two convolutions on small images, in three forms: in float; in int8 with the first convolution and its
   pool in float; and in int8 with the first convolution as one integer matrix product of im2col patches.  The third
   form is measured even if the emitter would choose the second form.
2. The slowest nodes of the compressed digit classifier.

    python -m benchmarks.int8_stem [--batches 1 8 32] [--rounds 31] [--nodes 12]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime

import archc
from archc.codegen import onnx
from archc.codegen.onnx.int8 import stems
from archc.driver.compiled import Compiled
from benchmarks.processes import ROOT
from benchmarks.tables import markdown
from benchmarks.timing import interleaved

NETS = ((1, 3, 32), (1, 3, 16), (1, 5, 32), (3, 3, 32))
"""Image channels, kernel size and output channels of the first convolution."""
TEXT = """
model net {{
    input image: f32[N, {channels}, 28, 28]
    x = image -> conv1: conv2d({out}, {kernel}) -> relu -> max_pool2d(2)
    output logits: f32[N, 10] = x -> conv2: conv2d(64, 3) -> relu -> max_pool2d(2) -> flatten -> fc: linear(10)
}}
"""
ALWAYS = {"LONGEST_PATCH": 10**6, "LEAST_RESULTS": 0}
NEVER = {"LONGEST_PATCH": 0}


def compiled(text: str | Path, channels: int, passes: str) -> Compiled:
    """Compile a network with random weights, calibrated on random images."""
    images = np.random.default_rng(1).standard_normal((16, channels, 28, 28), np.float32)
    return archc.compile(text, passes=passes, calib={"image": images} if passes else None)


def session(model: Compiled, limits: Mapping[str, int]) -> onnxruntime.InferenceSession:
    """Emit a model with other limits for im2col, and open it in ONNX Runtime.

    Args:
        limits: values of constants of `archc.codegen.onnx.int8.stems`, by name.
    """
    with ExitStack() as changed, tempfile.TemporaryDirectory() as folder:
        for name, value in limits.items():
            changed.enter_context(patch.object(stems, name, value))
        model.write(folder, emit=("onnx",))
        return onnx.session(Path(folder) / f"{model.name}.onnx")


def row(
    title: str, sessions: Mapping[str, onnxruntime.InferenceSession], channels: int, batch: int, rounds: int
) -> list[str]:
    """Table row with the latency of each session, and speeds relative to the first."""
    x = np.random.default_rng(0).standard_normal((batch, channels, 28, 28), np.float32)
    runs = {name: partial(made.run, None, {"image": x}) for name, made in sessions.items()}
    seconds = interleaved(runs, rounds)
    first, *others = seconds.values()
    return [title, str(batch), f"{first * 1e3:.3f} ms", *(f"{s * 1e3:.3f} ms ({first / s:.2f}×)" for s in others)]


def stem_rows(batches: Sequence[int], rounds: int) -> list[list[str]]:
    rows = []
    for channels, kernel, out in NETS:
        text = TEXT.format(channels=channels, kernel=kernel, out=out)
        floats, integers = compiled(text, channels, ""), compiled(text, channels, "quant")
        sessions = {
            "float": session(floats, {}),
            "in floats": session(integers, NEVER),
            "patches": session(integers, ALWAYS),
        }
        title = f"{channels} → {out}, {kernel}×{kernel}"
        rows += [row(title, sessions, channels, batch, rounds) for batch in batches]
    return rows


def nodes(batch: int, count: int) -> list[list[str]]:
    """Slowest nodes of the digit classifier with `lowrank(ratio = 0.5), quant`, in microseconds."""
    model = compiled(ROOT / "specs" / "cnn.arch", 1, "lowrank(ratio = 0.5), quant")
    x = np.random.default_rng(0).standard_normal((batch, 1, 28, 28), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        model.write(folder, emit=("onnx",))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        path = str(Path(folder) / f"{model.name}.onnx")
        made = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for _ in range(200):
            made.run(None, {"image": x})
        events: list[dict[str, Any]] = json.loads(Path(made.end_profiling()).read_text())
    spent: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]].append(event["dur"])
    each = sorted(((median(times), *key) for key, times in spent.items()), reverse=True)
    shown = [[name, kind, f"{time:.0f}"] for time, name, kind in each[:count]]
    return [*shown, ["all nodes", "", f"{sum(time for time, *_ in each):.0f}"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32], help="default: 1 8 32")
    parser.add_argument("--rounds", type=int, default=31, help="number of interleaved rounds (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=12, help="number of listed nodes (default: %(default)s)")
    options = parser.parse_args()
    print(
        markdown(
            ["first convolution", "batch", "float", "int8, first convolution in float", "int8, patches"],
            stem_rows(options.batches, options.rounds),
        )
    )
    print()
    print(markdown(["node at batch 32", "kernel", "µs"], nodes(32, options.nodes)))


if __name__ == "__main__":
    main()
