"""The statements of one printed definition: which values get names, and what stands in one expression.

A value that is used once and that nobody named stands where it is used; chains and sums arise by themselves.
A name may be used again for the next value, as people write it, once the value that it had is not needed any more.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from archc.codegen.outline.program import (
    Apply,
    Definition,
    Local,
    Loop,
    Recurrence,
    Statement,
    Use,
    executed,
    read_by,
    reads_of,
)
from archc.language.printing import syntax_nodes
from archc.language.printing.parameterization import Parameters
from archc.language.printing.step_printer import Form, StepPrinter, form
from archc.language.printing.syntax_nodes import NOWHERE
from archc.language.syntax import tree
from archc.types.dims import symbols
from archc.types.storage import Weight

_DEEPEST = 4  # expressions within expressions; what goes deeper gets a name


@dataclass(frozen=True)
class PrintContext:
    """What a definition is printed within.

    Attributes:
        weights: the graph's, by path.
        names: what each definition is called; parameters: what it takes.
        reserved: the names that no tensor may have.
    """

    weights: Mapping[str, Weight]
    names: Mapping[Definition, str]
    parameters: Mapping[Definition, Parameters]
    reserved: frozenset[str]


@dataclass(eq=False)
class PendingExpression:
    """An expression in the making, of which it is not known yet where it will stand.

    Attributes:
        operands: what flows in; steps: what it flows through, one after the other (one alone for a formula).
        local: for the tensor that it is, where it is only a name.
        depth: how deeply expressions are nested in it.
    """

    operands: list[PendingExpression] = field(default_factory=list)
    steps: list[Apply | Use] = field(default_factory=list)
    form: Form = "step"
    local: Local | None = None
    depth: int = 0


class BodyPrinter:
    """Lays out one definition."""

    def __init__(self, definition: Definition, is_model: bool, context: PrintContext):
        self.definition, self.is_model = definition, is_model
        parameters = context.parameters[definition]
        self.parameters = parameters
        self.body: list[tree.Statement] = []
        self.step_printer = StepPrinter(
            definition,
            parameters,
            context.weights,
            context.names,
            {used: list(own.values)[:1] for used, own in context.parameters.items()},
            lambda layer: self.body.append(layer),
            self._header,
        )
        counter = {parameters.variable} if parameters.lists else set()
        self.reserved = context.reserved | set(parameters.values) | counter | self.step_printer.declarable
        self.reserved |= set(parameters.sizes or ())
        self.reserved |= {name for lists in parameters.lists.values() for name in lists}
        self.drafts: dict[Local, PendingExpression] = {}
        self.variables: dict[Local, str] = {}
        self.holders: dict[str, Local] = {}
        self.remaining: dict[Local, int] = {}
        self.wanted: dict[Local, str | None] = {}  # names that the results of a loop's iteration should have
        self.readers: dict[Local, Statement] = {}
        self.outputs = dict(zip(definition.outputs, definition.output_names))
        self.positions = {name: k for k, name in enumerate(definition.output_names) if name is not None}
        self.last_readers = _last_readers(definition)
        self.headed: set[Loop] = set()
        self.written: list[Apply | Use] = []  # in the order of the text, which is that of elaboration

    def statements(self) -> list[tree.Statement]:
        declared: set[str] = set()
        for local in self.definition.inputs:
            name = local.name if self.is_model and local.name is not None else self._choose(local.name)
            self._bind(local, name)
            self.body.append(tree.Input(NOWHERE, syntax_nodes.name(name), self._input_type(local, declared)))
        for local in self.definition.inputs:
            name = self.variables[local]
            if self.last_readers.get(local, -1) > self.positions.get(name, len(self.definition.outputs)):
                self._bind(local, self._choose(None, local))  # an output takes its name before it is read
                self._emit([self.variables[local]], syntax_nodes.name(name))
        self._add_statements(self.definition.body)
        for local, output in zip(self.definition.outputs, self.definition.output_names):
            value = self._value_of(local)
            if output is None:
                self.body.append(tree.Output(NOWHERE, None, None, value))
            else:
                type_ = syntax_nodes.tensor_type(local.type, {*declared, *_bounded(local)})
                self.body.append(tree.Output(NOWHERE, syntax_nodes.name(output), type_, value))
        return self.body

    def _input_type(self, local: Local, declared: set[str]) -> tree.TypeExpression | None:
        if self.is_model:
            return syntax_nodes.tensor_type(local.type, declared)
        if local.axes is None or self.parameters.sizes is None:
            return None
        dims = (syntax_nodes.name(axis) if isinstance(axis, str) else syntax_nodes.value(axis) for axis in local.axes)
        return tree.TypeExpression(NOWHERE, local.type.dtype.value, tuple(tree.Dim(NOWHERE, dim) for dim in dims))

    # Values -----------------------------------------------------------------------------------------------

    def _add_statements(self, statements: Sequence[Statement]) -> None:
        """Add statements to the body; what stands where it is used waits for its use."""
        for statement in statements:
            for local in read_by(statement):
                self.readers[local] = statement
        for statement in statements:
            if isinstance(statement, Loop):
                self._loop(statement)
                continue
            if isinstance(statement, Recurrence):
                self._scan(statement)
                continue
            draft = self._draft(statement)
            if self._stands_where_used(statement):
                for local in statement.results:
                    self.drafts[local] = draft
            else:
                self._assign(statement.results, draft)

    def _stands_where_used(self, step: Apply | Use) -> bool:
        if any(local.uses != 1 or local in self.wanted for local in step.results):
            return False
        if len(step.results) == 1:
            (local,) = step.results
            return local.name is None or (local.name == self.outputs.get(local))
        # Several results stay together where all of them flow into the same step.
        reader = self.readers.get(step.results[0])
        together = isinstance(reader, (Apply, Use)) and reader.operands == step.results and form(reader) == "step"
        return together and all(local.name is None for local in step.results)

    def _draft(self, step: Apply | Use) -> PendingExpression:
        kind = form(step)
        drafts = {self.drafts[local] for local in step.operands if local in self.drafts}
        if len(step.operands) > 1 and len(drafts) == 1 and all(local in self.drafts for local in step.operands):
            operands = list(drafts)  # the results of one step, as they are
            for local in step.operands:
                del self.drafts[local]
        else:
            operands = [self._operand(local) for local in step.operands]
        if kind == "step" and len(operands) == 1 and operands[0].form == "step" and operands[0].steps:
            operands[0].steps.append(step)
            return operands[0]
        nested = kind != "step" or len(operands) > 1 or any(operand.form != "step" for operand in operands)
        depth = max((operand.depth for operand in operands), default=0) + (1 if nested else 0)
        return PendingExpression(operands, [step], kind, depth=depth)

    def _value_of(self, local: Local) -> tree.Expression:
        """The expression of a tensor, to be written now."""
        return self._finish(self.drafts.pop(local, PendingExpression(local=local)))

    def _operand(self, local: Local) -> PendingExpression:
        draft = self.drafts.pop(local, None)
        if draft is not None and draft.depth >= _DEEPEST:
            self._assign((local,), draft)
            draft = None
        return draft or PendingExpression(local=local)

    def _finish(self, draft: PendingExpression) -> tree.Expression:
        """The expression, now that it is known where it stands; layers are named in the order of execution."""
        if draft.local is not None:
            self.remaining[draft.local] -= 1
            return syntax_nodes.name(self.variables[draft.local])
        operands = [self._finish(operand) for operand in draft.operands]
        self.written += draft.steps
        first, *others = draft.steps
        if draft.form != "step":
            assert isinstance(first, Apply)
            return self.step_printer.formula(first, draft.form, operands)
        if not operands:
            source, steps = self.step_printer.source(first), others
        else:
            source = operands[0] if len(operands) == 1 else tree.Tuple(NOWHERE, tuple(operands))
            steps = draft.steps
        if not steps:
            return source
        return tree.Chain(NOWHERE, source, tuple(self.step_printer.chain_step(step) for step in steps))

    # Names ------------------------------------------------------------------------------------------------

    def _assign(self, locals_: Sequence[Local], draft: PendingExpression) -> None:
        value = self._finish(draft)
        # Names that a loop hands on come first: another result would take them for itself.
        names: dict[Local, str] = {}
        for local in sorted(locals_, key=lambda local: local not in self.wanted):
            names[local] = self._choose(self.wanted.get(local, local.name), local, list(names.values()))
        for local in locals_:
            self._bind(local, names[local])
        self._emit([names[local] for local in locals_], value)

    def _emit(self, targets: Iterable[str], value: tree.Expression) -> None:
        self.body.append(tree.Assign(NOWHERE, tuple(syntax_nodes.name(target) for target in targets), value))

    def _bind(self, local: Local, name: str, uses: int | None = None) -> None:
        """Let a name stand for a tensor from now on."""
        self.variables[local] = name
        self.holders[name] = local
        self.remaining[local] = local.uses if uses is None else uses

    def _choose(self, wanted: str | None, local: Local | None = None, besides: Sequence[str] = ()) -> str:
        """The name that is wanted, or one like it, if what it stands for now is not needed any more."""
        for name in _candidates(wanted):
            holder = self.holders.get(name)
            if name in besides or name in self.reserved or (holder is not None and self.remaining[holder]):
                continue
            # Outputs are printed one after the other, and each takes its name: from then on, nobody may read another.
            if self.last_readers.get(local, -1) > self.positions.get(name, len(self.definition.outputs)):
                continue
            return name
        raise AssertionError("candidates do not end")

    # Loops ------------------------------------------------------------------------------------------------

    def _loop(self, loop: Loop) -> None:
        self.step_printer.enter(loop)
        names = [self._enter(loop, position) for position in range(len(loop.carried))]
        variable, limits = self._header(loop)
        outside, self.body = self.body, []
        start = len(self.written)
        for position, (local, name) in reversed(list(enumerate(zip(loop.yields[0], names)))):
            self.wanted[local] = local.name if _overlap(loop, position) else name
        self._add_statements(loop.iterations[0])
        self._hand_on(loop.yields[0], names)
        outside.append(tree.For(NOWHERE, variable, limits, tuple(self.body)))
        self.body = outside
        self._repeat(loop, self.written[start:])
        self.step_printer.leave(loop)
        for iteration in loop.iterations[1:]:
            for local in (local for step in iteration for local in reads_of(step)):
                if local in self.variables:
                    self.remaining[local] -= 1
        for local, name in zip(loop.results, names):
            self._bind(local, name)

    def _repeat(self, loop: Loop, written: Sequence[Apply | Use]) -> None:
        """Add a loop's other iterations to `written`, in the order of the first."""
        first = list(executed(loop.iterations[0]))
        for iteration in loop.iterations[1:]:
            alike = dict(zip(first, executed(iteration), strict=True))
            self.written += (alike[step] for step in written if step in alike)

    def _header(self, loop: Loop) -> tuple[tree.Name, tree.RangeExpression]:
        """The variable and the limits of a loop; the lists that it takes values from are written once."""
        if loop not in self.headed:
            self.headed.add(loop)
            for name, values in self.parameters.lists[loop].items():
                self.body.append(tree.Let(NOWHERE, syntax_nodes.name(name), syntax_nodes.value(values)))
        limits = tree.RangeExpression(NOWHERE, syntax_nodes.value(loop.first), self.parameters.ends[loop])
        return syntax_nodes.name(self.parameters.variable), limits

    def _enter(self, loop: Loop, position: int) -> str:
        """The name of a tensor that changes from iteration to iteration, given its first value."""
        first, inside = loop.carried[position], loop.parameters[0][position]
        wanted = None if _overlap(loop, position) else inside.name or loop.results[position].name
        known = self.variables.get(first)
        value = self._value_of(first)
        free = known is not None and not self.remaining[first]
        if known is not None and free and (wanted == known or (wanted is None and first not in self.definition.inputs)):
            self._bind(inside, known)
            return known
        name = self._choose(wanted)
        self._bind(inside, name)
        if name != known:
            self._emit([name], value)
        return name

    def _hand_on(self, yields: Sequence[Local], names: Sequence[str]) -> None:
        """At the end of an iteration, give each tensor that changes its new value."""
        for local in yields:
            if local in self.drafts:  # it comes from outside, where nobody else wanted it
                self._assign((local,), self.drafts.pop(local))
        moves = {name: self.variables[local] for local, name in zip(yields, names) if self.variables[local] != name}
        for local in yields:
            self.remaining[local] -= 1
        targets = list(moves)
        if any(own in targets[:position] for position, own in enumerate(moves.values())):
            # One after the other, it would be overwritten before it is read.
            self._emit(targets, tree.Tuple(NOWHERE, tuple(map(syntax_nodes.name, moves.values()))))
            return
        for name, own in moves.items():
            self._emit([name], syntax_nodes.name(own))

    # Scans ------------------------------------------------------------------------------------------------

    def _scan(self, scan: Recurrence) -> None:
        """Add the statement of a scan to a definition."""
        parts: list[tree.ScanSequence | tree.ScanState] = []
        sequences = [self._value_of(local) for local in scan.sequences]
        starts = [self._value_of(local) for local in scan.first_states]
        names: list[str] = []
        for local, value in zip(scan.items, sequences):
            names.append(self._choose(local.name, local, names))
            parts.append(tree.ScanSequence(NOWHERE, syntax_nodes.name(names[-1]), value))
        states: list[str] = []
        for local, last, value in zip(scan.states, scan.last_states, starts):
            states.append(self._choose(local.name or last.name, None, [*names, *states]))
            parts.append(tree.ScanState(NOWHERE, syntax_nodes.name(states[-1]), value))
        for local, name in zip(scan.items, names):
            self._bind(local, name)
        for local, name in zip(scan.states, states):
            self._bind(local, name, local.uses - 1)  # the end of the step reads it too, which is no text
        self.written.append(scan.enter)
        outside, self.body = self.body, []
        for local, name, state in reversed(list(zip(scan.next_states, states, scan.states))):
            self.wanted[local] = local.name if _reads_later(scan, local, state) else name
        for local in scan.kept:
            self.readers[local] = scan.exit
        self._add_statements(scan.body)
        self._yields(scan, states)
        self._hand_on(scan.next_states, states)
        self.written.append(scan.exit)
        outside.append(tree.ScanStatement(NOWHERE, tuple(parts), tuple(self.body)))
        self.body = outside
        for local, name in zip(scan.last_states, states):
            self._bind(local, name)

    def _yields(self, scan: Recurrence, states: list[str]) -> None:
        """Add what is kept of a step; the names that it is kept under are taken from then on."""
        taken: list[str] = []
        for kept, stacked in zip(scan.kept, scan.stacked):
            value = self._value_of(kept)
            name = self._choose(stacked.name, stacked, [*states, *taken])
            taken.append(name)
            self.body.append(tree.Yield(NOWHERE, syntax_nodes.name(name), value))
        for stacked, name in zip(scan.stacked, taken):
            self._bind(stacked, name)


def _overlap(loop: Loop, position: int) -> bool:
    """Whether an iteration still reads the old value of a tensor when the new one is made: they need two names."""
    old, new = loop.parameters[0][position], loop.yields[0][position]
    made = next(number for number, step in enumerate(loop.iterations[0]) if new in step.results)
    return any(old is local for step in loop.iterations[0][made + 1 :] for local in reads_of(step))


def _last_readers(definition: Definition) -> dict[Local | None, int]:
    """The last output whose expression may read each tensor by its name; tensors that none reads are left out."""
    last: dict[Local | None, int] = {local: position for position, local in enumerate(definition.outputs)}
    for step in reversed(definition.body):
        # A result that is used once may stand in an output's expression, and with it all that it is made of.
        if isinstance(step, (Loop, Recurrence)) or any(local.uses != 1 for local in step.results):
            continue
        reached = max((last.get(local, -1) for local in step.results), default=-1)
        for local in step.operands if reached >= 0 else ():
            last[local] = max(last.get(local, -1), reached)
    return last


def _bounded(local: Local) -> set[str]:
    """The names of a type's sizes: an output repeats no bounds."""
    return {name for dim in local.type.shape for name in symbols(dim)}


def _candidates(wanted: str | None) -> Iterator[str]:
    if (
        wanted is not None
        and re.fullmatch(r"[A-Za-z]\w*|_[A-Za-z0-9]\w*", wanted, re.ASCII)
        and not keyword.iskeyword(wanted)
    ):
        yield wanted
        yield from (f"{wanted}_{number}" for number in range(2, 10))
    yield from ("x", "y", "z")
    yield from (f"x_{number}" for number in count(2))


def _reads_later(scan: Recurrence, new: Local, old: Local) -> bool:
    """Whether a step still reads the old value of a state when the new one is made: they need two names."""
    made = next((number for number, step in enumerate(scan.body) if new in step.results), None)
    if made is None:  # it is the value of another state, or comes from outside
        return True
    read = [local for step in scan.body[made + 1 :] for local in _read(step)]
    return old in read or old in scan.kept or any(other is old for other in scan.next_states)


def _read(statement: Statement) -> Iterator[Local]:
    yield from read_by(statement)
    for body in getattr(statement, "bodies", ()):
        for inner in body:
            yield from _read(inner)
