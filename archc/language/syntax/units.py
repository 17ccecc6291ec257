"""Units of quantities: what `50GB/s` is a number of, and how many."""

from __future__ import annotations

from archc.language.syntax import tree
from archc.types.records import record


@record
class Unit:
    """A unit: what it measures, and how many of its base unit it is.

    The base units are the byte, the byte a second, the second, and the plain number.
    """

    measures: str
    factor: int | float


_BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_COUNTS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_TIMES = {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

UNITS: dict[str, Unit] = {
    **{name: Unit("bytes", factor) for name, factor in _BYTES.items()},
    **{f"{name}/s": Unit("bytes a second", factor) for name, factor in _BYTES.items()},
    **{name: Unit("seconds", factor) for name, factor in _TIMES.items()},
    **{name: Unit("a number", factor) for name, factor in _COUNTS.items()},
}
"""The units that a number may carry: bytes, bytes a second, times, and the thousands of plain numbers."""


def quantity(number: tree.Number) -> int | float:
    """A number in the base unit of its own unit: `24GB` is 24000000000, bytes always being whole."""
    if number.unit is None:
        return number.value
    unit = UNITS[number.unit]
    value = number.value * unit.factor
    return round(value) if unit.measures == "bytes" else value


def measure(number: tree.Number) -> str:
    """What a number measures: `bytes`, `bytes a second`, `seconds` or `a number`."""
    return "a number" if number.unit is None else UNITS[number.unit].measures
