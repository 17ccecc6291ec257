"""Limits on the latency: shares and durations."""

from __future__ import annotations

import pytest

from archc.diagnostics import ArchcError
from archc.passmanager.latency import Latency
from archc.shrinking.latency_limit import latency_limit, read_limit

MEASURED = {"onnx": [Latency(0.010, 0.010, 0.010, 9)] * 2, "torch": [Latency(0.020, 0.020, 0.020, 9)] * 2}


@pytest.mark.parametrize(
    ("given", "share"), [("50%", 0.5), ("0.25", 0.25), (0.4, 0.4), ("5ms", 0.25), ("5000us", 0.25), ("1s", 1.0)]
)
def test_a_duration_is_a_share_of_the_slowest_target(given: float | str, share: float) -> None:
    assert latency_limit(given, MEASURED) == pytest.approx(share)


@pytest.mark.parametrize("text", ["5", "0ms", "0", "5MB", "fast", "150%"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write for example `5ms`"):
        read_limit(text)


def test_something_must_be_measured() -> None:
    with pytest.raises(ArchcError, match="needs a target whose programs can be measured"):
        latency_limit("5ms", {})
