"""Texts of figures in reports: relative errors, times and differences."""

from __future__ import annotations

_UNITS = ((1.0, "s"), (1e-3, "ms"))


def error_text(error: float) -> str:
    """A relative error as text, such as `1.2e-04` or `3.45%`."""
    return "0" if error == 0 else f"{error:.1e}" if error < 1e-3 else f"{error:.2%}"


def seconds_text(seconds: float) -> str:
    """A time with three digits and a unit: `1.23 ms`."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{_digits(seconds / size)} {unit}"
    return f"{_digits(seconds / 1e-6)} µs"


def change_text(before: float, after: float) -> str:
    """A change in percent of the former figure: `-74.3 %`; empty if there is none."""
    return (
        "" if before == after or not before else f"{(after - before) / before:+.1%}".replace("%", "\N{NO-BREAK SPACE}%")
    )


def _digits(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"
