"""Uses of a block that differ only in how often something in them repeats: one definition serves them all.

Every structure is folded: of what repeats, one iteration is left.  Structures that are equal then are versions of
the longest one of them.  Whoever writes the definition sees them as long as that one, their last iterations counted
again, and is told how long they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

from archc.codegen.outline.repetition import Row, Run, find_runs


@dataclass(frozen=True)
class Structure:
    """What is to be known of a use of a block.

    Attributes:
        block: whose use it is.
        rows: its statements; tensors are numbers: those made inside as they come, inputs below 0.
        outputs: what is used outside.
    """

    block: Hashable
    rows: Sequence[Row]
    outputs: Collection[int]


@dataclass(frozen=True)
class Stretch:
    """How a structure is made as long as another.

    Attributes:
        longest: the number of that other one.
        positions: for each of its statements, the own one that stands for it.
        lengths: how many elements the lists have whose layers repeat.
    """

    longest: int
    positions: tuple[int, ...]
    lengths: Mapping[str, int]


def stretches(structures: Sequence[Structure]) -> dict[int, Stretch]:
    """How to stretch those structures, by number, that have one length with others then."""
    alike: dict[Hashable, list[tuple[int, _Folded]]] = defaultdict(list)
    for number, structure in enumerate(structures):
        folded = _Folded(structure)
        alike[folded.key].append((number, folded))
    found: dict[int, Stretch] = {}
    for versions in alike.values():
        longest, model = max(versions, key=lambda version: len(version[1].rows))
        fitting = {number: counts for number, version in versions if (counts := version.counts_in(model)) is not None}
        for number, version in versions if len(fitting) > 1 else ():
            if number in fitting:
                lengths = {
                    name: run.first + count for run, count in zip(model.runs, fitting[number]) for name in run.lists
                }
                found[number] = Stretch(longest, version.positions(model, fitting[number]), lengths)
    return found


class _Folded:
    """A structure with one iteration of what repeats.

    Attributes:
        kept: the positions of its statements; key: what makes it equal to another.
        patterns: for each run, by where it starts in the folded structure, all that its iterations have in common.
    """

    def __init__(self, structure: Structure):
        self.rows = structure.rows
        self.runs = find_runs(self.rows, structure.outputs, ())
        self.kept = [position for position in range(len(self.rows)) if not self._is_repetition(position)]
        self.numbers = self._numbers()
        self.outputs = {self.numbers[number] for number in structure.outputs}
        rows = [self.rows[position] for position in self.kept]
        wiring = tuple(tuple(self._number(value) for value in row.operands) for row in rows)
        self.key = (structure.block, wiring, tuple((row.name, row.kind) for row in rows))
        starts = {position: number for number, position in enumerate(self.kept)}
        self.patterns = {starts[run.start]: (run.period, run.first, run.lists, self._slots(run)) for run in self.runs}

    def counts_in(self, model: _Folded) -> list[int] | None:
        """How often each run of an equal structure that is longer repeats here; None where something else does."""
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
        """For each statement of an equal structure that is longer, the one that stands for it."""
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
        """The tensors, numbered anew; what the last iteration of a run makes is what the one that is kept makes."""
        made = (value for position in self.kept for value in self.rows[position].results)
        found = {value: number for number, value in enumerate(made)}
        for run in self.runs:
            for row in range(run.period):
                last = self.rows[run.end - run.period + row].results
                found.update(zip(last, (found[value] for value in self.rows[run.start + row].results)))
        return found

    def _number(self, value: int) -> int:
        return value if value < 0 else self.numbers[value]

    def _slots(self, run: Run) -> Hashable:
        """Which operands are what an iteration hands on to the next, and what they are at first."""
        carried = [(row, result, self._number(value)) for row, result, value in run.carried]
        return frozenset((place, carried[slot]) for place, slot in run.slots.items())

    def _leaves_well(self, model: _Folded, run: Run) -> bool:
        """Whether nothing is used outside of what a run makes but what its iterations hand on."""
        carried = {(row, result) for row, result, _ in run.carried}
        for row in range(run.period):
            for result, value in enumerate(model.rows[run.start + row].results):
                if model.numbers[value] in self.outputs and (row, result) not in carried:
                    return False
        return True
