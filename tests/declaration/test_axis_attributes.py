"""Attributes with `axis=`, tested on every operator that declares one, with the cases of the operator.

The tests know no operator: a new operator with such an attribute is tested because it is registered and has a case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from archc.compiler import parse
from archc.declaration import OPERATORS
from archc.declaration.base import Inference, Operator, OperatorError, operator
from archc.declaration.parameter import Parameter, ones
from archc.diagnostics import ArchcError, Diagnostic, Diagnostics, Source
from archc.interpreter.evaluate import evaluate
from archc.passmanager import Pass, pass_names
from archc.types.attributes import AttributeInfo, attribute, attributes, convert, value_text
from archc.types.signature import parse_signature
from archc.types.tensor_type import DType, TensorType
from tests.ops.every_case import every_case
from tests.ops.harness import Case
from tests.ops.operands import draw_weights, one_node, type_of

SELECTIONS = [(one, info) for one in every_case() for info in attributes(type(one.op)) if info.axis is not None]
"""Each case with each attribute of its operator that selects axes."""

AXIS_NAME = re.compile(r"(.*_)?(dim|axis|dims|axes)\d*")
COUNTS = {("layer_norm", "dims"), ("rms_norm", "dims")}
"""Attributes with the name of an axis that are numbers of axes."""


def label(value: Case | AttributeInfo) -> str:
    """Part of the name of a test."""
    return value.name if isinstance(value, AttributeInfo) else str(value)


def types_of(one: Case) -> list[TensorType]:
    return [type_of(tensor, {}) for tensor in one.inputs]


def rank(one: Case, info: AttributeInfo) -> int:
    """Number of axes of the operand or the result that the attribute names, from the tensors of the case."""
    signature = parse_signature(one.op.signature)
    operands = [pattern.name for pattern in signature.operands if pattern.name not in one.op.parameters]
    if info.axis in operands:
        return one.inputs[operands.index(info.axis)].dim()
    results = [pattern.name for pattern in signature.results]
    return one.op.infer(types_of(one)).results[results.index(str(info.axis))].rank


def selecting(op: Operator, info: AttributeInfo, *axes: int) -> Operator:
    """The operator with other axes: a number if the attribute may be one, else a tuple."""
    value: Any = axes[0] if len(axes) == 1 and convert(axes[0], info.type)[0] else axes
    return replace(op, **{info.name: value})


def inference(op: Operator, types: Sequence[TensorType]) -> Inference | str:
    """Result of type inference, or the error as text."""
    try:
        return op.infer(types)
    except OperatorError as problem:
        return f"{problem.code}: {problem.message}"


def reported(op: Operator, types: Sequence[TensorType]) -> Diagnostic:
    """The first diagnostic of a text that applies the operator to operands of these types."""
    inputs = "\n".join(f"    input x{number}: {operand}" for number, operand in enumerate(types))
    operands = ", ".join(f"x{number}" for number in range(len(types)))
    text = f"model m {{\n{inputs}\n    output y = {f'({operands})' if len(types) > 1 else operands} -> {op}\n}}"
    with pytest.raises(ArchcError) as caught:
        parse(Source(text), diagnostics=Diagnostics())
    return caught.value.diagnostics[0]


def test_every_attribute_with_the_name_of_an_axis_declares_it() -> None:
    undeclared = {
        (name, info.name)
        for name, cls in OPERATORS.items()
        for info in attributes(cls)
        if AXIS_NAME.fullmatch(info.name) and info.index is None and info.axis is None
    }
    assert undeclared == COUNTS


def test_every_declared_axis_has_a_case() -> None:
    declared = {(name, info.name) for name, cls in OPERATORS.items() for info in attributes(cls) if info.axis}
    assert len(declared) > 20
    assert declared == {(one.op.name, info.name) for one, info in SELECTIONS}


@pytest.mark.parametrize(("one", "info"), SELECTIONS, ids=label)
def test_an_axis_that_does_not_exist_is_refused_at_its_place(one: Case, info: AttributeInfo) -> None:
    count = rank(one, info)
    for dim in (count, -count - 1):
        op = selecting(one.op, info, dim)
        found = reported(op, types_of(one))
        assert found.code == "bad-attribute" and found.help and found.span is not None
        text = value_text(getattr(op, info.name))
        assert found.span.text in (text, f"{info.name} = {text}")
        assert f"got axis {dim}" in found.message or (count == 0 and "got a scalar" in found.message)


TUPLES = [(one, info) for one, info in SELECTIONS if convert((0, 0), info.type)[0] and rank(one, info) > 0]
"""The cases in which the attribute may be a tuple of axes."""


@pytest.mark.parametrize(("one", "info"), TUPLES, ids=label)
def test_an_axis_in_a_tuple_twice_is_refused_at_its_place(one: Case, info: AttributeInfo) -> None:
    count = rank(one, info)
    op = selecting(one.op, info, 0, -count)
    found = reported(op, types_of(one))
    assert (found.code, found.message) == ("bad-attribute", f"`{op.name}` expects different axes, got axis 0 twice")
    assert found.help and found.span is not None and f"(0, {-count})" in found.span.text


def pairs(one: Case, info: AttributeInfo) -> list[tuple[Operator, Operator]]:
    """The operator with negative and positive numbers: of the axes of the case, and of the last axis."""
    count, value = rank(one, info), getattr(one.op, info.name)
    own = () if value is None else (value,) if isinstance(value, int) else value
    axes = [tuple(dim % count for dim in own)] if own else []
    axes += [(count - 1,)] if count else []
    return [(selecting(one.op, info, *(n - count for n in ns)), selecting(one.op, info, *ns)) for ns in axes]


@pytest.mark.parametrize(("one", "info"), SELECTIONS, ids=label)
def test_a_negative_number_equals_the_number_from_the_start(one: Case, info: AttributeInfo) -> None:
    inputs = {f"x{number}": tensor for number, tensor in enumerate(one.inputs)}
    for negative, positive in pairs(one, info):
        expected = inference(positive, types_of(one))
        assert inference(negative, types_of(one)) == expected
        if isinstance(expected, str):  # the operator has another reason to refuse the axis
            continue
        results = [
            list(evaluate(one_node(op, one.inputs, draw_weights(op, one.inputs, {})), inputs).values())
            for op in (negative, positive)
        ]
        torch.testing.assert_close(*results, rtol=0, atol=0, equal_nan=True)


def test_every_declared_axis_is_evaluated() -> None:
    accepted = {
        (one.op.name, info.name)
        for one, info in SELECTIONS
        for _, positive in pairs(one, info)
        if not isinstance(inference(positive, types_of(one)), str)
    }
    assert accepted == {(name, info.name) for name, cls in OPERATORS.items() for info in attributes(cls) if info.axis}


# Declarations ---------------------------------------------------------------------------------------------


@operator
class Selected(Operator, abstract=True):
    """An operator without any code for its attributes."""

    signature = "x[*s, n] -> y[*s, n]"

    undeclared: int = attribute(-1)
    dim: int = attribute(-1, axis="x")
    dims: tuple[int, ...] | None = attribute(None, axis="x")


MATRIX = TensorType(DType.f32, (2, 3))


def test_the_declaration_is_enough() -> None:
    assert Selected(undeclared=5).infer([MATRIX]).results == (MATRIX,)
    for wrong, name in ((Selected(dim=5), "dim"), (Selected(dims=(0, 5)), "dims"), (Selected(dims=(0, -2)), "dims")):
        with pytest.raises(OperatorError) as caught:
            wrong.infer([MATRIX])
        assert (caught.value.code, caught.value.attribute) == ("bad-attribute", name) and caught.value.help
    assert (Selected().axis_number("dim", [MATRIX]), Selected(dim=-2).axis_number("dim", [MATRIX])) == (1, 0)
    assert Selected(dims=(-1, 0)).axis_numbers("dims", [MATRIX]) == (1, 0)
    assert Selected().axis_numbers("dims", [MATRIX]) == ()


def test_a_missing_operand_is_reported_before_its_axes() -> None:
    with pytest.raises(OperatorError) as caught:
        Selected(dim=5).infer([])
    assert caught.value.code == "operand-count"


@pytest.mark.parametrize(
    ("signature", "axis", "words"),
    [
        ("x[*s] -> y[*s]", "s", "there is no operand or result `s`; write axis='x' or axis='y'"),
        ("x[*d], mask[*m]? -> y[*d]", "mask", "`mask` is neither a required operand nor a result whose number of axes"),
        ("x[*d], weight[*d] -> y[1, *d]", "weight", "the operands determine; write axis='x' or axis='y'"),
    ],
)
def test_a_wrong_declaration_is_an_error_of_the_class(signature: str, axis: str, words: str) -> None:
    body = {
        "__annotations__": {"dim": "int"},
        "__module__": __name__,
        "signature": signature,
        "parameters": {"weight": Parameter(ones)} if "weight" in signature else {},
        "dim": attribute(-1, axis=axis),
    }
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        type("Misdeclared", (Operator,), body)
    assert str(caught.value).startswith(f"`dim` of the operator `misdeclared` is declared with axis='{axis}', but in ")
    assert "misdeclared" not in OPERATORS


@pytest.mark.parametrize(
    ("annotation", "title"), [("str", "str"), ("float | None", "float | None"), (tuple[str, ...], "tuple[str, ...]")]
)
def test_an_axis_is_an_integer(annotation: object, title: str) -> None:
    body = {
        "__module__": __name__,
        "__annotations__": {"dim": annotation},
        "signature": "x[*s] -> y[*s]",
        "dim": attribute(axis="x"),
    }
    words = (
        f"declared with axis='x', so its type must be `int` or `tuple[int, ...]`, with or without None; it is `{title}`"
    )
    with pytest.raises(ValueError, match=re.escape(words)):
        type("Misdeclared", (Operator,), body)
    assert "misdeclared" not in OPERATORS


def test_an_option_of_a_pass_is_no_axis() -> None:
    body = {"__module__": __name__, "__annotations__": {"dim": "int"}, "dim": attribute(0, axis="x")}
    with pytest.raises(ValueError, match="`dim` of the pass `misdeclared` is no attribute of an operator"):
        type("Misdeclared", (Pass,), body)
    assert "misdeclared" not in pass_names()


def test_an_inherited_attribute_needs_the_operand_too() -> None:
    with pytest.raises(ValueError, match=re.escape("there is no operand or result `x`; write axis='q' or axis='y'")):
        type("Misdeclared", (Selected,), {"__module__": __name__, "signature": "q[*s] -> y[*s]"})
