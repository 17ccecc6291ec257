"""`to_stage` returns its operand, and rejects numbers that are not stages."""

from __future__ import annotations

import pytest

import archc
from archc.diagnostics import ArchcError
from archc.ops.stage import ToStage
from tests.ops.harness import Case, case, random

CASES = [
    case(ToStage(1), random(2, 3, 4), lambda x: x),
    case(ToStage(1, device="cpu"), random(5), lambda x: x),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def test_stages_count_from_0() -> None:
    with pytest.raises(ArchcError, match="expects a stage of at least 0"):
        archc.parse("model m { input x: f32[N, 4]  output y = x -> to_stage(-1) }")
