"""Find repeated statements (layers `h.0`, `h.1`, …), and compare them between uses of a block.

Iterations have equal operators, wiring and names, except for one number in the names.  This number is the index of an
element of a list of layers: 0 in `h.0`, 1 in `h.1`.  Statements are a repetition only if the iterations reach the last
element of the list.  The operands of an iteration are values from before the loop, results of the same iteration, or
results of the previous iteration.

Uses of a block that differ only in the number of iterations share one definition.  To find such uses, each repetition
is folded to one iteration.  Uses that are equal after folding are extended to the length of the longest use
(`extensions`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, NamedTuple

from archc.codegen.outline.definitions import Tie
from archc.frozen_dataclass import frozen_dataclass

_PATIENCE = 4
"""Number of failed attempts to find a repetition over a list, after which the list is skipped.

Each attempt takes time linear in the length of the list.
"""

ValueKey = Any
"""Any hashable identifier of a tensor."""
OperandSource = tuple[int, int, int]
"""Origin of an operand: age in iterations, statement in the iteration, and position of the result.

The age is 0 for a result of the same iteration, and 1 for a result of the previous iteration.
"""


class StepSummary(NamedTuple):
    """The properties of a statement that determine whether it is repeated.

    Attributes:
        name: the name of its layer, if it has one.
        kind: a key, equal for statements that differ only in names and wiring.
        end: `enter` or `exit` for the ends of a scan, else empty.
    """

    name: str | None
    kind: Hashable
    operands: Sequence[ValueKey]
    results: Sequence[ValueKey]
    end: str = ""


@dataclass(eq=False)
class Repetition:
    """A range of statements that repeats.

    Attributes:
        start: the position of the first statement.
        period: the number of statements in an iteration.
        count: the number of iterations.
        first: the number in the names of the first iteration.
        lists: the names of the lists of layers over which the iterations run.
        carried: the indices of the carried tensors, which each iteration passes to the next iteration.  The key of a
            tensor is the statement that computes the tensor, the position of the result, and the initial value.
        slots: maps the place of an operand that is a carried tensor to the index of the carried tensor.  A place is a
            statement and the position of the operand.
    """

    start: int
    period: int
    count: int
    first: int
    lists: tuple[str, ...]
    carried: dict[tuple[int, int, ValueKey], int] = field(default_factory=dict)
    slots: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The position after the last statement."""
        return self.start + self.period * self.count


class _Before(NamedTuple):
    """An operand from before a repetition."""

    value: ValueKey


def find_repetitions(
    rows: Sequence[StepSummary], outputs: Collection[ValueKey], ties: Iterable[Tie]
) -> list[Repetition]:
    """The repetitions in a list of statements, in order and disjoint.

    Args:
        outputs: the values used after the statements.
        ties: the tied weights.
    """
    return _Finder(rows, outputs, ties).runs()


class _Finder:
    def __init__(self, rows: Sequence[StepSummary], outputs: Collection[ValueKey], ties: Iterable[Tie]):
        self.rows = rows
        self.names = [row.name.split(".") if row.name is not None else None for row in rows]
        self.produced = {value: (p, k) for p, row in enumerate(rows) for k, value in enumerate(row.results)}
        self.last_use = {value: p for p, row in enumerate(rows) for value in row.operands}
        self.last_use |= dict.fromkeys(outputs, len(rows))
        self.first: dict[tuple[str, ...], int] = {}
        self.numbers: dict[tuple[str, ...], set[str]] = defaultdict(set)  # the elements of each list
        for position, name in enumerate(self.names):
            if name is not None:
                self.first.setdefault(tuple(name), position)
                for k in _numbers(name):
                    self.numbers[tuple(name[:k])].add(name[k])
        self.failures: Counter[tuple[str, ...]] = Counter()  # number of failed attempts, by list
        self.ties: dict[tuple[str, ...], dict[str, list[str]]] = {}
        for tie in ties:
            parts = tie.weight.split(".")
            owner = next(k for k in range(len(parts), 0, -1) if tuple(parts[:k]) in self.first)
            self.ties.setdefault(tuple(parts[:owner]), {})[".".join(parts[owner:])] = tie.source.split(".")

    def runs(self) -> list[Repetition]:
        """All repetitions, from the first statement on."""
        found: list[Repetition] = []
        position = free = 0
        while position < len(self.rows):
            run = self._run_at(position, free)
            if run is None:
                position += 1
            else:
                found.append(run)
                position = free = run.end
        return found

    def _run_at(self, position: int, free: int) -> Repetition | None:
        """A repetition that begins at `free` or later, and whose first iteration contains `position`; or None."""
        name = self.names[position]
        if name is None or self.first[tuple(name)] != position:
            return None
        for k in reversed(list(_numbers(name))):
            second = self.first.get((*name[:k], str(int(name[k]) + 1), *name[k + 1 :]), 0)
            if second <= position or self.failures[tuple(name[:k])] >= _PATIENCE:
                continue
            period = second - position
            for start in range(position, max(free, position - period + 1) - 1, -1):
                run = self._run(start, period, int(name[k]))
                if run is not None:
                    return run
        return None

    def _run(self, start: int, period: int, first: int) -> Repetition | None:
        running = self._running(start, period, first)
        if running is None or not _balanced(self.rows[start : start + period]):
            return None
        most = (len(self.rows) - start) // period
        count = 1 + sum(1 for _ in takewhile(lambda i: self._alike(start, period, i, running, first), range(1, most)))
        lists = {tuple((self.names[start + r] or [])[:k]): None for r, k in enumerate(running) if k is not None}
        run = Repetition(start, period, count, first, tuple(".".join(prefix) for prefix in lists))
        numbers = {str(number) for number in range(first + count)}
        if all(self.numbers[prefix] == numbers for prefix in lists) and self._wire(run):
            return run
        self.failures.update(list(lists))
        return None

    # Names and kinds --------------------------------------------------------------------------------------

    def _running(self, start: int, period: int, first: int) -> list[int | None] | None:
        """For each name of an iteration, the position of the part that numbers the iterations: 1 in `h.0.fc`.

        A name without such a part has None.  The result is None if the first two iterations also differ elsewhere.
        """
        running: list[int | None] = []
        for position in range(start, start + period):
            if position + period >= len(self.rows) or self.rows[position].kind != self.rows[position + period].kind:
                return None
            name, other = self.names[position] or [], self.names[position + period] or []
            differing = [k for k, (part, counterpart) in enumerate(zip(name, other)) if part != counterpart]
            if len(name) != len(other) or len(differing) > 1:
                return None
            running.append(differing[0] if differing else None)
        iteration = self._alike(start, period, 1, running, first)
        return running if iteration and any(k is not None for k in running) else None

    def _alike(self, start: int, period: int, iteration: int, running: list[int | None], first: int) -> bool:
        """Return whether an iteration equals the first one, except for its number in the names."""
        for row, k in enumerate(running):
            position = start + row
            other = position + iteration * period
            if self.rows[position].kind != self.rows[other].kind:
                return False
            name, counterpart = self.names[position] or [], self.names[other] or []
            if counterpart != (name if k is None else [*name[:k], str(first + iteration), *name[k + 1 :]]):
                return False
            numbers = (str(first), str(first + iteration))
            if k is not None and (name[k] != numbers[0] or not self._tied_alike(name, counterpart, numbers)):
                return False
        return True

    def _tied_alike(self, name: list[str], counterpart: list[str], numbers: tuple[str, str]) -> bool:
        ties, others = self.ties.get(tuple(name), {}), self.ties.get(tuple(counterpart), {})
        if ties.keys() != others.keys():
            return False
        for weight, source in ties.items():
            other = others[weight]
            differing = [pair for pair in zip(source, other) if pair[0] != pair[1]]
            if len(source) != len(other) or differing not in ([], [numbers]):
                return False
        return True

    # Wiring -----------------------------------------------------------------------------------------------

    def _wire(self, run: Repetition) -> bool:
        """Find the carried tensors; return False if the wiring is not that of a loop."""
        pattern = [self._sources(run, 1, row) for row in range(run.period)]
        for iteration in range(2, run.count):
            if any(self._sources(run, iteration, row) != pattern[row] for row in range(run.period)):
                return False
        for row, sources in enumerate(pattern):
            for slot, (source, first) in enumerate(zip(sources, self._sources(run, 0, row))):
                if source is None or first is None:
                    return False
                if isinstance(source, _Before) or source[0] == 0:
                    if source != first:
                        return False
                    continue
                if not isinstance(first, _Before):
                    return False
                key = (source[1], source[2], first.value)
                run.slots[row, slot] = run.carried.setdefault(key, len(run.carried))
        return self._leaves_well(run)

    def _sources(self, run: Repetition, iteration: int, row: int) -> list[OperandSource | _Before | None]:
        """The origins of a statement's operands; None for an operand that a loop cannot carry."""
        found: list[OperandSource | _Before | None] = []
        for value in self.rows[run.start + iteration * run.period + row].operands:
            position, result = self.produced.get(value, (-1, 0))
            if position < run.start:
                found.append(_Before(value))
                continue
            made_in, statement = divmod(position - run.start, run.period)
            age = iteration - made_in
            found.append((age, statement, result) if age in (0, 1) else None)
        return found

    def _leaves_well(self, run: Repetition) -> bool:
        """Return whether only carried tensors of the last iteration have uses after the repetition."""
        handed_on = {(row, result) for row, result, _ in run.carried}
        for position in range(run.start, run.end):
            iteration, row = divmod(position - run.start, run.period)
            for result, value in enumerate(self.rows[position].results):
                if self.last_use.get(value, -1) < run.end:
                    continue
                if iteration != run.count - 1 or (row, result) not in handed_on:
                    return False
        return True


def _numbers(name: Sequence[str]) -> Iterator[int]:
    """Positions of the parts of a name that are list indices."""
    return (k for k, part in enumerate(name) if k > 0 and part.isdecimal())


def _balanced(rows: Iterable[StepSummary]) -> bool:
    """Return whether statements have both ends of each scan, or neither."""
    depth = 0
    for row in rows:
        depth += {"enter": 1, "exit": -1, "": 0}[row.end]
        if depth < 0:
            return False
    return depth == 0


@frozen_dataclass
class StepSequence:
    """The statements of one use of a block.

    Attributes:
        block: the name of the block.
        rows: the statements; tensors are numbers: results from 0 in order, inputs below 0.  The kinds are those of
            iterations of a loop.
        kinds: for each statement, a key that is equal for the corresponding statement of another use.  The statements
            of two uses may differ in constants that the iterations of a loop share.
        outputs: the tensors with uses outside the block.
    """

    block: Hashable
    rows: Sequence[StepSummary]
    kinds: Sequence[Hashable]
    outputs: Collection[int]


@frozen_dataclass
class Extension:
    """The extension of a step sequence to the length of the longest one.

    Attributes:
        longest: the index of the longest sequence.
        positions: for each statement of the longest sequence, the position of the corresponding statement in this
            sequence.
        lengths: the lengths, in this sequence, of the lists of layers that repeat.
    """

    longest: int
    positions: tuple[int, ...]
    lengths: Mapping[str, int]


def extensions(structures: Sequence[StepSequence]) -> dict[int, Extension]:
    """Extensions of the sequences that differ from another sequence only in length.

    Returns:
        The extension of each such sequence, by the position of the sequence in `structures`.
    """
    alike: dict[Hashable, list[tuple[int, _Folded]]] = defaultdict(list)
    for number, structure in enumerate(structures):
        folded = _Folded(structure)
        alike[folded.key].append((number, folded))
    found: dict[int, Extension] = {}
    for versions in alike.values():
        longest, model = max(versions, key=lambda version: len(version[1].rows))
        fitting = {number: counts for number, version in versions if (counts := version.counts_in(model)) is not None}
        for number, version in versions if len(fitting) > 1 else ():
            if number in fitting:
                lengths = {
                    name: run.first + count for run, count in zip(model.runs, fitting[number]) for name in run.lists
                }
                found[number] = Extension(longest, version.positions(model, fitting[number]), lengths)
    return found


class _Folded:
    """A step sequence with one iteration of each repetition.

    Attributes:
        kept: the positions of the statements that are kept.
        key: equal for sequences that are equal after folding.
        patterns: for each repetition, by its start in the folded sequence, the properties that do not depend on the
            number of iterations.
    """

    def __init__(self, structure: StepSequence):
        self.rows = structure.rows
        self.runs = find_repetitions(self.rows, structure.outputs, ())
        self.kept = [position for position in range(len(self.rows)) if not self._is_repetition(position)]
        self.numbers = self._numbers()
        self.outputs = {self.numbers[number] for number in structure.outputs}
        rows = [self.rows[position] for position in self.kept]
        wiring = tuple(tuple(self._number(value) for value in row.operands) for row in rows)
        named = tuple((self.rows[position].name, structure.kinds[position]) for position in self.kept)
        self.key = (structure.block, wiring, named)
        starts = {position: number for number, position in enumerate(self.kept)}
        self.patterns = {starts[run.start]: (run.period, run.first, run.lists, self._slots(run)) for run in self.runs}

    def counts_in(self, model: _Folded) -> list[int] | None:
        """The iteration count of each repetition of `model` in this sequence; None if the two do not match."""
        if any(model.patterns.get(start) != pattern for start, pattern in self.patterns.items()):
            return None
        counts = []
        own = dict(zip(self.patterns, self.runs))
        for start, run in zip(model.patterns, model.runs):
            count = own[start].count if start in own else 1
            if count > run.count or not self._leaves_well(model, run):
                return None
            counts.append(count)
        return counts

    def positions(self, model: _Folded, counts: Sequence[int]) -> tuple[int, ...]:
        """For each statement of a longer sequence, the position of the corresponding statement in this one."""
        found: list[int] = []
        folded = 0
        for start, run, count in zip(model.patterns, model.runs, counts):
            found += self.kept[folded:start]
            for iteration in range(run.count):
                begin = self.kept[start] + min(iteration, count - 1) * run.period
                found += range(begin, begin + run.period)
            folded = start + run.period
        return (*found, *self.kept[folded:])

    def _is_repetition(self, position: int) -> bool:
        return any(run.start + run.period <= position < run.end for run in self.runs)

    def _numbers(self) -> dict[int, int]:
        """New numbers of the tensors.

        A result of the last iteration gets the number of the same result of the kept iteration.
        """
        made = (value for position in self.kept for value in self.rows[position].results)
        found = {value: number for number, value in enumerate(made)}
        for run in self.runs:
            for row in range(run.period):
                last = self.rows[run.end - run.period + row].results
                found.update(zip(last, (found[value] for value in self.rows[run.start + row].results)))
        return found

    def _number(self, value: int) -> int:
        return value if value < 0 else self.numbers[value]

    def _slots(self, run: Repetition) -> Hashable:
        """The carried operands with their origins and initial values, as a key."""
        carried = [(row, result, self._number(value)) for row, result, value in run.carried]
        return frozenset((place, carried[slot]) for place, slot in run.slots.items())

    def _leaves_well(self, model: _Folded, run: Repetition) -> bool:
        """Return whether only carried tensors of a repetition have uses outside the block."""
        carried = {(row, result) for row, result, _ in run.carried}
        for row in range(run.period):
            for result, value in enumerate(model.rows[run.start + row].results):
                if model.numbers[value] in self.outputs and (row, result) not in carried:
                    return False
        return True
