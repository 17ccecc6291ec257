"""Choice of a storage format for each weight under a budget of bytes for the whole model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from archc.analysis.layers import Layer
from archc.compression.allocation import Option, allocate_total
from archc.compression.calibration.matrix_layers import matrix_obstacle
from archc.compression.calibration.output_error import OutputError, measured_ratio
from archc.compression.quantization.rounding_loss import RoundingLoss
from archc.compression.quantization.weight_formats import Format, storage_of
from archc.diagnostics import error
from archc.ir.graph import Graph, Node
from archc.passmanager import Context
from archc.types.storage import Integers, NarrowFloat, Storage
from archc.types.tensor_type import DType

from ._calibration_statistics import operand_statistics, output_metrics
from ._factor_formats import format_for
from ._program_size import ProgramSize

CANDIDATES: tuple[tuple[Format, int | None], ...] = (
    *(("int2", 16), ("int2", 32), ("int3", 32), ("int3", 64), ("int4", 32), ("int4", 64)),
    *(("int5", 32), ("int5", 64), ("int6", 64), ("int8", None), ("f16", None)),
)
"""Formats of a weight under a budget, with the size of a group; floats are a candidate, too."""

MEASURED_BATCHES = 2
"""Number of batches of calibration data on which the error of the outputs is measured for each layer."""
MARGIN = 100
"""Rounding of an advised budget, upwards; programs name their passes, and a larger number is longer."""


def formats_within(
    graph: Graph,
    context: Context,
    layers: Sequence[Layer],
    names: Mapping[Layer, Sequence[str]],
    budget: int,
    by_data: bool,
) -> dict[Layer, dict[str, Storage]]:
    """Storage formats of the weights of layers such that the emitted program has at most `budget` bytes.

    The sum over the layers of the expected squared error of the outputs is minimal.  It is predicted, or measured for
    each format of a weight whose error cannot be predicted.  If the program is within the budget already, there are no
    formats.

    Args:
        names: names of the weights of each layer that can be stored as integers.
        by_data: True if the integers will be chosen by GPTQ; see `store_weights`.

    Raises:
        ArchcError: no choice of formats is within the budget (`budget-too-small`).
    """
    stored: dict[str, Layer] = {}
    for layer in layers:
        for name in names[layer]:
            stored.setdefault(layer.weights[name], layer)
    choices = {path: _choices(graph, layer, path) for path, layer in stored.items()}
    size = ProgramSize(graph, context.targets.program_bytes, choices)
    unchanged = size.of({})
    if unchanged <= budget:
        context.note(graph.name, f"the program has {unchanged:,} bytes of {budget:,}: all weights stay as they are")
        return {}
    _smallest(graph, size, choices, budget)  # before the gradients, which take longer
    options = _options(graph, context, stored, choices, size, by_data)
    smallest = _smallest(graph, size, {path: [each.choice for each in own] for path, own in options.items()}, budget)
    first = {path: next(option for option in own if option.choice == smallest[path]) for path, own in options.items()}
    chosen = allocate_total(options, budget, first, lambda choice: size.of(_formats(choice)))
    context.note(
        graph.name,
        f"formats within {budget:,} bytes: the program has {size.of(_formats(chosen)):,}; expected squared error of the"
        f" outputs: {sum(option.loss for option in chosen.values()):.2e}",
    )
    for path, option in chosen.items():
        if option.loss:
            loss = f"{option.loss:.2e} of the expected squared error of the outputs"
            context.note(stored[path].path, f"{option.choice}: {loss}", predicted_error=option.loss)
    formats = {path: storage for path, storage in _formats(chosen).items() if storage != graph.weights[path].storage}
    return {
        layer: {name: formats[path] for name in names[layer] if (path := layer.weights[name]) in formats}
        for layer in layers
    }


def _choices(graph: Graph, layer: Layer, path: str) -> list[Storage]:
    """Formats of a weight, the present one last."""
    values, axis = graph.weight_values(path), layer.quantizable.channel_axis
    formats = dict.fromkeys(storage_of(name, values, axis, group) for name, group in CANDIDATES)
    if np.abs(values).max(initial=0) > DType.f16.largest:
        del formats[NarrowFloat(DType.f16)]
    weight = graph.weights[path]
    return [*dict.fromkeys(format_for(weight, storage) for storage in formats), weight.storage]


def _smallest(
    graph: Graph, size: ProgramSize, choices: Mapping[str, Sequence[Storage]], budget: int
) -> dict[str, Storage]:
    """The formats with the fewest bytes.

    Raises:
        ArchcError: the program with these formats has more than `budget` bytes (`budget-too-small`).
    """
    found = {path: min(each, key=lambda storage: size.cost(path, storage)) for path, each in choices.items()}
    least = size.of(found)
    if least <= budget:
        return found
    program = least - size.weight_bytes(found)
    enough = -(-(least + MARGIN) // MARGIN) * MARGIN
    notes = [f"{size.fixed:,} bytes are weights that stay in floats, and {program:,} are the program itself"]
    by_target = size.by_target(found)
    if len(by_target) > 1:
        largest, *others = sorted(by_target, key=lambda target: -by_target[target])
        rest = ", ".join(f"`{target}` {by_target[target]:,}" for target in others)
        notes.append(f"these are the bytes for `{largest}`; the program has fewer for other targets: {rest}")
    raise error(
        "budget-too-small",
        f"`quant` cannot store `{graph.name}` in {budget:,} bytes: with the smallest formats, it has {least:,}",
        notes=notes,
        help=f"give at least `bytes = {enough}`, or use a smaller model",
    )


Choice = Mapping[str, Option[Storage]]
"""The chosen option of each weight, by path."""


def _formats(chosen: Choice) -> dict[str, Storage]:
    return {path: option.choice for path, option in chosen.items()}


def _options(
    graph: Graph,
    context: Context,
    stored: Mapping[str, Layer],
    choices: Mapping[str, Sequence[Storage]],
    size: ProgramSize,
    by_data: bool,
) -> dict[str, list[Option[Storage]]]:
    """Formats of each weight by path, with bytes and loss."""
    question = "losses of formats", by_data, tuple((path, tuple(each)) for path, each in choices.items())
    losses = context.calibration.findings.of(graph, question, lambda: _losses(graph, context, stored, choices, by_data))
    options: dict[str, list[Option[Storage]]] = {}
    for path, layer in stored.items():
        of_formats = losses[path]
        if of_formats is None:
            int8 = storage_of("int8", graph.weight_values(path), layer.quantizable.channel_axis)
            fixed = format_for(graph.weights[path], int8)
            options[path] = [Option(fixed, size.cost(path, fixed), 0.0)]
            context.note(layer.path, "its effect on the outputs cannot be measured: int8")
        else:
            options[path] = [
                Option(storage, size.cost(path, storage), loss)
                for storage, loss in zip(choices[path], of_formats, strict=True)
            ]
    return options


def _losses(
    graph: Graph,
    context: Context,
    stored: Mapping[str, Layer],
    choices: Mapping[str, Sequence[Storage]],
    by_data: bool,
) -> dict[str, list[float] | None]:
    """Expected squared errors of the outputs for the formats of each weight; None if not measurable."""
    import torch

    batches = list(context.calibration.batches())
    context.progress("measure the effect of each layer on the outputs")
    predictable = [layer.node for layer in stored.values() if matrix_obstacle(graph, layer) is None]
    metrics = output_metrics(graph, context, predictable, batches)
    statistics = operand_statistics(graph, context, batches, metrics)
    errors = OutputError(graph, batches[:MEASURED_BATCHES])
    found: dict[str, list[float] | None] = {}
    for path, layer in stored.items():
        values, axis, node = graph.weight_values(path), layer.quantizable.channel_axis, layer.node
        context.progress(f"measure the formats of {layer.path}")
        if node not in metrics or node not in statistics:
            found[path] = _measured_losses(path, values, choices[path], errors)
            continue
        to_nearest = () if by_data else (Integers,)
        loss = RoundingLoss(torch.from_numpy(values.copy()), statistics[node], metrics[node].matrix, to_nearest)
        ratio = _measured_ratio(graph, node, loss, storage_of("int4", values, axis), errors)
        *formats, _ = choices[path]
        found[path] = [*(ratio * loss.of(storage) for storage in formats), 0.0]
    return found


def _measured_losses(
    path: str, values: np.ndarray, choices: Sequence[Storage], errors: OutputError
) -> list[float] | None:
    """Measured losses of the formats of a weight, to nearest; None if a loss cannot be measured."""
    *formats, _ = choices
    found = []
    for storage in formats:
        rounded = storage.decode("w", storage.encode("w", values), values.shape, DType.f32)
        loss = errors.of({path: rounded})
        if loss is None:
            return None
        found.append(loss)
    return [*found, 0.0]


def _measured_ratio(graph: Graph, node: Node, loss: RoundingLoss, probe: Storage, errors: OutputError) -> float:
    """Measured error of the outputs with a weight in the format `probe`, relative to the prediction."""
    rounded, path = loss.rounded(probe), node.weights["weight"]
    weights = {path: rounded.values}
    if rounded.shift is not None:
        bias = node.weights["bias"]
        weights[bias] = graph.weight_values(bias) + rounded.shift
    return measured_ratio(errors.of(weights), loss.of(probe))
