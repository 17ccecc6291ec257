"""Topological orders; the prefixes of one are a chain of downsets, and the best split along it is easy to find."""

from __future__ import annotations

from collections import deque

from archc.partitioning.dag import Dag


def orders(dag: Dag) -> list[list[int]]:
    """A few different topological orders, the dag's own first: depth and breadth first, from the front and the back."""
    found = [list(range(len(dag)))]
    for deep in True, False:
        found.append(_sorted(dag.predecessors, dag.successors, deep))
        found.append(_sorted(dag.successors, dag.predecessors, deep)[::-1])
    return [order for number, order in enumerate(found) if order not in found[:number]]


def _sorted(before: list[list[int]], after: list[list[int]], deep: bool) -> list[int]:
    """What becomes ready last comes next (deep), or what has been ready longest."""
    waiting = [len(groups) for groups in before]
    ready = deque(group for group, count in enumerate(waiting) if not count)
    order = []
    while ready:
        group = ready.pop() if deep else ready.popleft()
        order.append(group)
        for successor in after[group]:
            waiting[successor] -= 1
            if not waiting[successor]:
                ready.append(successor)
    return order
