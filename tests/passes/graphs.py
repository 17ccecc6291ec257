"""Graphs built in Python with weights, and functions to run passes and to read their remarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from archc.declaration import OPERATORS
from archc.driver.latency import facts_on
from archc.ir.graph import Graph, Value
from archc.ir.rewriter import Rewriter
from archc.passmanager import Pass
from archc.passmanager.calibration import Calibration
from archc.passmanager.run import PassReport, run_passes
from archc.targets.registry import BUILT_IN
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from archc.weights.tensor import ArrayTensor, InitializedTensor, Weights


class Build:
    """Builder of a graph; `b.layer("linear", x, 8, name="fc1")` adds a layer and returns its first result."""

    def __init__(self) -> None:
        self.graph = Graph("net")
        self.rewriter = Rewriter(self.graph)

    def input(self, *shape: int, name: str = "x", dtype: DType = DType.f32) -> Value:
        """Add an input of shape `[N, *shape]`, where `N` is symbolic."""
        return self.rewriter.input(name, TensorType(dtype, (symbol("N"), *shape)))

    def layer(
        self,
        op: str,
        *arguments: Any,
        name: str | None = None,
        weights: Mapping[str, str] | None = None,
        transposed: Sequence[str] = (),
        **options: Any,
    ) -> Value:
        """Add a node: arguments that are values are its operands, other arguments its attributes."""
        operands = [value for value in arguments if isinstance(value, Value)]
        attributes = [value for value in arguments if not isinstance(value, Value)]
        operator = OPERATORS[op](*attributes, **options)
        made = self.rewriter.add(operator, operands, name=name, weights=weights, transposed=transposed)
        return made.results[0]

    def done(self, *outputs: Value, weights: Mapping[str, np.ndarray] | None = None) -> Graph:
        """Finish the graph with these outputs.

        Weights that are not given are initialized as usual; weights of layers named `bn…` are random in [0.5, 1.5).
        """
        for number, value in enumerate(outputs):
            self.rewriter.output(f"y{number}", value)
        generator = np.random.default_rng(0)
        self.graph.tensors = Weights()
        for weight in self.graph.weights.values():
            if weights is not None and weight.path in weights:
                self.graph.tensors.set(weight.path, ArrayTensor(weights[weight.path].astype(np.float32)))
            elif weight.dtype is DType.f32 and weight.path.startswith("bn"):
                self.graph.tensors.set(
                    weight.path, ArrayTensor((generator.random(weight.shape) + 0.5).astype(np.float32))
                )
            else:
                made = InitializedTensor(weight.shape, weight.dtype.value, weight.initializer, (0, weight.path))
                self.graph.tensors.set(weight.path, made)
        return self.graph


def run(graph: Graph, *passes: Pass, data: Mapping[str, np.ndarray] | None = None) -> list[PassReport]:
    """Run passes for the default targets; the graph is verified after each pass."""
    calibration = Calibration(graph, data)
    return list(run_passes(graph, passes, calibration, targets=facts_on(calibration, BUILT_IN)))


def outputs(graph: Graph, seed: int = 0) -> dict[str, torch.Tensor]:
    return Calibration(graph, seed=seed).outputs(graph)


def operators(graph: Graph) -> list[str]:
    return [str(node.op) for node in graph.nodes()]


def remarks(report: PassReport, kind: str) -> dict[str, str]:
    """Return the messages of all remarks of a kind, by layer."""
    return {remark.layer: remark.message for remark in report.remarks if remark.kind == kind}


def mlp(*widths: int, weights: Mapping[str, np.ndarray] | None = None) -> Graph:
    """Return a graph of linear layers fc1, fc2, … with a relu between successive layers."""
    build = Build()
    x = build.input(widths[0])
    for number, width in enumerate(widths[1:], 1):
        x = build.layer("linear", x if number == 1 else build.layer("relu", x), width, name=f"fc{number}")
    return build.done(x, weights=weights)


def of_rank(m: int, n: int, values: Sequence[float], seed: int = 0) -> np.ndarray:
    """Return a random m × n matrix with these singular values."""
    generator = np.random.default_rng(seed)
    left, _ = np.linalg.qr(generator.standard_normal((m, len(values))))
    right, _ = np.linalg.qr(generator.standard_normal((n, len(values))))
    matrix: np.ndarray = left @ np.diag(values) @ right.T
    return matrix
