"""Names and values of an instance during elaboration, and warnings on unused values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from archc.declaration.base import Operator
from archc.diagnostics import Diagnostics, Span
from archc.frozen_dataclass import frozen_by_identity, frozen_dataclass
from archc.ir.graph import Value
from archc.language.elaboration.arithmetic import describe_kind
from archc.language.elaboration.modules import Module
from archc.language.syntax import tree
from archc.types.storage import Storage

# Values ---------------------------------------------------------------------------------------------------


class Poison:
    """Value of the names that a failed statement binds.

    Statements that use such a name fail without a report.
    """


POISON = Poison()


class Failed(Exception):
    """Failure of a statement or an expression, already reported."""


class Absent:
    """Value of an optional input without an operand."""


ABSENT = Absent()


@frozen_by_identity
class BlockRef:
    """A block, and the module in which names of the block's body are looked up."""

    definition: tree.Definition
    module: Module

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockRef) and self.definition is other.definition

    def __hash__(self) -> int:
        return id(self.definition)


@frozen_by_identity
class LayerRef:
    """A layer declared with `layer`: all uses share its weights.

    Attributes:
        captured: the bindings of the names in the arguments at the time of the declaration, as in a closure.
    """

    name: str
    callee: type[Operator] | BlockRef
    arguments: tuple[tree.Argument, ...]
    span: Span
    captured: Mapping[str, Binding]


@frozen_dataclass
class WeightRef:
    """A parameter of a layer: `wte.weight`, or its transpose `wte.weight.T`.

    Attributes:
        path: the path of the weight in the model.
        storage: the storage of the weight in the declaration of its layer; None if the declaration has none.
        transposed: whether the reference is to the transpose of the weight.
    """

    path: str
    span: Span
    storage: Storage | None = None
    transposed: bool = False


def describe_value(value: Any) -> str:
    """Phrase for the value of any expression, for messages: "a tensor (f32[8])", "the block `B`"."""
    if value is ABSENT:
        return "an input that is not given"
    if isinstance(value, Value):
        return f"a tensor ({value.type})"
    if isinstance(value, type) and issubclass(value, Operator):
        return f"the operator `{value.name}`"
    if isinstance(value, BlockRef):
        return f"the block `{value.definition.name.name}`"
    if isinstance(value, LayerRef):
        return f"the layer `{value.name}`"
    if isinstance(value, WeightRef):
        return f"the weight `{value.path}`"
    return describe_kind(value)


# Names ----------------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Binding:
    """Value of a name.

    Attributes:
        span: the place of the name.
        kind: "tensor", "size", "attribute", "input" or "layer".
        used: whether the name was looked up.
        statement: the place of the statement that binds the name, for a tensor.
    """

    value: Any
    span: Span | None
    kind: str
    used: bool = False
    statement: Span | None = None


@dataclass(eq=False)
class Environment:
    """Names of one instance.

    A name can be bound again (`x = x -> relu`).  `history` also has the earlier bindings, so that there is a
    warning for each unused value.
    """

    bindings: dict[str, Binding] = field(default_factory=dict)
    history: list[tuple[str, Binding]] = field(default_factory=list)

    def bind(self, name: str, value: Any, span: Span | None, kind: str, statement: Span | None = None) -> None:
        """Bind a name, and replace an earlier binding of the name."""
        binding = Binding(value, span, kind, statement=statement)
        self.bindings[name] = binding
        self.history.append((name, binding))

    def get(self, name: str) -> Any | None:
        """Value of a name; None if the name is not bound.  The binding is marked as used."""
        binding = self.bindings.get(name)
        if binding is None:
            return None
        binding.used = True
        return binding.value

    @contextmanager
    def rebound(self, bindings: Mapping[str, Binding]) -> Iterator[None]:
        """Replace the bindings of some names until the end of the `with` statement."""
        covered = {name: self.bindings.get(name) for name in bindings}
        self.bindings.update(bindings)
        try:
            yield
        finally:
            for name, binding in covered.items():
                if binding is None:
                    del self.bindings[name]
                else:
                    self.bindings[name] = binding


def names_in(nodes: tuple[tree.SyntaxNode, ...]) -> Iterator[str]:
    """Yield the names in statements or expressions, without members such as `.T`, in textual order."""
    stack: list[object] = list(reversed(nodes))
    while stack:
        item = stack.pop()
        if isinstance(item, tree.Name):
            yield item.name
        elif isinstance(item, tree.SyntaxNode):
            parts = [getattr(item, field.name) for field in dataclasses.fields(item) if field.name != "span"]
            stack.extend(reversed(parts))
        elif isinstance(item, tuple):
            stack.extend(reversed(item))


# Unused values --------------------------------------------------------------------------------------------

_Place = tuple[str, int, int]  # name of the file, start, end


class UnusedValues:
    """Collector of the names in a model that are never looked up.

    A block is elaborated once for each use, and instances may take different branches.  A name at a place in the text
    is unused if no instance looks it up.  Names in a skipped branch, and in the body of a loop without iterations,
    count as used.  Names that begin with `_` have no warning.
    """

    def __init__(self) -> None:
        self._used: set[_Place] = set()
        self._unused: dict[_Place, tuple[str, str, Span]] = {}
        self._statements: dict[_Place, Span] = {}
        self.reported: list[Span] = []
        """Statements that bind unused tensors, for which a warning was added."""

    def gather(self, environment: Environment) -> None:
        """Collect the names of one instance, after its statements ran."""
        for name, binding in environment.history:
            if binding.span is None or name.startswith("_"):
                continue
            place = (binding.span.source.name, binding.span.start, binding.span.end)
            if binding.used or binding.value is POISON:
                self._used.add(place)
            else:
                self._unused.setdefault(place, (name, binding.kind, binding.span))
                if binding.statement is not None:
                    self._statements[place] = binding.statement

    def warn(self, diagnostics: Diagnostics) -> None:
        """Add a warning for each unused name, in the order of the text."""
        words = {"input": "the input", "attribute": "the attribute", "layer": "the layer", "size": "the value"}
        for place in sorted(self._unused.keys() - self._used):
            name, kind, span = self._unused[place]
            what = words.get(kind, "the tensor")
            diagnostics.warn("unused-value", f"{what} `{name}` is never used", span)
            if place in self._statements:
                self.reported.append(self._statements[place])
