"""The store of weights: order, renaming, copies."""

from __future__ import annotations

import numpy as np
import pytest

from archc.weights.store import Weights
from archc.weights.tensor import ArrayTensor

A, B, C = (ArrayTensor(np.full(4, value, np.float32)) for value in (1, 2, 3))


def test_order_is_that_of_insertion() -> None:
    weights = Weights({"b": B, "a": A})
    weights.set("c", C)
    weights.set("b", A)
    assert list(weights.items()) == [("b", A), ("a", A), ("c", C)]
    assert weights.nbytes == 48


def test_remove_and_rename() -> None:
    weights = Weights({"a": A, "b": B})
    weights.rename("a", "c")
    assert dict(weights) == {"b": B, "c": A}
    assert weights.remove("b") is B
    assert list(weights) == ["c"]
    for mistake in (lambda: weights.remove("b"), lambda: weights.rename("b", "d")):
        with pytest.raises(KeyError):
            mistake()
    weights.set("d", C)
    with pytest.raises(KeyError, match="taken"):
        weights.rename("d", "c")
    assert dict(weights) == {"c": A, "d": C}


def test_a_copy_is_independent_and_shares_the_tensors() -> None:
    weights = Weights({"a": A})
    copy = weights.copy()
    assert copy == weights
    copy.set("b", B)
    weights.remove("a")
    assert dict(copy) == {"a": A, "b": B}
    assert len(weights) == 0
