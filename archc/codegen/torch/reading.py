"""Looking through the statements of a definition: which modules they need, which names they give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from archc.codegen.outline.alignment import is_argument
from archc.codegen.outline.program import Apply, Local, Loop, Recurrence, Statement, Use
from archc.codegen.torch.merge import placeholders
from archc.codegen.torch.names import identifier
from archc.codegen.torch.plans import Context
from archc.codegen.torch.steps import Repeat, Step
from archc.ir.graph import Node
from archc.operator.spelling import literal
from archc.types.attributes import attributes


def iterations(loop: Loop, instances: Sequence[int]) -> tuple[tuple[Statement, ...], ...]:
    """The iterations that some of these instances have."""
    return loop.iterations[: max(loop.counts[k] for k in instances)]


def module_paths(body: Sequence[Statement], context: Context, instances: Sequence[int]) -> Iterator[str]:
    """The paths of the members that are modules in some of these instances."""
    for statement in body:
        if isinstance(statement, (Loop, Recurrence)):
            for inner in iterations(statement, instances) if isinstance(statement, Loop) else statement.bodies:
                yield from module_paths(inner, context, instances)
        elif statement.member is not None and (isinstance(statement, Use) or context.modules_of(statement)):
            yield statement.member.name


def tensor_names(body: Sequence[Statement]) -> Iterator[str]:
    """The names that the text gives to tensors."""
    for statement in body:
        given = statement.enter.results if isinstance(statement, Recurrence) else ()
        for local in (*given, *statement.results):
            if local.name:
                yield identifier(local.name)
        if isinstance(statement, (Loop, Recurrence)):
            for inner in statement.bodies:
                yield from tensor_names(inner)


def attribute_names(nodes: Sequence[Node]) -> dict[tuple[str, ...], str]:
    """The attributes of an operator by their literals in all instances."""
    found: dict[tuple[str, ...], str] = {}
    for info in attributes(type(nodes[0].op)):
        values = [getattr(node.op, info.name) for node in nodes]
        if all(map(is_argument, values)):
            found.setdefault(tuple(literal(value) for value in values), info.name)
    return found


def steps_of(body: Sequence[Statement]) -> Iterator[Apply | Use]:
    """The statements of a body, and of the statements within it."""
    for statement in body:
        if isinstance(statement, (Loop, Recurrence)):
            for inner in statement.bodies:
                yield from steps_of(inner)
        else:
            yield statement


def texts_of(steps: Sequence[Step | Repeat]) -> list[str]:
    """The texts of steps, whatever their operands are called."""
    found = []
    for step in steps:
        if isinstance(step, Repeat):
            found += [step.targets, step.iterable, *texts_of(step.body)]
        else:
            found.append(step.spell(placeholders(len(step.operands))))
    return found


def results_of(steps: Sequence[Step | Repeat]) -> Iterator[Local]:
    """The results of steps, and of the steps within them."""
    for step in steps:
        yield from step.results
        if isinstance(step, Repeat):
            yield from results_of(step.body)
