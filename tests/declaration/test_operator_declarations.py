"""Declarations of archc's own operators and passes, which are not checked when archc imports them."""

from __future__ import annotations

from typing import get_args

import pytest

import archc
from archc.declaration.base import Operator
from archc.declaration.operator_declarations import check_operator
from archc.declaration.registry import known_operators
from archc.passmanager import Pass, Preserves, known_passes, pass_names
from archc.passmanager.pass_declarations import check_pass
from archc.types.attribute_declarations import check_decorator

OPERATORS = known_operators()


@pytest.mark.parametrize("name", OPERATORS)
def test_the_declaration_of_every_operator(name: str) -> None:
    check_operator(OPERATORS[name], Operator)
    check_decorator(OPERATORS[name], Operator, "@archc.operator")


@pytest.mark.parametrize("name", known_passes())
def test_the_declaration_of_every_pass(name: str) -> None:
    check_pass(known_passes()[name], Pass, get_args(Preserves))


def test_a_base_of_passes_needs_no_method() -> None:
    class Base(archc.Pass, abstract=True):
        """A base of passes."""

    assert "base" not in pass_names() and "run" in Base.__abstractmethods__


def test_the_declaration_of_an_operator_is_checked_when_python_defines_it() -> None:
    with pytest.raises(ValueError, match="no operand and no attribute of `Grown` gives the size of `k`"):

        @archc.operator
        class Grown(archc.Operator):
            signature = "x[*s] -> y[*s, k]"

    assert "grown" not in known_operators()
