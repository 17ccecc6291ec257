"""One definition at work: what its names mean, its layers, its outputs, and the use that it serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from archc.diagnostics import Span
from archc.ir.graph import Scope, Value
from archc.language.elaboration.environment import BlockRef, Environment, WeightRef
from archc.language.elaboration.modules import Module
from archc.language.syntax import tree
from archc.operator.base import Operator


@dataclass(frozen=True, slots=True)
class Labelled:
    """A layer as a frame knows it.

    Attributes:
        callee: what it is; span: the place that names it.
        inner: the layers of a block that was used.
        ties: its parameters that are other layers'.
    """

    callee: type[Operator] | BlockRef
    span: Span
    inner: dict[str, Labelled] = field(default_factory=dict)
    ties: Mapping[str, WeightRef] = field(default_factory=dict)


def find_layer(labels: Mapping[str, Labelled], path: str) -> Labelled | None:
    """The layer of a path, which may lead into blocks (`h.0.attn.query`); None where there is none."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        found = labels.get(".".join(parts[:count]))
        if found is not None:
            return found if count == len(parts) else find_layer(found.inner, ".".join(parts[count:]))
    return None


def layer_paths(labels: Mapping[str, Labelled]) -> Iterator[str]:
    """The paths of all layers, those within blocks behind the block."""
    for path, layer in labels.items():
        yield path
        yield from (f"{path}.{inner}" for inner in layer_paths(layer.inner))


@dataclass(eq=False)
class Frame:
    """One definition at work.

    Attributes:
        labels: the layers named in it, by their paths within it.
        lost: the names of layers that a mistake kept from being what they are.
        lists: the names that stand for lists of layers (`h` of `h[0]`).
        counts: how many layers were named after an operator or block, for the next one's number.
        outputs: name (None for a bare one), value and place of each.
        use: the place that uses the block, None for the model; parent: the frame of that place.
    """

    definition: tree.Definition
    module: Module
    scope: Scope
    environment: Environment = field(default_factory=Environment)
    labels: dict[str, Labelled] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    lists: dict[str, Span] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    outputs: list[tuple[str | None, Value, Span]] = field(default_factory=list)
    use: Span | None = None
    parent: Frame | None = None

    @property
    def depth(self) -> int:
        """How many blocks it stands in."""
        return sum(1 for _ in self.around()) - 1

    def around(self) -> Iterator[Frame]:
        """This frame and those that use it, the model's last."""
        frame: Frame | None = self
        while frame is not None:
            yield frame
            frame = frame.parent

    def within(self, path: str) -> str:
        """The path in the model of a layer's path in this definition."""
        return self.scope.within(path)
