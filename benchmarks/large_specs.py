"""What the largest specs take to become PyTorch source and `.arch` text, and to be shown; no weight is allocated.

Process time on one thread, the least of several runs, and the peak of memory, each of a process of its own, and so
with the start of Python.

    python -m benchmarks.large_specs [--runs 3]
"""

from __future__ import annotations

import argparse

import archc
from archc.analysis.cost import cost
from benchmarks.processes import ROOT, Usage, measure
from benchmarks.tables import markdown

MODELS = {"gpt2_xl": "gpt2", "bert_large": "bert", "llama": "llama", "llama3_8b": "llama"}
"""The specs by the names of their models."""


def sources(spec: str, model: str) -> Usage:
    """What it takes to make the texts."""
    return measure(["-c", f"import archc; archc.compile('specs/{spec}.arch', model={model!r}).sources()"])


def show(spec: str, model: str) -> Usage:
    """What `archc show` takes."""
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
