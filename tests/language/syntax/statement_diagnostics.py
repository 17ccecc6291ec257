"""Diagnostics of a model with one statement."""

from __future__ import annotations

from archc.compiler import parse
from archc.diagnostics import ArchcError, Diagnostics, Source


def diagnose(statement: str, before: str = "") -> list[tuple[str, str, str | None]]:
    """Code, source text and help of each diagnostic of a model with one statement."""
    text = f"{before}model m(n = 3) {{\n input x: f32[N, 8]\n {statement}\n output o = x -> relu\n}}"
    found = Diagnostics()
    try:
        parse(Source(text), diagnostics=found)
    except ArchcError as failure:
        found = Diagnostics(list(failure.diagnostics))
    return [(d.code, d.span.text if d.span else "", d.help) for d in found]
