"""Amounts on the command line: `15MB`, `0.6`, `60%`, `1.2G` and `10m`."""

from __future__ import annotations

import re

from archc.language.syntax.literals import UNITS

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z%]*)\s*")
_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


def amount(text: str, measures: str = "a number") -> float:
    """A share such as `0.6` or `60%`, or a number with a unit such as `15MB` or `2G`.

    Args:
        measures: what units of the text measure: "bytes" or "a number".

    Raises:
        ValueError: the text is no such amount, or it is 0.
    """
    number, unit = _parts(text)
    example = "15MB" if measures == "bytes" else "2G"
    if unit == "%":
        number /= 100
    elif unit:
        known = UNITS.get(unit)
        if known is None or known.measures != measures:
            raise ValueError(f"`{text}` is no amount; write for example `{example}`, `0.6` or `60%`")
        number *= known.factor
    if number <= 0:
        raise ValueError(f"`{text}` must be above 0")
    return number


def share(text: str) -> float:
    """A share from 0 to 1, such as `0.99` or `99%`.

    Raises:
        ValueError: the text is no such share.
    """
    number, unit = _parts(text)
    number = number / 100 if unit == "%" else number
    if unit not in ("", "%") or not 0 <= number <= 1:
        raise ValueError(f"`{text}` is no share; write for example `0.99` or `99%`")
    return number


def seconds(text: str) -> float:
    """A duration such as `90s`, `10m` or `1h`, in seconds.

    Raises:
        ValueError: the text is no duration.
    """
    number, unit = _parts(text)
    if unit not in _SECONDS:
        raise ValueError(f"`{text}` is no duration; write for example `90s`, `10m` or `1h`")
    return number * _SECONDS[unit]


def _parts(text: str) -> tuple[float, str]:
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ValueError(f"`{text}` does not begin with a number")
    return float(found[1]), found[2]
