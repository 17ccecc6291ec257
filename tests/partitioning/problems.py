"""Random problems, small enough to try all splits."""

from __future__ import annotations

import math
from random import Random

from hypothesis import strategies as st

from archc.partitioning import DeviceKind, Problem, SharedMemory, Task, Tensor

SECONDS = [0.0, 1.0, 2.0, 3.0, 5.0, 8.0] * 8 + [math.inf]
TRANSFERS = [0.0, 0.5, 1.0, 2.0, 4.0]
BYTES = [0.0, 0.0, 1.0, 2.0, 3.0]


def problems() -> st.SearchStrategy[Problem]:
    """Random problems from seeds; if Hypothesis drew each number, it would repeat numbers too often."""
    return st.integers(0, 2**63).map(lambda seed: random_problem(Random(seed)))


def random_problem(draw: Random) -> Problem:
    """Return a problem with up to 9 tasks and up to 2 kinds of devices.

    Up to 6 tasks have up to 4 devices; more tasks have up to 3 devices.  A consumer may precede its producer in the
    list of tasks.
    """
    count, kinds = draw.randint(1, 9), draw.randint(1, 2)
    devices = draw.randint(1, 4 if count <= 6 else 3)
    order = tuple(draw.randrange(kinds) for _ in range(devices))
    limits = [draw.choice([math.inf, math.inf, math.inf, 6.0, 9.0]) for _ in range(kinds)]
    groups = draw.choice([[None], [None, None, None, None, "a", "b"]])
    tasks = tuple(
        Task(
            name=f"task{number}",
            work=tuple(draw.choice(SECONDS) for _ in range(kinds)),
            memory=draw.choice(BYTES),
            together=draw.choice(groups),
        )
        for number in range(count)
    )
    # A topological order: consumers are after their producers.
    rank = draw.sample(range(count), count)
    density = draw.choice([0.15, 0.3, 0.6])
    tensors = []
    for place in range(-1, count):
        consumers = tuple(sorted(task for task in rank[place + 1 :] if draw.random() < density))
        output = draw.random() < 0.2
        if consumers or output:
            time = tuple(draw.choice(TRANSFERS) for _ in range(kinds))
            tensors.append(Tensor(f"tensor{place}", None if place < 0 else rank[place], consumers, time, output))
    shared = tuple(
        SharedMemory(
            f"shared{number}", draw.choice(BYTES), tuple(draw.sample(range(count), min(count, draw.randint(1, 3))))
        )
        for number in range(draw.randint(0, 2))
    )
    return Problem(
        tasks=tasks,
        tensors=tuple(tensors),
        kinds=tuple(DeviceKind(f"kind{kind}", order.count(kind), limit) for kind, limit in enumerate(limits)),
        shared=shared,
        relayed=draw.random() < 0.5,
        all_used=draw.random() < 0.3,
        first=frozenset([draw.randrange(count)] if draw.random() < 0.3 else ()),
        order=order if draw.random() < 0.5 else None,
    )
