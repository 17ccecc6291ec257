"""Laying out the steps of a scan: `scan x_t in x, h = h0 { ... yield y = ... }`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from archc.codegen.outline.program import Local, Recurrence, Statement, read_by
from archc.language.printing import spelling
from archc.language.printing.spelling import NOWHERE
from archc.language.syntax import tree

if TYPE_CHECKING:
    from archc.language.printing.layout import Layout


def lay_out_scan(layout: Layout, scan: Recurrence) -> None:
    """Add the statement of a scan to a definition."""
    parts: list[tree.Each | tree.State] = []
    sequences = [layout.value_of(local) for local in scan.sequences]
    starts = [layout.value_of(local) for local in scan.first_states]
    names: list[str] = []
    for local, value in zip(scan.items, sequences):
        names.append(layout.choose(local.name, local, names))
        parts.append(tree.Each(NOWHERE, spelling.name(names[-1]), value))
    states: list[str] = []
    for local, last, value in zip(scan.states, scan.last_states, starts):
        states.append(layout.choose(local.name or last.name, None, [*names, *states]))
        parts.append(tree.State(NOWHERE, spelling.name(states[-1]), value))
    for local, name in zip(scan.items, names):
        layout.bind(local, name)
    for local, name in zip(scan.states, states):
        layout.bind(local, name, local.uses - 1)  # the end of the step reads it too, which is no text
    layout.written.append(scan.enter)
    outside, layout.body = layout.body, []
    for local, name, state in reversed(list(zip(scan.next_states, states, scan.states))):
        layout.wanted[local] = local.name if _reads_later(scan, local, state) else name
    for local in scan.kept:
        layout.readers[local] = scan.exit
    layout.add_statements(scan.body)
    _lay_out_yields(layout, scan, states)
    layout.hand_on(scan.next_states, states)
    layout.written.append(scan.exit)
    outside.append(tree.ScanStatement(NOWHERE, tuple(parts), tuple(layout.body)))
    layout.body = outside
    for local, name in zip(scan.last_states, states):
        layout.bind(local, name)


def _lay_out_yields(layout: Layout, scan: Recurrence, states: list[str]) -> None:
    """Add what is kept of a step; the names that it is kept under are taken from then on."""
    taken: list[str] = []
    for kept, stacked in zip(scan.kept, scan.stacked):
        value = layout.value_of(kept)
        name = layout.choose(stacked.name, stacked, [*states, *taken])
        taken.append(name)
        layout.body.append(tree.Yield(NOWHERE, spelling.name(name), value))
    for stacked, name in zip(scan.stacked, taken):
        layout.bind(stacked, name)


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
