"""Fake quantization for training, and its conversion to integers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from archc.analysis.layers import Layer, layers_with_weights
from archc.compression.quantization.weight_formats import Format
from archc.diagnostics import error
from archc.ir.graph import Graph
from archc.ops.fake_quantize import FakeQuantize
from archc.passmanager import Context, select
from archc.types.storage import FakeQuantized, Integers, Masked, PackedIntegers, Storage, Weight

from ._int8_weights import StoredWeights, int8_format, stored_weights
from ._quant_remarks import remark_on_weights

Globs = str | tuple[str, ...] | None


def is_fake_quantized(graph: Graph) -> bool:
    """Return whether a graph has fake quantization of weights or values."""
    return any(isinstance(weight.storage, FakeQuantized) for weight in graph.weights.values()) or any(
        isinstance(node.op, FakeQuantize) for node in graph.nodes()
    )


def fake_quantize_as_int8(
    graph: Graph, context: Context, layer: Layer, names: Iterable[str], axes: Mapping[str, int] | None
) -> StoredWeights:
    """Round weights of a layer in each run as int8.

    Args:
        axes: the axes of the scales; see `int8_format`.
    """
    paths = {name: layer.weights[name] for name in names}
    formats = {name: int8_format(path, graph.weight_values(path), axes) for name, path in paths.items()}
    return _fake_quantize(graph, context, layer, formats)


def _fake_quantize(graph: Graph, context: Context, layer: Layer, formats: Mapping[str, Storage]) -> StoredWeights:
    """Round weights of a layer in each run, except shared weights that an earlier layer has.

    Args:
        formats: the formats of integers, by the names of the weights.
    """
    values = {layer.weights[name]: graph.weight_values(layer.weights[name]) for name in formats}
    for name, storage in formats.items():
        path = layer.weights[name]
        assert isinstance(storage, Integers), f"{storage} is not trained"
        if graph.weights[path].storage.elementwise:
            if isinstance(graph.weights[path].storage, Masked):
                context.note(layer.path, "fake quantization replaces its mask; masked weights are trained, too")
            context.rewriter.set_storage(path, FakeQuantized(storage))
    return stored_weights(graph, values, "training")


def fake_quantize_layers(graph: Graph, context: Context, formats: Mapping[Layer, Mapping[str, Storage]]) -> None:
    """Round the weights of layers in each run, and add a remark on each layer."""
    for layer, of_weights in formats.items():
        found = _fake_quantize(graph, context, layer, of_weights)
        remark_on_weights(
            context, layer, replace(found, formats=", ".join(dict.fromkeys(map(str, of_weights.values()))))
        )


@dataclass(frozen=True)
class AskedFormat:
    """Options of `quant` that determine the format of weights; None and False are not given."""

    format: Format | None
    group: int | None
    symmetric: bool
    bytes: int | None

    def fits(self, weight: Weight, trained: Integers) -> bool:
        """Return whether the format in which a weight is trained has these options."""
        if self.bytes is not None or self.format not in (None, trained.name):
            return False
        if not isinstance(trained, PackedIntegers):
            return True
        same_group = self.group is None or trained.width(weight.shape) == min(self.group, trained.columns(weight.shape))
        return same_group and (trained.symmetric or not self.symmetric)

    def __str__(self) -> str:
        if self.bytes is not None:
            return f"in a budget of {self.bytes:,} bytes"
        group = "" if self.group is None else f" in groups of {self.group}"
        return f"as {'symmetric ' if self.symmetric else ''}{self.format or 'integers'}{group}"


def convert(graph: Graph, context: Context, asked: AskedFormat, on: Globs, keep: Globs) -> None:
    """Replace fake quantization by integers with the same values, and add a remark on each layer.

    Weights are rounded to nearest, with the scales of the training; no other layer is quantized.  So the outputs change
    only by the rounding of floats.

    Args:
        on, keep: selectors of the layers whose weights are converted.

    Raises:
        ArchcError: the options ask for another format than that of the training (`trained-format`).
    """
    wanted = select(graph, on, keep)
    layers: dict[str, list[Weight]] = {}
    for weight in graph.weights.values():
        layers.setdefault(weight.path.rpartition(".")[0], []).append(weight)
    for layer in layers_with_weights(graph):
        layers.setdefault(layer.path, [])
        if not layer.quantizable.schemes or not layer.weights:
            continue
        if not any(isinstance(graph.weights[path].storage, FakeQuantized) for path in layer.weights.values()):
            context.left(layer.path, "it was trained without fake quantization")
    for path, weights in layers.items():
        trained = {weight: weight.storage.format for weight in weights if isinstance(weight.storage, FakeQuantized)}
        if trained and not wanted(path):
            context.left(path, "not selected")
        elif trained:
            _store(graph, context, path, trained, asked)
    for node in list(graph.nodes()):
        if isinstance(node.op, FakeQuantize):
            quantize = context.rewriter.add(
                node.op.quantizer(), node.operands, name=node.name, near=node, weights=node.weights
            )
            decoded = context.rewriter.add(node.op.decoder(), quantize.results, near=node)
            context.rewriter.replace(node, decoded.results)


def _store(graph: Graph, context: Context, layer: str, trained: Mapping[Weight, Integers], asked: AskedFormat) -> None:
    """Store the weights of a layer in the formats of the training."""
    assert graph.tensors is not None, "weights are bound before passes run"
    before = after = 0
    for weight, storage in trained.items():
        if not asked.fits(weight, storage):
            raise error(
                "trained-format",
                f"`quant` cannot store `{weight.path}` {asked}: it was trained as {storage}",
                help="write `quant`, without a format: it stores each weight in the format of its training",
            )
        values = graph.tensors[weight.path].numpy()
        if not np.isfinite(values).all():
            context.left(layer, f"`{weight.path}` has NaN or infinite elements")
            return
        context.rewriter.set_storage(weight.path, storage, storage.encode(weight.path, values))
        before, after = before + weight.nbytes, after + graph.weights[weight.path].nbytes
    kinds = ", ".join(dict.fromkeys(map(str, trained.values())))
    context.rewrote(
        layer,
        f"{kinds} as trained: {before:,} bytes of weights become {after:,}",
        format=kinds,
        method="training",
        bytes_before=before,
        bytes_after=after,
    )
