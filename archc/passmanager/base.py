"""What a pass is, what it is given, and what it says of what it did."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from archc.analysis.devices import Devices
from archc.diagnostics import Diagnostics
from archc.ir.graph import Graph, Node
from archc.ir.rewriter import Rewriter
from archc.ir.selector import Selector
from archc.types.attributes import arguments_text

if TYPE_CHECKING:
    from archc.passmanager.calibration import Calibration

Preserves = Literal["exact", "rounding", "approximate"]
"""What a pass promises: the same outputs to the bit, up to rounding, or up to an error that is measured."""

UNDIVIDED = "one undivided graph"
"""A state that `Pass.needs` and `Pass.ends` may name: all of the model can be rewritten at once."""
FLOAT_WEIGHTS = "float weights"
"""Another one: weights are floats as they are, so that changing them loses nothing."""

REGISTERED: dict[str, type[Pass]] = {}
"""The passes that this process has defined, by name."""


@dataclass(frozen=True)
class Pass(ABC):
    """The base of all passes.

    A subclass is a frozen dataclass: its fields, declared with `attribute`, are the options.  Its docstring is what
    `archc passes NAME` shows.  Defining the class makes it known to this process; an entry point of the group
    `archc.passes` makes it known to every run of archc.
    """

    name: ClassVar[str] = ""
    """The name in pipelines; by default the class's, in lower case."""
    preserves: ClassVar[Preserves] = "exact"
    needs: ClassVar[tuple[str, ...]] = (UNDIVIDED,)
    """The states in which the pass must find the graph: `UNDIVIDED`, `FLOAT_WEIGHTS`, or others in a few words."""
    ends: ClassVar[tuple[str, ...]] = ()
    """The states that are over once it ran.  A pipeline in which a later pass needs one of them is refused."""
    effective_with: ClassVar[Mapping[str, tuple[str, tuple[Any, ...]]]] = {}
    """The options that have an effect only with some values of another one: its name, and these values."""
    example: ClassVar[str] = ""
    """A pipeline that uses it, for `archc passes`."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__.lower()
        REGISTERED[cls.name] = cls

    def check(self) -> None:
        """Raise an `AttributeProblem` for options that do not go together; nothing by default."""

    @abstractmethod
    def run(self, graph: Graph, context: Context) -> None:
        """Rewrite the graph, and remark on every layer that was rewritten or left alone."""

    def __str__(self) -> str:
        arguments = ", ".join(arguments_text(self))
        return f"{self.name}({arguments})" if arguments else self.name


@dataclass(frozen=True, slots=True)
class Remark:
    """A remark of a pass on one layer: `rewrote` it, `left` it alone (the message says why), or just a `note`.

    Attributes:
        applicable: False for a layer that the pass leaves alone whatever is selected, so that `keep` has no effect.
    """

    kind: Literal["rewrote", "left", "note"]
    layer: str
    message: str
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
    applicable: bool = True

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "layer": self.layer, "message": self.message, "figures": dict(self.figures)}


@dataclass
class Context:
    """What a pass is given beside the graph.

    Attributes:
        rewriter: through which it changes the graph.
        calibration: inputs to run the graph on.
        devices: the machines that the file describes, by name.
        sizes: a value for each symbolic size, at which a pass counts costs.
        diagnostics: takes warnings, which the user sees without asking for remarks.
        remarks: what the pass said.
    """

    rewriter: Rewriter
    calibration: Calibration
    devices: Mapping[str, Devices] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    remarks: list[Remark] = field(default_factory=list)

    def rewrote(self, layer: str | Node, message: str, **figures: float | int | str) -> None:
        """Say that a layer was rewritten, and what came of it."""
        self._remark("rewrote", layer, message, figures)

    def left(self, layer: str | Node, reason: str, **figures: float | int | str) -> None:
        """Say that a layer was left alone, and why."""
        self._remark("left", layer, reason, figures)

    def inapplicable(self, layer: str | Node, reason: str) -> None:
        """Say that a layer was left alone, and would be even if it alone were selected, and why."""
        self.remarks.append(Remark("left", _title(layer), reason, applicable=False))

    def note(self, layer: str | Node, message: str, **figures: float | int | str) -> None:
        """Say something else of a layer."""
        self._remark("note", layer, message, figures)

    def _remark(
        self,
        kind: Literal["rewrote", "left", "note"],
        layer: str | Node,
        message: str,
        figures: Mapping[str, float | int | str],
    ) -> None:
        self.remarks.append(Remark(kind, _title(layer), message, figures))


def _title(layer: str | Node) -> str:
    return layer.title if isinstance(layer, Node) else layer


def select(graph: Graph, on: str | tuple[str, ...] | None, keep: str | tuple[str, ...] | None) -> Callable[[str], bool]:
    """Which layers a pass may touch: those that `on` selects (all without it) less those that `keep` does.

    Raises:
        SelectorError: a glob matches no layer.
    """
    paths = list(graph.layers())
    wanted, kept = Selector.of(on), Selector.of(keep)
    wanted.check(paths)
    kept.check(paths)
    return lambda path: (on is None or wanted.matches(path)) and not kept.matches(path)
