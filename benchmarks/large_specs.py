"""Time and memory to compile and show the largest specs, without allocating weights.

Compiling emits PyTorch source and `.arch` text.  Each run is a separate process, so figures include the start of
Python.  The table has the minimum process time on one thread and the maximum peak memory over several runs.

    python -m benchmarks.large_specs [--runs 3]
"""

from __future__ import annotations

import argparse

import archc
from archc.analysis.cost import cost
from benchmarks.processes import ROOT, Usage, measure
from benchmarks.tables import markdown

MODELS = {"gpt2_xl": "gpt2", "bert_large": "bert", "llama": "llama", "llama3_8b": "llama"}
"""Spec of each model."""


def sources(spec: str, model: str) -> Usage:
    """Measure the generation of all source texts."""
    return measure(["-c", f"import archc; archc.compile('specs/{spec}.arch', model={model!r}).sources()"])


def show(spec: str, model: str) -> Usage:
    """Measure `archc show`."""
    return measure(["-m", "archc", "show", f"specs/{spec}.arch", "--model", model])


def row(model: str, runs: int) -> list[str]:
    spec = MODELS[model]
    parameters = cost(archc.parse(ROOT / "specs" / f"{spec}.arch", model)).parameters
    cells = [f"`{model}`", f"{parameters / 1e9:.2f} billion"]
    for task in (sources, show):
        usages = [task(spec, model) for _ in range(runs)]
        cells += [f"{min(usage.seconds for usage in usages):.1f} s", f"{max(u.peak for u in usages) / 1e6:,.0f} MB"]
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="processes for each figure (default: 3)")
    runs = parser.parse_args().runs
    head = ["", "parameters", "`.py` and `.arch`", "peak", "`archc show`", "peak"]
    print(markdown(head, [row(model, runs) for model in MODELS]))


if __name__ == "__main__":
    main()
