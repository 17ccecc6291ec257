"""Forms of int4 weights in ONNX: size, load time, memory, speed and error in ONNX Runtime.

`quant(int4, method = "rtn")` quantizes MiniLM, with its trained weights.  The linear layers get one of these forms:

- `MatMulNBits`, a kernel of ONNX Runtime that decodes the weight in each run: the form of `archc compile`.
- Nodes that unpack the weight, and `MatMul`: the form of `archc compile --onnx standard`.  ONNX Runtime runs these
  nodes when it loads the model.
- `DequantizeLinear` with blocks of opset 21, and `MatMul`: ONNX Runtime fuses both into a `MatMulNBits`, which by
  default also rounds the operand to int8.  archc does not emit this form; the script derives it.

A new process loads each model; its peak memory is counted from the start of the load.  The error is the largest
difference of an embedding from that of the unpacked form, as a share of the largest element.

    python -m benchmarks.packed_weights [--group 32] [--shapes 1x1 1x16 1x64 32x64]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from archc.types.storage.packed import pack, unpack
from benchmarks.embeddings import compile_minilm
from benchmarks.tables import markdown
from benchmarks.timing import interleaved

LEVEL = "session.qdq_matmulnbits_accuracy_level"
"""Session option with the accuracy level of fused `DequantizeLinear`; 1 keeps the operand in floats."""
LOAD = f"""import onnxruntime, re, sys, time
def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
if sys.argv[2]:
    options.add_session_config_entry("{LEVEL}", sys.argv[2])
before, start = kilobytes("VmRSS"), time.process_time()
onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
print(time.process_time() - start, (kilobytes("VmHWM") - before) * 1024)
"""
"""Program that prints the seconds and the memory in bytes that loading a model takes, on Linux."""
FLOAT, UNPACKED = "float", "unpacked by nodes"


def with_blocks(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace each `MatMulNBits` by a `DequantizeLinear` with blocks, a `MatMul` and an `Add`."""
    graph = model.graph
    tensors = {each.name: each for each in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "MatMulNBits":
            nodes.append(node)
            continue
        path = node.input[5].removesuffix("bias") + "weight"
        sizes = {each.name: each.i for each in node.attribute}
        columns, block = sizes["K"], sizes["block_size"]
        packed, zero_point = (onnx.numpy_helper.to_array(tensors[name]) for name in (path, f"{path}_zero_point"))
        scale = onnx.numpy_helper.to_array(tensors[f"{path}_scale"])
        for name in (path, f"{path}_scale", f"{path}_zero_point"):
            graph.initializer.remove(tensors[name])
        graph.initializer.extend(
            [
                _int4(path, unpack(packed, columns, 4).T),
                _int4(f"{path}_zero_point", unpack(zero_point, -(-columns // block), 4).T),
                onnx.numpy_helper.from_array(np.ascontiguousarray(scale.T), f"{path}_scale"),
            ]
        )
        make = onnx.helper.make_node
        stored = [path, f"{path}/scale", f"{path}_zero_point"]
        nodes += [
            make("Cast", [f"{path}_scale"], [stored[1]], to=onnx.TensorProto.FLOAT),
            make("DequantizeLinear", stored, [f"{path}/floats"], axis=0, block_size=block),
            make("MatMul", [node.input[0], f"{path}/floats"], [f"{path}/product"]),
            make("Add", [f"{path}/product", node.input[5]], [node.output[0]]),
        ]
    used = {name for node in nodes for name in node.input} | {each.name for each in graph.output}
    del graph.node[:]
    graph.node.extend(node for node in nodes if used.intersection(node.output))
    return model


def _int4(name: str, q: np.ndarray[Any, Any]) -> onnx.TensorProto:
    flat = np.ascontiguousarray(q).reshape(1, -1)
    return onnx.TensorProto(name=name, data_type=onnx.TensorProto.UINT4, dims=q.shape, raw_data=pack(flat, 4).tobytes())


def session(path: Path, level: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if level:
        options.add_session_config_entry(LEVEL, level)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def loading(path: Path, level: str, count: int) -> tuple[float, float]:
    """Median seconds and peak memory in bytes of loading a model, each time in a new process."""
    command = [sys.executable, "-c", LOAD, str(path), level]
    printed = [subprocess.run(command, capture_output=True, check=True, text=True).stdout for _ in range(count)]
    seconds, memory = zip(*(map(float, line.split()) for line in printed), strict=True)
    return statistics.median(seconds), statistics.median(memory)


def write_forms(group: int, folder: Path) -> Mapping[str, tuple[Path, str]]:
    """Write the model in each form; return its path and the accuracy level of fused nodes by title."""
    int4 = compile_minilm(f'quant(int4, group = {group}, method = "rtn")')
    compile_minilm().write(folder / "float", emit="onnx", check=False)
    int4.write(folder / "standard", emit="onnx", check=False, onnx="standard")
    int4.write(folder / "microsoft", emit="onnx", check=False)
    kernel = folder / "microsoft" / "minilm.onnx"
    onnx.save(with_blocks(onnx.load(kernel)), folder / "blocks.onnx")
    return {
        FLOAT: (folder / "float" / "minilm.onnx", ""),
        UNPACKED: (folder / "standard" / "minilm.onnx", ""),
        "`MatMulNBits`": (kernel, ""),
        "`DequantizeLinear`": (folder / "blocks.onnx", ""),
        "`DequantizeLinear`, session option for float operands": (folder / "blocks.onnx", "1"),
    }


def table(forms: Mapping[str, tuple[Path, str]], shapes: Sequence[tuple[int, int]], rounds: int, count: int) -> str:
    """Measure each form; speeds are relative to the float model."""
    loads = {title: loading(path, level, count) for title, (path, level) in forms.items()}
    sessions = {title: session(path, level) for title, (path, level) in forms.items()}
    speeds: dict[str, list[str]] = {title: [] for title in forms}
    errors = dict.fromkeys(forms, 0.0)
    rng = np.random.default_rng(0)
    for shape in shapes:
        feeds = {"tokens": rng.integers(1000, 30000, shape), "mask": np.ones(shape, bool)}
        results = {title: ready.run(None, feeds)[0] for title, ready in sessions.items()}
        exact = results[UNPACKED]
        for title, found in results.items():
            errors[title] = max(errors[title], float(np.abs(found - exact).max() / np.abs(exact).max()))
        calls = {title: partial(ready.run, None, feeds) for title, ready in sessions.items()}
        times = interleaved(calls, rounds, 0.05, time.process_time)
        for title, seconds in times.items():
            speeds[title].append(f"{times[FLOAT] / seconds:.2f}×")
    rows = [
        [
            title,
            f"{path.stat().st_size / 1e6:.1f} MB",
            f"{loads[title][0]:.2f} s",
            f"{loads[title][1] / 1e6:.0f} MB",
            *speeds[title],
            f"{errors[title]:.1e}",
        ]
        for title, (path, _) in forms.items()
    ]
    return markdown(["", "file", "load", "peak memory", *(f"{n} × {t}" for n, t in shapes), "error"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", type=int, default=32, help="elements with a common scale (default: 32)")
    parser.add_argument(
        "--shapes", nargs="+", default=["1x1", "1x16", "1x64", "32x64"], help="sentences and tokens of the timed runs"
    )
    parser.add_argument("--rounds", type=int, default=15, help="rounds of the timing (default: 15)")
    parser.add_argument("--loads", type=int, default=5, help="processes that load each model (default: 5)")
    options = parser.parse_args()
    shapes = [(int(count), int(length)) for count, length in (each.split("x") for each in options.shapes)]
    with tempfile.TemporaryDirectory() as name:
        print(table(write_forms(options.group, Path(name)), shapes, options.rounds, options.loads))


if __name__ == "__main__":
    main()
