"""Symbolic sizes in ONNX: their values, computed from input shapes, agree with `archc.types.dims`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from archc.codegen.onnx import check, run, to_model
from archc.declaration.base import Operator, operator
from archc.declaration.spelling import OnnxSpelling
from archc.diagnostics import ArchcError
from archc.types import dims
from archc.types.attributes import attribute
from archc.types.dims import SymbolicDim, symbol
from archc.types.tensor_type import DType, TensorType

from .cases import Model, N, T, agree, floats

Extent = int | SymbolicDim


@operator
class Sizes(Operator, abstract=True):
    """An operator that returns sizes as a vector, and the first size as a scalar."""

    signature = "x[*s] -> shape[n], size[]"
    wanted: tuple[Any, ...] = attribute()

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        return {"n": len(self.wanted)}

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return DType.i64, DType.i64

    def onnx(self, spell: OnnxSpelling) -> tuple[str, ...]:
        return spell.shape(self.wanted), spell.size(self.wanted[0])


def model_of(*wanted: Extent, inputs: tuple[Extent, ...] = (N, T)) -> Any:
    model = Model()
    node = model.rewriter.add(Sizes(wanted), [model.input("x", *inputs)])
    shape, size = node.results
    return to_model(model.done(shape=shape, size=size))


def expected(wanted: Sequence[Extent], n: int, t: int) -> list[int]:
    return [dims.evaluate(dim, sizes={"N": n, "T": t}) for dim in wanted]


EXPRESSIONS = st.recursive(
    st.sampled_from([N, T, symbol("N") + 1]) | st.integers(-4, 5),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] * pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] - pair[1]),
        st.tuples(inner, st.integers(1, 5)).map(lambda pair: pair[0] // pair[1]),
        st.tuples(inner, st.integers(1, 5)).map(lambda pair: pair[0] % pair[1]),
        st.tuples(inner, st.sampled_from([N, T + 2])).map(lambda pair: pair[0] // pair[1]),
        st.tuples(inner, inner).map(lambda pair: dims.minimum(*pair)),
        st.tuples(inner, inner).map(lambda pair: dims.maximum(*pair)),
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(EXPRESSIONS, min_size=1, max_size=4), st.integers(1, 7), st.integers(1, 7))
def test_sizes_are_computed_as_python_computes_them(wanted: list[Extent], n: int, t: int) -> None:
    model = model_of(*wanted)
    check(model)
    x = np.zeros((n, t), np.float32)
    shape, size = ReferenceEvaluator(model).run(None, {"x": x})
    found = run(model, {"x": x})
    assert shape.tolist() == found["shape"].tolist() == expected(wanted, n, t)
    assert size == found["size"] == shape[0]
    assert np.shape(size) == found["size"].shape == ()


def test_a_size_is_computed_once() -> None:
    operators = [node.op_type for node in model_of(N * T + 1, N * T + 1, N, T).graph.node]
    assert operators.count("Shape") == 2
    assert operators.count("Mul") == operators.count("Add") == 1


def test_known_sizes_are_constants() -> None:
    assert [node.op_type for node in model_of(2, 3).graph.node] == ["Identity", "Identity"]


def test_a_symbol_is_computed_from_an_axis_with_an_expression() -> None:
    model = model_of(N, T, inputs=(2 * N + 1, T))
    for n in (1, 4):
        assert run(model, {"x": np.zeros((2 * n + 1, 3), np.float32)})["shape"].tolist() == [n, 3]


def test_a_symbol_that_no_input_determines_is_refused() -> None:
    with pytest.raises(ArchcError) as caught:
        model_of(N + 1, inputs=(T, 3))
    (found,) = caught.value.diagnostics
    assert found.code == "no-onnx-form"
    assert "`N`" in found.message


@operator
class Reshape(Operator, abstract=True):
    """An operator that reshapes to any shape with as many elements."""

    signature = "x[*s] -> y[*t]"
    to: tuple[Any, ...] = attribute()

    def infer(self, types: Sequence[TensorType]) -> Any:
        from archc.declaration.base import Inference
        from archc.types.extent_solver import Solution

        solution = Solution(self.signature_for(types), {}, (self.to,))
        return Inference((TensorType(types[0].dtype, self.to),), {}, solution)

    def torch(self, spell: Any) -> str:
        return f"{spell.operands[0]}.reshape({', '.join(spell.size(dim) for dim in self.to)})"

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.reshape(spell.operands[0], self.to)


@pytest.mark.parametrize(
    ("to", "operators"),
    [
        (
            (N, T * 4),
            ["Shape", "Shape", "Mul", "Concat", "Reshape"],
        ),  # not [N, -1]: if N is 0, -1 is undefined
        ((N, T, 2, 2), ["Reshape"]),  # [0, 0, 2, 2]: 0 keeps the operand's size
        ((N * T, 4), ["Reshape"]),  # [-1, 4]
        ((4, N, T), ["Shape", "Shape", "Concat", "Reshape"]),  # N and T are sizes of other axes than before
    ],
)
def test_reshape_computes_only_the_sizes_that_it_must(to: tuple[Extent, ...], operators: list[str]) -> None:
    model = Model()
    graph = model.done(y=model.add(Reshape(to), model.input("x", N, T, 4)))
    assert [node.op_type for node in to_model(graph).graph.node] == operators
    for n, t in ((1, 3), (5, 2)):
        agree(graph, {"x": floats(n, t, 4)})
