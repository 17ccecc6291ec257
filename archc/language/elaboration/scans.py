"""What `scan x_t in x, h = h0 { ... yield y = ... }` does to a graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from archc.diagnostics import Note, Span
from archc.ir.graph import Value
from archc.language.elaboration.advice import describe
from archc.language.elaboration.environment import POISON, Binding, Failed
from archc.language.elaboration.expressions import describe_value
from archc.language.elaboration.frames import Frame
from archc.language.elaboration.names import check_name
from archc.language.syntax import tree
from archc.ops.scan import ScanEnter, ScanExit

if TYPE_CHECKING:
    from archc.language.elaboration.statements import Statements


@dataclass
class _Steps:
    """A scan at work.

    Attributes:
        states: where each state is named; yields: what is kept of a step, and where it is named.
    """

    states: dict[str, Span]
    yields: dict[str, tuple[Value, Span]] = field(default_factory=dict)


def yielded_names(body: Iterable[tree.Statement]) -> Iterator[tree.Name]:
    """The names that the steps of a scan yield, so far as the text tells."""
    for statement in body:
        if isinstance(statement, tree.Yield):
            yield statement.name
        elif isinstance(statement, tree.If):
            yield from yielded_names((*statement.body, *statement.otherwise))
        elif isinstance(statement, tree.For):
            yield from yielded_names(statement.body)


class Scans:
    """Runs the scans of definitions."""

    def __init__(self, statements: Statements):
        self.statements = statements
        self.elaborator = statements.elaborator
        self.report = statements.report
        self._open: dict[Frame, list[_Steps]] = defaultdict(list)  # the scans at work, innermost last

    def run(self, frame: Frame, node: tree.ScanStatement) -> None:
        """Run a scan: its steps once, between the two operators that are its ends."""
        starts: list[tree.ScanSequence | tree.ScanState] = [*node.sequences, *node.states]
        for part in starts:
            check_name(self.elaborator, frame, part.name, "a tensor of a step" if part in node.sequences else "a state")
            self.statements.check_free(frame, part.name, "tensor")
        self._check_distinct(frame, [part.name for part in starts])
        values = [self._tensor(frame, part) for part in starts]
        self._check_sequences(frame, node, values[: len(node.sequences)])
        add = self.elaborator.application.add
        head = node.parts[0].span.to(node.parts[-1].span)
        mark, *given = add(frame, ScanEnter(len(node.sequences)), values, None, head)
        around = dict(frame.environment.bindings)
        for part, value in zip(starts, given):
            frame.environment.bind(part.name.name, value, part.name.span, "tensor")
            self.statements.name_value(frame, value, part.name.name)
        steps = _Steps({part.name.name: part.name.span for part in node.states})
        self._open[frame].append(steps)
        try:
            whole = self.statements.run(frame, node.body)
        finally:
            self._open[frame].pop()
        ends = [self._next(frame, part, state) for part, state in zip(node.states, given[len(node.sequences) :])]
        self._leave(frame, around)
        if not whole:
            raise Failed
        if not ends and not steps.yields:
            self.report(
                frame,
                "scan-without-result",
                "nothing is left of this scan when it is over",
                head,
                help="`yield y = ...` in it keeps what each step makes, as a sequence; a state stays as it is at last",
            )
        length = values[0].type.shape[1]
        between = [value for pair in zip(given[len(node.sequences) :], ends) for value in pair]
        kept = [value for value, _ in steps.yields.values()]
        results = add(frame, ScanExit(len(ends), length), [mark, *between, *kept], None, node.span)
        spans = {**steps.states, **{name: span for name, (_, span) in steps.yields.items()}}
        for (name, span), value in zip(spans.items(), results, strict=True):
            self.statements.name_value(frame, value, name)
            frame.environment.bind(name, value, None if name in around else span, "tensor")

    def running(self, frame: Frame) -> bool:
        """Whether the statements of a step are being run."""
        return bool(self._open[frame])

    def keep(self, frame: Frame, node: tree.Yield) -> None:
        """Run a `yield`: the sequence of what it is in all steps has the name when the scan is over."""
        check_name(self.elaborator, frame, node.name, "a tensor")
        if not self.running(frame):
            self.report(
                frame,
                "yield-misplaced",
                "`yield` is outside of a `scan`",
                node.span,
                help="write `output` for what a block or model gives",
            )
        self.statements.check_free(frame, node.name, "sequence")
        steps = self._open[frame][-1]
        name = node.name.name
        if name in steps.yields or name in steps.states:
            yielded = name in steps.yields
            self.report(
                frame,
                "duplicate-name",
                f"`{name}` is yielded twice" if yielded else f"`{name}` is a state, and is what that is at last",
                node.name.span,
                notes=[Note("this is the first", steps.yields[name][1] if yielded else steps.states[name])],
                help=None if yielded else "give the sequence another name",
            )
        value = self.elaborator.expressions.evaluate(frame, node.value)
        if not isinstance(value, Value):
            self.report(
                frame, "wrong-type", f"a step yields a tensor, and this is {describe_value(value)}", node.value.span
            )
        if value.type.rank < 1:
            self.report(
                frame,
                "rank-mismatch",
                f"what a step yields has a batch as its first axis, and this is {value.type}",
                node.value.span,
                notes=describe(value),
            )
        steps.yields[name] = (value, node.name.span)

    def _check_sequences(self, frame: Frame, node: tree.ScanStatement, values: Sequence[Value]) -> None:
        """Refuse a scan without a sequence, and sequences that are none or are not equally long."""
        if not values:
            self.report(
                frame,
                "scan-without-sequence",
                "this scan goes through no sequence",
                node.parts[0].span.to(node.parts[-1].span),
                help="`scan x_t in x, ...` does a step for each element of the second axis of `x`",
            )
        for part, value in zip(node.sequences, values):
            if value.type.rank < 2:
                self.report(
                    frame,
                    "rank-mismatch",
                    f"`scan` goes through the second axis, got {value.type}",
                    part.value.span,
                    notes=describe(value),
                    help="a sequence is of shape [batch, time, ...]; `rearrange` brings its axes into that order",
                )
            length, first = value.type.shape[1], values[0].type.shape[1]
            if length != first:
                self.report(
                    frame,
                    "shape-mismatch",
                    f"`scan` goes through sequences side by side; this one has {length} elements, the first {first}",
                    part.value.span,
                    notes=[*describe(values[0]), *describe(value)],
                    help="their second axes must be of one size",
                )

    def _check_distinct(self, frame: Frame, names: list[tree.Name]) -> None:
        seen: dict[str, Span] = {}
        for name in names:
            if name.name in seen:
                self.report(
                    frame,
                    "duplicate-name",
                    f"`{name.name}` is given twice",
                    name.span,
                    notes=[Note("this is the first", seen[name.name])],
                )
            seen[name.name] = name.span

    def _tensor(self, frame: Frame, part: tree.ScanSequence | tree.ScanState) -> Value:
        value = self.elaborator.expressions.evaluate(frame, part.value)
        if not isinstance(value, Value):
            what = "`scan` goes through a tensor" if isinstance(part, tree.ScanSequence) else "a state is a tensor"
            self.report(
                frame,
                "wrong-type",
                f"{what}, and this is {describe_value(value)}",
                part.value.span,
                help="`for i in 0..n { ... }` repeats layers"
                if isinstance(part, tree.ScanSequence)
                else "begin with zeros, for instance: `zeros((N, 8))`",
            )
        return value

    def _next(self, frame: Frame, part: tree.ScanState, state: Value) -> Value:
        """What a step makes of a state."""
        value = frame.environment.get(part.name.name)
        if value is POISON or not isinstance(value, Value):
            return state
        if value.type != state.type:
            self.report(
                frame,
                "state-mismatch",
                f"the state `{part.name.name}` begins as {state.type}, and a step makes it {value.type}",
                part.name.span,
                notes=describe(value),
                help="a state has one type throughout",
            )
        return value

    def _leave(self, frame: Frame, around: dict[str, Binding]) -> None:
        """Take back the names of tensors that the steps gave."""
        bindings = frame.environment.bindings
        for name, binding in list(bindings.items()):
            if binding is not around.get(name) and binding.kind == "tensor":
                del bindings[name]
                if name in around:
                    bindings[name] = around[name]
