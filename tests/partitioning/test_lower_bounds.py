"""Lower bounds of the search, compared with all splits of small problems.

The search discards no split whose bottleneck is below its limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

import numpy as np
import pytest

from archc.partitioning import Infeasible, Problem, solve
from archc.partitioning.chain_search import cut_bounds
from archc.partitioning.contraction import contract_inseparable
from archc.partitioning.downsets import DownsetFamily, enumerate_downsets
from archc.partitioning.feasibility import check_feasible
from archc.partitioning.lower_bounds import DeviceStates, compute_bounds, device_states
from archc.partitioning.task_graph import TaskGraph, build_task_graph
from tests.partitioning.brute_force import Placed, splits
from tests.partitioning.graphs import linked
from tests.partitioning.problems import random_problem

MOST_TASKS = 6


def fits(dag: TaskGraph) -> bool:
    """Return whether the check before the search passes, so that a split may exist."""
    try:
        check_feasible(dag)
    except Infeasible:
        return False
    return True


def fitting(problem: Problem) -> Iterator[tuple[Placed, float]]:
    """Yield all splits that fit the devices, with their bottlenecks."""
    for placed in splits(problem):
        stages = range(len(placed.stages))
        if all(map(placed.fits, stages)):
            yield placed, max(map(placed.load, stages))


def cuts(dag: TaskGraph, line: DeviceStates, placed: Placed) -> Iterator[tuple[int, frozenset[int]]]:
    """Yield, for each cut between two stages, the state of the devices and the groups before the cut."""
    group = {task: number for number, tasks in enumerate(dag.groups) for task in tasks}
    state, before = 0, frozenset[int]()
    for tasks, kind in list(zip(placed.stages, placed.kinds))[:-1]:
        state = dict(line.moves[state])[kind]
        before |= {group[task] for task in tasks}
        yield state, before


def columns(member: np.ndarray) -> dict[frozenset[int], int]:
    return {frozenset(np.flatnonzero(column).tolist()): number for number, column in enumerate(member.T)}


@pytest.mark.parametrize("part", range(8))
def test_no_split_is_below_its_bounds(part: int) -> None:
    seen = 0
    for seed in range(part * 40, part * 40 + 40):
        problem = random_problem(Random(seed))
        dag = build_task_graph(problem)
        if len(problem.tasks) > MOST_TASKS or not fits(dag):
            continue
        line = device_states(problem, len(dag), problem.all_used)
        bound = compute_bounds(dag, line)
        everything = enumerate_downsets(dag, bound, 1e9, 10**6, math.inf)
        assert everything is not None
        family = DownsetFamily(dag, everything, bound.weights)
        least, number = cut_bounds(family, bound), columns(family.member)
        for placed, bottleneck in fitting(problem):
            seen += 1
            assert bound.lower <= bottleneck
            for state, before in cuts(dag, line, placed):
                assert least[state, number[before]] <= bottleneck
    assert seen > 100


@pytest.mark.parametrize("part", range(8))
def test_no_cut_of_a_split_below_the_limit_is_lost(part: int) -> None:
    seen = 0
    for seed in range(part * 40, part * 40 + 40):
        problem = random_problem(Random(seed))
        dag = build_task_graph(problem)
        if len(problem.tasks) > MOST_TASKS or not fits(dag):
            continue
        line = device_states(problem, len(dag), problem.all_used)
        bound = compute_bounds(dag, line)
        # The six best splits: if the bottleneck of a split is the limit, the cuts of the split must be kept.
        for placed, bottleneck in sorted(fitting(problem), key=lambda found: found[1])[:6]:
            limit = bottleneck * (1 + 1e-6) + 1e-6
            member = enumerate_downsets(dag, bound, limit, 10**6, math.inf)
            assert member is not None
            found = columns(DownsetFamily(dag, member, bound.weights).member)
            _, place = contract_inseparable(dag, bound, limit)
            for _, before in cuts(dag, line, placed):
                seen += 1
                assert before in found
                sides: dict[int, bool] = {}
                assert all(sides.setdefault(place[one], one in before) == (one in before) for one in range(len(dag)))
    assert seen > 20


@pytest.mark.parametrize("devices", [2, 4])
def test_the_only_split_within_the_limit_is_kept(devices: int) -> None:
    """Contraction keeps the only split of a chain of equal tasks whose bottleneck is within the limit."""
    problem = linked([1.0] * 8, {at: [at + 1] for at in range(7)}, [0.0] * 8, devices)
    dag, each = build_task_graph(problem), 8 // devices
    _, place = contract_inseparable(
        dag, compute_bounds(dag, device_states(problem, len(dag), False)), each * (1 + 1e-6)
    )
    ends = range(each, 8, each)
    assert all(place[end - 1] != place[end] for end in ends)
    assert solve(problem).bottleneck == each


def test_parallel_tasks_do_not_merge() -> None:
    """Tasks 1 and 2 of 0 → 1 → 3 and 0 → 2 → 3 do not merge: the best first stage is {0, 2}."""
    problem = linked([1.0, 4.0, 2.0, 0.0], {0: [1, 2], 1: [3], 2: [3]}, [0.0] * 4)
    dag = build_task_graph(problem)
    assert solve(problem).bottleneck == 4.0
    _, place = contract_inseparable(dag, compute_bounds(dag, device_states(problem, len(dag), False)), 4.0 * (1 + 1e-6))
    assert place[2] != place[1]
