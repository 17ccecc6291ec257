"""Docstrings, and what user text may do in them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from archc.codegen.torch.formatting import WIDTH

_INDENT = "    "


def docstring(paragraphs: Sequence[str], indent: int) -> list[str]:
    """The lines of a docstring; a paragraph's lines that begin with a blank are kept apart, the others are filled."""
    pad = _INDENT * indent
    blocks = _filled(paragraphs, WIDTH - len(pad))
    if len(blocks) == 1 and len(blocks[0]) == 1:
        # The quotes that end a single line stand behind it, and need their room there.
        blocks = _filled(paragraphs, WIDTH - len(pad) - 3)
        if len(blocks[0]) == 1:
            return [f'{pad}{blocks[0][0]}"""']
    found: list[str] = []
    for lines in blocks:
        found += ["", *(f"{pad}{line}" for line in lines)]
    return [*found[1:], f'{pad}"""']


def _filled(paragraphs: Sequence[str], width: int) -> list[list[str]]:
    """The lines of each paragraph, the first one behind its quotes."""
    blocks: list[list[str]] = []
    for paragraph in (part for text in paragraphs for part in re.split(r"\n{2,}", safe_text(text))):
        lines: list[str] = []
        for line in _joined(paragraph.split("\n")):
            quotes = "" if blocks or lines else '"""'
            margin = line[: len(line) - len(line.lstrip())]
            lines += textwrap.wrap(
                quotes + line,
                width,
                subsequent_indent=f"{margin}{_INDENT}" if margin else "",
                break_long_words=False,
                break_on_hyphens=False,
            )
        blocks.append(lines)
    return blocks


def _joined(lines: Sequence[str]) -> list[str]:
    """Lines that go on in the next one as one; a line that is indented, or an item of a list, begins anew."""
    found = [lines[0]]
    for line in lines[1:]:
        if line.startswith((" ", "- ", "* ")) or found[-1].startswith(" "):
            found.append(line)
        else:
            found[-1] = f"{found[-1]} {line}"
    return found


def safe_text(text: str) -> str:
    """Text of a user's as it may stand in a docstring: it can neither end it nor escape from it."""
    kept = "".join(c if c == "\n" or c.isprintable() else " " for c in text.replace("\r\n", "\n").expandtabs(4))
    kept = "\n".join(line.rstrip() for line in kept.split("\n")).strip()
    kept = kept.replace("\\", "\\\\")
    # Runs of quotes, and those that would touch the docstring's own.
    return re.sub(r'"{3,}|\A"+|"+\Z', lambda match: '\\"' * len(match.group()), kept)
