"""What is split, over what, and the answer.

A split is a chain of downsets of the graph: each stage is the difference of two, so that no tensor ever goes back to
an earlier stage.  The load of a stage is the work of its tasks and the time of its transfers; the split is as good as
its largest load is small.  (Tarnawski et al. 2020, "Efficient Algorithms for Device Placement of DNN Graph
Operators", call this max-load, and the stages contiguous.)
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """Something that one device does.

    Attributes:
        name: for messages.
        work: seconds on each kind of device; `math.inf` where it cannot run.
        memory: bytes of its own.
        together: tasks of one value share a device.
    """

    name: str
    work: tuple[float, ...]
    memory: float = 0.0
    together: Hashable | None = None


@dataclass(frozen=True)
class Tensor:
    """What one task makes and others need.

    Attributes:
        name: for messages.
        producer: the task that makes it, None for an input of the model.
        consumers: the tasks that need it.
        time: seconds to send it, or to receive it, once, on each kind of device.
        output: whether it is needed beyond the last stage.
    """

    name: str
    producer: int | None
    consumers: tuple[int, ...]
    time: tuple[float, ...]
    output: bool = False


@dataclass(frozen=True)
class Shared:
    """Memory that several tasks have in common, such as a tied weight: each device with one of them holds it once."""

    name: str
    memory: float
    tasks: tuple[int, ...]


@dataclass(frozen=True)
class Kind:
    """Devices that are alike.

    Attributes:
        name: for messages.
        count: how many there are; not asked where the problem gives an order.
        memory: bytes that one of them holds.
    """

    name: str
    count: int
    memory: float = math.inf


@dataclass(frozen=True)
class Problem:
    """Tasks to split over devices.

    Attributes:
        tasks, tensors: the graph; it has no cycles.
        kinds: the kinds of devices.
        shared: memory in common.
        relayed: how tensors travel.  False: through the memory of a host; a stage receives once what it needs and
            does not make, and sends once what it makes and others need.  True: along the chain; a stage also
            receives and sends what only passes it.
        all_used: whether every device has a stage; else devices may stay idle.
        first: tasks that must be in the first stage.
        order: the kind of each device along the chain.  Without it, any device may take any stage.

    Raises:
        ValueError: it contradicts itself.
    """

    tasks: tuple[Task, ...]
    tensors: tuple[Tensor, ...]
    kinds: tuple[Kind, ...]
    shared: tuple[Shared, ...] = ()
    relayed: bool = False
    all_used: bool = False
    first: frozenset[int] = frozenset()
    order: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        kinds = len(self.kinds)
        if not self.tasks or not kinds:
            raise ValueError("a split needs tasks and devices")
        sizes = [(item.name, item.memory) for items in (self.tasks, self.shared, self.kinds) for item in items]
        for name, memory in sizes:
            if not memory >= 0:
                raise ValueError(f"`{name}`: memory must not be negative")
        for task in self.tasks:
            if len(task.work) != kinds or not all(seconds >= 0 for seconds in task.work):
                raise ValueError(f"`{task.name}`: work is a time for each of {kinds} kinds, and not negative")
        for tensor in self.tensors:
            if len(tensor.time) != kinds or not all(0 <= seconds < math.inf for seconds in tensor.time):
                raise ValueError(f"`{tensor.name}`: time is finite for each of {kinds} kinds, and not negative")
            self._check(tensor.name, tensor.consumers)
            if tensor.producer is not None:
                self._check(tensor.name, [tensor.producer])
        for shared in self.shared:
            self._check(shared.name, shared.tasks)
        self._check("first", list(self.first))
        if self.order is not None and not all(0 <= kind < kinds for kind in self.order):
            raise ValueError(f"the order names kinds from 0 to {kinds - 1}")

    def _check(self, name: str, tasks: Sequence[int]) -> None:
        if not all(0 <= task < len(self.tasks) for task in tasks):
            raise ValueError(f"`{name}` names a task that there is not")


@dataclass(frozen=True)
class Stage:
    """What one device does.

    Attributes:
        tasks: in ascending order.
        kind: the kind of device.
        device: the place in the problem's order; without one, devices count on from kind to kind.
        work, received, sent: seconds; `load` is their sum.
        memory: bytes.
    """

    tasks: tuple[int, ...]
    kind: int
    device: int
    work: float
    received: float
    sent: float
    load: float
    memory: float


@dataclass(frozen=True)
class Split:
    """The answer.

    Attributes:
        stages: those that have tasks, along the chain.
        bottleneck: the largest load.
        exact: whether no split has a smaller one.
        lower_bound: no split has a bottleneck below this one.
        downsets, weighed: how many downsets and how many stages between two of them were looked at.
    """

    stages: tuple[Stage, ...]
    bottleneck: float
    exact: bool
    lower_bound: float
    downsets: int = 0
    weighed: int = 0


class Infeasible(Exception):
    """There is no split, or none was found.

    Attributes:
        culprit: the task, tensor or shared memory that fits on no device, where a single one can be named.
        proven: False where the search was not complete.
    """

    def __init__(self, message: str, culprit: Task | Shared | None = None, proven: bool = True):
        super().__init__(message)
        self.culprit = culprit
        self.proven = proven
