"""What the classes of an emitted module share, and what is known of each once it is planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from archc.codegen.outline.program import Apply, Definition, Local
from archc.codegen.torch.arguments import Arguments
from archc.codegen.torch.constructions import Given
from archc.codegen.torch.int8.integer import Integers
from archc.codegen.torch.local_types import Types
from archc.codegen.torch.members import Member
from archc.codegen.torch.names import Names
from archc.codegen.torch.notes import Notes
from archc.codegen.torch.placement import Placement
from archc.codegen.torch.spell import module_of
from archc.codegen.torch.surroundings import Extra
from archc.ir.graph import Graph
from archc.operator.spelling import TorchModule


@dataclass
class Context:
    """What all classes of a module share.

    Attributes:
        own: the parameters that a definition holds itself; see `archc.codegen.torch.lower`.
        plans: the classes of each definition that is done.
        names: the names in the module.
        placement: in which stage layers live.
        images: the positions of the model's outputs that are to be made contiguous.
    """

    graph: Graph
    types: dict[Local, Types]
    own: Mapping[Definition, tuple[str, ...]]
    integers: Integers
    names: Names
    placement: Placement
    images: tuple[int, ...] = ()
    plans: dict[Definition, list[ClassPlan]] = field(default_factory=dict)
    _known: dict[object, str] = field(default_factory=dict)

    def enter(self, made: ClassPlan) -> None:
        """Take in a class under a name of its own, or under that of a class that is the same already."""
        key = (made.definition.scopes[0].definition, made.definition.doc, made.code())
        if key in self._known:
            made.name, made.repeats = self._known[key], True
        else:
            made.name = self._known[key] = self.names.take(made.name)
        self.plans.setdefault(made.definition, []).append(made)

    def modules_of(self, statement: Apply) -> list[TorchModule] | None:
        """The module for each node of a statement, or None where it is no module."""
        if statement in self.integers.modules:
            return [self.integers.modules[statement](node) for node in statement.nodes]
        modules = []
        for node in statement.nodes:
            module = module_of(node, self.graph)
            if module is None:
                return None
            modules.append(module)
        return modules


@dataclass(eq=False)
class ClassPlan:
    """A class, ready to be laid out.

    Attributes:
        instances: which instances of the definition it serves.
        members: its modules; parameters: the arguments of its constructor; extras: those of `forward`, after
            the tensors.
        init, forward: the lines of the bodies; inputs: the names of the tensors.
        base: the class that it extends; attributes: the lines of its class attributes.
        repeats: another class is the same, has the name, and is written.
    """

    name: str
    definition: Definition
    instances: tuple[int, ...]
    members: Member
    arguments: Arguments
    extras: tuple[Extra, ...]
    init: list[str]
    forward: list[str]
    inputs: list[str]
    notes: Notes
    base: str = "nn.Module"
    attributes: tuple[str, ...] = ()
    repeats: bool = False

    def given(self, instances: Sequence[int]) -> tuple[Given, ...]:
        """What instances of the definition pass to the constructor."""
        rows = self.arguments.of([self.position[instance] for instance in instances])
        return tuple(Given(name, name, values, usual) for name, values, usual in rows)

    def code(self) -> tuple[object, ...]:
        """All that makes up the class but its name."""
        extras = tuple((extra.name, extra.symbol) for extra in self.extras)
        bodies = (tuple(self.init), tuple(self.forward), self.base, self.attributes)
        return (*bodies, tuple(self.inputs), extras, tuple(self.arguments.parameters()), self.shapes())

    def shapes(self) -> str | None:
        """`x: float32 [N, T] -> [N, T, 8]`; None where the instances differ and nobody has a name for a size."""
        definition = self.definition
        results = [self.notes.shape(self.notes.types(local)) for local in definition.outputs]
        if None in results:
            return None
        given = [self.notes.described(local, name) for local, name in zip(definition.inputs, self.inputs)]
        return f"{'; '.join(given)} -> {', '.join(result or '' for result in results)}"

    @cached_property
    def position(self) -> dict[int, int]:
        """The place of each instance among those that the class serves."""
        return {instance: position for position, instance in enumerate(self.instances)}
