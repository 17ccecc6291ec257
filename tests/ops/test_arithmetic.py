"""Arithmetic against PyTorch: tensors that broadcast, and numbers on either side."""

from __future__ import annotations

import onnxruntime
import pytest
import torch

from archc.codegen.onnx import to_model
from archc.declaration import OPERATORS
from archc.declaration.base import FORMULAS, OperatorError, formula_of
from archc.interpreter.evaluate import evaluate
from archc.ops.arithmetic import (
    Abs,
    Add,
    Clamp,
    Cos,
    Div,
    Erf,
    Exp,
    Log,
    Maximum,
    Minimum,
    Mul,
    Neg,
    Pow,
    Rsqrt,
    Sin,
    Sqrt,
    Square,
    Sub,
)
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.ops.comparison import to_tensors
from tests.ops.harness import Case, case, integers, one_node, random

X = random(3, 4)
POSITIVE = random(3, 4).abs() + 0.5
WHOLE = integers(3, 4, below=9)

CASES = [
    case(Add(), (X, random(3, 4, seed=1)), torch.add),
    case(Add(), (X, random(4, seed=1)), torch.add),
    case(Add(), (random(2, 1, 4), random(3, 1, seed=1)), torch.add),
    case(Add(), (WHOLE, WHOLE + 1), torch.add),
    case(Add(scalar=2), X, lambda x: x + 2),
    case(Add(scalar=2.0), WHOLE, lambda x: x + 2),
    case(Sub(), (X, random(3, 4, seed=1)), torch.sub),
    case(Sub(scalar=1, reverse=True), X, lambda x: 1 - x),
    case(Sub(scalar=-1.5), X, lambda x: x + 1.5),
    case(Mul(), (X, random(3, 1, seed=1)), torch.mul),
    case(Mul(scalar=0.5), X, lambda x: x * 0.5),
    case(Mul(scalar=3), WHOLE, lambda x: x * 3),
    case(Div(), (X, POSITIVE), torch.div),
    case(Div(scalar=2, reverse=True), POSITIVE, lambda x: 2 / x),
    case(Pow(), (POSITIVE, X), torch.pow),
    case(Pow(scalar=2), X, lambda x: x * x),
    case(Pow(scalar=-2, reverse=True), torch.tensor([[1.0, 2.0, 3.0]]), lambda x: torch.tensor([[-2.0, 4.0, -8.0]])),
    case(Minimum(), (X, random(4, seed=1)), torch.minimum),
    case(Minimum(scalar=0.5), X, lambda x: x.clamp(max=0.5)),
    case(Maximum(), (X, random(4, seed=1)), torch.maximum),
    case(Maximum(scalar=0, reverse=True), X, lambda x: x.clamp(min=0)),
    case(Neg(), X, torch.neg),
    case(Abs(), X, torch.abs),
    case(Sqrt(), POSITIVE, torch.sqrt),
    case(Rsqrt(), POSITIVE, torch.rsqrt),
    case(Exp(), X, torch.exp),
    case(Log(), POSITIVE, torch.log),
    case(Sin(), X, torch.sin),
    case(Cos(), X, torch.cos),
    case(Erf(), X, torch.erf),
    case(Square(), X, lambda x: x * x),
    case(Clamp(-0.5, 0.5), X, lambda x: x.clamp(-0.5, 0.5)),
    case(Clamp(max=0.5), X, lambda x: x.clamp(max=0.5)),
    case(Clamp(min=2.0), WHOLE, lambda x: x.clamp(min=2)),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def test_a_size_as_a_number() -> None:
    """`x * N` multiplies by the size at run time."""
    for op, expected in ((Mul(scalar=symbol("N")), X * 3), (Sub(scalar=2 * symbol("N") + 1, reverse=True), 7 - X)):
        graph = one_node(op, [X], {}, [{0: "N"}])
        torch.testing.assert_close(evaluate(graph, {"x0": X})["y0"], expected)
        session = onnxruntime.InferenceSession(to_model(graph).SerializeToString())
        torch.testing.assert_close(to_tensors(session.run(None, {"x0": X.numpy()}))[0], expected)


def test_symbols_of_the_language() -> None:
    names = {kind: {symbol: table[symbol].name for symbol in table} for kind, table in FORMULAS.items()}
    arithmetic = {"+": "add", "-": "sub", "*": "mul", "/": "div", "**": "pow"}
    assert arithmetic.items() <= names["binary"].items()
    assert names["unary"] == {"-": "neg", "not": "logical_not"} and names["index"] == {"[]": "slice"}
    assert all(table[symbol] is OPERATORS[table[symbol].name] for table in FORMULAS.values() for symbol in table)


@pytest.mark.parametrize("sides", [(None, None), (None, 2), (0.5, None)])
def test_sides_of_an_operator_are_those_of_its_formula(sides: tuple[float | None, ...]) -> None:
    assert FORMULAS["binary"]["-"].from_sides(*sides).sides() == sides


def test_operators_that_no_formula_expresses() -> None:
    assert formula_of(Add(scalar=float("inf"))) is None and formula_of(Add(reverse=True)) is None
    assert formula_of(OPERATORS["maximum"]()) is None and formula_of(OPERATORS["slice"]()) is None
    assert formula_of(OPERATORS["logical_not"]()) == "unary" and formula_of(Add()) == "binary"


def test_broadcasting_needs_equal_sizes_or_one() -> None:
    n, m = symbol("N"), symbol("M")
    assert Add().infer([_f32(n, 1), _f32(5)]).results == (_f32(n, 5),)
    assert Add().infer([_f32(1, 5), _f32(n, 5)]).results == (_f32(n, 5),)
    for left, right in (((n, 5), (m, 5)), ((n, 5), (3, 5)), ((2, 3), (2,))):
        with pytest.raises(OperatorError) as caught:
            Add().infer([_f32(*left), _f32(*right)])
        assert caught.value.code == "shape-mismatch"


@pytest.mark.parametrize(
    ("op", "types"),
    [
        (Add(), [TensorType(DType.f32, (2,)), TensorType(DType.f16, (2,))]),
        (Add(), [TensorType(DType.bool, (2,)), TensorType(DType.bool, (2,))]),
        (Mul(scalar=0.5), [TensorType(DType.i64, (2,))]),
        (Div(), [TensorType(DType.i64, (2,)), TensorType(DType.i64, (2,))]),
        (Exp(), [TensorType(DType.i32, (2,))]),
        (Neg(), [TensorType(DType.bool, (2,))]),
        (Clamp(0.5), [TensorType(DType.i64, (2,))]),
    ],
    ids=str,
)
def test_dtypes_that_do_not_fit(op: Add, types: list[TensorType]) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer(types)
    assert caught.value.code == "dtype-mismatch"


def test_a_clamp_needs_an_end() -> None:
    with pytest.raises(OperatorError) as caught:
        Clamp().infer([_f32(2)])
    assert caught.value.code == "bad-attribute"


def _f32(*shape: object) -> TensorType:
    return TensorType(DType.f32, shape)  # type: ignore[arg-type]
