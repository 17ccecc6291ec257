"""Transfers between pipeline stages: the tensors that later stages need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count

from archc.declaration.base import Operator
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Graph, Node, Value
from archc.ir.stages import entered_stage
from archc.ir.torch_spelling import required_sizes
from archc.types.axis_expressions import AxisExpressions
from archc.types.dims import SymbolicDim, as_linear, symbols
from archc.types.tensor_type import TensorType

RequiredSizes = Mapping[Node, tuple[SymbolicDim, ...]]


@frozen_dataclass
class SizeSource:
    """An input of the model that is transferred to a later stage only because its shape determines a size.

    Attributes:
        node: node in the later stage that requires the size.
        stage: the later stage.
        size: name of the symbolic size.
        input: the input.
    """

    node: Node
    stage: int
    size: str
    input: Value


@frozen_dataclass
class StageTransfers:
    """The transferred tensors of a graph.

    Attributes:
        last_stages: last stage that needs each tensor; for an output of the model, the last stage of the pipeline.
        size_sources: inputs that are transferred only because their shapes determine sizes.
    """

    last_stages: Mapping[Value, int]
    size_sources: tuple[SizeSource, ...]


def required_sizes_by_node(graph: Graph) -> RequiredSizes:
    """Return the symbolic sizes that each node requires at run time; nodes without such sizes are omitted."""
    return {node: dims for node in graph.nodes() if (dims := required_sizes(node))}


def stage_transfers(graph: Graph, stage_of: Mapping[Node, int], required: RequiredSizes) -> StageTransfers:
    """Determine the transferred tensors of a graph.

    A stage requires some sizes at run time, and computes them from the shapes of its inputs.  If these shapes do not
    determine a size, the first input of the model that determines the size is transferred to the stage, too.

    Args:
        stage_of: stage of each node; the graph itself need not have stages yet.
        required: result of `required_sizes_by_node`.
    """
    last = max(stage_of.values(), default=0)
    sources = values_before_stages(graph)
    last_stages: dict[Value, int] = dict.fromkeys(graph.inputs, 0)
    for node, stage in stage_of.items():
        if entered_stage(node.op) is None:
            last_stages |= dict.fromkeys(node.results, stage)
    for node, stage in stage_of.items():
        if entered_stage(node.op) is None:
            for value in node.operands:
                source = sources.get(value, value)
                produced = 0 if source.producer is None else stage_of[source.producer]
                transferred = transferred_value(source) if produced < stage else source
                last_stages[transferred] = max(last_stages[transferred], stage)
    last_stages |= {sources.get(value, value): last for value in graph.outputs.values()}
    size_sources: list[SizeSource] = []
    first = {value: 0 if value.producer is None else stage_of[value.producer] for value in last_stages}
    for stage in range(1, last + 1):
        types = [value.type for value, end in last_stages.items() if first[value] < stage <= end]
        determined, sizes = determined_symbols(types), AxisExpressions(types, map("axis {}".format, count()).__next__)
        for node, dims in required.items():
            required_here = (dim for dim in dims if stage_of[node] == stage and sizes.express(dim) is None)
            for size in (name for dim in required_here for name in symbols(dim)):
                provider = next((value for value in graph.inputs if size in determined_symbols([value.type])), None)
                if size not in determined and provider is not None:
                    size_sources.append(SizeSource(node, stage, size, provider))
                    last_stages[provider] = max(last_stages[provider], stage)
                    determined |= determined_symbols([provider.type])
    return StageTransfers(last_stages, tuple(size_sources))


def recomputation(value: Value) -> tuple[Node, Operator] | None:
    """Return the producer of a value, and an operator that recomputes the value in a later stage.

    The later stage receives only the first result of the producer.  From this result, the operator computes all results
    of the producer (`Operator.from_first_result`).  Return None for an input of the model, or if the producer has no
    such operator.
    """
    producer = value.producer
    op = None if producer is None else producer.op.from_first_result(producer.types)
    return None if producer is None or op is None else (producer, op)


def transferred_value(value: Value) -> Value:
    """Return the value that is transferred if a later stage uses a value.

    This is the first result of the producer if `recomputation` returns an operator, otherwise the value itself.
    """
    found = recomputation(value)
    return value if found is None else found[0].results[0]


def values_before_stages(graph: Graph) -> dict[Value, Value]:
    """Return, for each result of `to_stage`, the value before its first transfer."""
    found: dict[Value, Value] = {}
    for node in graph.nodes():
        if entered_stage(node.op) is not None:
            found[node.result] = found.get(node.operands[0], node.operands[0])
    return found


def determined_symbols(types: Iterable[TensorType]) -> set[str]:
    """Return the symbols that shapes determine.

    The axis size `2*T + 1` determines `T`, but `N*T` determines neither `N` nor `T`.
    """
    parts = (as_linear(dim) for type in types for dim in type.shape)
    return {part[0].name for part in parts if part is not None}
