"""Reference solver: a dynamic program over all downsets, without optimizations.

A downset is a set of tasks that contains every producer of its members.
"""

from __future__ import annotations

import math
from functools import cache

from archc.partitioning import Problem
from archc.partitioning.problem import measure_stages


def least_bottleneck(problem: Problem) -> float:
    """Return the least bottleneck of all splits over devices of one kind; devices may stay idle."""
    edges = [(t.producer, task) for t in problem.tensors if t.producer is not None for task in t.consumers]
    count = len(problem.tasks)
    needs = [frozenset(a for a, b in edges if b == task) for task in range(count)]
    empty, whole = frozenset[int](), frozenset(range(count))

    found, todo = {empty}, [empty]
    while todo:
        downset = todo.pop()
        for task in whole - downset:
            larger = downset | {task}
            if needs[task] <= downset and larger not in found:
                found.add(larger)
                todo.append(larger)

    @cache
    def load(low: frozenset[int], high: frozenset[int]) -> float:
        # The load of a stage does not depend on the division of other tasks: one stage before and one after suffice.
        parts = [part for part in (low, high - low, whole - high) if part]
        here = parts.index(high - low)
        return measure_stages(problem, [sorted(part) for part in parts], [0] * len(parts), [0] * len(parts))[here].load

    best = {empty: 0.0}
    for _ in range(problem.kinds[0].count):
        reached = dict(best)
        for high in found:
            below = [max(value, load(low, high)) for low, value in best.items() if low < high]
            reached[high] = min([*below, reached.get(high, math.inf)])
        best = reached
    return best[whole]
