"""Choice of a storage format for each weight under a budget of bytes for the whole model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from archc.analysis.layers import Layer
from archc.compression.allocation import Option, allocate
from archc.compression.output_error import OutputError
from archc.compression.output_metric import output_metric
from archc.compression.sensitivity import RoundingLoss, layer_statistics
from archc.compression.weight_formats import Format, storage_of
from archc.diagnostics import error
from archc.ir.graph import Graph, Node
from archc.passmanager import Context
from archc.types.storage import Dense, Int8, Storage

from ._narrow_weights import can_use_data

CANDIDATES: tuple[tuple[Format, int | None], ...] = (
    *(("int2", 16), ("int2", 32), ("int3", 32), ("int3", 64), ("int4", 32), ("int4", 64)),
    *(("int5", 32), ("int5", 64), ("int6", 64), ("int8", None)),
)
"""Formats of a weight under a budget, with the size of a group; floats are a candidate, too."""

MEASURED_BATCHES = 2
"""Number of batches of calibration data on which the error of the outputs is measured for each layer."""
MOST_RATIO = 32
"""Largest correction of a predicted error, up or down."""
PROGRAM_BYTES = 40_000
"""Bytes of a budget that are kept for the program, and `NODE_BYTES` more for each operator.

An emitted module has a runtime file of up to 30,000 bytes.  In an ONNX file, a weight that is unpacked by operators of
the standard takes 1,500 bytes more than its integers.
"""
NODE_BYTES = 1000


def formats_within(
    graph: Graph, context: Context, layers: Sequence[Layer], names: Mapping[Layer, Sequence[str]], budget: int
) -> dict[Layer, dict[str, Storage]]:
    """Storage formats of the weights of layers such that the emitted program has at most `budget` bytes.

    The sum over the layers of the expected squared error of the outputs is minimal.  Layers whose loss cannot be
    measured become int8.

    Args:
        names: names of the weights of each layer that can be stored as integers.

    Raises:
        ArchcError: no choice of formats is within the budget (`budget-too-small`).
    """
    stored: dict[str, Layer] = {}
    for layer in layers:
        for name in names[layer]:
            stored.setdefault(layer.weights[name], layer)
    other = sum(weight.nbytes for path, weight in graph.weights.items() if path not in stored)
    overhead = PROGRAM_BYTES + NODE_BYTES * len(graph)
    options = _options(graph, context, stored)
    chosen = allocate(options, budget - other - overhead)
    if chosen is None:
        least = other + overhead + sum(min(option.cost for option in each) for each in options.values())
        raise error(
            "budget-too-small",
            f"`quant` cannot store `{graph.name}` in {budget:,} bytes: the smallest formats need {least:,}",
            notes=[f"{other:,} bytes are weights that stay in floats; about {overhead:,} are the program"],
            help=f"give at least `bytes = {least}`, or make the model smaller first, for example with `lowrank`",
        )
    context.note(
        graph.name,
        f"formats within {budget:,} bytes; expected squared error of the outputs:"
        f" {sum(option.loss for option in chosen.values()):.2e}",
    )
    for path, option in chosen.items():
        if option.loss:
            loss = f"{option.loss:.2e} of the expected squared error of the outputs"
            context.note(stored[path].path, f"{option.choice}: {loss}", output_error=option.loss)
    formats = {path: option.choice for path, option in chosen.items() if not isinstance(option.choice, Dense)}
    return {
        layer: {name: formats[path] for name in names[layer] if (path := layer.weights[name]) in formats}
        for layer in layers
    }


def _options(graph: Graph, context: Context, stored: Mapping[str, Layer]) -> dict[str, list[Option[Storage]]]:
    """Formats of each weight by path, with bytes and loss."""
    import torch

    batches = list(context.calibration.batches())
    measurable = [
        layer
        for layer in dict.fromkeys(stored.values())
        if can_use_data(graph, layer, {"weight": Int8(layer.quantizable.channel_axis)})
    ]
    nodes = [layer.node for layer in measurable]
    context.progress("measure the effect of each layer on the outputs")
    metrics = output_metric(graph, nodes, batches)
    statistics = layer_statistics(graph, batches, metrics)
    errors = OutputError(graph, batches[:MEASURED_BATCHES])
    options: dict[str, list[Option[Storage]]] = {}
    for path, layer in stored.items():
        weight, values = graph.weights[path], graph.weight_values(path)
        axis = layer.quantizable.channel_axis
        node = layer.node
        if node not in metrics or node not in statistics:
            fixed = storage_of("int8", values, axis)
            options[path] = [Option(fixed, replace(weight, storage=fixed).nbytes, 0.0)]
            context.note(layer.path, "its effect on the outputs cannot be measured: int8")
            continue
        context.progress(f"measure the formats of {layer.path}")
        loss = RoundingLoss(torch.from_numpy(values.copy()), statistics[node], metrics[node].matrix)
        formats = [storage_of(name, values, axis, group) for name, group in CANDIDATES]
        ratio = _measured_ratio(graph, node, loss, storage_of("int4", values, axis), errors)
        options[path] = [
            Option(storage, replace(weight, storage=storage).nbytes, ratio * loss.of(storage))
            for storage in (*dict.fromkeys(formats), Dense())
        ]
    return options


def _measured_ratio(graph: Graph, node: Node, loss: RoundingLoss, probe: Storage, errors: OutputError) -> float:
    """Measured error of the outputs with a weight in the format `probe`, relative to the prediction.

    The prediction takes the errors of different positions for independent.  In an attention layer, for example, they
    are not: the measured error of the weights of MiniLM's values is an eighth of the prediction.
    """
    rounded, path = loss.rounded(probe), node.weights["weight"]
    weights = {path: rounded.values}
    if rounded.shift is not None:
        bias = node.weights["bias"]
        weights[bias] = graph.weight_values(bias) + rounded.shift
    predicted, measured = loss.of(probe), errors.of(weights)
    return 1.0 if measured is None or not predicted else min(MOST_RATIO, max(1 / MOST_RATIO, measured / predicted))
