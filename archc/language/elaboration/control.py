"""`for`, `if` and `assert`: what runs while the text is elaborated, and leaves nothing of itself in the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from archc.diagnostics import Span
from archc.ir.graph import Value
from archc.language.elaboration.environment import ABSENT, Failed
from archc.language.elaboration.expressions import SCAN, describe_value
from archc.language.elaboration.frames import Frame
from archc.language.elaboration.limits import MOST_ITERATIONS, STEPS_OF_AN_ITERATION
from archc.language.elaboration.names import check_name
from archc.language.elaboration.unused import names_in
from archc.language.syntax import tree
from archc.types.attributes import value_text
from archc.types.dims import SymbolicDim

if TYPE_CHECKING:
    from archc.language.elaboration.statements import Statements


def run_for(statements: Statements, frame: Frame, node: tree.For) -> None:
    """Run the body once for each value; what it binds stays."""
    check_name(statements.elaborator, frame, node.variable, "a loop variable")
    values = statements.expressions.evaluate(frame, node.iterable)
    if not isinstance(values, range | list | tuple):
        statements.report(
            frame,
            "wrong-type",
            f"`for` goes over a range or a list, and this is {describe_value(values)}",
            node.iterable.span,
            help=SCAN
            if isinstance(values, Value | SymbolicDim)
            else f"write `for {node.variable.name} in 0..{node.iterable.span.text} {{ ... }}`"
            if isinstance(values, int)
            else "write `for i in 0..n { ... }`",
        )
    # A range of 10^20 has no `len`.
    count = max(0, values.stop - values.start) if isinstance(values, range) else len(values)
    statements.iterations += count
    if statements.iterations > MOST_ITERATIONS:
        too_many_iterations(statements, frame, statements.iterations, node.iterable.span)
    statements.work.count(STEPS_OF_AN_ITERATION * count)
    if not count:
        statements.expressions.pass_over(frame, node.body)
    shadowed = frame.environment.bindings.get(node.variable.name)
    try:
        for value in values:
            frame.environment.bind(node.variable.name, value, None, "size")
            if not statements.run(frame, node.body):
                raise Failed
    finally:
        frame.environment.bindings.pop(node.variable.name, None)
        if shadowed is not None:
            frame.environment.bindings[node.variable.name] = shadowed


def too_many_iterations(statements: Statements, frame: Frame, count: int, span: Span) -> NoReturn:
    """Report loops that run too often.

    Raises:
        Failed: always.
    """
    statements.report(
        frame,
        "too-many-iterations",
        f"the loops of this model run {count:,} times; the limit is {MOST_ITERATIONS:,}",
        span,
        help="use shorter loops",
    )


def run_if(statements: Statements, frame: Frame, node: tree.If) -> None:
    """Run the body that the condition chooses."""
    value = statements.expressions.evaluate(frame, node.condition)
    holds = statements.expressions.truth(frame, value, node.condition.span)
    chosen, other = (node.body, node.otherwise) if holds else (node.otherwise, node.body)
    statements.expressions.pass_over(frame, other)
    whole = statements.run(frame, chosen)
    _leave_out(frame, other)
    if not whole:
        raise Failed


def _leave_out(frame: Frame, body: tuple[tree.Statement, ...]) -> None:
    """Make the inputs of a branch that is not taken known as absent."""
    for statement in body:
        if isinstance(statement, tree.If):
            _leave_out(frame, (*statement.body, *statement.otherwise))
        elif isinstance(statement, tree.Input) and statement.name.name not in frame.environment.bindings:
            frame.environment.bind(statement.name.name, ABSENT, None, "input")


def run_assert(statements: Statements, frame: Frame, node: tree.Assert) -> None:
    """Hold the assertion, and tell what its names are where it fails."""
    value = statements.expressions.evaluate(frame, node.condition)
    message = statements.expressions.evaluate(frame, node.message) if node.message is not None else ""
    if not isinstance(message, str):
        assert node.message is not None
        statements.report(
            frame,
            "wrong-type",
            f"an assertion's message is a string, and this is {describe_value(message)}",
            node.message.span,
        )
    if statements.expressions.truth(frame, value, node.condition.span):
        return
    bound = []
    for name in dict.fromkeys(names_in((node.condition,))):
        binding = frame.environment.bindings.get(name)
        # A size that is known by its own name alone says nothing.
        if binding is not None and not isinstance(binding.value, Value) and str(binding.value) != name:
            bound.append(f"`{name}` is {value_text(binding.value)}")
    statements.report(
        frame,
        "assertion-failed",
        message or "the assertion does not hold",
        node.condition.span,
        notes=[", ".join(bound)] if bound else (),
    )
