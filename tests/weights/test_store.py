"""Store of weights: changes, removal and order."""

from __future__ import annotations

import numpy as np
import pytest

from archc.weights.tensor import ArrayTensor, Weights

A, B, C = (ArrayTensor(np.full(4, value, np.float32)) for value in (1, 2, 3))


def test_the_order_is_that_of_insertion() -> None:
    weights = Weights({"b": B, "a": A})
    weights.set("c", C)
    weights.set("b", A)
    assert list(weights.items()) == [("b", A), ("a", A), ("c", C)]
    assert weights.nbytes == 48


def test_removed_tensors_are_gone() -> None:
    weights = Weights({"a": A, "b": B})
    assert weights.remove("b") is B
    assert dict(weights) == {"a": A}
    with pytest.raises(KeyError):
        weights.remove("b")


def test_the_store_copies_the_mapping_it_is_made_from() -> None:
    given = {"a": A}
    weights = Weights(given)
    weights.remove("a")
    assert given == {"a": A}
