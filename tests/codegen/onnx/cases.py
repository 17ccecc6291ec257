"""Operators and a graph builder for the tests of the ONNX backend, and a comparison of runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator

from archc.codegen.onnx import check, run, to_model
from archc.declaration.base import Operator, operator
from archc.declaration.parameter import Parameter, ones, zeros
from archc.declaration.spelling import OnnxSpelling, TorchSpelling
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph, Value
from archc.ir.rewriter import Rewriter
from archc.ir.verifier import verify
from archc.types.attributes import attribute
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from archc.weights.tensor import ArrayTensor, Weights

Arrays = Mapping[str, np.ndarray[Any, Any]]
N, T = symbol("N"), symbol("T")


@operator
class Rectify(Operator, abstract=True):
    """An operator that is one ONNX node without attributes."""

    signature = "x[*s] -> y[*s]"
    torch_name = "torch.relu"
    onnx_name = "Relu"


@operator
class Hand(Operator, abstract=True):
    """An operator that returns its operand, like dropout in inference."""

    signature = "x[*s] -> y[*s]"

    def torch(self, spell: TorchSpelling) -> str:
        return spell.operands[0]

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.operands[0]


@operator
class Fold(Operator, abstract=True):
    """An operator that merges all axes but the first by a reshape."""

    signature = "x[n, *d] -> y[n, prod(d)]"

    def torch(self, spell: TorchSpelling) -> str:
        return f"{spell.operands[0]}.flatten(1)"

    def onnx(self, spell: OnnxSpelling) -> str:
        return spell.reshape(spell.operands[0], spell.results[0].shape)


@operator
class Halves(Operator, abstract=True):
    """An operator with two results."""

    signature = "x[n, a + a] -> y[n, a], z[n, a]"
    size: int = attribute(index="a")

    def result_dtypes(self, types: Any) -> tuple[DType, ...]:
        return (types[0].dtype,) * 2

    def torch(self, spell: TorchSpelling) -> str:
        return f"{spell.operands[0]}.chunk(2, 1)"

    def onnx(self, spell: OnnxSpelling) -> tuple[str, ...]:
        result: tuple[str, ...] = spell.add("Split", spell.operands[0], outputs=2, axis=1, num_outputs=2)
        return result


@operator
class Twins(Operator, abstract=True):
    """An operator whose two results are the same tensor."""

    signature = "x[n, a] -> y[n, a], z[n, a]"

    def result_dtypes(self, types: Any) -> tuple[DType, ...]:
        return (types[0].dtype,) * 2

    def torch(self, spell: TorchSpelling) -> str:
        return f"({spell.operands[0]}.relu(),) * 2"

    def onnx(self, spell: OnnxSpelling) -> tuple[str, ...]:
        return (spell.add("Relu", spell.operands[0]),) * 2


@operator
class Counted(Operator, abstract=True):
    """An operator with a scale for each channel, and a counter that inference does not use."""

    signature = "x[n, c], scale[c], count[] -> y[n, c]"
    parameters = {
        "scale": Parameter(ones),
        "count": Parameter(zeros, trainable=False, dtype=DType.i64, optional_in_files=True),
    }

    def torch(self, spell: TorchSpelling) -> str:
        return f"{spell.operands[0]} * {spell.weights['scale']}"

    def onnx(self, spell: OnnxSpelling) -> str:
        result: str = spell.add("Mul", spell.operands[0], spell.weights["scale"])
        return result


@operator
class Formless(Operator, abstract=True):
    """An operator that ONNX does not have."""

    name = "formless"
    signature = "x[*s] -> y[*s]"
    torch_name = "torch.erfinv"


class Model:
    """Builder of a graph."""

    def __init__(self, name: str = "net"):
        self.graph = Graph(name)
        self.rewriter = Rewriter(self.graph)

    def input(self, name: str, *shape: Any, dtype: DType = DType.f32) -> Value:
        return self.rewriter.input(name, TensorType(dtype, shape))

    def add(self, op: Operator, *operands: Value, **options: Any) -> Value:
        return self.rewriter.add(op, operands, **options).result

    def done(self, seed: int = 0, **outputs: Value) -> Graph:
        """Add the outputs; return the verified graph, with seeded random weights."""
        for name, value in outputs.items():
            self.rewriter.output(name, value)
        self.graph.tensors = Weights()
        random = np.random.default_rng(seed)
        for weight in self.graph.weights.values():
            values = random.standard_normal(weight.shape).astype(np.dtype(weight.dtype.torch))
            for path, array in weight.storage.encode(weight.path, values).items():
                self.graph.tensors.set(path, ArrayTensor(array))
        verify(self.graph)
        return self.graph


def agree(graph: Graph, inputs: Arrays, model: onnx.ModelProto | Path | None = None) -> None:
    """Check the ONNX model of a graph; compare ONNX Runtime and `onnx.reference` with PyTorch."""
    model = to_model(graph) if model is None else model
    check(model)
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    expected = {name: tensor.numpy() for name, tensor in evaluate(graph, tensors).items()}
    reference = ReferenceEvaluator(str(model) if isinstance(model, Path) else model)
    found = dict(zip(reference.output_names, reference.run(None, dict(inputs)), strict=True))
    for results in (run(model, inputs), found):
        assert list(results) == list(expected)
        for name, array in expected.items():
            assert results[name].shape == array.shape
            assert results[name].dtype == array.dtype
            np.testing.assert_allclose(results[name], array, rtol=1e-4, atol=1e-4)


def floats(*shape: int, seed: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
