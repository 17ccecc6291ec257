"""Command `python -m tests.fuzz 0:10000`: test seeds, and resume an earlier run of the same range."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.campaign import ROOT, Campaign
from tests.fuzz.models import random_model
from tests.fuzz.worker import results, smallest


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("seeds", help="a range, `0:10000`, or one seed, whose text and failures are printed")
    parser.add_argument("--jobs", type=int, default=2, help="how many processes")
    parser.add_argument("--folder", type=Path, default=ROOT / ".fuzz", help="where state and failures are kept")
    parser.add_argument("--whole", action="store_true", help="leave texts that fail as they are")
    parser.add_argument("--fresh", action="store_true", help="forget what was done of this range")
    arguments = parser.parse_args()
    if ":" not in arguments.seeds:
        return one(int(arguments.seeds))
    start, end = (int(number) for number in arguments.seeds.split(":"))
    campaign = Campaign(start, end, arguments.folder, say=_say, shrink=not arguments.whole)
    if arguments.fresh:
        campaign.state.unlink(missing_ok=True)
    return 0 if campaign.run(arguments.jobs) else 1


def _say(text: str) -> None:
    print(text, flush=True)


def one(seed: int) -> int:
    """Test one seed in this process, and shrink the text of each failure."""
    failures: list[dict[str, str]] = results(seed, random_model(seed))["failures"]  # type: ignore[assignment]
    for failure in failures:
        print(f"# {failure['signature']}\n# {failure['detail']}")
        print(smallest(failure["text"], seed, failure["signature"], seconds=60))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
