"""`archc shrink` on MiniLM, beside every single method with the same limit.

Each limit is a number of bytes, or a share of the multiply-adds of the linear layers.  `shrink` and the single methods
get the same calibration sentences, and the held-out sentences are seen by none of them.  Weights, sentences and the
comparison of embeddings are those of `benchmarks.quantizers`.  A later run with the same `--out` takes the finished
rows and trials.

    .venv/bin/python -m benchmarks.shrinking [--points 23MB 14MB 10MB 0.6] [--splits 1] [--quick]
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import archc
from archc.analysis.cost import NodeCosts, cost
from archc.diagnostics import ArchcError
from archc.driver.compiled import Compiled
from archc.driver.program_bytes import bytes_of
from archc.shrinking.agreement import outputs_on
from archc.targets.registry import find_target
from benchmarks.embeddings import Array, Feeds, Split, agreement, minilm_arguments, split
from benchmarks.tables import markdown

LENGTH = 64
SIZES = {"N": 1, "T": LENGTH}
POINTS = ("23MB", "14MB", "10MB", "0.6")
SHRINK = "**`shrink`**"

Make = Callable[..., Compiled]
"""Function that compiles the model on the calibration sentences `calib`."""


@dataclass
class Row:
    """One method on one split.

    Attributes:
        passes: the pipeline; of `shrink`, the one that it chose.
        seconds: duration of the compression, and of `shrink` with its search.
        bytes: bytes of the ONNX program.
        linear_macs: share of the multiply-adds of the linear layers that remain.
        cosine, neighbours: see `benchmarks.embeddings.Agreement`.
        failure: the error, if the method cannot meet the limit.
    """

    passes: str
    seconds: float = 0.0
    bytes: int = 0
    linear_macs: float = 0.0
    cosine: float = 0.0
    neighbours: float = 0.0
    failure: str = ""


@dataclass
class Samples:
    """The sentences of a split.

    Attributes:
        expected: embeddings of the held-out sentences by the original model.
    """

    split: Split
    expected: Array


def embeddings(compiled: Compiled, feeds: Feeds) -> Array:
    """Embeddings of sentences."""
    found: Array = outputs_on(compiled.graph, feeds)["embedding"].numpy()
    return found


def linear_macs(compiled: Compiled) -> int:
    """Multiply-adds of the linear layers for one sentence."""
    costs = NodeCosts(compiled.graph, SIZES)
    return sum(costs.multiply_adds(node) for node in compiled.graph.nodes() if node.op.name == "linear")


def limit_of(point: str, original: Compiled) -> dict[str, int]:
    """The limit of a point, as an argument of `archc.shrink`."""
    if point.endswith("MB"):
        return {"under": round(float(point.removesuffix("MB")) * 1e6)}
    saved = round((1 - float(point)) * linear_macs(original))
    return {"macs": cost(original.graph, SIZES).multiply_adds - saved}


def single_methods(limit: dict[str, int]) -> list[str]:
    """Pipelines of one pass for a limit."""
    (quantity,) = limit
    budget = f"{'bytes' if quantity == 'under' else quantity} = {limit[quantity]}"
    structures = [f"lowrank({budget})", f'prune({budget}, scheme = "channel")']
    if quantity == "under":
        return [f"quant({budget})", "quant", 'quant(scheme = "dynamic")', *structures]
    return [
        *structures,
        f'lowrank({budget}, method = "svd")',
        f'prune({budget}, scheme = "channel", method = "magnitude")',
    ]


def measured(make: Make, passes: str, samples: Samples, original: Compiled, limit: dict[str, int]) -> Row:
    """Compile and compare the embeddings of held-out sentences."""
    start = time.monotonic()
    try:
        compiled = make(calib=samples.split.calibration)
    except ArchcError as failure:
        return Row(passes, time.monotonic() - start, failure=failure.diagnostics[0].message)
    passes = ", ".join(compiled.pass_texts)
    seconds, onnx = time.monotonic() - start, find_target("onnx")
    assert onnx is not None
    (size,) = bytes_of([onnx], compiled.source_name, compiled.pass_texts, compiled.form)(compiled.graph).values()
    share = linear_macs(compiled) / linear_macs(original)
    if size > limit.get("under", size):
        return Row(passes, seconds, size, share, failure=f"{size / 1e6:.1f} MB")
    agrees = agreement(embeddings(compiled, samples.split.held_out), samples.expected)
    return Row(passes, seconds, size, share, agrees.mean, agrees.neighbours)


def searched(given: dict[str, Any], limit: dict[str, Any], folder: Path, time: str, calib: Feeds) -> Compiled:
    """The model that `archc.shrink` chooses."""

    def progress(step: str) -> None:
        if step.startswith("round"):
            logging.info("  %s", step)

    found = archc.shrink(**given, **limit, calib=calib, output=folder, timed=False, time=time, progress=progress)
    assert found.compiled is not None, "at least the model without passes can be compiled"
    return found.compiled


def table(rows: dict[str, dict[str, list[Row]]]) -> str:
    """Table with a row for each method at each point; medians over the splits."""
    lines = []
    for point, methods in rows.items():
        limit = point if point.endswith("MB") else f"{float(point):.0%}"
        for method, found in methods.items():
            failed = next((row for row in found if row.failure), None)
            title = method if method == SHRINK else f"`{method}`"
            if failed is not None:
                lines.append([limit, f"{title}: {failed.failure}", *["–"] * 5])
                continue
            chosen = "" if method != SHRINK else f": `{found[0].passes}`"
            lines.append(
                [
                    limit,
                    title + chosen,
                    f"{statistics.median(row.cosine for row in found):.4f}",
                    f"{statistics.median(row.neighbours for row in found):.3f}",
                    f"{statistics.median(row.bytes for row in found) / 1e6:.2f} MB",
                    f"{statistics.median(row.linear_macs for row in found):.0%}",
                    f"{statistics.median(row.seconds for row in found):.0f} s",
                ]
            )
    return markdown(["limit", "method", "cosine", "top 10", "bytes", "linear multiply-adds", "time"], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", nargs="+", default=POINTS, help="limits (default: %(default)s)")
    parser.add_argument("--splits", type=int, default=1, help="number of random splits (default: %(default)s)")
    parser.add_argument("--calibration", type=int, default=200, help="calibration sentences (default: %(default)s)")
    parser.add_argument("--held", type=int, default=1000, help="held-out sentences (default: %(default)s)")
    parser.add_argument("--time", default="1h", help="limit on each search (default: %(default)s)")
    parser.add_argument("--no-singles", action="store_true", help="leave out the single methods")
    parser.add_argument("--quick", action="store_true", help="40 calibration and 200 held-out sentences, 10MB and 0.6")
    parser.add_argument("--out", type=Path, default=Path("out/shrinking"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.quick:
        options.calibration, options.held = min(options.calibration, 40), min(options.held, 200)
        options.points = options.points if options.points is not POINTS else POINTS[2:]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    given = {**minilm_arguments(), "emit": ["onnx"]}
    original = archc.compile(**given)
    rows: dict[str, dict[str, list[Row]]] = {}
    for seed in range(options.splits):
        sentences = split(seed, options.calibration, options.held, LENGTH)
        samples = Samples(sentences, embeddings(original, sentences.held_out))
        for point in options.points:
            limit = limit_of(point, original)
            folder = options.out / f"{options.calibration}-{seed}-{point}"
            methods: dict[str, Make] = {SHRINK: partial(searched, given, limit, folder, options.time)}
            for passes in () if options.no_singles else single_methods(limit):
                methods[passes] = partial(archc.compile, **given, passes=passes)
            for method, make in methods.items():
                measure = partial(measured, make, method, samples, original, limit)
                earlier = recorded_seconds(folder / "trials.json") if method == SHRINK else 0.0
                row = kept(folder / "rows.json", f"{method} {options.held}", measure, earlier)
                logging.info("%s %s: %s", point, method, row)
                rows.setdefault(point, {}).setdefault(method, []).append(row)
    print(table(rows))
    print(
        f"\nmedians of {options.splits} splits, {options.calibration} calibration and {options.held} held-out sentences"
    )


def recorded_seconds(file: Path) -> float:
    """Duration of the trials of an interrupted search."""
    trials = json.loads(file.read_text())["trials"] if file.exists() else []
    return sum(float(trial["seconds"]) for trial in trials)


def kept(file: Path, name: str, measure: Callable[[], Row], earlier: float) -> Row:
    """A row of an earlier run, or a new one.

    Args:
        earlier: seconds that an interrupted run took.
    """
    known = json.loads(file.read_text()) if file.exists() else {}
    if name not in known:
        row = measure()
        known[name] = asdict(replace(row, seconds=row.seconds + earlier))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(known, indent=2))
    return Row(**known[name])


if __name__ == "__main__":
    main()
