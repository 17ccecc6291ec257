"""Reference solver: tries every assignment of tasks to stages and devices."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from archc.partitioning import Problem, SharedMemory, Task


@dataclass(frozen=True)
class Placed:
    """Split of a problem: the tasks and the device kind of each stage."""

    problem: Problem
    stages: tuple[frozenset[int], ...]
    kinds: tuple[int, ...]

    def load(self, stage: int) -> float:
        """Return the load of a stage: the work of its tasks plus the time to receive and to send tensors."""
        kind, tasks = self.kinds[stage], self.stages[stage]
        before = frozenset().union(*self.stages[:stage])
        after = frozenset().union(*self.stages[stage + 1 :])
        load = sum(self.problem.tasks[task].work[kind] for task in tasks)
        for tensor in self.problem.tensors:
            consumers = set(tensor.consumers)
            is_input = tensor.producer is None
            if self.problem.relayed:
                made_before = is_input or tensor.producer in before
                made_by_now = made_before or tensor.producer in tasks
                receives = made_before and (consumers & (tasks | after) or tensor.output)
                sends = made_by_now and (consumers & after or tensor.output)
            else:
                receives = tensor.producer not in tasks and consumers & tasks
                sends = tensor.producer in tasks and (consumers - tasks or tensor.output)
            load += tensor.time[kind] * (bool(receives) + bool(sends))
        return load

    def fits(self, stage: int) -> bool:
        """Return whether the device of a stage can run all its tasks and has enough memory for them."""
        kind, tasks = self.kinds[stage], self.stages[stage]
        memory = sum(self.problem.tasks[task].memory for task in tasks)
        memory += sum(shared.memory for shared in self.problem.shared if tasks.intersection(shared.tasks))
        able = all(self.problem.tasks[task].work[kind] < float("inf") for task in tasks)
        return able and memory <= self.problem.kinds[kind].memory

    def holds(self, item: Task | SharedMemory, stage: int) -> bool:
        """Return whether a task, or any task that uses a shared memory, is in a stage."""
        if isinstance(item, SharedMemory):
            return bool(self.stages[stage].intersection(item.tasks))
        return self.problem.tasks.index(item) in self.stages[stage]


def splits(problem: Problem) -> Iterator[Placed]:
    """Yield all splits, including those that exceed the memory of a device."""
    devices = len(problem.order) if problem.order is not None else sum(kind.count for kind in problem.kinds)
    counts = [devices] if problem.all_used else range(1, min(devices, len(problem.tasks)) + 1)
    for count in counts:
        sequences = _sequences(problem, count)
        for numbers in _monotone(problem, count):
            stages = tuple(frozenset(t for t, number in enumerate(numbers) if number == s) for s in range(count))
            for kinds in sequences:
                yield Placed(problem, stages, kinds)


def _sequences(problem: Problem, count: int) -> list[tuple[int, ...]]:
    """Return all possible sequences of device kinds for `count` stages."""
    if problem.order is not None:
        return sorted(set(itertools.combinations(problem.order, count)))
    pool = [kind for kind, kinds in enumerate(problem.kinds) for _ in range(kinds.count)]
    return sorted(set(itertools.permutations(pool, count)))


def _monotone(problem: Problem, count: int) -> Iterator[tuple[int, ...]]:
    """Yield the stage numbers of all tasks, for each division into `count` stages that are not empty.

    A consumer is never in an earlier stage than its producer.  Tasks that must share a device share a stage.
    """
    edges = [(t.producer, c) for t in problem.tensors if t.producer is not None for c in t.consumers]
    together = [
        (one, two)
        for one, two in itertools.combinations(range(len(problem.tasks)), 2)
        if problem.tasks[one].together is not None and problem.tasks[one].together == problem.tasks[two].together
    ]

    def extend(numbers: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        task = len(numbers)
        if task == len(problem.tasks):
            if len(set(numbers)) == count:
                yield numbers
            return
        low = max([numbers[a] for a, b in edges if b == task and a < task], default=0)
        high = min([numbers[b] for a, b in edges if a == task and b < task], default=count - 1)
        for number in range(low, high + 1):
            if task in problem.first and number:
                continue
            if all(numbers[one] == number for one, two in together if two == task):
                yield from extend((*numbers, number))

    return extend(())


def least_bottleneck(problem: Problem) -> float | None:
    """Return the least bottleneck of all splits that fit the devices; None if no split fits."""
    best = None
    for placed in splits(problem):
        stages = range(len(placed.stages))
        if all(map(placed.fits, stages)):
            bottleneck = max(map(placed.load, stages))
            best = bottleneck if best is None else min(best, bottleneck)
    return best
