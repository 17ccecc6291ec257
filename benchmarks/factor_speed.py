"""Speed of layers with two factors, of the largest rank that `lowrank` accepts under a budget.

`lowrank` refuses ranks for which its cost model expects a slower layer.  Factors of a smaller rank are faster, so the
largest accepted rank shows whether the model is right: no layer of the table may be slower than before.  A second rank
is half of it.  Times are processor times of interleaved runs on one thread; the table has their ratios to the dense
layer, and 1 is the same speed.

    .venv/bin/python -m benchmarks.factor_speed [--batches 1 32] [--rounds 15]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

import archc
from archc.analysis.cost import cost
from archc.codegen.onnx import run_session, session
from archc.codegen.torch.load import load_module
from archc.passes._low_rank_matrices import matrices_of_layers
from benchmarks.tables import markdown
from benchmarks.timing import interleaved

TEXT = """
model single() {{
    input x: f32[N, {shape}]
    output y = x -> fc: {layer}
}}
"""
LAYERS: tuple[tuple[tuple[int, ...], str], ...] = (
    *(((n,), f"linear({m})") for n, m in ((256, 64), (512, 512), (1024, 1024), (384, 1536), (1536, 384), (4096, 1024))),
    *(((64, n), f"linear({m})") for n, m in ((384, 384), (384, 1536), (1536, 384))),
    ((16, 28, 28), "conv2d(32, 3, padding = 1)"),
    ((64, 56, 56), "conv2d(64, 3, padding = 1)"),
    ((128, 28, 28), "conv2d(128, 3, padding = 1)"),
    ((256, 14, 14), "conv2d(256, 3, padding = 1)"),
    ((256, 14, 14), "conv2d(1024, 1)"),
    ((64, 128), "conv1d(128, 9, padding = 4)"),
)
"""Shape of a sample, and layer."""
RUNTIMES = {"ONNX Runtime": "onnx", "PyTorch": "torch"}
"""Target by runtime."""
STEP = 8


@dataclass(frozen=True)
class Factored:
    """Layer in one runtime.

    Attributes:
        multiply_adds: those for a sample.
    """

    run: Callable[[Any], Any]
    multiply_adds: int


def accepted_rank(text: str, batch: int) -> int | None:
    """The largest multiple of 8 with a faster layer, according to the cost model of `lowrank`."""
    graph = archc.parse(text)
    (matrices,) = matrices_of_layers(graph, {"N": batch}).values()
    assert not isinstance(matrices, str), matrices
    (matrix,) = matrices
    ranks = range(STEP, matrix.full_rank, STEP)
    fits = [rank for rank in ranks if not (matrix.obstacle_to_size(rank) or matrix.obstacle_to_speed(rank))]
    return max(fits, default=None)


def factored(text: str, rank: int | None, target: str, folder: Path) -> Factored:
    """Compile a layer, with two factors if there is a rank."""
    passes = "" if rank is None else f'lowrank(rank = {rank}, method = "svd")'
    compiled = archc.compile(text, passes=passes)
    compiled.write(folder, emit=target, check=False)
    if target == "onnx":
        ready = session(folder / "single.onnx")
        run: Callable[[Any], Any] = lambda x: run_session(ready, {"x": x})  # noqa: E731
    else:
        module = load_module(folder / "single.py").load()
        run = lambda x: module(torch.from_numpy(x))  # noqa: E731
    return Factored(run, cost(compiled.graph, {"N": 1}).multiply_adds)


def rows(shape: tuple[int, ...], layer: str, batch: int, runtime: str, rounds: int) -> list[list[str]]:
    """Table row for each of two accepted ranks of a layer."""
    text, target = TEXT.format(shape=", ".join(map(str, shape)), layer=layer), RUNTIMES[runtime]
    largest = accepted_rank(text, batch)
    start = [f"{layer} of {'×'.join(map(str, shape))}", str(batch), runtime]
    if largest is None:
        return [[*start, "stays dense", "1.00", "1.00"]]
    ranks = [largest, *([largest // 2 // STEP * STEP] if largest >= 2 * STEP else [])]
    with tempfile.TemporaryDirectory() as folder:
        found = {rank: factored(text, rank, target, Path(folder, str(rank))) for rank in (None, *ranks)}
    x = np.random.default_rng(0).standard_normal((batch, *shape), np.float32)
    with torch.inference_mode():
        calls = {str(rank): partial(each.run, x) for rank, each in found.items()}
        times = interleaved(calls, rounds, 0.01, time.process_time)
    dense = found[None].multiply_adds
    return [
        [
            *start,
            f"rank {rank}",
            f"{found[rank].multiply_adds / dense:.2f}",
            f"{times[str(rank)] / times['None']:.2f}",
        ]
        for rank in ranks
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 32), help="batch sizes (default: 1 32)")
    parser.add_argument("--rounds", type=int, default=15, help="number of interleaved rounds (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=len(LAYERS), help="only the first layers of the table")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cases = product(LAYERS[: options.layers], options.batches, RUNTIMES)
    lines = [
        row for (shape, layer), batch, runtime in cases for row in rows(shape, layer, batch, runtime, options.rounds)
    ]
    print(markdown(["layer", "batch", "runtime", "form", "multiply-adds", "time"], lines))


if __name__ == "__main__":
    main()
