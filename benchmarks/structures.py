"""Accuracy and speed of MiniLM with factorized, narrowed, replaced and masked layers.

A share is that of the linear layers: the table has what they keep of their parameters (`lowrank`), multiply-adds
(`prune` with `scheme = "channel"` or `"depth"`) or weights (`prune`).  The rest of the model, above all the embeddings,
stays as it is, so the budget of the whole model is larger.

Weights, sentences and the comparison of embeddings are those of `benchmarks.quantizers`.  Time saved is 1 minus the
ratio of the times at 32 x 64, one thread, and multiply-adds saved are those of the whole model.  `--plain` adds the
methods without data, and `--rival` torch-pruning in PyTorch, which is no requirement of archc.

    .venv/bin/pip install --no-deps --target out/rivals torch-pruning
    PYTHONPATH=out/rivals .venv/bin/python -m benchmarks.structures [--rows lowrank channel depth masks]
        [--splits 3] [--plain] [--rival] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from archc.analysis.cost import NodeCosts, cost
from archc.driver.compiled import Compiled
from benchmarks.embeddings import compile_minilm, split
from benchmarks.programs import EAGER, ONNX, Candidate
from benchmarks.quantizers import FLOAT, Key, Row, archc_candidate, latencies, measure, quiet
from benchmarks.rivals import torch_pruning_channels
from benchmarks.tables import markdown

SHAPE = (32, 64)
SIZES = {"N": 1, "T": 64}
LINEAR = 'on = "kind:linear"'
SHARES = {"lowrank": (0.8, 0.6, 0.5), "channel": (0.8, 0.7, 0.5), "depth": (0.85, 0.7)}


def recipes(kind: str, plain: bool, model: Compiled) -> dict[str, str]:
    """Pipelines by title.

    Args:
        kind: "lowrank", "channel", "depth" or "masks".
        plain: True for the plain method, which uses no data; `scheme = "depth"` has none.
    """
    graph = model.graph
    linear = [node for node in graph.nodes() if node.op.name == "linear"]
    if kind == "lowrank":
        total = cost(graph).parameters
        own = sum(graph.weights[node.weights["weight"]].size for node in linear)
        method = ', method = "svd"' if plain else ""
        budgets = {share: total - round((1 - share) * own) for share in SHARES[kind]}
        texts = {share: f"lowrank(params = {limit}, {LINEAR}{method})" for share, limit in budgets.items()}
        return {f"{share:.0%}: `lowrank`{' by plain SVD' * plain}": text for share, text in texts.items()}
    if kind in ("channel", "depth"):
        if kind == "depth" and plain:
            return {}
        costs = NodeCosts(graph, SIZES)
        total, own = cost(graph, SIZES).multiply_adds, sum(map(costs.multiply_adds, linear))
        method = ', method = "magnitude"' if plain else ""
        budgets = {share: total - round((1 - share) * own) for share in SHARES[kind]}
        texts = {share: f'prune(macs = {limit}, scheme = "{kind}"{method})' for share, limit in budgets.items()}
        what = {"channel": "channels", "depth": "depth"}[kind]
        return {f"{share:.0%}: `prune`, {what}{' by magnitude' * plain}": text for share, text in texts.items()}
    method = ', method = "magnitude"' if plain else ""
    names = {"50%": "0.5", "2:4": 'pattern = "2:4"'}
    return {
        f"{name}: `prune`{' by magnitude' * plain}": f"prune({given}, {LINEAR}{method})"
        for name, given in names.items()
    }


def table(
    titles: Mapping[str, str],
    found: Mapping[Key, Row],
    times: Mapping[Key, float],
    saved: Mapping[str, float],
) -> str:
    """Table with a row for each candidate.

    Args:
        titles: title of each candidate, by the title of its row.
        saved: multiply-adds saved, by the title of the candidate, where they are known.
    """
    lines = []
    for title, name in titles.items():
        row = found[(ONNX if (ONNX, name) in found else EAGER), name]
        if row.failure:
            lines.append([title, f"not built: {row.failure}", *["–"] * 6])
            continue
        measured = row.agreements
        lines.append(
            [
                title,
                f"{statistics.median(each.mean for each in measured):.4f}",
                f"{statistics.median(each.neighbours for each in measured):.3f}",
                f"{statistics.median(row.seconds):.0f} s",
                f"{row.bytes / 1e6:.1f} MB",
                f"{saved[name]:.0%}" if name in saved else "–",
                *(_time_saved(times, runtime, name) for runtime in (ONNX, EAGER)),
            ]
        )
    head = [
        "",
        "cosine",
        "top 10",
        "compression",
        "bytes",
        "multiply-adds saved",
        "time saved, ONNX Runtime",
        "PyTorch",
    ]
    return markdown(head, lines)


def _time_saved(times: Mapping[Key, float], runtime: str, name: str) -> str:
    if (runtime, name) not in times:
        return "–"
    return f"{1 - times[runtime, name] / times[runtime, FLOAT]:.0%}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=("lowrank", "channel", "depth", "masks"),
        default=["lowrank", "channel", "depth", "masks"],
    )
    parser.add_argument("--plain", action="store_true", help="also run the methods without data")
    parser.add_argument("--rival", action="store_true", help="also run torch-pruning, for the rows `channel`")
    parser.add_argument("--splits", type=int, default=3, help="number of random splits (default: %(default)s)")
    parser.add_argument("--calibration", type=int, default=200, help="calibration sentences (default: %(default)s)")
    parser.add_argument("--held", type=int, default=1000, help="held-out sentences (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=11, help="number of interleaved rounds (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one split, 40 calibration and 200 held-out sentences")
    parser.add_argument("--out", type=Path, default=Path("out/structures"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.quick:
        options.splits = 1
        options.calibration, options.held = min(options.calibration, 40), min(options.held, 200)
    options.out.mkdir(parents=True, exist_ok=True)
    quiet(options.out)
    torch.set_num_threads(1)
    original = compile_minilm()
    titles = {
        title: passes
        for kind in options.rows
        for plain in ((False, True) if options.plain else (False,))
        for title, passes in recipes(kind, plain, original).items()
    }
    samples = [split(seed, options.calibration, options.held, SHAPE[1]) for seed in range(options.splits)]
    macs: dict[str, int] = {}

    def count(title: str, compiled: Compiled) -> None:
        macs[title] = cost(compiled.graph, SIZES).multiply_adds

    def ours(passes: str) -> Candidate:
        title = archc_candidate(passes).title
        return archc_candidate(passes, partial(count, title))

    chosen = {title: ours(passes) for title, passes in titles.items()}
    if options.rival and "channel" in options.rows:
        chosen |= torch_pruning_channels.candidates({f"{share:.0%}": share for share in SHARES["channel"]})
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        found, programs = measure([ours(""), *chosen.values()], samples, [ONNX, EAGER], Path(folder))
        times = latencies(programs, samples[0].held_out, SHAPE, options.rounds, 0.02)
    saved = {title: 1 - count / macs[FLOAT] for title, count in macs.items()}
    print(table({row: each.title for row, each in chosen.items()}, found, times, saved))
    print(f"\nmedians of {options.splits} splits")


if __name__ == "__main__":
    main()
