"""The trait `Homogeneous`, tested on every case of every operator with one operand.

The factors are powers of two, which are exact in floats, so results are compared bit by bit.
"""

from __future__ import annotations

import math

import pytest
import torch

from archc.analysis.channels import keeps_axis
from archc.declaration.base import Operator
from archc.declaration.traits import POINTWISE, Homogeneous
from archc.ops.activation import Hardtanh, Relu, Relu6, Sigmoid
from archc.ops.arithmetic import Clamp
from tests.declaration.test_trait_laws import cases, run, same
from tests.ops.harness import Case
from tests.ops.operands import draw_weights, one_node

UNDECLARED = {
    **dict.fromkeys(("mul", "maximum"), "the number decides whether the law holds"),
    "identity": "`simplify` removes it",
    "to_stage": "the two layers would be in different stages",
}
"""Pointwise operators that obey the law in all cases and do not declare the trait, with the reasons."""


def is_homogeneous(one: Case) -> bool | None:
    """Return whether factors of channels commute with an operator; None if no axis is kept."""
    x = one.inputs[0]
    trait = one.op.trait(Homogeneous)
    low, high = (-math.inf, math.inf) if trait is None else trait.limits(one.op)
    (node,) = one_node(one.op, one.inputs, draw_weights(one.op, one.inputs, one.weights or {})).nodes()
    told = None
    for position in range(x.ndim):
        if x.is_floating_point() and keeps_axis(node, position):
            factors = 2.0 ** (torch.arange(x.shape[position]) % 5 - 2)
            between = x.clamp(low / 4, high / 4)
            for operand in (between, 16 * between) if trait is None else (between,):
                (plain,) = run(one.op, (operand,), one.weights)
                (scaled,) = run(one.op, (along(factors, operand, position) * operand,), one.weights)
                if not same((scaled,), (along(factors, plain, position) * plain,)):
                    return False
            told = True
    return told


def along(factors: torch.Tensor, tensor: torch.Tensor, position: int) -> torch.Tensor:
    """Factors for the elements of one axis of a tensor."""
    return factors.reshape([-1 if axis == position else 1 for axis in range(tensor.ndim)])


def of_one_operand() -> dict[str, list[Case]]:
    """The cases with one operand and one result, by operator."""
    found = {name: [one for one in known if len(one.inputs) == 1] for name, known in cases().items()}
    return {name: known for name, known in found.items() if known}


def test_declared_operators_are_homogeneous() -> None:
    declared = [one for known in of_one_operand().values() for one in known if one.op.trait(Homogeneous)]
    assert len(declared) > 20
    assert [str(one) for one in declared if is_homogeneous(one) is False] == []


def test_homogeneous_pointwise_operators_are_declared() -> None:
    others = {
        name: known
        for name, known in of_one_operand().items()
        if known[0].op.has(POINTWISE) and known[0].op.trait(Homogeneous) is None
    }
    told = {name: {is_homogeneous(one) for one in known} for name, known in others.items()}
    assert {name for name, holds in told.items() if holds in ({True}, {True, None})} == set(UNDECLARED)


def test_a_wrong_declaration_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Sigmoid._traits_by_key, Homogeneous, Homogeneous())
    with pytest.raises(AssertionError, match="sigmoid"):
        test_declared_operators_are_homogeneous()


@pytest.mark.parametrize(
    ("op", "limits"),
    [
        (Relu(), (-math.inf, math.inf)),
        (Relu6(), (-math.inf, 6)),
        (Hardtanh(), (-1, 1)),
        (Hardtanh(0, 6), (-math.inf, 6)),
        (Clamp(max=3), (-math.inf, 3)),
    ],
    ids=str,
)
def test_limits_are_those_of_an_instance(op: Operator, limits: tuple[float, float]) -> None:
    trait = op.trait(Homogeneous)
    assert trait is not None and trait.limits(op) == limits
