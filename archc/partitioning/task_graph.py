"""Task graph in arrays; its nodes are groups of tasks that must be in the same stage.

Tasks that must share a device are contracted into one node, a group.  Stage numbers never decrease along an edge, so
every task on a path between two tasks of a group must be in the stage of the group.  In the contracted graph, such a
path is a cycle.  Each strongly connected component is therefore contracted into one group.  Tarnawski et al. 2020
contract their colour classes (tasks that must share a device) in the same way.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from archc.frozen_dataclass import frozen_by_identity
from archc.partitioning.problem import Problem

if TYPE_CHECKING:
    import numpy as np


@frozen_by_identity
class TaskGraph:
    """Groups of tasks in topological order; brackets show the axes of arrays.

    Attributes:
        problem: the problem, which has the devices; see `Problem`.
        groups: the tasks of each group.
        work: seconds of each group on each kind of device [groups, kinds].
        memory: bytes that the group shares with no other group [groups].
        producers: the group that computes each tensor, -1 for an input of the model.
        consumers: for each tensor, the groups that need it, ascending; the group that computes it is left out.
        outputs: whether each tensor is an output of the model.
        time: seconds to send or receive each tensor once, on each kind of device [tensors, kinds].
        shared: bytes of shared memory, by the tuple of the two or more groups that share it.
        first: the group that must be in the first stage, if any.
    """

    problem: Problem
    groups: list[tuple[int, ...]]
    work: np.ndarray
    memory: np.ndarray
    producers: list[int]
    consumers: list[tuple[int, ...]]
    outputs: list[bool]
    time: np.ndarray
    shared: dict[tuple[int, ...], float]
    first: int | None

    def __len__(self) -> int:
        return len(self.groups)

    @cached_property
    def predecessors(self) -> list[list[int]]:
        """For each group, the groups that compute the tensors that it needs."""
        return self._neighbours[0]

    @cached_property
    def successors(self) -> list[list[int]]:
        """For each group, the groups that need its tensors."""
        return self._neighbours[1]

    @cached_property
    def _neighbours(self) -> tuple[list[list[int]], list[list[int]]]:
        before: list[set[int]] = [set() for _ in self.groups]
        after: list[set[int]] = [set() for _ in self.groups]
        for producer, consumers in zip(self.producers, self.consumers):
            if producer >= 0:
                after[producer].update(consumers)
                for consumer in consumers:
                    before[consumer].add(producer)
        return [sorted(groups) for groups in before], [sorted(groups) for groups in after]

    @cached_property
    def memory_binds(self) -> bool:
        """Return whether the smallest device cannot hold all tasks together."""
        total = float(self.memory.sum()) + sum(self.shared.values())
        return total > min(kind.memory for kind in self.problem.kinds)

    def tasks(self, groups: Iterable[int]) -> list[int]:
        """Tasks of the given groups."""
        return [task for group in groups for task in self.groups[group]]


def build_task_graph(problem: Problem) -> TaskGraph:
    """Build the graph of a problem; tasks that must share a stage form one group.

    Raises:
        ValueError: the graph has a cycle.
    """
    import numpy as np

    graph = TaskGraph(
        problem=problem,
        groups=[(task,) for task in range(len(problem.tasks))],
        work=np.array([task.work for task in problem.tasks], dtype=float),
        memory=np.array([task.memory for task in problem.tasks], dtype=float),
        producers=[-1 if tensor.producer is None else tensor.producer for tensor in problem.tensors],
        consumers=[tensor.consumers for tensor in problem.tensors],
        outputs=[tensor.output for tensor in problem.tensors],
        time=np.array([tensor.time for tensor in problem.tensors], dtype=float).reshape(-1, len(problem.kinds)),
        shared=_sum((tuple(sorted(set(shared.tasks))), shared.memory) for shared in problem.shared),
        first=None,
    )
    if any(producer in consumers for producer, consumers in zip(graph.producers, graph.consumers)) or _cyclic(graph):
        raise ValueError("the graph has a cycle")
    labels: dict[Hashable, int] = {}
    together = [
        task if tasks.together is None else labels.setdefault(tasks.together, task)
        for task, tasks in enumerate(problem.tasks)
    ]
    graph = contract(graph, together)
    return _first(contract(graph, _components(graph)) if _cyclic(graph) else graph)


def _first(graph: TaskGraph) -> TaskGraph:
    """Contract the tasks of `Problem.first` with all ancestors, which must be in the first stage, too."""
    todo = [group for group, tasks in enumerate(graph.groups) if not graph.problem.first.isdisjoint(tasks)]
    if not todo:
        return graph
    found = set(todo)
    while todo:
        new = set(graph.predecessors[todo.pop()]) - found
        found |= new
        todo += new
    one = min(found)
    return contract(graph, [one if group in found else group for group in range(len(graph))])


def _cyclic(graph: TaskGraph) -> bool:
    return len(_topological([set(after) for after in graph.successors])) < len(graph)


def _components(graph: TaskGraph) -> list[int]:
    """Strongly connected component of each group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = [(group, after) for group, successors in enumerate(graph.successors) for after in successors]
    rows, columns = zip(*edges) if edges else ((), ())
    matrix = coo_array(([1] * len(edges), (rows, columns)), shape=(len(graph), len(graph)))
    found: list[int] = connected_components(matrix, connection="strong")[1].tolist()
    return found


def contract(graph: TaskGraph, labels: Sequence[int]) -> TaskGraph:
    """Contract all groups with equal labels into one group.

    Tensors with the same producer and consumers are always transferred together, so they become one tensor.  The new
    groups are in topological order if the contracted graph has no cycle; ties keep the order of the labels.
    """
    import numpy as np

    number = {label: place for place, label in enumerate(sorted(set(labels)))}
    place = [number[label] for label in labels]
    after: list[set[int]] = [set() for _ in number]
    for producer, consumers in zip(graph.producers, graph.consumers):
        if producer >= 0:
            after[place[producer]].update(place[consumer] for consumer in consumers)
    order = _topological([groups - {group} for group, groups in enumerate(after)])
    # Groups on or after a cycle come last; the caller contracts cycles next.
    order += sorted(set(range(len(number))) - set(order))
    rank = {group: position for position, group in enumerate(order)}
    place = [rank[group] for group in place]

    members: list[list[int]] = [[] for _ in number]
    for group, tasks in enumerate(graph.groups):
        members[place[group]] += tasks
    work, memory = np.zeros((len(number), graph.work.shape[1])), np.zeros(len(number))
    np.add.at(work, place, graph.work)
    np.add.at(memory, place, graph.memory)

    rows: dict[tuple[int, tuple[int, ...], bool], list[int]] = {}
    for row, (producer, consumers, output) in enumerate(zip(graph.producers, graph.consumers, graph.outputs)):
        made = place[producer] if producer >= 0 else -1
        needed = tuple(sorted({place[consumer] for consumer in consumers} - {made}))
        if needed or output:
            rows.setdefault((made, needed, output), []).append(row)
    time = np.zeros((len(rows), graph.time.shape[1]))
    kept = [row for same in rows.values() for row in same]
    np.add.at(time, [index for index, same in enumerate(rows.values()) for _ in same], graph.time[kept])

    shared = _sum((tuple(sorted({place[group] for group in groups})), size) for groups, size in graph.shared.items())
    for groups in [groups for groups in shared if len(groups) < 2]:
        size = shared.pop(groups)
        if groups:
            memory[groups[0]] += size
    first = graph.problem.first
    return TaskGraph(
        problem=graph.problem,
        groups=[tuple(sorted(tasks)) for tasks in members],
        work=work,
        memory=memory,
        producers=[made for made, _, _ in rows],
        consumers=[needed for _, needed, _ in rows],
        outputs=[output for _, _, output in rows],
        time=time,
        shared=shared,
        first=next((group for group, tasks in enumerate(members) if not first.isdisjoint(tasks)), None)
        if first
        else None,
    )


def _topological(after: list[set[int]]) -> list[int]:
    """Topological order that prefers small numbers; groups on or after a cycle are left out."""
    waiting = [0] * len(after)
    for successors in after:
        for group in successors:
            waiting[group] += 1
    ready = [group for group, count in enumerate(waiting) if not count]
    order = []
    while ready:
        group = heapq.heappop(ready)
        order.append(group)
        for successor in after[group]:
            waiting[successor] -= 1
            if not waiting[successor]:
                heapq.heappush(ready, successor)
    return order


def _sum(items: Iterable[tuple[tuple[int, ...], float]]) -> dict[tuple[int, ...], float]:
    sums: dict[tuple[int, ...], float] = {}
    for groups, size in items:
        sums[groups] = sums.get(groups, 0.0) + size
    return sums
