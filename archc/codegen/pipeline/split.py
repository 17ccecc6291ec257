"""Split a graph with stages into one graph for each stage.

Inputs and outputs of these graphs are the transferred tensors.

A stage communicates only with its neighbours.  A tensor that skips stages is relayed: it is an input and an output of
every stage in between.  A tensor has the same name in all stages, so the outputs of one stage are the inputs of the
next, in the same order.  Sizes are computed from the axes of a stage's own inputs.  The graphs contain no `to_stage`.

The scale and zero point of transferred integers are weights of the quantizing layer, and are not transferred.  The
receiving stage has a layer with the same weights.  This layer takes the integers as its operand, and returns the
integers, the scale and the zero point (`Operator.from_first_result`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import count
from typing import Any

from archc.analysis.stage_transfers import recomputation, required_sizes_by_node, stage_transfers, values_before_stages
from archc.codegen.torch.names import PythonNames
from archc.declaration.base import Operator
from archc.declaration.errors import OperatorError
from archc.diagnostics import ArchcError, error
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Graph, Node, Scope, Value
from archc.ir.rewriter import Rewriter
from archc.ir.stages import Stages, entered_stage
from archc.types.axis_expressions import AxisExpressions
from archc.types.dims import SymbolicDim, symbol, symbols
from archc.types.tensor_type import TensorType
from archc.weights.tensor import Weights


@frozen_dataclass
class ModelStage:
    """One stage of a model.

    Attributes:
        number: its number, from 0; count: the number of stages.
        graph: the graph of the stage, called `<model>_stage<number>`, with the layer names of the whole model.
        device: the device that the text gives, or None.
    """

    number: int
    count: int
    graph: Graph
    device: str | None

    @property
    def name(self) -> str:
        """The name of the stage's files."""
        return self.graph.name


def split(graph: Graph) -> list[ModelStage]:
    """The stages of a graph, in order; the graph is not changed.

    Raises:
        ArchcError: the stages are inconsistent, see `archc.ir.stages.Stages`; or the inputs of a stage do not
            determine its sizes (`stage-size`).
    """
    return _Splitter(graph).stages()


class _Splitter:
    def __init__(self, graph: Graph):
        self.graph = graph
        self.known = Stages(graph)
        self.nodes = self.known.by_stage()
        self.sources = values_before_stages(graph)
        self.outputs = {name: self.source(value) for name, value in graph.outputs.items()}
        self.crossing = self._crossing()
        self.names = self._names()

    def source(self, value: Value) -> Value:
        """The value before its transfers between stages."""
        return self.sources.get(value, value)

    def stages(self) -> list[ModelStage]:
        count = self.known.count
        return [ModelStage(number, count, self._part(number), self.known.devices[number]) for number in range(count)]

    # Transferred tensors ----------------------------------------------------------------------------------

    def _crossing(self) -> list[list[Value]]:
        """For each stage except the last, the tensors that it sends, in the order of their producers."""
        until = stage_transfers(self.graph, self.known.of_node, required_sizes_by_node(self.graph)).last_stages
        return [
            [value for value in until if self.known.of_value(value) <= stage < until[value]]
            for stage in range(self.known.count - 1)
        ]

    def _work(self, stage: int) -> list[Node]:
        """The nodes of a stage, without transfers."""
        return [node for node in self.nodes[stage] if entered_stage(node.op) is None]

    def _names(self) -> dict[Value, str]:
        """The names of the transferred tensors: unique, and equal to the names in the text where possible."""
        found: dict[Value, str] = {value: value.name or "" for value in self.graph.inputs}
        stored = [path for weight in self.graph.weights.values() for path in weight.tensors]
        names = PythonNames([*found.values(), *self.graph.outputs, *stored])
        for name, value in self.outputs.items():
            found.setdefault(value, name)
        for value in dict.fromkeys(value for values in self.crossing for value in values):
            if value not in found:
                found[value] = names.take(self.graph.scope.names.get(value) or value.name or _made_name(value))
        return found

    # One stage --------------------------------------------------------------------------------------------

    def _part(self, number: int) -> Graph:
        name = f"{self.graph.name}_stage{number}"
        before = self.graph.scope
        doc = f"Stage {number} of {self.known.count} of `{self.graph.name}`, counted from 0"
        part = Graph(name, replace(before, definition=name, doc=doc, inputs=[], names={}))
        part.tensors = Weights()
        rewriter = Rewriter(part)
        entering = self.crossing[number - 1] if number else self.graph.inputs
        self.sizes = stage_sizes(self.graph, (value.type for value in entering))
        values = {value: rewriter.input(self.names[value], self.sizes.express_type(value.type)) for value in entering}
        scopes = {before: part.scope}
        here = self._received(number, rewriter, values, scopes)
        for node in self._work(number):
            operands = [here.get(source) or values[source] for source in map(self.source, node.operands)]
            values |= self._copy(node, node.name, node.op, operands, rewriter, scopes)
        for old, new in scopes.items():
            new.inputs[:] = [values[self.source(value)] for value in old.inputs if self.source(value) in values]
            for value, text in old.names.items():
                if self.source(value) in values:
                    new.names.setdefault(values[self.source(value)], text)
        if number == self.known.count - 1:
            outputs = self.outputs
        else:
            outputs = {self.names[value]: value for value in self.crossing[number]}
        for name, value in outputs.items():
            rewriter.output(name, values[value])
        return part

    def _received(
        self, number: int, rewriter: Rewriter, values: Mapping[Value, Value], scopes: dict[Scope, Scope]
    ) -> dict[Value, Value]:
        """Results of nodes that a stage recomputes from its inputs."""
        makers = (recomputation(source) for node in self._work(number) for source in map(self.source, node.operands))
        layers = {node.path for node in self._work(number)}
        found: dict[Value, Value] = {}
        for maker, op in dict(one for one in makers if one is not None).items():
            if self.known.of_node[maker] < number:
                # If another node of the layer is in this stage, that node has the layer's name; the copy has no name.
                name = None if maker.path in layers else maker.name
                layers.add(maker.path)
                found |= self._copy(maker, name, op, [values[maker.results[0]]], rewriter, scopes)
        return found

    def _copy(
        self,
        node: Node,
        name: str | None,
        op: Operator,
        operands: Sequence[Value],
        rewriter: Rewriter,
        scopes: dict[Scope, Scope],
    ) -> dict[Value, Value]:
        """Copy a node into the graph of a stage; return its new results by the original ones."""
        part = rewriter.graph
        for path in node.weights.values():
            part.weights[path] = self.graph.weights[path]
            if self.graph.tensors is not None and part.tensors is not None:
                for stored in part.weights[path].tensors:
                    part.tensors.set(stored, self.graph.tensors[stored])
        scope = self._copied(node.scope, scopes)
        try:
            copy = rewriter.add(
                express_operator(op, self.sizes),
                operands,
                name=name,
                scope=scope,
                span=node.span,
                weights=node.weights,
                transposed=node.transposed,
            )
        except OperatorError as problem:
            raise self._undetermined(node, problem) from problem
        for old, new in zip(node.results, copy.results, strict=True):
            new.name = old.name
        return dict(zip(node.results, copy.results))

    def _undetermined(self, node: Node, problem: OperatorError) -> ArchcError:
        """The error for a node with sizes that are not determined by the inputs of its stage."""
        stage = self.known.of_node[node]
        wanted = dict.fromkeys(
            name for dim in self.sizes.named for name in symbols(dim) if self.sizes.express(symbol(name)) is None
        )
        names = [f"`{name}`" for name in wanted]
        listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names) or "all sizes"
        return error(
            "stage-size",
            f"the inputs of stage {stage} do not determine the sizes of `{node.op.name}`",
            node.span,
            notes=[str(problem), *(f"`{name}` is `{dim}`" for dim, name in self.sizes.named.items())],
            help=f"write numbers for {listed} in the types of the model's inputs, or begin stage {stage} after this",
        )

    def _copied(self, scope: Scope, scopes: dict[Scope, Scope]) -> Scope:
        """The copy of a scope in the graph of a stage; made on first use."""
        if scope not in scopes:
            parent = None if scope.parent is None else self._copied(scope.parent, scopes)
            scopes[scope] = replace(express_scope(scope, self.sizes), parent=parent, inputs=[], names={})
        return scopes[scope]


def _made_name(value: Value) -> str:
    """A name for a result without a name in the text: the path of its layer, or the name of its operator."""
    node = value.producer
    assert node is not None, "inputs have names"
    name = node.path or node.op.name
    return name if len(node.results) == 1 else f"{name}_{node.op.signature_for(node.types).results[value.index].name}"


def stage_sizes(graph: Graph, types: Iterable[TensorType]) -> AxisExpressions:
    """Sizes as expressions of the axes of a stage's inputs; other sizes become `S1`, `S2`, ..."""
    shapes = (
        value.type.shape for value in (*graph.inputs, *(result for node in graph.nodes() for result in node.results))
    )
    taken = {name for shape in shapes for dim in shape for name in symbols(dim)}
    free = (name for number in count(1) if (name := f"S{number}") not in taken)
    return AxisExpressions(types, lambda: next(free))


def express_operator(op: Operator, sizes: AxisExpressions) -> Operator:
    """The operator with the sizes in its attributes expressed by the sizes of the inputs."""
    given = {info.name: getattr(op, info.name) for info in fields(op)}
    changed = {name: new for name, value in given.items() if (new := express(value, sizes)) != value}
    return replace(op, **changed) if changed else op


def express_scope(scope: Scope, sizes: AxisExpressions) -> Scope:
    """The scope with its sizes and arguments expressed by the sizes of the inputs."""
    arguments = {name: express(value, sizes) for name, value in scope.arguments.items()}
    return replace(scope, arguments=arguments, sizes={name: express(dim, sizes) for name, dim in scope.sizes.items()})


def express(value: Any, sizes: AxisExpressions) -> Any:
    """The value of an attribute, with its sizes expressed by the sizes of the inputs where possible."""
    if isinstance(value, SymbolicDim):
        found = sizes.express(value)
        return value if found is None else found
    if isinstance(value, tuple | list):
        return type(value)(express(item, sizes) for item in value)
    return value
