"""Module of a layer: one of `torch.nn`, or a class that the emitted module defines.

A layer with parameters needs a class if PyTorch has no module for its operator, if it shares a weight with another
layer, or if a weight is stored encoded (for example as int8).  Such a layer becomes the use of a small definition whose
only statement is the operator; the emitter then treats the layer like a block.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from archc.codegen.outline.definitions import (
    BlockDefinition,
    BlockStep,
    Local,
    Loop,
    Member,
    OperatorStep,
    Outline,
    Recurrence,
    Statement,
)
from archc.declaration.base import Operator
from archc.declaration.spelling import TorchModule, TorchSpelling
from archc.ir.graph import Graph, Node, Scope
from archc.ir.stages import entered_stage
from archc.types.attributes import attributes
from archc.types.dims import SymbolicDim
from archc.types.storage import Dense, FakeQuantized, Float8Storage, Int8, Masked, NarrowFloat, PackedIntegers

TO_STAGE = "ToStage"
"""The class of modules that move a tensor to the device of a stage.

See `archc.codegen.torch.placement`.
"""

MASKED = "Masked"
"""Prefix of the classes in `archc.runtime.masked`, such as `MaskedLinear`."""

INT8_WEIGHT = "Int8Weight"
"""Prefix of the layers of `archc.runtime.weight_only` with int8 weights, such as `Int8WeightLinear`."""

PACKED, NARROW = "Packed", "Narrow"
"""Prefixes of the layers of `archc.runtime.packed` and `archc.runtime.narrow`, such as `PackedLinear`."""

FAKE_QUANTIZED = "FakeQuantized"
"""Prefix of the layers of `archc.runtime.fake_quantized`, such as `FakeQuantizedLinear`."""


def spelling(
    node: Node,
    graph: Graph,
    operands: Sequence[str],
    weights: Mapping[str, str],
    size_text: Callable[[SymbolicDim], str] = str,
    device: str | None = None,
    training: str | None = None,
    varying: Collection[str] = (),
) -> TorchSpelling:
    """Return the `TorchSpelling` from which a node's operator generates its PyTorch expression.

    Args:
        size_text: returns the text of a symbolic size.
        device: the expression of the device of new tensors; None for the default device.
        training: the expression of the training mode; None for inference.
        varying: the attributes that differ between the instances of a block; see `TorchSpelling`.
    """
    inference = node.op.infer(node.types)
    return TorchSpelling(
        operands=operands,
        weights=weights,
        types=node.types,
        results=inference.results,
        sizes=inference.solution.extents,
        size_text=size_text,
        storages={name: graph.weights[path].storage for name, path in node.weights.items()},
        device=device,
        training=training,
        varying=varying,
    )


def module_of(node: Node, graph: Graph) -> TorchModule | None:
    """The module of a node: from `torch.nn`, `archc.runtime` (for an encoded weight), or `ToStage`.

    None if the operator has no module, if a weight belongs to another layer, or if no module supports the storage of
    a weight.
    """
    stage = entered_stage(node.op)
    if stage is not None:
        return TorchModule(TO_STAGE, {"stage": stage})
    if type(node.op).torch_module is Operator.torch_module:
        return None
    if not all(owns(node, parameter) for parameter in node.weights):
        return None
    module = node.op.torch_module(spelling(node, graph, ("",) * len(node.operands), dict.fromkeys(node.weights, "")))
    encoded = {
        name: storage for name in node.weights if (storage := graph.weights[node.weights[name]].storage) != Dense()
    }
    if module is None or module.encoded or not encoded:
        return module
    if encoded.keys() != {"weight"} or node.op.torch_forward("weight") is None:
        return None
    kind = module.function.removeprefix("nn.")
    match encoded["weight"]:
        case Masked():
            return replace(module, function=f"{MASKED}{kind}")
        case Int8(axis):
            return replace(module, function=f"{INT8_WEIGHT}{kind}", named={**module.named, "axis": (axis, 0)})
        case PackedIntegers() | NarrowFloat() | Float8Storage() as storage:
            prefix = PACKED if isinstance(storage, PackedIntegers) else NARROW
            named = {**module.named, **storage_arguments(storage)}
            return replace(module, function=f"{prefix}{kind}", named=named)
        case FakeQuantized() as storage:
            named = {**module.named, **storage_arguments(storage)}
            return replace(module, function=f"{FAKE_QUANTIZED}{kind}", named=named)
    return None


def storage_arguments(
    storage: PackedIntegers | NarrowFloat | Float8Storage | FakeQuantized,
) -> dict[str, tuple[object, object]]:
    """The arguments of a layer with an encoded weight, each with its default."""
    if isinstance(storage, FakeQuantized):
        if isinstance(storage.format, Int8):
            return {"bits": (8, None), "axis": (storage.format.axis, 0)}
        assert isinstance(storage.format, PackedIntegers), "the classes of `Integers` are `Int8` and `PackedIntegers`"
        storage = storage.format
    if isinstance(storage, NarrowFloat):
        return {"dtype": (storage.dtype, None)}
    if isinstance(storage, Float8Storage):
        return {"dtype": (storage.dtype, None), "axis": (storage.axis, None)}
    options = {info.name: (info.of(storage), info.default) for info in attributes(type(storage))}
    return {"bits": (storage.bits, None), **options}


def owns(node: Node, parameter: str) -> bool:
    """Return whether a parameter belongs to the layer itself, not to another layer."""
    return node.weights[parameter] == f"{node.path}.{parameter}"


HasModule = Callable[[OperatorStep], bool]
"""Returns whether all nodes of a statement have modules."""


@dataclass
class LoweredOutline:
    """An outline in which every layer with parameters is a module.

    Attributes:
        own: maps each added definition to the parameters that its class registers.  Other parameters of the operator
            belong to another layer.
    """

    outline: Outline
    own: dict[BlockDefinition, tuple[str, ...]] = field(default_factory=dict)


def add_layer_classes(outline: Outline, graph: Graph, has_module: HasModule) -> LoweredOutline:
    """Replace layers that have parameters but no module by uses of new definitions.

    Changes the outline in place.
    """
    lowering = _Lowering(graph, has_module)
    bodies = [(definition, lowering.body(definition.body)) for definition in outline.definitions]
    for definition, body in bodies:
        definition.body = body
    made = [lowering.finish(definition) for definition in lowering.definitions.values()]
    return LoweredOutline(Outline([*made, *outline.definitions], outline.whole), lowering.own)


class _Lowering:
    """State of `add_layer_classes`: the new definitions, with their nodes and own parameters."""

    def __init__(self, graph: Graph, has_module: HasModule):
        self.graph, self.has_module = graph, has_module
        self.definitions: dict[Hashable, BlockDefinition] = {}
        self.nodes: dict[BlockDefinition, list[Node]] = defaultdict(list)
        self.own: dict[BlockDefinition, tuple[str, ...]] = {}

    def body(self, statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
        """The statements of a body, with layers replaced."""
        return tuple(self._statement(statement) for statement in statements)

    def _statement(self, statement: Statement) -> Statement:
        if isinstance(statement, (Loop, Recurrence)):
            statement.bodies = tuple(self.body(body) for body in statement.bodies)
            return statement
        if isinstance(statement, BlockStep) or not any(
            owns(node, parameter) for node in statement.nodes for parameter in node.weights
        ):
            return statement
        if self.has_module(statement):
            return statement
        definition = self._definition(statement.nodes[0])
        first = len(self.nodes[definition])
        self.nodes[definition] += statement.nodes
        member = statement.member
        assert isinstance(member, Member), "layers with parameters have names"
        instances = tuple(range(first, first + len(statement.nodes)))
        return BlockStep(definition, instances, member, statement.operands, statement.results)

    def _definition(self, node: Node) -> BlockDefinition:
        storages = tuple(self.graph.weights[path].storage for path in node.weights.values())
        own = tuple(parameter for parameter in node.weights if owns(node, parameter))
        types = tuple((value.type.dtype, value.type.rank) for value in node.operands)
        key = (type(node.op), own, storages, types, len(node.results), tuple(node.weights), node.transposed)
        if key not in self.definitions:
            name = "".join(word[:1].upper() + word[1:] for word in node.op.name.split("_"))
            encoded = next((storage.label for storage in storages if not isinstance(storage, Dense)), "")
            kind = (
                f"{''.join(map(str.capitalize, encoded.split('_')))}Weight"
                if encoded
                else ""
                if len(own) == len(node.weights)
                else "Tied"
            )
            self.definitions[key] = BlockDefinition(f"{kind}{name}", ())
            self.own[self.definitions[key]] = own
        return self.definitions[key]

    def finish(self, definition: BlockDefinition) -> BlockDefinition:
        """Complete a definition, once all its nodes are known."""
        nodes = self.nodes[definition]
        first = nodes[0]
        inputs = tuple(Local(value.type, name) for value, name in zip(first.operands, _operand_names(first)))
        outputs = tuple(Local(value.type) for value in first.results)
        definition.scopes = tuple(_scope(node) for node in nodes)
        definition.doc = (type(first.op).__doc__ or "").partition("\n")[0]
        definition.inputs, definition.outputs = inputs, outputs
        definition.output_names = (None,) * len(outputs)
        definition.body = (OperatorStep(tuple(nodes), inputs, outputs),)
        return definition


def _scope(node: Node) -> Scope:
    """A scope for one layer; its arguments are the attributes of the operator."""
    arguments = {info.name: info.of(node.op) for info in attributes(type(node.op))}
    return Scope(node.path or "", node.op.name, node.scope, arguments)


def _operand_names(node: Node) -> Iterator[str]:
    patterns = node.op.signature_for(node.types).operands
    return (pattern.name for pattern in patterns if pattern.name not in node.op.parameters)
