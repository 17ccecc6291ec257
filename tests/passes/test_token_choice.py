"""Operands with a scale for each token: those with most of the possible reduction of the error."""

from __future__ import annotations

import pytest

from archc.passes import _granularity
from tests.passes.graphs import Build


@pytest.mark.parametrize(
    ("gains", "chosen"),
    [
        ([1.0, 90.0, 9.0], [1, 2]),
        ([1.0, 1.0, 1.0], [0, 1, 2]),
        ([0.01, 5.0, 0.01, 5.0], [1, 3]),
        ([], []),
    ],
)
def test_small_reductions_are_not_worth_the_time(gains: list[float], chosen: list[int]) -> None:
    build = Build()
    values = [build.input(4, name=f"x{number}") for number in range(len(gains))]
    enough = _granularity.ENOUGH * sum(gains)
    found = _granularity._largest(dict(zip(values, gains, strict=True)), enough)
    assert {value.name for value in found} == {f"x{number}" for number in chosen}
