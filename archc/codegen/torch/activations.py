"""Activations as modules: a member of its own for each use of an activation.

By default an activation is a function in `forward`: `F.relu(x)`.  Methods such as guided backpropagation and DeepLift
register hooks on modules such as `nn.ReLU`, and are silently wrong if a module has several uses.  So each statement
with an activation gets a member: `self.relu1`, `self.relu2`.  The activations in a loop are the elements of a list.
The members have no weights, so the state dict does not change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence

from archc.codegen.outline.definitions import (
    BlockDefinition,
    BlockStep,
    Loop,
    Member,
    OperatorStep,
    Recurrence,
    Statement,
)
from archc.codegen.torch.names import is_reserved_member

Row = Sequence[OperatorStep]
"""Activations at one place of a body: one statement, or one of each iteration of a loop."""


def add_activations(
    definition: BlockDefinition, reserved: Collection[str], in_integers: Callable[[OperatorStep], bool]
) -> set[OperatorStep]:
    """Give each use of an activation in a definition a member of its own; return the statements.

    Changes the statements and loops in place.

    Args:
        reserved: names that the new members cannot have, besides the names of other members.
        in_integers: returns whether a statement is computed on integers.
    """
    steps = list(_steps(definition.body))
    activations = {
        step
        for step in steps
        if isinstance(step, OperatorStep)
        and not in_integers(step)
        and all(node.op.activation_module() is not None for node in step.nodes)
    }
    rows = list(_rows(definition.body, activations))
    unnamed = [(row, loop) for row, loop in rows if not _has_own_names(row)]
    renamed = {step for row, _ in unnamed for step in row}
    kept = (step.member.name for step in steps if step.member is not None and step not in renamed)
    taken = {*reserved, *(name.partition(".")[0] for name in kept)}
    counts = Counter(_wanted(row) for row, _ in unnamed)
    numbers: Counter[str] = Counter()
    for row, loop in unnamed:
        wanted = _wanted(row)
        name = next(name for name in _candidates(wanted, counts[wanted] > 1, numbers) if name not in taken)
        taken.add(name)
        if loop is None:
            row[0].member = Member(name)
            continue
        loop.activations += (name,)
        for number, step in enumerate(row):
            step.member = Member(f"{name}.{number}")
    return activations


def _steps(body: Sequence[Statement]) -> Iterator[OperatorStep | BlockStep]:
    """Yield the operators and block uses of a body, nested bodies included."""
    for statement in body:
        if isinstance(statement, (Loop, Recurrence)):
            for inner in statement.bodies:
                yield from _steps(inner)
        else:
            yield statement


def _rows(body: Sequence[Statement], activations: Collection[OperatorStep]) -> Iterator[tuple[Row, Loop | None]]:
    """Yield the activations at each place of a body, with their loop."""
    for statement in body:
        if isinstance(statement, Loop):
            iterations = [list(_steps(iteration)) for iteration in statement.iterations]
            for steps in zip(*iterations):
                row = [step for step in steps if isinstance(step, OperatorStep) and step in activations]
                if len(row) == len(iterations):
                    yield row, statement
                else:
                    yield from (([step], None) for step in row)
        elif isinstance(statement, Recurrence):
            yield from _rows(statement.body, activations)
        elif isinstance(statement, OperatorStep) and statement in activations:
            yield [statement], None


def _has_own_names(row: Row) -> bool:
    """Return whether the text names each of these activations, and uses none of them again."""
    names = {step.member.name for step in row if step.member is not None and not step.member.shared}
    return len(names) == len(row)


def _wanted(row: Row) -> str:
    """The preferred name of an activation: the name from the text, or the operator."""
    member = row[0].member
    parts = member.name.split(".") if member is not None else []
    return next((part for part in reversed(parts) if not part.isdecimal()), row[0].nodes[0].op.name)


def _candidates(wanted: str, several: bool, numbers: Counter[str]) -> Iterator[str]:
    """Yield names for an activation: `relu` for the only one, else `relu1`, `relu2` and so on.

    Args:
        numbers: the last number for each wanted name; it is advanced.
    """
    if not several and not is_reserved_member(wanted):
        yield wanted
    separator = "_" if wanted[-1:].isdigit() else ""
    while True:
        numbers[wanted] += 1
        yield f"{wanted}{separator}{numbers[wanted]}"
