"""Invalid problems, and infeasible problems with the reason in the error."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from archc.partitioning import DeviceKind, Infeasible, Problem, SharedMemory, Task, Tensor, solve
from tests.partitioning.graphs import linked

CHAIN = linked([1.0] * 3, {0: [1], 1: [2]}, [1.0] * 3, memory=[4.0, 5.0, 6.0], holds=10.0)
TASK, TENSOR = CHAIN.tasks[0], CHAIN.tensors[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ()}, "needs tasks and devices"),
        ({"kinds": ()}, "needs tasks and devices"),
        (
            {"tasks": (replace(TASK, work=()), *CHAIN.tasks[1:])},
            "`task0`: work must be one non-negative time for each of 1 kinds",
        ),
        ({"tasks": (replace(TASK, work=(math.nan,)), *CHAIN.tasks[1:])}, "`task0`: work"),
        ({"tasks": (replace(TASK, memory=-1.0), *CHAIN.tasks[1:])}, "`task0`: memory must not be negative"),
        ({"tensors": (replace(TENSOR, time=(math.inf,)),)}, "`from0`: time must be finite"),
        ({"tensors": (replace(TENSOR, consumers=(7,)),)}, "`from0` refers to a task that does not exist"),
        ({"tensors": (replace(TENSOR, producer=-1),)}, "`from0` refers to a task that does not exist"),
        ({"shared": (SharedMemory("w", 1.0, (3,)),)}, "`w` refers to a task that does not exist"),
        ({"first": frozenset({9})}, "refers to a task that does not exist"),
        ({"order": (0, 1)}, "the order must contain kinds from 0 to 0"),
    ],
)
def test_invalid_problem_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CHAIN, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("edges", [{0: [0]}, {0: [1], 1: [0]}])
def test_cycle_is_refused(edges: dict[int, list[int]]) -> None:
    with pytest.raises(ValueError, match="cycle"):
        solve(linked([1.0] * 2, edges, [1.0] * 2))


def failure(problem: Problem) -> Infeasible:
    with pytest.raises(Infeasible) as caught:
        solve(problem)
    assert caught.value.proven
    return caught.value


def test_task_that_is_too_large_is_named() -> None:
    found = failure(replace(CHAIN, kinds=(DeviceKind("device", 5, 5.0),)))
    assert found.culprit == CHAIN.tasks[2]
    assert str(found) == "`task2` needs 6 bytes, but the largest device for `task2` holds 5 bytes"


def test_shared_memory_that_is_too_large_is_named() -> None:
    weight = SharedMemory("weight", 11.0, (0, 2))
    assert failure(replace(CHAIN, shared=(weight,))).culprit == weight


def test_largest_of_tasks_that_must_share_a_device_is_named() -> None:
    tasks = tuple(replace(task, together="all") for task in CHAIN.tasks)
    found = failure(replace(CHAIN, tasks=tasks))
    assert found.culprit == tasks[2]
    assert "`task0`, `task1`, `task2` must share a device and need 15 bytes" in str(found)


def test_task_that_runs_nowhere_is_named() -> None:
    tasks = (*CHAIN.tasks[:2], replace(CHAIN.tasks[2], work=(math.inf,)))
    found = failure(replace(CHAIN, tasks=tasks))
    assert found.culprit == tasks[2]
    assert "can run on no device" in str(found)


def test_tasks_that_run_nowhere_together_are_told() -> None:
    tasks = Task("a", (1.0, math.inf), together=1), Task("b", (math.inf, 1.0), together=1)
    found = failure(Problem(tasks, (), (DeviceKind("one", 1), DeviceKind("other", 1))))
    assert found.culprit in tasks
    assert "no device can run them all" in str(found)


def test_all_devices_may_be_too_small() -> None:
    found = failure(replace(CHAIN, kinds=(DeviceKind("device", 2, 7.0),)))
    assert found.culprit is None
    assert str(found) == "all tasks need 15 bytes, but all devices together hold 14 bytes"


def test_no_cut_may_fit() -> None:
    """No split of 0 → 2 → 1 fits two devices of 9 bytes.

    Tasks 0, 1 and 2 need 4, 5 and 6 bytes, so only {0, 1} and {2} would fit.
    """
    back = (Tensor("x", 2, (0,), (1.0,)), Tensor("y", 0, (1,), (1.0,)))
    assert solve(replace(CHAIN, kinds=(DeviceKind("device", 2, 9.0),))).exact
    assert solve(replace(CHAIN, tensors=back, kinds=(DeviceKind("device", 2, 10.0),))).exact
    found = failure(
        replace(
            CHAIN,
            tensors=(Tensor("x", 0, (2,), (1.0,)), Tensor("y", 2, (1,), (1.0,))),
            kinds=(DeviceKind("device", 2, 9.0),),
        )
    )
    assert found.culprit is None
    assert "no split exists" in str(found)


def test_more_devices_than_tasks_cannot_all_be_used() -> None:
    found = failure(replace(CHAIN, kinds=(DeviceKind("device", 4),), all_used=True))
    assert str(found) == "4 devices need a stage each, but the tasks form only 3 separate groups"


def test_no_device() -> None:
    assert str(failure(replace(CHAIN, kinds=(DeviceKind("device", 0),)))) == "the problem has no device"
    assert str(failure(replace(CHAIN, order=()))) == "the problem has no device"
