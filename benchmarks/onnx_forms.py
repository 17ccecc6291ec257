"""Quantized MiniLM in ONNX, with operators of `com.microsoft` and with standard ones alone.

The script compiles MiniLM with its trained weights for each recipe, with 32 calibration sentences, and writes the
program without and with `--onnx standard`.  All programs run interleaved on one thread.  The speed is relative to the
float program.  The difference is that of the embeddings of the two forms, as a share of the largest element.

    python -m benchmarks.onnx_forms [--recipes quant 'quant(scheme = "dynamic")'] [--shapes 1x16 1x64 32x64]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

from archc.codegen.onnx.contributed import contributed_operators
from benchmarks.embeddings import compile_minilm, split
from benchmarks.tables import markdown
from benchmarks.timing import interleaved

RECIPES = ("quant", 'quant(scheme = "dynamic")', "quant(int4, group = 32)")
FLOAT = "float"
FORMS = ("microsoft", "standard")


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def write_programs(recipes: Sequence[str], folder: Path) -> dict[tuple[str, str], Path]:
    """Write the float program, and both forms of each recipe."""
    calibration = split(0, 32, 0, 64).calibration
    compile_minilm().write(folder, emit="onnx", check=False)
    paths = {(FLOAT, ""): folder / "minilm.onnx"}
    for number, recipe in enumerate(recipes):
        made = compile_minilm(recipe, calibration)
        for form in FORMS:
            made.write(folder / f"{number}_{form}", emit="onnx", check=False, onnx=form)
            paths[recipe, form] = folder / f"{number}_{form}" / "minilm.onnx"
    return paths


def table(paths: dict[tuple[str, str], Path], shapes: Sequence[tuple[int, int]], rounds: int) -> str:
    """Measure each program."""
    sessions = {key: session(path) for key, path in paths.items()}
    cells: dict[tuple[str, str], list[str]] = {key: [] for key in paths}
    difference = dict.fromkeys(paths, 0.0)
    rng = np.random.default_rng(0)
    for shape in shapes:
        feeds = {"tokens": rng.integers(1000, 30000, shape), "mask": np.ones(shape, bool)}
        results = {key: ready.run(None, feeds)[0] for key, ready in sessions.items()}
        for recipe, form in paths:
            if form == "standard":
                one, other = (results[recipe, each] for each in FORMS)
                found = float(np.abs(one - other).max() / np.abs(other).max())
                difference[recipe, form] = max(difference[recipe, form], found)
        calls = {key: partial(ready.run, None, feeds) for key, ready in sessions.items()}
        times = interleaved(calls, rounds, 0.05, time.process_time)
        for key, seconds in times.items():
            cells[key].append(f"{times[FLOAT, ''] / seconds:.2f}×")
    rows = [
        [
            f"`{recipe}`" if form else recipe,
            form or "—",
            ", ".join(name.removeprefix("com.microsoft.") for name in contributed_operators(path)) or "—",
            f"{path.stat().st_size / 1e6:.2f} MB",
            *cells[recipe, form],
            f"{difference[recipe, form]:.1e}" if form == "standard" else "",
        ]
        for (recipe, form), path in paths.items()
    ]
    speeds = [f"{count} × {tokens}" for count, tokens in shapes]
    return markdown(["recipe", "form", "operators of `com.microsoft`", "file", *speeds, "difference"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--shapes", nargs="+", default=["1x16", "1x64", "32x64"], help="sentences and tokens")
    parser.add_argument("--rounds", type=int, default=11, help="rounds of the timing (default: 11)")
    options = parser.parse_args()
    shapes = [(int(count), int(length)) for count, length in (each.split("x") for each in options.shapes)]
    with tempfile.TemporaryDirectory() as name:
        print(table(write_programs(options.recipes, Path(name)), shapes, options.rounds))


if __name__ == "__main__":
    main()
