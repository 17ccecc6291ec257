"""Which tensors the stages of a pipeline hand on, from the stage that makes each to the last one that needs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count

from archc.analysis.asked_sizes import asked_sizes
from archc.ir.graph import Graph, Node, Value
from archc.operator.base import Operator
from archc.types.dims import SymbolicDim, as_linear, symbols
from archc.types.shown_sizes import ShownSizes
from archc.types.tensor_type import TensorType

Asked = Mapping[Node, tuple[SymbolicDim, ...]]


@dataclass(frozen=True)
class Told:
    """An input of the model that goes to a later stage only because it tells a size that a node there asks for."""

    node: Node
    stage: int
    size: str
    input: Value


@dataclass(frozen=True)
class Flow:
    """The way of each tensor.

    Attributes:
        until: the last stage that needs each tensor; the model's outputs are needed in the last stage of all.
        told: the inputs that tell sizes.
    """

    until: Mapping[Value, int]
    told: tuple[Told, ...]


def asked_by_nodes(graph: Graph) -> Asked:
    """The sizes that nodes ask for; those that ask for none are left out."""
    return {node: dims for node in graph.nodes() if (dims := asked_sizes(node))}


def flow(graph: Graph, stage_of: Mapping[Node, int], asked: Asked) -> Flow:
    """The way of each tensor of a graph, divided or about to be.

    A stage reads the sizes that it asks for off the tensors that it receives; where none of them tells a size, the
    first input of the model that does goes there too.
    """
    last = max(stage_of.values(), default=0)
    sources = sources_of(graph)
    until: dict[Value, int] = dict.fromkeys(graph.inputs, 0)
    for node, stage in stage_of.items():
        if node.op.enters_stage() is None:
            until |= dict.fromkeys(node.results, stage)
    for node, stage in stage_of.items():
        if node.op.enters_stage() is None:
            for value in node.operands:
                source = sources.get(value, value)
                made = 0 if source.producer is None else stage_of[source.producer]
                sent = sent_for(source) if made < stage else source
                until[sent] = max(until[sent], stage)
    until |= {sources.get(value, value): last for value in graph.outputs.values()}
    told: list[Told] = []
    first = {value: 0 if value.producer is None else stage_of[value.producer] for value in until}
    for stage in range(1, last + 1):
        types = [value.type for value, end in until.items() if first[value] < stage <= end]
        shown, sizes = shown_symbols(types), ShownSizes(types, map("axis {}".format, count()).__next__)
        for node, dims in asked.items():
            asked_here = (dim for dim in dims if stage_of[node] == stage and sizes.express(dim) is None)
            for size in (name for dim in asked_here for name in symbols(dim)):
                teller = next((value for value in graph.inputs if size in shown_symbols([value.type])), None)
                if size not in shown and teller is not None:
                    told.append(Told(node, stage, size, teller))
                    until[teller] = max(until[teller], stage)
                    shown |= shown_symbols([teller.type])
    return Flow(until, tuple(told))


def received(value: Value) -> tuple[Node, Operator] | None:
    """The node that makes a value and others, and what makes them again where its first result is received, if any."""
    maker = value.producer
    op = None if maker is None else maker.op.received(maker.types)
    return None if maker is None or op is None else (maker, op)


def sent_for(value: Value) -> Value:
    """What is sent so that a later stage has a value: itself, or what it is made from again (`Operator.received`)."""
    again = received(value)
    return value if again is None else again[0].results[0]


def sources_of(graph: Graph) -> dict[Value, Value]:
    """What a tensor was before it entered a stage, for those that did."""
    found: dict[Value, Value] = {}
    for node in graph.nodes():
        if node.op.enters_stage() is not None:
            found[node.result] = found.get(node.operands[0], node.operands[0])
    return found


def shown_symbols(types: Iterable[TensorType]) -> set[str]:
    """The symbols that can be told from the shapes of tensors: `N`, and `T` from `2*T + 1`, but none from `N*T`."""
    parts = (as_linear(dim) for type in types for dim in type.shape)
    return {part[0].name for part in parts if part is not None}
