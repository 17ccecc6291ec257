"""Run the tutorials of the documentation and print the output of their commands.

python -m benchmarks.tutorials [first-network quarter-size]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.pages import ROOT, run_page

FOLDER = ROOT / "docs" / "tutorial"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", help="names of tutorials (default: all)")
    names = parser.parse_args().pages or sorted(page.stem for page in FOLDER.glob("*.md"))
    for name in names:
        print(f"### {name}\n\n```", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            run_page(FOLDER / f"{name}.md", Path(folder), lambda printed: print(printed, end="", flush=True))
        print("```\n")


if __name__ == "__main__":
    main()
