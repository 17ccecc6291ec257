"""Partitioning problems with given task graphs."""

from __future__ import annotations

import math
import random

from archc.partitioning import DeviceKind, Problem, Task, Tensor


def linked(
    work: list[float], edges: dict[int, list[int]], times: list[float], devices: int = 2, **options: object
) -> Problem:
    """Return a problem with one kind of device; `edges` maps a producer to the consumers of its result."""
    memory = options.pop("memory", None)
    sizes = memory if isinstance(memory, list) else [0.0] * len(work)
    holds = options.pop("holds", math.inf)
    assert isinstance(holds, float)
    return Problem(
        tasks=tuple(Task(f"task{at}", (seconds,), sizes[at]) for at, seconds in enumerate(work)),
        tensors=tuple(Tensor(f"from{at}", at, tuple(needing), (times[at],)) for at, needing in edges.items()),
        kinds=(DeviceKind("device", devices, holds),),
        **options,  # type: ignore[arg-type]
    )


def skipping(tasks: int, devices: int, seed: int = 0, **options: object) -> Problem:
    """Return a chain of tasks in which every fourth result is also an operand four tasks later."""
    draw = random.Random(seed)
    edges = {at: [to for to in ([at + 1, at + 4] if at % 4 == 0 else [at + 1]) if to < tasks] for at in range(tasks)}
    work, times = ([draw.uniform(0.1, 1.0) for _ in range(tasks)] for _ in range(2))
    edges = {at: needing for at, needing in edges.items() if needing}
    return linked(work, edges, times, devices, **options)


def tangled(tasks: int, devices: int, seed: int = 0, **options: object) -> Problem:
    """Return a problem in which each task needs the results of one or two of the eight tasks before it."""
    draw = random.Random(seed)
    edges: dict[int, list[int]] = {}
    for task in range(1, tasks):
        for producer in {draw.randrange(max(0, task - 8), task) for _ in range(2)}:
            edges.setdefault(producer, []).append(task)
    work, times = ([draw.uniform(0.1, 1.0) for _ in range(tasks)] for _ in range(2))
    return linked(work, edges, times, devices, **options)
