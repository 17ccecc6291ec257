"""Feasibility check before the search, with a message that names the task that fits no device."""

from __future__ import annotations

import math

from archc.partitioning.problem import DeviceKind, Infeasible, SharedMemory, Task
from archc.partitioning.task_graph import TaskGraph


def check_feasible(graph: TaskGraph) -> None:
    """Check that each group fits some device, and that all devices together can hold all groups.

    A group consists of tasks that must share a device.

    Raises:
        Infeasible: the check fails.  If a group fits no device, `culprit` is the first of these items that exists:

            1. a task of the group that no device can run;
            2. a task or a tied weight (`SharedMemory`) of the group that fits no device even alone;
            3. the largest task of the group.

            If each group fits some device, `culprit` is None.
    """
    problem = graph.problem
    order = problem.order
    counts = [kind.count if order is None else order.count(number) for number, kind in enumerate(problem.kinds)]
    kinds = [number for number, count in enumerate(counts) if count]
    if not kinds:
        raise Infeasible("the problem has no device")
    needs = graph.memory.copy()
    for groups, size in graph.shared.items():
        needs[list(groups)] += size
    for group in range(len(graph)):
        # If devices have an order and all are used, the first stage is on the first device.
        bound = [order[0]] if order and problem.all_used and group == graph.first else kinds
        able = [kind for kind in bound if math.isfinite(graph.work[group, kind])]
        if not able or needs[group] > max(problem.kinds[kind].memory for kind in able):
            raise _misfit(graph, group, bound, float(needs[group]))
    if problem.all_used and sum(counts) > len(graph):
        raise Infeasible(
            f"{sum(counts)} devices need a stage each, but the tasks form only {len(graph)} separate groups"
        )
    total = float(graph.memory.sum()) + sum(graph.shared.values())
    held = sum(count * problem.kinds[kind].memory for kind, count in enumerate(counts) if count)
    if total > held:
        raise Infeasible(f"all tasks need {_bytes(total)}, but all devices together hold {_bytes(held)}")


def _misfit(graph: TaskGraph, group: int, bound: list[int], needs: float) -> Infeasible:
    """Error for a group that fits none of the given kinds of devices, with the most specific reason."""
    problem = graph.problem
    kinds = [problem.kinds[kind] for kind in bound]
    tasks = [problem.tasks[task] for task in graph.groups[group]]
    largest = max(tasks, key=lambda task: task.memory)
    for task in tasks:
        able = [problem.kinds[kind] for kind in bound if math.isfinite(task.work[kind])]
        if not able:
            return Infeasible(f"`{task.name}` can run on no device", task)
    held = [shared for shared in problem.shared if not set(shared.tasks).isdisjoint(graph.groups[group])]
    items: list[Task | SharedMemory] = [*tasks, *held]
    for item in sorted(items, key=lambda item: -item.memory):
        if item.memory > _most(kinds):
            return Infeasible(
                f"`{item.name}` needs {_bytes(item.memory)},"
                f" but the largest device for `{item.name}` holds {_bytes(_most(kinds))}",
                item,
            )
    names = ", ".join(f"`{item.name}`" for item in items[:4]) + (", ..." if len(items) > 4 else "")
    if not any(math.isfinite(graph.work[group, kind]) for kind in bound):
        return Infeasible(f"{names} must share a device, but no device can run them all", largest)
    able = [problem.kinds[kind] for kind in bound if math.isfinite(graph.work[group, kind])]
    held_bytes = _bytes(_most(able))
    if len(items) == 1:
        reason = f"needs {_bytes(needs)}, but the largest device that can run `{largest.name}` holds {held_bytes}"
        return Infeasible(f"`{largest.name}` {reason}", largest)
    reason = f"need {_bytes(needs)}, but the largest device that can run them all holds {held_bytes}"
    return Infeasible(f"{names} must share a device and {reason}", largest)


def _most(kinds: list[DeviceKind]) -> float:
    return max(kind.memory for kind in kinds)


def _bytes(number: float) -> str:
    return f"{number:,.0f} bytes"
