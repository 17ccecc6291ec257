"""Limit on the latency of a model, as a share of the original model's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from archc.diagnostics import error
from archc.passmanager.latency import Latency
from archc.shrinking.amounts import amount

_UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(us|µs|ms|s)\s*")

Limit = tuple[float, bool]
"""A number, and True for seconds or False for a share."""


def read_limit(given: float | str) -> Limit:
    """Read a share such as 0.5, `0.5` or `50%`, or a duration such as `5ms`.

    Raises:
        ValueError: it is neither.
    """
    text = str(given)
    found = _DURATION.fullmatch(text)
    if found is not None and float(found[1]) > 0:
        return float(found[1]) * _UNITS[found[2]], True
    try:
        share = amount(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ValueError(f"`{text}` is no latency; write for example `5ms`, `0.5` or `50%`")
    return share, False


def latency_limit(given: float | str, measured: Mapping[str, Sequence[Latency]]) -> float:
    """A limit as a share of the latency of the original model, for the target that makes it smallest.

    Args:
        given: see `read_limit`.
        measured: latencies of the original model by target.

    Raises:
        ValueError: the limit cannot be read.
        ArchcError: no target can be measured (`latency-not-measured`).
    """
    number, is_seconds = read_limit(given)
    if not measured:
        raise error(
            "latency-not-measured",
            "a limit on the latency needs a target whose programs can be measured",
            help="add one with `--emit onnx` or `--emit torch`, and leave out `--no-latency`",
        )
    if not is_seconds:
        return number
    return min(1.0, number / max(each.seconds for latencies in measured.values() for each in latencies))
