"""Draw the pictures of the documentation, one of each spec, as `archc draw` does.

python -m archc.cli.pictures [specs [docs/explanation/architectures/pictures]]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path


def pictures(specs: Path) -> Iterator[tuple[str, str]]:
    """The file name and the text of each picture."""
    from archc.compiler import parse
    from archc.drawing.compose import compose
    from archc.drawing.svg import draw_svg

    for spec in sorted(specs.glob("*.arch")):
        yield f"{spec.stem}.svg", draw_svg(compose(parse(spec)))


def main() -> None:
    """Write the pictures into the folder given on the command line."""
    given = [Path(argument) for argument in sys.argv[1:]]
    specs, folder = [*given, *(Path("specs"), Path("docs/explanation/architectures/pictures"))[len(given) :]][:2]
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pictures(specs):
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
