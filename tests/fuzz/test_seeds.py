"""Programs of 45 random models agree, before and after passes; `make fuzz` tests more models."""

from __future__ import annotations

import pytest

from tests.fuzz.campaign import run_seeds

BLOCKS = [(0, 45), pytest.param(45, 150, marks=pytest.mark.slow)]
LEAST_COMPARISONS = 15
"""Required comparisons per model on average: outputs at several sizes and optimization levels."""


@pytest.mark.parametrize(("start", "end"), BLOCKS)
def test_programs_agree(start: int, end: int) -> None:
    tally = run_seeds(start, end)
    assert tally.seeds == end - start
    failures = [f"seed {one['seed']}: {one['signature']}\n{one['detail']}\n{one['text']}" for one in tally.failures]
    assert not failures, "\n".join(failures)
    assert tally.counts["comparisons"] >= LEAST_COMPARISONS * tally.seeds
