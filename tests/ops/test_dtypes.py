"""Each operator in each dtype: it agrees in all runtimes, or is rejected with a code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import archc
from archc.codegen.onnx import run_session, run_tensors, to_model
from archc.declaration import OPERATORS
from archc.declaration.base import OperatorError
from archc.declaration.dtype_table import dtype_rows
from archc.diagnostics import ArchcError
from archc.driver.binding import bind_fresh
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.types.tensor_type import DType, TensorType
from archc.weights.dtype_conversion import from_torch, to_torch
from archc.weights.tensor import ArrayTensor, Weights
from tests.codegen.torch_modules import imported
from tests.ops.dtype_cells import Cell, Tensor, all_cases, cells, results_of, together, torch_dtype
from tests.ops.runtimes import session

CASES = all_cases()
EPSILONS = {DType.f64: 2.0**-52, DType.f32: 2.0**-23, DType.f16: 2.0**-10, DType.bf16: 2.0**-7}
ROUNDINGS = {DType.f64: 64, DType.f32: 64, DType.f16: 3, DType.bf16: 3}
"""Tolerances in multiples of epsilon.

They are small for f16 and bf16, whose sums are computed in f32 or f64.
"""
STEPS = 12
"""Factor of the tolerance for layers that round their state in each step."""
REFUSALS = {"dtype-mismatch", "number-too-large", "bad-attribute", "operand-count", "rank-mismatch"}


def refusal(cell: Cell) -> str | None:
    """Code with which inference rejects a cell, or None."""
    try:
        cell.op.infer([TensorType(dtype_of(tensor), tuple(tensor.shape)) for tensor in cell.inputs])
    except OperatorError as error:
        return error.code
    return None


def dtype_of(tensor: Tensor) -> DType:
    return next(dtype for dtype in DType if torch_dtype(dtype) is tensor.dtype)


def has_onnx_form(cell: Cell) -> bool:
    rows = {row.operand: row for row in dtype_rows(type(cell.op))}
    return (rows.get(cell.operand) or rows[""]).onnx[cell.dtype] is not None


def assert_agrees(cell: Cell, got: Sequence[Tensor], expected: Sequence[Tensor], what: str) -> None:
    """Check that results are equal up to rounding in the cell's dtype, relative to their mean size."""
    assert len(got) == len(expected), f"{what} gives {len(got)} results of {cell}"
    for one, other in zip(got, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), f"{what}: {cell}"
        if not other.is_floating_point():
            assert torch.equal(one, other), f"{what}: {cell}: {one} is not {other}"
            continue
        dtype = cell.dtype if cell.dtype.floating else dtype_of(other)
        roundings = ROUNDINGS[dtype] * (STEPS if cell.op.family == "recurrent" else 1)
        size = other[other.isfinite()].double().abs().mean().item() if other.numel() else 0.0
        tolerance = roundings * EPSILONS[dtype]
        torch.testing.assert_close(
            one,
            other,
            rtol=tolerance,
            atol=tolerance * size,
            equal_nan=True,
            msg=lambda text: f"{what}: {cell}: {text}",
        )


def torch_outputs(many: Sequence[Cell], folder: Path) -> dict[str, dict[str, Tensor]]:
    """Outputs of a graph of cells in the interpreter, and of the emitted module."""
    graph, feeds = together(many)
    with torch.no_grad():
        results = imported(graph, folder).load()(*feeds.values())
    return {"the interpreter": evaluate(graph, feeds), "the module": dict(zip(graph.outputs, results, strict=True))}


def onnx_outputs(many: Sequence[Cell]) -> dict[str, dict[str, Tensor]]:
    """Outputs of a graph of cells in ONNX Runtime, without and with all fusions."""
    graph, feeds = together(many)
    model, arrays = to_model(graph), {name: from_torch(tensor) for name, tensor in feeds.items()}
    found = {}
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        outputs = run_session(session(model, level), arrays)
        found[level] = {name: to_torch(array) for name, array in outputs.items()}
    return found


def onnx_refusals(graph: Graph) -> list[str]:
    """Codes with which the ONNX emitter rejects a graph."""
    try:
        to_model(graph)
    except ArchcError as error:
        return [diagnostic.code for diagnostic in error.diagnostics]
    return []


def compare(many: Sequence[Cell], outputs: Mapping[str, dict[str, Tensor]]) -> None:
    for k, cell in enumerate(many):
        for what, found in outputs.items():
            assert_agrees(cell, results_of(k, found), cell.expected, what)


@pytest.mark.parametrize("dtype", DType)
def test_every_operator(dtype: DType, tmp_path: Path) -> None:
    every = [cell for cases in CASES.values() for cell in cells(cases, dtype)]
    assert {refusal(cell) for cell in every} - {None} <= REFUSALS
    accepted = [cell for cell in every if refusal(cell) is None]
    compare(accepted, torch_outputs(accepted, tmp_path))
    spelled = [cell for cell in accepted if has_onnx_form(cell)]
    compare(spelled, onnx_outputs(spelled))
    lacking = [cell for cell in accepted if not has_onnx_form(cell)]
    assert onnx_refusals(together(lacking)[0]) == ["no-onnx-form"] * len(lacking)


@pytest.mark.parametrize("name", sorted(name for name, cls in OPERATORS.items() if cls.__module__[:10] == "archc.ops."))
def test_the_table_says_what_is_accepted(name: str) -> None:
    """The table has a dtype of an operand if and only if a case of the operator runs in this dtype."""
    rows = {row.operand: row for row in dtype_rows(OPERATORS[name])}
    for dtype in DType:
        runs: dict[str, set[bool]] = {}
        for cell in cells(CASES.get(name, []), dtype):
            runs.setdefault(cell.operand if cell.operand in rows else "", set()).add(refusal(cell) is None)
        for operand, outcomes in runs.items():
            assert (dtype in rows[operand].onnx) == any(outcomes), f"{name} {operand} {dtype}"


@pytest.mark.parametrize("dtype", DType)
def test_operators_without_operands(dtype: DType) -> None:
    """Operators without operands accept exactly the dtypes in the table."""
    made = {
        "arange": "arange(T, dtype = {})",
        "full": "full((2, T), 1, dtype = {})",
        "zeros": "zeros((T,), dtype = {})",
        "ones": "ones((2, 3), dtype = {})",
        "constant": "constant((3,), {})",
        "parameter": "parameter((3,), {})",
    }
    for name, use in made.items():
        (row,) = dtype_rows(OPERATORS[name])
        text = f"model m {{ input x: f32[N, T]  output z = x  output y = {use.format(dtype)} }}"
        if dtype not in row.onnx:
            with pytest.raises(ArchcError):
                archc.parse(text)
            continue
        graph = archc.parse(text)
        bind_fresh(graph, 0)
        x = torch.zeros(1, 300 if name == "arange" else 3)
        _, found = run_tensors(to_model(graph), [x])
        assert found.dtype is torch_dtype(dtype) and torch.equal(found, evaluate(graph, {"x": x})["y"]), name
        if name == "arange":
            assert torch.equal(found, torch.arange(300).to(found.dtype))  # integers wrap around


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("storage", ["int8", "int8(axis = 0)", "masked"])
def test_stored_weights_decode_in_narrow_dtypes(dtype: str, storage: str) -> None:
    text = f"model m {{ input x: {dtype}[N, 8]  output y = x -> f: linear(8, weight = {storage}) }}"
    graph = archc.parse(text)
    bind_fresh(graph, 0)
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).to(torch_dtype(DType(dtype)))
    expected = evaluate(graph, {"x": x})["y"]
    found = run_tensors(to_model(graph), [x])[0]
    tolerance = ROUNDINGS[DType(dtype)] * EPSILONS[DType(dtype)]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_narrow_data_are_rounded_to_the_same_integers(dtype: str) -> None:
    """If x / scale were first rounded to f16, it could become a tie, and be rounded to another integer."""
    graph = archc.parse(f"model m {{ input x: {dtype}[N]  q, s, z = x -> q0: quantize(u8)  output y = q }}")
    known = torch_dtype(DType(dtype))
    scale = torch.tensor(0.0123).to(known)
    values = {"q0.scale": from_torch(scale), "q0.zero_point": np.asarray(3, np.uint8)}
    graph.tensors = Weights({name: ArrayTensor(array) for name, array in values.items()})
    x = torch.linspace(-0.1, 3.2, 4000).to(known)
    expected = ((x.double() / scale.double()).round() + 3).clamp(0, 255).to(torch.uint8)
    assert torch.equal(evaluate(graph, {"x": x})["y"], expected)
    assert torch.equal(run_tensors(to_model(graph), [x])[0], expected)


def test_the_help_for_a_tied_weight_of_another_dtype() -> None:
    text = (
        "model m { input t: i64[N]  input x: f16[N, 4]  layer wte = embedding(7, 4)  output a = t -> wte"
        "  output y = x -> linear(7, bias = false, weight = wte.weight) }"
    )
    with pytest.raises(ArchcError) as caught:
        archc.parse(text)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "dtype-mismatch" and "cast(f32)" in (diagnostic.help or "")
