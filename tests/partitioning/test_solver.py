"""Solver, compared with brute force on small problems and with dynamic programming on larger ones."""

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
    """Check that a split is valid, fits the devices, and has loads that are consistent."""
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


# Without shrinking, which would try all splits of thousands of problems.
@settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(problems())
def test_no_split_is_better(problem: Problem) -> None:
    best = least_bottleneck(problem)
    if best is None:
        with pytest.raises(Infeasible) as caught:
            solve(problem)
        assert caught.value.proven
        culprit = caught.value.culprit
        if culprit is not None:
            # In no split, the stage of the culprit fits its device.
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
def test_no_split_is_better_in_larger_graphs(make: Callable[..., Problem], relayed: bool, seed: int) -> None:
    problem = make(20 if make is skipping else 12, 3, seed, relayed=relayed)
    split = solve(problem)
    assert split.exact
    assert split.bottleneck == pytest.approx(all_downsets.least_bottleneck(problem))


def test_long_chain_is_split_exactly() -> None:
    """The bottleneck of a chain is the least limit at which a greedy division needs at most 5 stages."""
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
    # The second half needs three times as much memory, so stages of equal work do not fit the devices.
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


def test_relayed_tensor_loads_the_stages_between() -> None:
    """A relayed tensor from stage 0 to stage 3 is also received and sent by stages 1 and 2."""
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
    """The best split of 0 → 1 → 2 and 3 changes to {0, 3}, {1, 2} if task 3 must be in the first stage."""
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
