"""Body of a printed definition: its statements, the names of values, and the nesting of expressions.

A value with one use and without a name in the source is written at its use, which gives chains and sums.  A name can be
assigned again, as in `x = x -> relu`, when its previous value has no remaining use.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from archc.codegen.outline.definitions import (
    BlockDefinition,
    BlockStep,
    Local,
    Loop,
    OperatorStep,
    Recurrence,
    Statement,
    all_reads,
    executed_steps,
    operands_of,
)
from archc.frozen_dataclass import frozen_dataclass
from archc.language.printing import syntax_nodes
from archc.language.printing.parameterization import Parameters
from archc.language.printing.step_printer import Form, StepPrinter, form
from archc.language.printing.syntax_nodes import NOWHERE
from archc.language.syntax import tree
from archc.types.dims import symbols
from archc.types.storage import Weight

_DEEPEST = 4  # levels of nested expressions; a deeper expression is assigned to a name


@frozen_dataclass
class PrintContext:
    """Properties of the program that contains a printed definition.

    Attributes:
        weights: weights of the graph, by path.
        names: printed name of each definition.
        parameters: attributes of each definition.
        reserved: names that no tensor may have.
    """

    weights: Mapping[str, Weight]
    names: Mapping[BlockDefinition, str]
    parameters: Mapping[BlockDefinition, Parameters]
    reserved: frozenset[str]


@dataclass(eq=False)
class PendingExpression:
    """Expression that is not written yet, because its use is not reached.

    Attributes:
        operands: expressions of the operands of the first step.
        steps: the statements of a chain in order, or the single statement of a formula such as `a + b`.
        form: syntax of the statements.
        local: tensor, if the expression is only a name; None otherwise.
        depth: nesting of the expression.
    """

    operands: list[PendingExpression] = field(default_factory=list)
    steps: list[OperatorStep | BlockStep] = field(default_factory=list)
    form: Form = "step"
    local: Local | None = None
    depth: int = 0


class BodyPrinter:
    """Statements of one printed definition.

    `written` has the statements of the definition in the order of the printed text.  Elaboration runs them
    in this order.
    """

    def __init__(self, definition: BlockDefinition, is_model: bool, context: PrintContext):
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
        self.pending: dict[Local, PendingExpression] = {}
        self.variables: dict[Local, str] = {}
        self.locals: dict[str, Local] = {}  # current tensor of each name
        self.remaining_uses: dict[Local, int] = {}
        # The preferred name of each tensor that an iteration of a loop or a step of a scan passes to the next one.
        self.wanted_names: dict[Local, str | None] = {}
        self.readers: dict[Local, Statement] = {}
        self.outputs = dict(zip(definition.outputs, definition.output_names))
        self.positions = {name: k for k, name in enumerate(definition.output_names) if name is not None}
        self.last_readers = _last_readers(definition)
        self.loops_with_lists: set[Loop] = set()
        self.written: list[OperatorStep | BlockStep] = []

    def statements(self) -> list[tree.Statement]:
        """Statements of the definition, in order."""
        declared: set[str] = set()
        for local in self.definition.inputs:
            name = local.name if self.is_model and local.name is not None else self._choose(local.name)
            self._bind(local, name)
            self.body.append(tree.Input(NOWHERE, syntax_nodes.name(name), self._input_type(local, declared)))
        for local in self.definition.inputs:
            name = self.variables[local]
            if self.last_readers.get(local, -1) > self.positions.get(name, len(self.definition.outputs)):
                # An output has the name of the input, and a later output uses the input: `output x = ...` and then
                # `output y = x + 1`.  Copy the input to another name first.
                self._bind(local, self._choose(None, local))
                self._emit([self.variables[local]], syntax_nodes.name(name))
        self._add_statements(self.definition.body)
        for local, output in zip(self.definition.outputs, self.definition.output_names):
            value = self._value_of(local)
            if output is None:
                self.body.append(tree.Output(NOWHERE, None, None, value))
            else:
                # `tensor_type` writes the bounds of undeclared symbols.  An output repeats no bounds, so all of its
                # symbols count as declared.
                type_ = syntax_nodes.tensor_type(local.type, {*declared, *_symbol_names(local)})
                self.body.append(tree.Output(NOWHERE, syntax_nodes.name(output), type_, value))
        return self.body

    def _input_type(self, local: Local, declared: set[str]) -> tree.TypeExpression | None:
        """Type in the declaration of an input; None if the declaration has no type.

        `declared` is the set of sizes that earlier inputs declare.
        """
        if self.is_model:
            return syntax_nodes.tensor_type(local.type, declared)
        if local.axes is None or self.parameters.sizes is None:
            return None
        dims = (syntax_nodes.name(axis) if isinstance(axis, str) else syntax_nodes.value(axis) for axis in local.axes)
        return tree.TypeExpression(NOWHERE, local.type.dtype.value, tuple(tree.Dim(NOWHERE, dim) for dim in dims))

    # Values -----------------------------------------------------------------------------------------------

    def _add_statements(self, statements: Sequence[Statement]) -> None:
        """Add statements to the body; statements with results that are written at their use go to `pending`."""
        for statement in statements:
            for local in operands_of(statement):
                self.readers[local] = statement
        for statement in statements:
            if isinstance(statement, Loop):
                self._loop(statement)
                continue
            if isinstance(statement, Recurrence):
                self._scan(statement)
                continue
            expression = self._expression(statement)
            if self._is_written_at_its_use(statement):
                for local in statement.results:
                    self.pending[local] = expression
            else:
                self._assign(statement.results, expression)

    def _is_written_at_its_use(self, step: OperatorStep | BlockStep) -> bool:
        """Return whether the results of a statement are written at their use, without a name."""
        if any(local.uses != 1 or local in self.wanted_names for local in step.results):
            return False
        if len(step.results) == 1:
            (local,) = step.results
            return local.name is None or (local.name == self.outputs.get(local))
        # Several results have no names if all of them are the operands of one chain step, in order.
        reader = self.readers.get(step.results[0])
        together = (
            isinstance(reader, (OperatorStep, BlockStep)) and reader.operands == step.results and form(reader) == "step"
        )
        return together and all(local.name is None for local in step.results)

    def _expression(self, step: OperatorStep | BlockStep) -> PendingExpression:
        """Expression of a statement; a chain step with one operand extends the chain of the operand."""
        kind = form(step)
        pending = {self.pending[local] for local in step.operands if local in self.pending}
        if len(step.operands) > 1 and len(pending) == 1 and all(local in self.pending for local in step.operands):
            operands = list(pending)  # all results of one statement
            for local in step.operands:
                del self.pending[local]
        else:
            operands = [self._operand(local) for local in step.operands]
        if kind == "step" and len(operands) == 1 and operands[0].form == "step" and operands[0].steps:
            operands[0].steps.append(step)
            return operands[0]
        nested = kind != "step" or len(operands) > 1 or any(operand.form != "step" for operand in operands)
        depth = max((operand.depth for operand in operands), default=0) + (1 if nested else 0)
        return PendingExpression(operands, [step], kind, depth=depth)

    def _value_of(self, local: Local) -> tree.Expression:
        """Syntax of a tensor, written at this place."""
        return self._finish(self.pending.pop(local, PendingExpression(local=local)))

    def _operand(self, local: Local) -> PendingExpression:
        """Pending expression of an operand; a deeply nested expression is assigned to a name first."""
        expression = self.pending.pop(local, None)
        if expression is not None and expression.depth >= _DEEPEST:
            self._assign((local,), expression)
            expression = None
        return expression or PendingExpression(local=local)

    def _finish(self, expression: PendingExpression) -> tree.Expression:
        """Syntax of a pending expression at its final place.

        Layers without labels are named in the order of the text, so this method must be called in that order.
        """
        if expression.local is not None:
            self.remaining_uses[expression.local] -= 1
            return syntax_nodes.name(self.variables[expression.local])
        operands = [self._finish(operand) for operand in expression.operands]
        self.written += expression.steps
        first, *others = expression.steps
        if expression.form != "step":
            assert isinstance(first, OperatorStep)
            return self.step_printer.formula(first, expression.form, operands)
        if not operands:
            source, steps = self.step_printer.source(first), others
        else:
            source = operands[0] if len(operands) == 1 else tree.Tuple(NOWHERE, tuple(operands))
            steps = expression.steps
        if not steps:
            return source
        return tree.Chain(NOWHERE, source, tuple(self.step_printer.chain_step(step) for step in steps))

    # Names ------------------------------------------------------------------------------------------------

    def _assign(self, locals_: Sequence[Local], expression: PendingExpression) -> None:
        """Add an assignment of an expression to names for its results."""
        value = self._finish(expression)
        # Names of loop-carried tensors are chosen first, so that no other result takes their names.
        names: dict[Local, str] = {}
        for local in sorted(locals_, key=lambda local: local not in self.wanted_names):
            names[local] = self._choose(self.wanted_names.get(local, local.name), local, list(names.values()))
        for local in locals_:
            self._bind(local, names[local])
        self._emit([names[local] for local in locals_], value)

    def _emit(self, targets: Iterable[str], value: tree.Expression) -> None:
        """Add an assignment to the body."""
        self.body.append(tree.Assign(NOWHERE, tuple(syntax_nodes.name(target) for target in targets), value))

    def _bind(self, local: Local, name: str, uses: int | None = None) -> None:
        """Bind a name to a tensor with `uses` remaining uses, by default all of its uses."""
        self.variables[local] = name
        self.locals[name] = local
        self.remaining_uses[local] = local.uses if uses is None else uses

    def _choose(self, wanted: str | None, local: Local | None = None, besides: Sequence[str] = ()) -> str:
        """Free name for a tensor: the wanted name, or a similar name.

        A name is free if its current tensor has no remaining use, and if no output statement binds the name before the
        last use of `local`.

        Args:
            besides: further names that are not free.
        """
        for name in _candidates(wanted):
            current = self.locals.get(name)
            if name in besides or name in self.reserved or (current is not None and self.remaining_uses[current]):
                continue
            # An output statement binds its name, so this name is not free if a later output statement reads `local`.
            if self.last_readers.get(local, -1) > self.positions.get(name, len(self.definition.outputs)):
                continue
            return name
        raise AssertionError("the candidates are infinite")

    # Loops ------------------------------------------------------------------------------------------------

    def _loop(self, loop: Loop) -> None:
        """Add a loop: the statements of its first iteration, with lists for attributes that vary."""
        self.step_printer.enter(loop)
        names = [self._enter(loop, position) for position in range(len(loop.carried))]
        variable, limits = self._header(loop)
        outside, self.body = self.body, []
        start = len(self.written)
        for position, (local, name) in reversed(list(enumerate(zip(loop.yields[0], names)))):
            self.wanted_names[local] = local.name if _overlap(loop, position) else name
        self._add_statements(loop.iterations[0])
        self._assign_yields(loop.yields[0], names)
        outside.append(tree.For(NOWHERE, variable, limits, tuple(self.body)))
        self.body = outside
        self._repeat(loop, self.written[start:])
        self.step_printer.leave(loop)
        for iteration in loop.iterations[1:]:
            for local in (local for step in iteration for local in all_reads(step)):
                if local in self.variables:
                    self.remaining_uses[local] -= 1
        for local, name in zip(loop.results, names):
            self._bind(local, name)

    def _repeat(self, loop: Loop, written: Sequence[OperatorStep | BlockStep]) -> None:
        """Add the statements of the other iterations of a loop to `written`, in the same order."""
        first = list(executed_steps(loop.iterations[0]))
        for iteration in loop.iterations[1:]:
            alike = dict(zip(first, executed_steps(iteration), strict=True))
            self.written += (alike[step] for step in written if step in alike)

    def _header(self, loop: Loop) -> tuple[tree.Name, tree.RangeExpression]:
        """Variable and range of a loop.

        The first call for a loop adds the `let` statements of its lists of attribute values.
        """
        if loop not in self.loops_with_lists:
            self.loops_with_lists.add(loop)
            for name, values in self.parameters.lists[loop].items():
                self.body.append(tree.Let(NOWHERE, syntax_nodes.name(name), syntax_nodes.value(values)))
        limits = tree.RangeExpression(NOWHERE, syntax_nodes.value(loop.first), self.parameters.ends[loop])
        return syntax_nodes.name(self.parameters.variable), limits

    def _enter(self, loop: Loop, position: int) -> str:
        """Name of a loop-carried tensor; adds an assignment if the initial value has another name."""
        first, inside = loop.carried[position], loop.parameters[0][position]
        wanted = None if _overlap(loop, position) else inside.name or loop.results[position].name
        known = self.variables.get(first)
        value = self._value_of(first)
        free = known is not None and not self.remaining_uses[first]
        if known is not None and free and (wanted == known or (wanted is None and first not in self.definition.inputs)):
            self._bind(inside, known)
            return known
        name = self._choose(wanted)
        self._bind(inside, name)
        if name != known:
            self._emit([name], value)
        return name

    def _assign_yields(self, yields: Sequence[Local], names: Sequence[str]) -> None:
        """Assign the new values to the names of the loop-carried tensors, at the end of an iteration."""
        for local in yields:
            if local in self.pending:  # a value from outside the loop, with no other use
                self._assign((local,), self.pending.pop(local))
        moves = {name: self.variables[local] for local, name in zip(yields, names) if self.variables[local] != name}
        for local in yields:
            self.remaining_uses[local] -= 1
        targets = list(moves)
        if any(own in targets[:position] for position, own in enumerate(moves.values())):
            # Separate assignments would overwrite a name before a later assignment reads it: assign a tuple.
            self._emit(targets, tree.Tuple(NOWHERE, tuple(map(syntax_nodes.name, moves.values()))))
            return
        for name, own in moves.items():
            self._emit([name], syntax_nodes.name(own))

    # Scans ------------------------------------------------------------------------------------------------

    def _scan(self, scan: Recurrence) -> None:
        """Add a scan."""
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
            self._bind(local, name, local.uses - 1)  # `scan.exit` reads the state, but is not printed
        self.written.append(scan.enter)
        outside, self.body = self.body, []
        for local, name, state in reversed(list(zip(scan.next_states, states, scan.states))):
            self.wanted_names[local] = local.name if _reads_later(scan, local, state) else name
        for local in scan.kept:
            self.readers[local] = scan.exit
        self._add_statements(scan.body)
        self._yields(scan, states)
        self._assign_yields(scan.next_states, states)
        self.written.append(scan.exit)
        outside.append(tree.ScanStatement(NOWHERE, tuple(parts), tuple(self.body)))
        self.body = outside
        for local, name in zip(scan.last_states, states):
            self._bind(local, name)

    def _yields(self, scan: Recurrence, states: list[str]) -> None:
        """Add the `yield` statements of a scan, and bind the names of its sequence results."""
        taken: list[str] = []
        for kept, stacked in zip(scan.kept, scan.stacked):
            value = self._value_of(kept)
            name = self._choose(stacked.name, stacked, [*states, *taken])
            taken.append(name)
            self.body.append(tree.Yield(NOWHERE, syntax_nodes.name(name), value))
        for stacked, name in zip(scan.stacked, taken):
            self._bind(stacked, name)


def _overlap(loop: Loop, position: int) -> bool:
    """Return whether an iteration reads a loop-carried tensor after its new value is computed.

    In this case, both the old value and the new value need names.
    """
    old, new = loop.parameters[0][position], loop.yields[0][position]
    made = next(number for number, step in enumerate(loop.iterations[0]) if new in step.results)
    return any(old is local for step in loop.iterations[0][made + 1 :] for local in all_reads(step))


def _last_readers(definition: BlockDefinition) -> dict[Local | None, int]:
    """For each tensor, the index of the last output whose expression may contain the tensor's name."""
    last: dict[Local | None, int] = {local: position for position, local in enumerate(definition.outputs)}
    for step in reversed(definition.body):
        # A result with one use, and its operands, may be part of the expression of an output.
        if isinstance(step, (Loop, Recurrence)) or any(local.uses != 1 for local in step.results):
            continue
        reached = max((last.get(local, -1) for local in step.results), default=-1)
        for local in step.operands if reached >= 0 else ():
            last[local] = max(last.get(local, -1), reached)
    return last


def _symbol_names(local: Local) -> set[str]:
    """Names of the symbols in a tensor's type."""
    return {name for dim in local.type.shape for name in symbols(dim)}


def _candidates(wanted: str | None) -> Iterator[str]:
    """Infinite sequence of names for a tensor, in the order of preference."""
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
    """Return whether a scan reads the old value of a state after the new value is computed.

    In this case, both the old value and the new value need names.
    """
    made = next((number for number, step in enumerate(scan.body) if new in step.results), None)
    if made is None:  # the new value is another state, or a value from outside the scan
        return True
    read = [local for step in scan.body[made + 1 :] for local in _read(step)]
    return old in read or old in scan.kept or any(other is old for other in scan.next_states)


def _read(statement: Statement) -> Iterator[Local]:
    """Tensors that a statement reads, including its inner statements."""
    yield from operands_of(statement)
    for body in getattr(statement, "bodies", ()):
        for inner in body:
            yield from _read(inner)
