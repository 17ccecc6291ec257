"""Measured effects of quantization: the noise that each layer adds to its result and to the outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from archc.compression.calibration.output_gradients import output_gradients, sample_count
from archc.declaration.traits import DECODES
from archc.frozen_dataclass import frozen_dataclass
from archc.interpreter.evaluate import bind_sizes, evaluate_all, run_node
from archc.ir.graph import Graph, Node, Value
from archc.ir.scans import schedule
from archc.weights.dtype_conversion import to_torch

if TYPE_CHECKING:
    import torch

    Narrowed = Callable[[Node, list[torch.Tensor], dict[str, torch.Tensor]], list[torch.Tensor]]
    """Function that changes the dtypes of the operands and weights of a node: it returns the operands, and changes the
    mapping of weights."""

DRAWS = 4
"""Number of random directions for each batch of samples."""


@frozen_dataclass
class LayerEffect:
    """Effect of the rounding of one layer's weights and operands.

    Attributes:
        snr_db: signal-to-noise ratio of the layer's result in decibels; None without noise.
        output_error: expected squared error of the outputs, relative to their mean squares; 0 if they do not depend on
            the result; None if a gradient is infinite or NaN.
    """

    snr_db: float | None
    output_error: float | None


def layer_effects(
    graph: Graph,
    originals: Mapping[Node, Mapping[str, np.ndarray]],
    batches: Iterable[Mapping[str, torch.Tensor]],
    centred: Collection[Node] = (),
    seed: int = 0,
    narrowed: Narrowed | None = None,
) -> dict[Node, LayerEffect]:
    """Measure the effect of each quantized layer alone.

    A layer adds the noise e = f'(x') - f(x) to its result, for the layer f with its original weights and the float
    operand x, and the layer f' with its stored weights and the quantized operand x'.  All other layers have stored
    weights and float operands.  The error of the outputs is that of the linearized model, E[⟨g, e⟩²] for the gradient g
    of a random combination of the outputs (`output_gradients`); unlike a metric of the result, it includes the
    correlation of errors at different positions.

    Args:
        originals: weights before the quantization by path, for each node.  Nodes in scans are left out.
        centred: nodes whose bias, if they have one, absorbs the mean of the noise of each channel.
        narrowed: the operands of a layer in the dtypes in which f' computes.  It also changes the mapping of weights.

    Returns:
        The effects of the nodes with a floating-point result.
    """
    import torch

    outside = {item for item in schedule(graph) if isinstance(item, Node)}
    nodes = [node for node in originals if node in outside and node.results[0].type.dtype.floating]
    generator = torch.Generator().manual_seed(seed)
    totals = {node: _Totals() for node in nodes}
    samples = 0
    for batch in batches:
        noise = _Noise(graph, {node: originals[node] for node in nodes}, centred, batch, narrowed)
        outputs = [
            tensor
            for value, tensor in evaluate_all(graph, batch, change=noise.change, gradients=True, rounds=False)
            if graph.is_output(value) and tensor.requires_grad
        ]
        watched = [node for node, layer in noise.layers.items() if layer.result.requires_grad]
        if outputs and watched:
            samples += sample_count(outputs)
            results = [noise.layers[node].result for node in watched]
            for gradients in output_gradients(outputs, results, DRAWS, generator):
                for node, gradient in zip(watched, gradients):
                    if gradient is not None:
                        totals[node].effect += noise.layers[node].change(gradient) / DRAWS
        for node, layer in noise.layers.items():
            totals[node].signal += layer.signal
            totals[node].noise += layer.noise
    return {node: total.effect_of(samples) for node, total in totals.items() if 0 < total.signal < math.inf}


class _Totals:
    """Sums over the batches."""

    def __init__(self) -> None:
        self.signal = self.noise = self.effect = 0.0

    def effect_of(self, samples: int) -> LayerEffect:
        ratio = 10 * math.log10(self.signal / self.noise) if 0 < self.noise < math.inf else None
        return LayerEffect(ratio, self.effect / max(samples, 1) if math.isfinite(self.effect) else None)


class _Layer:
    """Result and noise of a layer on one batch.

    If the bias absorbs the mean of the noise, this is the mean over the rows with an effect on the outputs.  All rows
    count until a gradient is known, and if no row has an effect.

    Attributes:
        result: the result in the evaluation, whose gradient is wanted.
    """

    def __init__(self, node: Node, result: torch.Tensor, expected: torch.Tensor, error: torch.Tensor, centred: bool):
        self.result = result
        self._node, self._centred = node, centred
        self._expected, self._error = self._rows(expected), self._rows(error)
        self._relevant: torch.Tensor | None = None

    def change(self, gradient: torch.Tensor) -> float:
        """Sum of ⟨gradient, noise⟩² over the samples, which are along the first axis."""
        import torch

        samples = len(gradient) if gradient.ndim else 1
        rows = self._rows(gradient)
        if self._centred and self._relevant is None:
            effective = (rows != 0).any(1)
            self._relevant = effective if effective.any() else torch.ones_like(effective)
        products = (rows * self._absorbed(self._error)).flatten()
        sums = products.reshape(samples, -1).sum(1)
        return float(sums.double().square().sum())

    @property
    def signal(self) -> float:
        """Sum of the squares of the result, about its mean if the bias absorbs means."""
        return float(self._absorbed(self._expected).double().square().sum())

    @property
    def noise(self) -> float:
        """Sum of the squares of the noise."""
        return float(self._absorbed(self._error).double().square().sum())

    def _rows(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._node.op.result_rows(tensor) if self._centred else tensor

    def _absorbed(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows about their mean, with zeros for rows without an effect."""
        if not self._centred:
            return rows
        if self._relevant is None:
            return rows - rows.mean(0)
        return (rows - rows[self._relevant].mean(0)) * self._relevant[:, None]


class _Noise:
    """Noise of the layers on one batch, collected while the graph is evaluated in floats.

    Attributes:
        layers: the measured layers.
    """

    def __init__(
        self,
        graph: Graph,
        originals: Mapping[Node, Mapping[str, np.ndarray]],
        centred: Collection[Node],
        batch: Mapping[str, torch.Tensor],
        narrowed: Narrowed | None,
    ):
        self.layers: dict[Node, _Layer] = {}
        self._graph, self._originals, self._centred, self._narrowed = graph, originals, centred, narrowed
        self._sizes = bind_sizes(graph, {name: tuple(tensor.shape) for name, tensor in batch.items()})
        self._sources = _quantized(graph.nodes())
        self._needed = {value for node in originals for value in node.operands} | set(self._sources.values())
        self._floats: dict[Value, torch.Tensor] = {}
        self._rounded: dict[Value, torch.Tensor] = {}

    def change(self, value: Value, tensor: torch.Tensor) -> torch.Tensor:
        """Replace a dequantized value by the value before its quantization, and watch the results of layers."""
        if value in self._sources:
            self._rounded[value] = tensor.detach()
            tensor = self._floats[self._sources[value]]
        node = value.producer
        if node is not None and node in self._originals and value is node.results[0]:
            tensor = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
            self._measure(node, tensor)
        if value in self._needed:
            self._floats[value] = tensor  # the watched tensor: its uses must lead to it
        return tensor

    def _measure(self, node: Node, result: torch.Tensor) -> None:
        import torch

        exact = [self._floats[value].detach() for value in node.operands]
        rounded = [self._rounded.get(value, tensor) for value, tensor in zip(node.operands, exact)]
        own = {path: to_torch(self._graph.weight_values(path)) for path in node.weights.values()}
        before = {path: to_torch(np.ascontiguousarray(array)) for path, array in self._originals[node].items()}
        with torch.no_grad():
            expected = run_node(node, exact, own | before, self._sizes, rounds=False)[0]
            if self._narrowed is not None:
                rounded = self._narrowed(node, rounded, own)
            error = run_node(node, rounded, own, self._sizes)[0].to(expected.dtype) - expected
        centred = node in self._centred and "bias" in node.weights
        self.layers[node] = _Layer(node, result, expected, error, centred)


def _quantized(nodes: Iterable[Node]) -> dict[Value, Value]:
    """For each dequantized value, the floating-point value that was quantized."""
    found = {}
    for node in nodes:
        quantizer = node.operands[0].producer if node.op.has(DECODES) and node.operands else None
        if quantizer is not None and quantizer.operands:
            source, result = quantizer.operands[0], node.results[0]
            if source.type == result.type:
                found[result] = source
    return found


def original_weights(graph: Graph, nodes: Collection[Node]) -> dict[Node, dict[str, np.ndarray]]:
    """Present weights of nodes by path, for `layer_effects` after a quantization."""
    values = {path: graph.weight_values(path) for node in nodes for path in node.weights.values()}
    return {node: {path: values[path] for path in node.weights.values()} for node in nodes}
