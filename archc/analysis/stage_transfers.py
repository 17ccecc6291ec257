"""Which tensors the stages of a pipeline hand on, from the stage that makes each to the last one that needs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count

from archc.ir.graph import Graph, Node, Value
from archc.ir.node_spelling import required_sizes
from archc.operator.base import Operator
from archc.types.axis_expressions import AxisExpressions
from archc.types.dims import SymbolicDim, as_linear, symbols
from archc.types.tensor_type import TensorType

RequiredSizes = Mapping[Node, tuple[SymbolicDim, ...]]


@dataclass(frozen=True)
class SizeSource:
    """An input of the model that goes to a later stage only because it tells a size that a node there asks for."""

    node: Node
    stage: int
    size: str
    input: Value


@dataclass(frozen=True)
class StageTransfers:
    """The way of each tensor.

    Attributes:
        last_stages: the last stage that needs each tensor; the model's outputs are needed in the last stage of all.
        size_sources: the inputs that tell sizes.
    """

    last_stages: Mapping[Value, int]
    size_sources: tuple[SizeSource, ...]


def required_sizes_by_node(graph: Graph) -> RequiredSizes:
    """The sizes that nodes ask for; those that ask for none are left out."""
    return {node: dims for node in graph.nodes() if (dims := required_sizes(node))}


def stage_transfers(graph: Graph, stage_of: Mapping[Node, int], required: RequiredSizes) -> StageTransfers:
    """The way of each tensor of a graph, divided or about to be.

    A stage reads the sizes that it asks for off the tensors that it receives; where none of them tells a size, the
    first input of the model that does goes there too.
    """
    last = max(stage_of.values(), default=0)
    sources = values_before_stages(graph)
    last_stages: dict[Value, int] = dict.fromkeys(graph.inputs, 0)
    for node, stage in stage_of.items():
        if node.op.enters_stage() is None:
            last_stages |= dict.fromkeys(node.results, stage)
    for node, stage in stage_of.items():
        if node.op.enters_stage() is None:
            for value in node.operands:
                source = sources.get(value, value)
                made = 0 if source.producer is None else stage_of[source.producer]
                sent = transferred_value(source) if made < stage else source
                last_stages[sent] = max(last_stages[sent], stage)
    last_stages |= {sources.get(value, value): last for value in graph.outputs.values()}
    size_sources: list[SizeSource] = []
    first = {value: 0 if value.producer is None else stage_of[value.producer] for value in last_stages}
    for stage in range(1, last + 1):
        types = [value.type for value, end in last_stages.items() if first[value] < stage <= end]
        shown, sizes = determined_symbols(types), AxisExpressions(types, map("axis {}".format, count()).__next__)
        for node, dims in required.items():
            required_here = (dim for dim in dims if stage_of[node] == stage and sizes.express(dim) is None)
            for size in (name for dim in required_here for name in symbols(dim)):
                teller = next((value for value in graph.inputs if size in determined_symbols([value.type])), None)
                if size not in shown and teller is not None:
                    size_sources.append(SizeSource(node, stage, size, teller))
                    last_stages[teller] = max(last_stages[teller], stage)
                    shown |= determined_symbols([teller.type])
    return StageTransfers(last_stages, tuple(size_sources))


def recomputation(value: Value) -> tuple[Node, Operator] | None:
    """The node that makes a value and others, and what makes them again where its first result is received, if any."""
    maker = value.producer
    op = None if maker is None else maker.op.from_first_result(maker.types)
    return None if maker is None or op is None else (maker, op)


def transferred_value(value: Value) -> Value:
    """The value to send for a later stage: itself, or its source (see `Operator.from_first_result`)."""
    again = recomputation(value)
    return value if again is None else again[0].results[0]


def values_before_stages(graph: Graph) -> dict[Value, Value]:
    """What a tensor was before it entered a stage, for those that did."""
    found: dict[Value, Value] = {}
    for node in graph.nodes():
        if node.op.enters_stage() is not None:
            found[node.result] = found.get(node.operands[0], node.operands[0])
    return found


def determined_symbols(types: Iterable[TensorType]) -> set[str]:
    """The symbols that can be told from the shapes of tensors: `N`, and `T` from `2*T + 1`, but none from `N*T`."""
    parts = (as_linear(dim) for type in types for dim in type.shape)
    return {part[0].name for part in parts if part is not None}
