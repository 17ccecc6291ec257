"""The base class of passes, the context in which a pass runs, and the remarks of a pass on layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field
from typing import Any, ClassVar, Literal, get_args

from archc.analysis.devices import Devices
from archc.diagnostics import Diagnostics, silent
from archc.extension_failure import guard, is_outside
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Graph, Node
from archc.ir.rewriter import Rewriter
from archc.ir.selector import Selector
from archc.passmanager.calibration import Calibration
from archc.passmanager.failure import failed_check
from archc.passmanager.latency import Latency
from archc.passmanager.remark_arguments import check_remark
from archc.passmanager.targets import TargetFacts
from archc.types.attributes import arguments_text

Preserves = Literal["exact", "rounding", "approximate"]
"""Guarantee of a pass for the outputs: equal, equal up to rounding, or with a measured error."""

UNDIVIDED = "one undivided graph"
"""State of a graph that is not divided into stages; used in `Pass.needs` and `Pass.ends`."""
FLOAT_WEIGHTS = "float weights"
"""State of a graph without quantized weights; used in `Pass.needs` and `Pass.ends`."""

REGISTERED: dict[str, type[Pass]] = {}
"""Passes defined in this process, by name."""


@dataclass(frozen=True)
class Pass(ABC):
    """Base class of passes.

    A subclass is a frozen dataclass: its fields, declared with `attribute`, are the options of the pass.  The command
    `archc passes NAME` shows the docstring of the subclass.  A class definition registers the pass in the process,
    unless the class is only a base of passes (`class Base(Pass, abstract=True)`).  An entry point of the group
    `archc.passes` registers the pass in every run of archc.
    """

    name: ClassVar[str] = ""
    """Name in pipelines; by default the name of the class in lower case."""
    preserves: ClassVar[Preserves] = "exact"
    needs: ClassVar[tuple[str, ...]] = (UNDIVIDED,)
    """States of the graph that the pass needs: `UNDIVIDED`, `FLOAT_WEIGHTS`, or another short phrase."""
    ends: ClassVar[tuple[str, ...]] = ()
    """States that no longer hold after the pass.  A later pass that needs such a state is refused."""
    effective_with: ClassVar[Mapping[str, tuple[str, tuple[Any, ...]]]] = {}
    """Options with an effect only for some values of another option: `{option: (other option, values)}`."""
    example: ClassVar[str] = ""
    """A pipeline with the pass, for `archc passes`."""

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__.lower()
        for option, declared in vars(cls).items():
            if isinstance(declared, Field) and declared.metadata.get("axis") is not None:
                raise ValueError(
                    f"`{option}` of the pass `{cls.name}` is no attribute of an operator: leave out `axis=`"
                )
        if not abstract:
            if is_outside(cls):  # for archc's own passes, a test makes these checks
                from archc.passmanager.pass_declarations import check_name_is_free, check_pass

                check_pass(cls, Pass, get_args(Preserves))
                check_name_is_free(cls, REGISTERED)
            REGISTERED[cls.name] = cls
        guard(cls, ("check",), failed_check)

    def check(self) -> None:
        """Raise an `AttributeProblem` for contradictory options; by default, accept all options."""

    @property
    def changes_io(self) -> bool:
        """True if the pass may change the dtypes of the inputs and outputs of the model."""
        return False

    @property
    def remedy(self) -> str:
        """Way out for the user if the pass makes outputs infinite or NaN."""
        return "leave layers out with `keep`, give calibration data with `--calib`, or leave the pass out"

    @abstractmethod
    def run(self, graph: Graph, context: Context) -> None:
        """Rewrite the graph, and add a remark on every layer that the pass rewrote or could have rewritten."""

    def __str__(self) -> str:
        arguments = ", ".join(arguments_text(self))
        return f"{self.name}({arguments})" if arguments else self.name


@frozen_dataclass
class Remark:
    """Remark of a pass on a layer: the change, the reason for leaving the layer unchanged, or a note.

    Attributes:
        applicable: False for a layer that the pass never rewrites; `keep` has no effect on such a layer.
    """

    kind: Literal["rewrote", "left", "note"]
    layer: str
    message: str
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
    applicable: bool = True

    def __post_init__(self) -> None:
        check_remark(self.layer, self.message, self.figures)

    def to_json(self) -> dict[str, Any]:
        """JSON object of the remark."""
        return {"kind": self.kind, "layer": self.layer, "message": self.message, "figures": dict(self.figures)}


@dataclass
class Context:
    """Data and services for a pass.

    Attributes:
        rewriter: the interface through which every change of the graph is made.
        calibration: inputs on which the graph can run.
        devices: the machines declared in the file, by name.
        sizes: a value for each symbolic size; costs are counted at these values.
        diagnostics: collects the warnings; they are always shown.
        remarks: the remarks so far; they are shown with `--explain`.
        progress: called with the name of each step of a long pass.
        targets: the targets that are emitted, and what is known of their runtimes.
        new_results: layers whose result this pass changes by design, by path.  Each has the path of the layer whose
            result it has now, or None.  Without this entry, the report counts the change as noise of the layer.
        brief: True to leave out figures that only remarks contain and that take long to measure.
    """

    rewriter: Rewriter
    calibration: Calibration
    devices: Mapping[str, Devices] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    remarks: list[Remark] = field(default_factory=list)
    progress: Callable[[str], None] = silent
    targets: TargetFacts = field(default_factory=TargetFacts)
    new_results: dict[str, str | None] = field(default_factory=dict)
    brief: bool = False

    def latencies(self, graphs: Sequence[Graph], target: str) -> list[Latency]:
        """Latencies of several graphs, as `measure`, which run in turns; a fair comparison needs this."""
        return self.targets.latencies(graphs, target)

    def measure(self, graph: Graph, target: str) -> Latency:
        """Latency of a graph with its weights, as a program of a target.

        The program runs on the first sample of the calibration data, or on random inputs.  A pass that decides by
        latency gives other results on other machines, and may do so in each run.

        Args:
            target: name of the target, such as "onnx" or "torch".

        Raises:
            ValueError: there is no such target, or nothing runs its programs.
            ArchcError: the target cannot express the graph, or the program cannot run (`measurement-failed`).
        """
        (latency,) = self.latencies([graph], target)
        return latency

    def rewrote(self, layer: str | Node, message: str, **figures: float | int | str) -> None:
        """Add a remark that a layer was rewritten."""
        self._remark("rewrote", layer, message, figures)

    def left(self, layer: str | Node, reason: str, **figures: float | int | str) -> None:
        """Add a remark that a layer was left unchanged, with the reason."""
        self._remark("left", layer, reason, figures)

    def inapplicable(self, layer: str | Node, reason: str) -> None:
        """Add a remark that the pass never rewrites this kind of layer, with the reason."""
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
    """Predicate for layers that a pass may rewrite: layers in `on` (default: all) that are not in `keep`.

    The predicate takes the title of a node: the path of its layer, if it has one.

    Args:
        on, keep: one glob over the paths of layers, or several; the options of a pass with these names.  After the
            prefix `kind:`, the glob is over the names of operators: `kind:conv*`.

    Raises:
        SelectorError: a glob matches no layer.
    """
    kinds = kinds_of(graph)
    wanted, kept = Selector.of(on), Selector.of(keep)
    for selector in (wanted, kept):
        selector.check(graph.layers(), kinds.values())

    def may_rewrite(title: str) -> bool:
        kind = kinds.get(title, "")
        return (on is None or wanted.matches(title, kind)) and not kept.matches(title, kind)

    return may_rewrite


def kinds_of(graph: Graph) -> dict[str, str]:
    """Kind of operator for the title of each node, those of named layers first."""
    kinds = {path: node.kind for path, node in graph.layers().items()}
    for node in graph.nodes():
        kinds.setdefault(node.title, node.kind)
    return kinds
