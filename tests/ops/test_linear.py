"""`linear` and `embedding` against `torch.nn`."""

from __future__ import annotations

import pytest
from torch import nn

from archc.ops.linear import Embedding, Linear
from tests.ops.harness import Case, case, integers, random

CASES = [
    case(Linear(5), random(3, 4), nn.Linear(4, 5)),
    case(Linear(5, bias=False), random(3, 4), nn.Linear(4, 5, bias=False)),
    case(Linear(2), random(2, 3, 4), nn.Linear(4, 2)),
    case(Linear(2), random(2, 3, 5, 4), nn.Linear(4, 2)),
    case(Linear(2), random(4), nn.Linear(4, 2)),
    case(Embedding(7, 3), integers(2, 5, below=7), nn.Embedding(7, 3)),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()
