"""Repeated statements: `h.0`, `h.1`, … one after the other become a loop over the list `h`.

Iterations are alike in operators, wiring and names but for one running number, which starts at 0 and ends with the
last element of the list.  What an iteration reads is what came before the loop, its own, or what the iteration
before it made.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from archc.codegen.program import Apply, Definition, Local, Loop, Statement, Use
from archc.codegen.recurrences import balanced

Step = Apply | Use
Source = tuple[int, int, int]
"""Where an operand comes from: how many iterations ago, from which statement, and which of its results."""


@dataclass(eq=False)
class _Run:
    """A stretch of statements found to repeat.

    Attributes:
        start: its first statement; period: statements in an iteration; count: iterations.
        lists: the lists that the iterations run over.
        carried: for each tensor handed on: the statement and result that make it, and what it is at first.
        slots: which of `carried` an operand is, by statement and operand; others are read as they are.
    """

    start: int
    period: int
    count: int
    lists: tuple[str, ...]
    carried: dict[tuple[int, int, Local], int] = field(default_factory=dict)
    slots: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.start + self.period * self.count


def find_loops(definition: Definition, body: Sequence[Step], kinds: Sequence[Hashable]) -> None:
    """Give a definition its body, with what repeats in it as loops.

    Args:
        body: the statements; kinds: what must be equal for two of them to be alike, besides names and wiring.
    """
    runs = _Finder(definition, body, kinds).runs()
    _lay_out(definition, body, runs)


class _Finder:
    def __init__(self, definition: Definition, body: Sequence[Step], kinds: Sequence[Hashable]):
        self.body, self.kinds = body, kinds
        self.names = [step.member.name.split(".") if step.member is not None else None for step in body]
        self.produced = {local: (p, k) for p, step in enumerate(body) for k, local in enumerate(step.results)}
        self.last_use = {local: p for p, step in enumerate(body) for local in step.operands}
        self.last_use |= dict.fromkeys(definition.outputs, len(body))
        self.first: dict[tuple[str, ...], int] = {}
        self.largest: dict[tuple[str, ...], int] = {}
        for position, name in enumerate(self.names):
            if name is not None:
                self.first.setdefault(tuple(name), position)
                for k in _numbers(name):
                    prefix = tuple(name[:k])
                    self.largest[prefix] = max(self.largest.get(prefix, 0), int(name[k]))
        self.ties: dict[tuple[str, ...], dict[str, list[str]]] = {}
        for tie in definition.ties:
            parts = tie.weight.split(".")
            owner = next(k for k in range(len(parts), 0, -1) if tuple(parts[:k]) in self.first)
            self.ties.setdefault(tuple(parts[:owner]), {})[".".join(parts[owner:])] = tie.source.split(".")

    def runs(self) -> list[_Run]:
        found: list[_Run] = []
        position = free = 0
        while position < len(self.body):
            run = self._run_at(position, free)
            if run is None:
                position += 1
            else:
                found.append(run)
                position = free = run.end
        return found

    def _run_at(self, position: int, free: int) -> _Run | None:
        """A run whose first element of a list is at a position; it may begin earlier, where nothing is taken yet."""
        name = self.names[position]
        if name is None or self.first[tuple(name)] != position:
            return None
        for k in reversed([k for k in _numbers(name) if name[k] == "0"]):
            second = self.first.get((*name[:k], "1", *name[k + 1 :]), 0)
            if second <= position:
                continue
            period = second - position
            for start in range(position, max(free, position - period + 1) - 1, -1):
                run = self._run(start, period)
                if run is not None:
                    return run
        return None

    def _run(self, start: int, period: int) -> _Run | None:
        running = self._running(start, period)
        if running is None or not balanced(self.body[start : start + period]):
            return None
        most = (len(self.body) - start) // period
        count = 1 + sum(1 for _ in takewhile(lambda i: self._alike(start, period, i, running), range(1, most)))
        lists = {tuple((self.names[start + r] or [])[:k]): None for r, k in enumerate(running) if k is not None}
        if any(self.largest[prefix] != count - 1 for prefix in lists):
            return None
        run = _Run(start, period, count, tuple(".".join(prefix) for prefix in lists))
        return run if self._wire(run) else None

    # Names and kinds --------------------------------------------------------------------------------------

    def _running(self, start: int, period: int) -> list[int | None] | None:
        """Which part of each statement's name counts the iterations, judged by the first two; None if they differ."""
        running: list[int | None] = []
        for position in range(start, start + period):
            if position + period >= len(self.body) or self.kinds[position] != self.kinds[position + period]:
                return None
            name, other = self.names[position] or [], self.names[position + period] or []
            differing = [k for k, (part, counterpart) in enumerate(zip(name, other)) if part != counterpart]
            if len(name) != len(other) or len(differing) > 1:
                return None
            running.append(differing[0] if differing else None)
        iteration = self._alike(start, period, 1, running)
        return running if iteration and any(k is not None for k in running) else None

    def _alike(self, start: int, period: int, iteration: int, running: list[int | None]) -> bool:
        """Whether an iteration is like the first one, but for its number in the names."""
        for row, k in enumerate(running):
            position = start + row
            other = position + iteration * period
            if self.kinds[position] != self.kinds[other]:
                return False
            name, counterpart = self.names[position] or [], self.names[other] or []
            if counterpart != (name if k is None else [*name[:k], str(iteration), *name[k + 1 :]]):
                return False
            if k is not None and (name[k] != "0" or not self._tied_alike(name, counterpart, iteration)):
                return False
        return True

    def _tied_alike(self, name: list[str], counterpart: list[str], iteration: int) -> bool:
        ties, others = self.ties.get(tuple(name), {}), self.ties.get(tuple(counterpart), {})
        if ties.keys() != others.keys():
            return False
        for weight, source in ties.items():
            other = others[weight]
            differing = [pair for pair in zip(source, other) if pair[0] != pair[1]]
            if len(source) != len(other) or differing not in ([], [("0", str(iteration))]):
                return False
        return True

    # Wiring -----------------------------------------------------------------------------------------------

    def _wire(self, run: _Run) -> bool:
        """Find what is handed on from iteration to iteration; False where the wiring is no loop's."""
        pattern = [self._sources(run, 1, row) for row in range(run.period)]
        for iteration in range(2, run.count):
            if any(self._sources(run, iteration, row) != pattern[row] for row in range(run.period)):
                return False
        for row, sources in enumerate(pattern):
            for slot, (source, first) in enumerate(zip(sources, self._sources(run, 0, row))):
                if source is None or first is None:
                    return False
                if isinstance(source, Local) or source[0] == 0:
                    if source != first:
                        return False
                    continue
                if not isinstance(first, Local):
                    return False
                key = (source[1], source[2], first)
                run.slots[row, slot] = run.carried.setdefault(key, len(run.carried))
        return self._leaves_well(run)

    def _sources(self, run: _Run, iteration: int, row: int) -> list[Source | Local | None]:
        """Where a statement's operands come from; None for what no loop can reach."""
        found: list[Source | Local | None] = []
        for local in self.body[run.start + iteration * run.period + row].operands:
            position, result = self.produced.get(local, (-1, 0))
            if position < run.start:
                found.append(local)
                continue
            made_in, statement = divmod(position - run.start, run.period)
            age = iteration - made_in
            found.append((age, statement, result) if age in (0, 1) else None)
        return found

    def _leaves_well(self, run: _Run) -> bool:
        """Whether nothing is read after the run but what its last iteration hands on."""
        handed_on = {(row, result) for row, result, _ in run.carried}
        for position in range(run.start, run.end):
            iteration, row = divmod(position - run.start, run.period)
            for result, local in enumerate(self.body[position].results):
                if self.last_use.get(local, -1) < run.end:
                    continue
                if iteration != run.count - 1 or (row, result) not in handed_on:
                    return False
        return True


def _numbers(name: Sequence[str]) -> Iterator[int]:
    """The parts of a name that number the elements of a list."""
    return (k for k, part in enumerate(name) if k > 0 and part.isdecimal())


def _lay_out(definition: Definition, body: Sequence[Step], runs: Sequence[_Run]) -> None:
    statements: list[Statement] = []
    renamed: dict[Local, Local] = {}
    position = 0
    for run in runs:
        statements += [_reading(step, renamed) for step in body[position : run.start]]
        statements.append(_loop(run, body, renamed))
        position = run.end
    statements += [_reading(step, renamed) for step in body[position:]]
    definition.body = tuple(statements)
    definition.outputs = tuple(renamed.get(local, local) for local in definition.outputs)


def _reading(step: Step, renamed: dict[Local, Local]) -> Step:
    step.operands = tuple(renamed.get(local, local) for local in step.operands)
    return step


def _loop(run: _Run, body: Sequence[Step], renamed: dict[Local, Local]) -> Loop:
    """The loop that stands for a run; what it leaves behind is entered into `renamed`."""
    iterations = [body[start : start + run.period] for start in range(run.start, run.end, run.period)]
    yields = [tuple(steps[row].results[result] for row, result, _ in run.carried) for steps in iterations]
    first = tuple(renamed.get(local, local) for _, _, local in run.carried)
    parameters: list[tuple[Local, ...]] = []
    for number, steps in enumerate(iterations):
        entering = yields[number - 1] if number else first
        # A tensor that changes from iteration to iteration has one name throughout.
        own = tuple(
            Local(local.type, made.name or start.name) for local, made, start in zip(entering, yields[0], first)
        )
        parameters.append(own)
        for row, step in enumerate(steps):
            step.operands = tuple(
                own[run.slots[row, slot]] if (row, slot) in run.slots else renamed.get(local, local)
                for slot, local in enumerate(step.operands)
            )
    results = tuple(Local(local.type, local.name or own.name) for local, own in zip(yields[-1], parameters[-1]))
    for local, result in zip(yields[-1], results):
        renamed.setdefault(local, result)
    return Loop(
        run.lists, tuple(tuple(steps) for steps in iterations), first, tuple(parameters), tuple(yields), results
    )
