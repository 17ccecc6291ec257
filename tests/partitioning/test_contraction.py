"""Contraction: tasks that are merged into a group before the search, and tasks that stay separate."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest

from archc.partitioning import Problem, SharedMemory, Tensor, solve
from archc.partitioning.contraction import contract_dominated, contract_inseparable
from archc.partitioning.downsets import enumerate_downsets
from archc.partitioning.lower_bounds import compute_bounds, device_states
from archc.partitioning.task_graph import TaskGraph, build_task_graph
from tests.partitioning.graphs import linked, skipping, tangled

# Tasks 1 and 3 are layers, tasks 0 and 4 their weights, and task 2 is a reshape between the layers.
WORK = [0.0, 5.0, 0.0, 5.0, 0.0]
EDGES = {0: [1], 1: [2], 2: [3], 4: [3]}


def groups(dag: TaskGraph) -> set[tuple[int, ...]]:
    return set(dag.groups)


def layers(**options: object) -> Problem:
    return linked(WORK, EDGES, [0.5, 1.0, 1.0, 0.0, 0.5], **options)


def test_weights_and_reshapes_go_with_their_neighbours() -> None:
    assert len(contract_dominated(build_task_graph(layers()))) == 2
    assert solve(layers()).bottleneck == 6.0


def test_tasks_with_memory_stay_separate_if_memory_is_limited() -> None:
    memory = [4.0, 1.0, 0.0, 1.0, 4.0]
    assert len(contract_dominated(build_task_graph(layers(memory=memory, holds=math.inf)))) == 2
    apart = {
        group
        for group in contract_dominated(build_task_graph(layers(memory=memory, holds=6.0))).groups
        if len(group) == 1
    }
    assert {(0,), (4,)} <= apart


def test_tasks_with_shared_memory_stay_separate_if_memory_is_limited() -> None:
    problem = layers(holds=6.0, shared=(SharedMemory("weight", 7.0, (0, 4)),))
    assert {(0,), (4,)} <= groups(contract_dominated(build_task_graph(problem)))


def test_cheap_transfer_keeps_tasks_apart() -> None:
    """Task 1 merges with task 0, since its operand takes longer to send than its result."""
    problem = linked([5.0, 0.5, 5.0], {0: [1], 1: [2]}, [2.0, 1.0, 0.0])
    assert groups(contract_dominated(build_task_graph(problem))) == {(0, 1), (2,)}
    assert solve(problem).bottleneck == 6.5


def test_expensive_result_keeps_a_task_from_its_operand() -> None:
    """Task 1 does not merge with task 0: its expensive result would be sent instead of its cheap operand."""
    problem = linked([5.0, 0.0, 2.5, 2.5], {0: [1], 1: [2, 3]}, [1.0, 3.0, 0.0, 0.0])
    assert (1,) in groups(contract_dominated(build_task_graph(problem)))
    assert solve(problem).bottleneck == 6.0
    assert (0, 1) in groups(contract_dominated(build_task_graph(replace(problem, tensors=(problem.tensors[0],)))))


def test_output_that_is_sent_anyway_merges_no_tasks() -> None:
    """Task 1 does not merge with task 0: its operand is also an output of the model, which is sent anyway."""
    tensor = Tensor("x", 0, (1,), (3.0,), output=True)
    problem = replace(linked([5.0, 2.0], {}, []), tensors=(tensor,))
    assert groups(contract_dominated(build_task_graph(problem))) == {(0,), (1,)}
    assert solve(problem).bottleneck == 8.0
    assert len(contract_dominated(build_task_graph(replace(problem, tensors=(replace(tensor, output=False),))))) == 1


def test_task_of_the_first_stage_does_not_merge_with_a_later_task() -> None:
    """Task 0 does not merge with its only consumer, since only task 0 must be in the first stage."""
    edges = {0: [1], 2: [1]}
    problem = linked([0.0, 5.0, 5.0], edges, [1.0, 0.0, 0.0], first=frozenset({0}))
    assert len(contract_dominated(build_task_graph(problem))) == 3
    assert solve(problem).bottleneck == 6.0
    assert len(contract_dominated(build_task_graph(replace(problem, first=frozenset())))) == 2


def test_tasks_of_the_first_stage_and_their_producers_merge() -> None:
    problem = linked([3.0] * 5, {4: [0]}, [0.0] * 5, first=frozenset({0, 1, 2}))
    assert groups(build_task_graph(problem)) == {(0, 1, 2, 4), (3,)}
    split = solve(problem)
    assert split.bottleneck == 12.0
    assert split.stages[0].tasks == (0, 1, 2, 4)


def test_all_devices_have_a_task_though_merging_is_better() -> None:
    split = solve(layers(all_used=True, devices=4))
    assert split.exact
    assert len(split.stages) == 4


def test_tasks_on_a_path_between_tasks_of_one_group_merge() -> None:
    problem = skipping(10, 2)
    first, last = 2, 6
    tasks = tuple(
        task if at not in (first, last) else type(task)(task.name, task.work, together="both")
        for at, task in enumerate(problem.tasks)
    )
    dag = build_task_graph(type(problem)(tasks, problem.tensors, problem.kinds))
    assert tuple(range(first, last + 1)) in groups(dag)
    assert len(dag) == 6


def all_downsets(dag: TaskGraph) -> set[frozenset[int]]:
    found, todo = {frozenset[int]()}, [frozenset[int]()]
    while todo:
        downset = todo.pop()
        for group in range(len(dag)):
            larger = downset | {group}
            if larger not in found and downset.issuperset(dag.predecessors[group]):
                found.add(larger)
                todo.append(larger)
    return found


def as_sets(member: np.ndarray) -> list[frozenset[int]]:
    return [frozenset(np.flatnonzero(column).tolist()) for column in member.T]


def test_all_downsets_are_found_without_a_limit() -> None:
    dag = build_task_graph(tangled(14, 3))
    bound = compute_bounds(dag, device_states(dag.problem, len(dag), False))
    member = enumerate_downsets(dag, bound, 1e6, 10**6, math.inf)
    assert member is not None
    found = as_sets(member)
    assert len(found) == len(set(found))
    assert set(found) == all_downsets(dag)
    assert enumerate_downsets(dag, bound, 1e6, len(found) - 1, math.inf) is None


@pytest.mark.parametrize("seed", range(4))
def test_limits_keep_the_cuts_of_the_best_split(seed: int) -> None:
    problem = tangled(16, 3, seed)
    dag = build_task_graph(problem)
    split = solve(problem)
    owner = {task: group for group, tasks in enumerate(dag.groups) for task in tasks}
    cuts: list[frozenset[int]] = []
    done: Collection[int] = ()
    for stage in split.stages[:-1]:
        done = {*done, *(owner[task] for task in stage.tasks)}
        cuts.append(frozenset(done))
    bound = compute_bounds(dag, device_states(problem, len(dag), False))
    limit = split.bottleneck * (1 + 1e-6)
    member = enumerate_downsets(dag, bound, limit, 10**6, math.inf)
    assert member is not None
    found = set(as_sets(member))
    assert found.issuperset(cuts)
    assert len(found) < len(all_downsets(dag))
    _, place = contract_inseparable(dag, bound, limit)
    for one in range(len(dag)):
        for two in range(len(dag)):
            if place[one] == place[two]:
                assert all((one in cut) == (two in cut) for cut in cuts)


def test_narrowing_leaves_little_of_a_long_chain() -> None:
    problem = skipping(2000, 4)
    dag = contract_dominated(build_task_graph(problem))
    split = solve(problem)
    narrowed, place = contract_inseparable(
        dag, compute_bounds(dag, device_states(problem, len(dag), False)), split.bottleneck
    )
    assert len(narrowed) < 0.1 * len(dag)
    assert [len(tasks) for tasks in narrowed.groups] == [
        sum(len(dag.groups[group]) for group in np.flatnonzero(place == number)) for number in range(len(narrowed))
    ]
