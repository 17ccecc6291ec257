"""The store of weights: what is set and removed, and in which order it comes."""

from __future__ import annotations

import numpy as np
import pytest

from archc.weights.tensor import ArrayTensor, Weights

A, B, C = (ArrayTensor(np.full(4, value, np.float32)) for value in (1, 2, 3))


def test_order_is_that_of_insertion() -> None:
    weights = Weights({"b": B, "a": A})
    weights.set("c", C)
    weights.set("b", A)
    assert list(weights.items()) == [("b", A), ("a", A), ("c", C)]
    assert weights.nbytes == 48


def test_what_is_removed_is_gone() -> None:
    weights = Weights({"a": A, "b": B})
    assert weights.remove("b") is B
    assert dict(weights) == {"a": A}
    with pytest.raises(KeyError):
        weights.remove("b")


def test_it_holds_what_it_was_made_of_for_itself() -> None:
    given = {"a": A}
    weights = Weights(given)
    weights.remove("a")
    assert given == {"a": A}
