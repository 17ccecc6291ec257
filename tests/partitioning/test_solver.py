"""The solver against trying everything, and against a plain dynamic program where that takes too long."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from archc.partitioning import DeviceKind, Infeasible, PipelineSplit, Problem, SharedMemory, Task, Tensor, solve
from tests.partitioning import all_downsets
from tests.partitioning.brute_force import Placed, least_bottleneck, splits
from tests.partitioning.graphs import linked, skipping, tangled
from tests.partitioning.problems import problems


def check_split(problem: Problem, split: PipelineSplit) -> None:
    """A split is one, fits, and takes what it says."""
    assert sorted(task for stage in split.stages for task in stage.tasks) == list(range(len(problem.tasks)))
    where = {task: number for number, stage in enumerate(split.stages) for task in stage.tasks}
    for tensor in problem.tensors:
        if tensor.producer is not None:
            assert all(where[tensor.producer] <= where[task] for task in tensor.consumers)
    assert split.bottleneck == max(stage.load for stage in split.stages)
    assert split.lower_bound <= split.bottleneck
    devices = [stage.device for stage in split.stages]
    assert len(set(devices)) == len(devices)
    for stage in split.stages:
        assert stage.memory <= problem.kinds[stage.kind].memory
        assert stage.load == pytest.approx(stage.work + stage.received + stage.sent)


# A failure is told as it was found: to shrink it would try all splits thousands of times.
@settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(problems())
def test_nothing_is_better(problem: Problem) -> None:
    best = least_bottleneck(problem)
    if best is None:
        with pytest.raises(Infeasible) as caught:
            solve(problem)
        assert caught.value.proven
        culprit = caught.value.culprit
        if culprit is not None:
            # Wherever it is put, its device cannot have it.
            assert not any(
                placed.fits(stage)
                for placed in splits(problem)
                for stage in range(len(placed.stages))
                if placed.holds(culprit, stage)
            )
        return
    split = solve(problem)
    assert split.exact
    assert split.bottleneck == pytest.approx(best)
    assert split.lower_bound == split.bottleneck
    check_split(problem, split)
    placed = Placed(problem, tuple(frozenset(s.tasks) for s in split.stages), tuple(s.kind for s in split.stages))
    assert placed in list(splits(problem))
    if problem.order is not None:
        devices = [stage.device for stage in split.stages]
        assert devices == sorted(devices)
        assert [problem.order[device] for device in devices] == [stage.kind for stage in split.stages]
    for number, stage in enumerate(split.stages):
        assert stage.load == pytest.approx(placed.load(number))


@pytest.mark.parametrize("relayed", [False, True])
@pytest.mark.parametrize("make", [skipping, tangled])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_better_in_larger_graphs(make: Callable[..., Problem], relayed: bool, seed: int) -> None:
    problem = make(20 if make is skipping else 12, 3, seed, relayed=relayed)
    split = solve(problem)
    assert split.exact
    assert split.bottleneck == pytest.approx(all_downsets.least_bottleneck(problem))


def test_long_chain_is_split_exactly() -> None:
    """Along a chain the best split is found by bisection: as much into each stage as the limit allows."""
    tasks = 2000
    work = [1.0 + (at * 37 % 11) / 10 for at in range(tasks)]
    edges = {at: [at + 1] for at in range(tasks - 1)}
    split = solve(linked(work, edges, [0.0] * tasks, devices=5))

    def stages(limit: float) -> int:
        count, filled = 1, 0.0
        for seconds in work:
            if filled + seconds > limit:
                count, filled = count + 1, 0.0
            filled += seconds
        return count

    assert split.exact
    assert stages(split.bottleneck * (1 + 1e-9)) <= 5 < stages(split.bottleneck * (1 - 1e-6))


@pytest.mark.parametrize("relayed", [False, True])
def test_large_graph_is_split_well(relayed: bool) -> None:
    problem = tangled(450, 4, relayed=relayed)
    split = solve(problem)
    check_split(problem, split)
    assert split.bottleneck < 1.2 * split.lower_bound


def test_memory_limits_hold_in_large_graphs() -> None:
    tasks = 800
    # The second half holds three times as much: stages of like work do not fit.
    memory = [1.0 if at < tasks // 2 else 3.0 for at in range(tasks)]
    problem = skipping(tasks, 4, memory=memory, holds=430.0)
    split = solve(problem)
    check_split(problem, split)
    assert len(split.stages) == 4
    free = solve(skipping(tasks, 4))
    assert max(sum(memory[task] for task in stage.tasks) for stage in free.stages) > 430.0
    assert split.bottleneck > free.bottleneck


def test_budget_of_time_ends_the_search() -> None:
    problem = tangled(120, 4)
    start = time.monotonic()
    split = solve(problem, seconds=0.0)
    hurried = time.monotonic() - start
    check_split(problem, split)
    assert not split.exact
    assert 0 < split.lower_bound < split.bottleneck
    start = time.monotonic()
    assert solve(problem).bottleneck <= split.bottleneck
    assert hurried < time.monotonic() - start


def test_same_problem_has_same_split() -> None:
    assert solve(tangled(40, 3)) == solve(tangled(40, 3))


def test_skip_is_paid_where_it_passes() -> None:
    """0 → 1 → 2 → 3 and 0 → 3, one task a device: relayed, the skip also loads the two stages between."""
    edges, times = {0: [1, 3], 1: [2], 2: [3]}, [1.0, 0.5, 0.5, 0.0]
    hosted, relayed = (
        solve(linked([10.0] * 4, edges, times, devices=4, relayed=relayed)).stages for relayed in (False, True)
    )
    assert [(stage.received, stage.sent) for stage in hosted] == [(0, 1), (1, 0.5), (0.5, 0.5), (1.5, 0)]
    assert [(stage.received, stage.sent) for stage in relayed] == [(0, 1), (1, 1.5), (1.5, 1.5), (1.5, 0)]


def test_processor_takes_what_accelerators_cannot() -> None:
    tasks = Task("a", (1.0, 9.0)), Task("look up", (math.inf, 4.0)), Task("b", (1.0, 9.0))
    tensors = Tensor("x", 0, (1,), (0.5, 0.0)), Tensor("y", 1, (2,), (0.5, 0.0))
    split = solve(Problem(tasks, tensors, (DeviceKind("accelerator", 2), DeviceKind("processor", 1))))
    assert [(stage.kind, stage.device, stage.load) for stage in split.stages] == [(0, 0, 1.5), (1, 2, 4.0), (0, 1, 1.5)]


def test_first_task_is_in_the_first_stage() -> None:
    """0 → 1 → 2 and 3 beside: {0, 1}, {2, 3} is the best split, and without 3 in the second stage {0, 3}, {1, 2}."""
    problem = linked([4.0, 2.0, 3.0, 3.0], {0: [1], 1: [2]}, [0.0] * 4)
    assert solve(problem).bottleneck == 6.0
    split = solve(replace(problem, first=frozenset({3})))
    assert split.bottleneck == 7.0
    assert split.stages[0].tasks == (0, 3)


def test_tied_weight_is_held_once() -> None:
    tasks = tuple(Task(f"task{at}", (1.0,)) for at in range(2))
    kinds = (DeviceKind("device", 2, 10.0),)
    tied = Problem(tasks, (), kinds, shared=(SharedMemory("weight", 10.0, (0, 1)),))
    (stage, other) = solve(tied).stages
    assert stage.memory == other.memory == 10.0
    both = solve(Problem(tasks, (), (DeviceKind("device", 1, 10.0),), shared=tied.shared)).stages
    assert [stage.memory for stage in both] == [10.0]


def test_numpy_is_imported_when_something_is_solved() -> None:
    program = "import sys, archc.partitioning; raise SystemExit('numpy' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
