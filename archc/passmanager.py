"""Passes, pipelines, and what passes have to say for themselves.

A pass is a frozen dataclass; its fields are its options.  The manager runs a pipeline of them over a graph,
verifies the graph after each, measures the error at the outputs, and collects the remarks: what was rewritten,
and what was left alone and why.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from archc.diagnostics import ArchcError, did_you_mean, error
from archc.ir.attributes import AttributeProblem, arguments_text, bind
from archc.ir.cost import Cost, cost
from archc.ir.graph import Graph, Node
from archc.ir.rewriter import Rewriter
from archc.ir.selector import Selector, SelectorError
from archc.ir.types import TensorType
from archc.ir.verifier import InvalidGraph, verify

if TYPE_CHECKING:
    import torch

    from archc.calibration import Calibration

Preserves = Literal["exact", "rounding", "approximate"]
"""What a pass promises: the same outputs to the bit, up to rounding, or up to an error that is measured."""

_registered: dict[str, type[Pass]] = {}


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
    example: ClassVar[str] = ""
    """A pipeline that uses it, for `archc passes`."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__.lower()
        _registered[cls.name] = cls

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
    """What a pass says of one layer: `rewrote` it, `left` it alone (the message says why), or just a `note`."""

    kind: Literal["rewrote", "left", "note"]
    layer: str
    message: str
    figures: Mapping[str, float | int | str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "layer": self.layer, "message": self.message, "figures": dict(self.figures)}


@dataclass
class Context:
    """What a pass is given beside the graph.

    Attributes:
        rewriter: through which it changes the graph.
        calibration: inputs to run the graph on.
        remarks: what the pass said.
    """

    rewriter: Rewriter
    calibration: Calibration
    remarks: list[Remark] = field(default_factory=list)

    def rewrote(self, layer: str | Node, message: str, **figures: float | int | str) -> None:
        """Say that a layer was rewritten, and what came of it."""
        self._remark("rewrote", layer, message, figures)

    def left(self, layer: str | Node, reason: str, **figures: float | int | str) -> None:
        """Say that a layer was left alone, and why."""
        self._remark("left", layer, reason, figures)

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
        title = layer.title if isinstance(layer, Node) else layer
        self.remarks.append(Remark(kind, title, message, figures))


@dataclass(frozen=True)
class PassReport:
    """What one pass did.

    Attributes:
        error: relative error at the outputs against the graph before this pass; total_error: against the graph
            before the first pass.  Both are ‖y' - y‖₂ / ‖y‖₂, the largest over the outputs; for integer outputs
            the fraction of elements that differ.  Infinite (null in JSON) where a pass made a NaN or an infinity.
    """

    text: str
    preserves: Preserves
    before: Cost
    after: Cost
    error: float
    total_error: float
    remarks: tuple[Remark, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "pass": self.text,
            "preserves": self.preserves,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "error": _finite(self.error),
            "total_error": _finite(self.total_error),
            "remarks": [remark.to_json() for remark in self.remarks],
        }


def _finite(error: float) -> float | None:
    """JSON has no infinity."""
    return error if math.isfinite(error) else None


def pass_names() -> list[str]:
    """The names of all passes; none of them is imported for it."""
    return sorted({*_registered, *(entry.name for entry in entry_points(group="archc.passes"))})


def known_passes() -> dict[str, type[Pass]]:
    """All passes by name: those of the entry-point group `archc.passes`, and those defined in this process.

    Raises:
        ArchcError: the package of one cannot be imported (`pass-not-loadable`).
    """
    return {name: load_pass(name) for name in pass_names()}


def load_pass(name: str) -> type[Pass]:
    """One of `pass_names`; what is broken in others does no harm.

    Raises:
        ArchcError: it cannot be imported (`pass-not-loadable`).
    """
    for entry in entry_points(group="archc.passes", name=name):
        if name not in _registered:
            try:
                entry.load()
            except (ImportError, AttributeError) as failure:
                raise error(
                    "pass-not-loadable",
                    f"the pass `{name}` cannot be loaded from `{entry.value}`: {failure}",
                    help="install the package that has it again, or remove it",
                ) from failure
    return _registered[name]


def make_pass(name: str, positional: Sequence[Any] = (), named: Mapping[str, Any] | None = None) -> Pass:
    """A pass by name with its options.

    Raises:
        AttributeProblem: an unknown pass (code `unknown-pass`), or options that do not fit.
        ArchcError: it cannot be imported (`pass-not-loadable`).
    """
    passes = pass_names()
    if name not in passes:
        known = ", ".join(f"`{known}`" for known in passes)
        raise AttributeProblem(
            "unknown-pass", f"there is no pass `{name}`", None, did_you_mean(name, passes) or f"there are {known}"
        )
    made = bind(load_pass(name), f"`{name}`", positional, named or {}, "option")
    made.check()
    return made


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


def run_passes(
    graph: Graph, passes: Sequence[Pass], calibration: Calibration, progress: Callable[[str], None] = lambda name: None
) -> Iterator[PassReport]:
    """Run passes over a graph, in place; gives the report of each as it ends.

    Args:
        progress: called with a pass's text before it runs.

    Raises:
        ArchcError: a selector matches nothing, or a pass broke the graph.
    """
    original = previous = calibration.outputs(graph)
    for step in passes:
        progress(str(step))
        before = cost(graph)
        interface = _interface(graph)
        context = Context(Rewriter(graph, by=step.name), calibration)
        try:
            step.run(graph, context)
        except SelectorError as problem:
            raise error("selector-matches-nothing", f"{problem} in `{step}`", help=problem.help) from None
        except Exception as bug:
            bug.add_note(f"while the pass `{step}` ran")  # for whoever gets it: which of the passes it was
            raise
        context.rewriter.remove_unused_nodes()
        context.rewriter.remove_unused_weights()
        _verify(graph, step, interface)
        outputs = calibration.outputs(graph)
        change = largest_error(previous, outputs)
        _hold_to_promise(step, change)
        yield PassReport(
            str(step),
            step.preserves,
            before,
            cost(graph),
            change,
            largest_error(original, outputs),
            tuple(context.remarks),
        )
        previous = outputs


def _interface(graph: Graph) -> list[tuple[str, str, TensorType]]:
    """What a graph takes and gives, in order."""
    inputs = [("input", str(value.name), value.type) for value in graph.inputs]
    return inputs + [("output", name, value.type) for name, value in graph.outputs.items()]


def _verify(graph: Graph, step: Pass, interface: list[tuple[str, str, TensorType]]) -> None:
    try:
        verify(graph)
    except InvalidGraph as broken:
        raise _broken(step, f"left the graph invalid: {broken}") from broken
    for was, now in zip_longest(interface, _interface(graph)):
        if was != now:
            kind, name, _ = was or now
            raise _broken(step, f"changed the {kind} `{name}` of the model")


PROMISES = {"exact": 1e-5, "rounding": 0.05}
"""The error at the outputs beyond which a pass has broken its promise.

Rounding can turn a comparison round, and what follows from it; but hardly so often.
"""


def _hold_to_promise(step: Pass, change: float) -> None:
    if change > PROMISES.get(step.preserves, math.inf):
        wanted = "exactly" if step.preserves == "exact" else "up to rounding"
        raise _broken(step, f"promises to preserve the function {wanted}, and changed the outputs by {change:.2%}")


def _broken(step: Pass, what: str) -> ArchcError:
    return error(
        "pass-broke-graph",
        f"the pass `{step}` {what}",
        help="this is a bug in the pass; compile without it, or with the passes before it alone",
    )


def largest_error(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> float:
    """The largest relative error over the outputs; see `PassReport`.

    It is infinite where one side has a NaN or an infinity that the other has not.
    """
    worst = 0.0
    for name, expected in before.items():
        actual = after[name]
        if not expected.is_floating_point():
            wrong = float((expected != actual).double().mean()) if expected.numel() else 0.0
        else:
            wrong = _relative_error(expected.double(), actual.double())
        worst = max(worst, wrong)
    return worst


def _relative_error(expected: torch.Tensor, actual: torch.Tensor) -> float:
    finite = expected.isfinite()
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    if not bool((same | (finite & actual.isfinite())).all()):
        return math.inf  # and not NaN, which is smaller than nothing and hides
    difference, scale = (float(side[finite].norm()) for side in (actual - expected, expected))
    return difference / scale if scale else difference
