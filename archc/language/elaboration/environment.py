"""What names mean while a definition is elaborated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from archc.diagnostics import Span
from archc.language.syntax import tree
from archc.operator.base import Operator
from archc.types.storage import Storage

if TYPE_CHECKING:
    from archc.language.elaboration.modules import Module


class Poison:
    """The value of a name whose statement failed: whoever uses it fails too, and says nothing more."""


POISON = Poison()


class Failed(Exception):
    """Something that was already reported; whoever depends on it is silent."""


class Absent:
    """The value of an optional input that a use does not give."""


ABSENT = Absent()


@dataclass(frozen=True, eq=False, slots=True)
class BlockRef:
    """A block, and the module whose names its body sees."""

    definition: tree.Definition
    module: Module

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockRef) and self.definition is other.definition

    def __hash__(self) -> int:
        return id(self.definition)


@dataclass(frozen=True, eq=False, slots=True)
class LayerRef:
    """A layer declared with `layer`: used by its name, as often as one likes, with one set of weights.

    Attributes:
        meanings: what the names in its arguments mean where it is declared; where it is used, they may mean others.
    """

    name: str
    callee: type[Operator] | BlockRef
    arguments: tuple[tree.Argument, ...]
    span: Span
    meanings: Mapping[str, Binding]


@dataclass(frozen=True, slots=True)
class WeightRef:
    """A parameter of a layer: `wte.weight`, or `wte.weight.T`.

    Attributes:
        path: its path in the model.
        storage: how it is stored, if the layer is declared with that.
        transposed: whether it is wanted the other way round.
    """

    path: str
    span: Span
    storage: Storage | None = None
    transposed: bool = False


@dataclass(eq=False, slots=True)
class Binding:
    """A name with its value, the place that gave it, and whether anybody asked.

    Attributes:
        statement: the whole statement that gave the value, of a tensor; the name alone is `span`.
    """

    value: Any
    span: Span | None
    kind: str  # "tensor", "size", "attribute", "input", "layer"
    used: bool = False
    statement: Span | None = None


@dataclass(eq=False)
class Environment:
    """The names of one definition at work.

    A name can be bound again (`x = x -> relu`); what was bound before stays in `history`, so that a value that
    nobody used can be told, whatever took its name later.
    """

    bindings: dict[str, Binding] = field(default_factory=dict)
    history: list[tuple[str, Binding]] = field(default_factory=list)

    def bind(self, name: str, value: Any, span: Span | None, kind: str, statement: Span | None = None) -> None:
        """Give a name a value, in the place of the one it may have had."""
        binding = Binding(value, span, kind, statement=statement)
        self.bindings[name] = binding
        self.history.append((name, binding))

    def get(self, name: str) -> Any | None:
        """The value of a name, or None; marks it as used."""
        binding = self.bindings.get(name)
        if binding is None:
            return None
        binding.used = True
        return binding.value

    @contextmanager
    def meaning(self, meanings: Mapping[str, Binding]) -> Iterator[None]:
        """Within this, these names mean what they meant elsewhere."""
        covered = {name: self.bindings.get(name) for name in meanings}
        self.bindings.update(meanings)
        try:
            yield
        finally:
            for name, binding in covered.items():
                if binding is None:
                    del self.bindings[name]
                else:
                    self.bindings[name] = binding
