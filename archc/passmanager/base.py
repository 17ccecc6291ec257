"""The base class of passes, the context that a pass runs in, and its remarks on layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from archc.analysis.devices import Devices
from archc.diagnostics import Diagnostics
from archc.ir.graph import Graph, Node
from archc.ir.rewriter import Rewriter
from archc.ir.selector import Selector
from archc.passmanager.calibration import Calibration
from archc.types.attributes import arguments_text

Preserves = Literal["exact", "rounding", "approximate"]
"""Guarantee of a pass: equal outputs, outputs equal up to rounding, or outputs with a measured error."""

UNDIVIDED = "one undivided graph"
"""A state for `Pass.needs` and `Pass.ends`: the model is not divided into stages."""
FLOAT_WEIGHTS = "float weights"
"""A state for `Pass.needs` and `Pass.ends`: no weight is quantized."""

REGISTERED: dict[str, type[Pass]] = {}
"""Passes defined in this process, by name."""


@dataclass(frozen=True)
class Pass(ABC):
    """Base class of passes.

    A subclass is a frozen dataclass: its fields, declared with `attribute`, are the options.  `archc passes NAME` shows
    its docstring.  A class definition registers the pass in the process; an entry point of the group `archc.passes`
    registers it in every run of archc.
    """

    name: ClassVar[str] = ""
    """Name in pipelines; by default the name of the class in lower case."""
    preserves: ClassVar[Preserves] = "exact"
    needs: ClassVar[tuple[str, ...]] = (UNDIVIDED,)
    """States of the graph that the pass needs: `UNDIVIDED`, `FLOAT_WEIGHTS`, or others in a few words."""
    ends: ClassVar[tuple[str, ...]] = ()
    """States that the pass ends.  A pipeline in which a later pass needs one of them is refused."""
    effective_with: ClassVar[Mapping[str, tuple[str, tuple[Any, ...]]]] = {}
    """Options that have an effect only with some values of another option: its name, and these values."""
    example: ClassVar[str] = ""
    """A pipeline with the pass, for `archc passes`."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__.lower()
        REGISTERED[cls.name] = cls

    def check(self) -> None:
        """Raise an `AttributeProblem` for contradictory options; by default there are none."""

    @abstractmethod
    def run(self, graph: Graph, context: Context) -> None:
        """Rewrite the graph, and remark on every layer that was or could have been rewritten."""

    def __str__(self) -> str:
        arguments = ", ".join(arguments_text(self))
        return f"{self.name}({arguments})" if arguments else self.name


@dataclass(frozen=True, slots=True)
class Remark:
    """A remark of a pass on one layer: it was rewritten, left unchanged for a reason, or has a note.

    Attributes:
        applicable: False for a layer that the pass never rewrites, so that `keep` has no effect on it.
    """

    kind: Literal["rewrote", "left", "note"]
    layer: str
    message: str
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
    applicable: bool = True

    def to_json(self) -> dict[str, Any]:
        """JSON object of the remark."""
        return {"kind": self.kind, "layer": self.layer, "message": self.message, "figures": dict(self.figures)}


@dataclass
class Context:
    """Surrounding data of a pass.

    Attributes:
        rewriter: the only way to change the graph.
        calibration: inputs on which the graph can run.
        devices: the machines declared in the file, by name.
        sizes: a value for each symbolic size, at which costs are counted.
        diagnostics: collects warnings, which are always shown.
        remarks: the remarks so far, which `--explain` shows.
    """

    rewriter: Rewriter
    calibration: Calibration
    devices: Mapping[str, Devices] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    remarks: list[Remark] = field(default_factory=list)

    def rewrote(self, layer: str | Node, message: str, **figures: float | int | str) -> None:
        """Remark that a layer was rewritten."""
        self._remark("rewrote", layer, message, figures)

    def left(self, layer: str | Node, reason: str, **figures: float | int | str) -> None:
        """Remark that a layer was left unchanged, with the reason."""
        self._remark("left", layer, reason, figures)

    def inapplicable(self, layer: str | Node, reason: str) -> None:
        """Remark that the pass never rewrites such a layer, with the reason."""
        self.remarks.append(Remark("left", _title(layer), reason, applicable=False))

    def note(self, layer: str | Node, message: str, **figures: float | int | str) -> None:
        """Add a note on a layer."""
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
    """Predicate of the layers that a pass may rewrite: those in `on`, by default all, except `keep`.

    Raises:
        SelectorError: a glob matches no layer.
    """
    paths = list(graph.layers())
    wanted, kept = Selector.of(on), Selector.of(keep)
    wanted.check(paths)
    kept.check(paths)
    return lambda path: (on is None or wanted.matches(path)) and not kept.matches(path)
