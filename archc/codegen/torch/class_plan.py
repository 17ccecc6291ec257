"""State of the emitted module, of a class under construction, and of a finished class.

`ModuleContext` is shared by all classes of a module.  `ClassDraft` collects the modules, constructor arguments and
names of one class while its statements are translated.  `ClassPlan` is a finished class.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from archc.codegen.outline.definitions import (
    BlockDefinition,
    BlockStep,
    Local,
    Loop,
    OperatorStep,
    Recurrence,
    Statement,
)
from archc.codegen.torch.constructors import ConstructorArguments, ConstructorCall, PassedArgument, constructor_call
from archc.codegen.torch.expressions import Bases, ExpressionWriter, ExtraArgument, OuterReferences
from archc.codegen.torch.function_body import COMMON
from archc.codegen.torch.int8.integer_layers import IntegerLayers
from archc.codegen.torch.layer_classes import module_of
from archc.codegen.torch.members import ModuleMember, container, find_chains
from archc.codegen.torch.merge import check_same
from archc.codegen.torch.names import VARIABLES, PythonNames, identifier
from archc.codegen.torch.parameters import weight_holders
from archc.codegen.torch.placement import Placement
from archc.codegen.torch.shape_comments import ShapeComments, Types
from archc.declaration.spelling import TorchModule
from archc.ir.graph import Graph


@dataclass
class ModuleContext:
    """State that all classes of an emitted module share.

    Attributes:
        types: the types of each tensor of a definition, one for each instance of the definition.
        own: the parameters that the class of a definition registers itself; see `layer_classes.add_layer_classes`.
        integer_layers: the statements that compute in int8, and their PyTorch forms.
        names: the names used at module level.
        placement: the stage of each layer.
        activations: the activations that become modules.
        images: the positions of the model's outputs that `forward` makes contiguous.
        plans: the finished classes of each definition.
    """

    graph: Graph
    types: dict[Local, Types]
    own: Mapping[BlockDefinition, tuple[str, ...]]
    integer_layers: IntegerLayers
    names: PythonNames
    placement: Placement
    activations: Collection[OperatorStep] = ()
    images: tuple[int, ...] = ()
    plans: dict[BlockDefinition, list[ClassPlan]] = field(default_factory=dict)
    _known: dict[object, str] = field(default_factory=dict)

    def enter(self, made: ClassPlan) -> None:
        """Add a class under a unique name, or under the name of an identical class that exists already."""
        key = (made.definition.scopes[0].definition, made.definition.doc, made.code())
        if key in self._known:
            made.name, made.repeats = self._known[key], True
        else:
            made.name = self._known[key] = self.names.take(made.name)
        self.plans.setdefault(made.definition, []).append(made)

    def modules_of(self, statement: OperatorStep) -> list[TorchModule] | None:
        """The module for each node of a statement; None if a node is emitted as an expression."""
        if statement in self.integer_layers.modules:
            return self.integer_layers.modules[statement]
        modules = []
        for node in statement.nodes:
            module = node.op.activation_module() if statement in self.activations else module_of(node, self.graph)
            if module is None:
                return None
            modules.append(module)
        return modules


@dataclass(eq=False)
class ClassPlan:
    """A finished class, ready to be written.

    Attributes:
        instances: the instances of the definition that use the class.
        members: its modules.
        arguments: the arguments of its constructor.
        extras: the arguments of `forward` after the tensors.
        init, forward: the lines of the two method bodies.
        inputs: the names of the tensors that `forward` takes.
        base: the base class.
        attributes: the lines of its class attributes.
        repeats: True if the class is identical to an earlier one; only the earlier class is written.
    """

    name: str
    definition: BlockDefinition
    instances: tuple[int, ...]
    members: ModuleMember
    arguments: ConstructorArguments
    extras: tuple[ExtraArgument, ...]
    init: list[str]
    forward: list[str]
    inputs: list[str]
    comments: ShapeComments
    base: str = "nn.Module"
    attributes: tuple[str, ...] = ()
    repeats: bool = False

    def given(self, instances: Sequence[int]) -> tuple[PassedArgument, ...]:
        """The arguments of the constructor calls that create these instances of the definition."""
        rows = self.arguments.of([self.position[instance] for instance in instances])
        return tuple(PassedArgument(name, name, values, usual) for name, values, usual in rows)

    def code(self) -> tuple[object, ...]:
        """The content of the class without its name, for comparison with other classes."""
        extras = tuple((extra.name, extra.symbol) for extra in self.extras)
        bodies = (tuple(self.init), tuple(self.forward), self.base, self.attributes)
        return (*bodies, tuple(self.inputs), extras, tuple(self.arguments.parameters()), self.shapes())

    def shapes(self) -> str | None:
        """The shapes as text: `x: float32 [N, T] -> [N, T, 8]`.

        None if a result has a size that differs between the instances and has no name.
        """
        definition = self.definition
        results = [self.comments.shape(self.comments.types(local)) for local in definition.outputs]
        if None in results:
            return None
        given = [self.comments.described(local, name) for local, name in zip(definition.inputs, self.inputs)]
        return f"{'; '.join(given)} -> {', '.join(result or '' for result in results)}"

    @cached_property
    def position(self) -> dict[int, int]:
        """The index of each instance among those that use the class."""
        return {instance: position for position, instance in enumerate(self.instances)}


class ClassDraft:
    """A class under construction, with the state that its statements share.

    Args:
        instances: the numbers of the instances of the definition that use the class.

    Attributes:
        members: the tree of its modules.
        modules: the paths of the modules and of the containers around them.
        chains: each chain of statements that becomes an `nn.Sequential`; see `find_chains` for the keys.
        holders: modules for weights that belong to no layer of the model, such as a copy of a weight from another
            pipeline stage.  Only the class of the model has holders.
        own: the parameters that the class registers itself.
        inputs: the names of the tensors that `forward` takes.
        tensor_names: the names that tensors in `forward` may get.
        variables: the names in use in `forward`.
        renamed: for each local (a tensor of the body) that has no emitted line, the local with the same value.
        element_constructors: the constructors of list elements, for lists whose length differs between instances.
    """

    def __init__(self, definition: BlockDefinition, instances: tuple[int, ...], context: ModuleContext):
        self.definition, self.instances, self.context = definition, instances, context
        self.members = ModuleMember("")
        self.modules: set[str] = set()
        for path in () if definition in context.own else self._module_paths(definition.body):
            self.members.at(path).text = ""
            parts = path.split(".")
            self.modules.update(".".join(parts[:k]) for k in range(1, len(parts) + 1))
        self.chains = find_chains(definition.body, self.modules, self._called_alone)
        self.holders = weight_holders(context.graph) if definition.scopes[0] is context.graph.scope else []
        for holder in self.holders:
            self.members.at(holder.path).text = holder.constructor()
        for chain in self.chains.values():
            self.members.at(container(chain)).chained = True
        self.own = context.own.get(definition, ())
        names = {*self.members.children, *self.own}
        classes = (made.name for plans in context.plans.values() for made in plans)
        self.arguments = ConstructorArguments(definition, instances, names, classes)
        parameters = PythonNames()
        self.inputs = {local: parameters.take(local.name or "x") for local in definition.inputs}
        types = [self.types(local) for local in definition.inputs]
        self.tensor_names = frozenset((*COMMON, *_tensor_names(definition.body), *self.inputs.values()))
        self.variables = PythonNames(VARIABLES | self.tensor_names)
        self.outer = OuterReferences(definition, instances, types, self.inputs, self.variables)
        self.expressions = ExpressionWriter(
            definition, instances, context.graph, context.placement, self.members, self.arguments, self.outer
        )
        self.comments = ShapeComments(self.arguments.definition, self.types)
        self.renamed: dict[Local, Local] = {}
        self.element_constructors: dict[Statement, str] = {}

    def types(self, local: Local) -> Types:
        """The types of a tensor, one for each instance of the class."""
        types = self.context.types[local]
        return tuple(types[k] for k in self.instances)

    def resolved(self, local: Local) -> Local:
        """Follow `renamed` to the local that an emitted line assigns."""
        while local in self.renamed:
            local = self.renamed[local]
        return local

    def iterations(self, loop: Loop) -> tuple[tuple[Statement, ...], ...]:
        """The iterations that at least one instance of the class has."""
        return loop.iterations[: max(loop.counts[k] for k in self.instances)]

    def construction(self, statement: OperatorStep | BlockStep) -> ConstructorCall:
        """The constructor call of a statement's module.

        Raises:
            Mismatch: the instances need different classes, or calls that differ in more than argument values.
        """
        layer = statement.member.name if statement.member is not None else ""
        if isinstance(statement, OperatorStep):
            modules = self.context.modules_of(statement)
            assert modules is not None, "only modules are constructed"
            return constructor_call([modules[k] for k in self.instances], layer)
        made = self.class_of(statement)
        return ConstructorCall(made.name, made.given([statement.instances[k] for k in self.instances]), layer)

    def constructor(self, statement: OperatorStep | BlockStep) -> str:
        """The text of the constructor call of a statement's module."""
        return self.element_constructors.get(statement) or self.construction(statement).text(self.arguments)

    def access(self, path: str, bases: Bases) -> str:
        """The expression of the member at a path; see `ExpressionWriter.access`."""
        return self.expressions.access(path, bases)

    def class_of(self, use: BlockStep) -> ClassPlan:
        """The class of a used definition.

        Raises:
            Mismatch: the instances use different classes.
        """
        plans = self.context.plans[use.definition]
        chosen = [next(plan for plan in plans if use.instances[k] in plan.position) for k in self.instances]
        check_same([id(plan) for plan in chosen])
        return chosen[0]

    def _called_alone(self, statement: OperatorStep | BlockStep) -> bool:
        """Return whether a statement is a plain call of its module, without further arguments."""
        if isinstance(statement, BlockStep):
            return not any(made.extras for made in self.context.plans[statement.definition])
        integer_layers = self.context.integer_layers
        if statement in integer_layers.output_quantizers or statement in integer_layers.absorbed:
            return False
        modules = self.context.modules_of(statement)
        if modules is not None and modules[0].use is not None:
            return False
        return statement.member is not None and statement.member.name in self.modules

    def _module_paths(self, body: Sequence[Statement]) -> Iterator[str]:
        """Yield the paths of the modules in a body, including list elements that only some instances have."""
        for statement in body:
            if isinstance(statement, (Loop, Recurrence)):
                for inner in self.iterations(statement) if isinstance(statement, Loop) else statement.bodies:
                    yield from self._module_paths(inner)
            elif statement.member is not None and (
                isinstance(statement, BlockStep) or self.context.modules_of(statement)
            ):
                yield statement.member.name


def _tensor_names(body: Sequence[Statement]) -> Iterator[str]:
    """Yield the user's names for the tensors of a body."""
    for statement in body:
        given = statement.enter.results if isinstance(statement, Recurrence) else ()
        for local in (*given, *statement.results):
            if local.name:
                yield identifier(local.name)
        if isinstance(statement, (Loop, Recurrence)):
            for inner in statement.bodies:
                yield from _tensor_names(inner)
