"""Operators by name, with their attributes."""

from __future__ import annotations

import pytest

import archc


def test_attributes_are_given_as_in_a_text() -> None:
    assert str(archc.make_operator("gelu", "tanh")) == 'gelu(approximate = "tanh")'
    assert str(archc.make_operator("linear", 8, bias=False)) == "linear(8, bias = false)"


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no operator `geluu`; did you mean `gelu`"):
        archc.make_operator("geluu")


def test_a_wrong_attribute_is_refused() -> None:
    with pytest.raises(archc.AttributeProblem, match="`approximate` of `gelu` must be"):
        archc.make_operator("gelu", 3)
    with pytest.raises(archc.AttributeProblem, match="`gelu` has no attribute `exact`"):
        archc.make_operator("gelu", exact=True)
