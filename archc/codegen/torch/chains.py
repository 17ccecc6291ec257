"""Modules below one name that are called one after the other: `fc1.a`, then `fc1.b`.  They make an `nn.Sequential`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from archc.codegen.outline.program import Apply, Loop, Recurrence, Statement, Use
from archc.codegen.torch.names import CONTAINER_MEMBERS, is_attribute

Chain = list[Apply | Use]


def find_chains(
    body: Sequence[Statement], modules: Iterable[str], callable_alone: Callable[[Apply | Use], bool]
) -> dict[Statement, Chain]:
    """The chains of a definition by their first statements, or the loops that they are; those within loops included.

    Args:
        modules: the paths of all modules of the definition.
        callable_alone: whether a statement's module takes nothing but the statement's operand.
    """
    inside: dict[str, set[str]] = defaultdict(set)
    for path in modules:
        parts = path.split(".")
        for length in range(1, len(parts)):
            inside[".".join(parts[:length])].add(path)
    found: dict[Statement, Chain] = {}
    for statements in _bodies(body):
        position = 0
        while position < len(statements):
            chain = _chain_at(statements, position, inside, callable_alone)
            if chain:
                found[statements[position]] = chain
            position += max(1, len(chain)) if not isinstance(statements[position], Loop) else 1
    return found


def container(chain: Chain) -> str:
    """The path of what the modules of a chain stand in."""
    assert chain[0].member is not None
    return chain[0].member.name.rpartition(".")[0]


def _bodies(body: Sequence[Statement]) -> Iterator[Sequence[Statement]]:
    yield body
    for statement in body:
        if isinstance(statement, (Loop, Recurrence)):
            for inner in statement.bodies:
                yield from _bodies(inner)


def _chain_at(
    body: Sequence[Statement],
    position: int,
    inside: dict[str, set[str]],
    callable_alone: Callable[[Apply | Use], bool],
) -> Chain:
    """The chain that begins at a position: all that is in one container; else nothing."""
    first = body[position]
    if isinstance(first, Loop):
        return _chain_of(first, inside, callable_alone)
    if isinstance(first, Recurrence) or first.member is None or "." not in first.member.name:
        return []
    wanted = inside[container([first])]
    chain: Chain = []
    for statement in body[position : position + len(wanted)]:
        if isinstance(statement, (Loop, Recurrence)) or statement.member is None or statement.member.name not in wanted:
            return []
        if statement.member.shared or len(statement.operands) != 1 or len(statement.results) != 1:
            return []
        if chain:
            (before,) = chain[-1].results
            if statement.operands[0] is not before or before.uses != 1 or before.name is not None:
                return []
        if not callable_alone(statement):
            return []
        chain.append(statement)
    return chain if len(chain) == len(wanted) > 1 and _in_line(chain) else []


def _chain_of(loop: Loop, inside: dict[str, set[str]], callable_alone: Callable[[Apply | Use], bool]) -> Chain:
    """The chain that a loop's iterations are, if the text has them so: without a name for what one gives the next."""
    if loop.first or loop.counts.count(loop.count) < len(loop.counts) or len(loop.carried) != 1:
        return []
    if any(local.name is not None for (local,) in loop.yields[:-1]):
        return []
    chain: Chain = []
    for iteration, parameters, yields in zip(loop.iterations, loop.parameters, loop.yields):
        statement = iteration[0]
        if len(iteration) > 1 or isinstance(statement, (Loop, Recurrence)) or statement.member is None:
            return []
        if statement.member.shared or statement.operands != parameters or statement.results != yields:
            return []
        if not callable_alone(statement):
            return []
        chain.append(statement)
    names = {statement.member.name for statement in chain if statement.member is not None}
    return chain if inside[container(chain)] == names and _in_line(chain) else []


def _in_line(chain: Chain) -> bool:
    """Whether an `nn.Sequential` can hold the modules of a chain by these names, and calls them in this order."""
    prefix = f"{container(chain)}."
    names = [statement.member.name.removeprefix(prefix) for statement in chain if statement.member is not None]
    if names == [str(number) for number in range(len(names))]:
        return True
    return all(is_attribute(name) and name not in CONTAINER_MEMBERS for name in names)
