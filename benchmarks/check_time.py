"""Process time of `archc check`, which an editor runs on every keystroke.

Runs of the files are interleaved.  The first run of each file is discarded, because Python may compile archc to
bytecode in this run.

python -m benchmarks.check_time [specs/resnet18.arch ...] [--runs 9]
"""

from __future__ import annotations

import argparse
import statistics

from benchmarks.processes import measure
from benchmarks.tables import markdown


def run(files: list[str], runs: int) -> str:
    """Check each file `runs` times after a warm-up run, interleaved, and return the table."""
    seconds: dict[str, list[float]] = {file: [] for file in files}
    for turn in range(runs + 1):
        for file in files:
            taken = measure(["-m", "archc", "check", file]).seconds
            if turn > 0:
                seconds[file].append(taken)
    rows = [
        [f"`archc check {file}`", f"{statistics.median(times):.3f} s", f"{min(times):.3f} s", f"{max(times):.3f} s"]
        for file, times in seconds.items()
    ]
    return markdown([f"process time of {runs} runs", "median", "least", "most"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=["specs/resnet18.arch"], help="default: specs/resnet18.arch")
    parser.add_argument("--runs", type=int, default=9, help="default: %(default)s")
    options = parser.parse_args()
    print(run(options.files, options.runs))


if __name__ == "__main__":
    main()
