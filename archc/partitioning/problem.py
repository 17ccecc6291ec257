"""What is split, over what, and the answer.

A split is a chain of downsets of the graph: each stage is the difference of two, so that no tensor ever goes back to
an earlier stage.  The load of a stage is the work of its tasks and the time of its transfers; the split is as good as
its largest load is small.  (Tarnawski et al. 2020, "Efficient Algorithms for Device Placement of DNN Graph
Operators", call this max-load, and the stages contiguous.)

The load and the memory of stages, as they are defined; what the search finds is measured here in the end.
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
class SharedMemory:
    """Memory that several tasks have in common, such as a tied weight: each device with one of them holds it once."""

    name: str
    memory: float
    tasks: tuple[int, ...]


@dataclass(frozen=True)
class DeviceKind:
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
    kinds: tuple[DeviceKind, ...]
    shared: tuple[SharedMemory, ...] = ()
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
class PipelineStage:
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
class PipelineSplit:
    """The answer.

    Attributes:
        stages: those that have tasks, along the chain.
        bottleneck: the largest load.
        exact: whether no split has a smaller one.
        lower_bound: no split has a bottleneck below this one.
        downsets, stages_tried: how many downsets and how many stages between two of them were looked at.
    """

    stages: tuple[PipelineStage, ...]
    bottleneck: float
    exact: bool
    lower_bound: float
    downsets: int = 0
    stages_tried: int = 0


class Infeasible(Exception):
    """There is no split, or none was found.

    Attributes:
        culprit: the task, tensor or shared memory that fits on no device, where a single one can be named.
        proven: False where the search was not complete.
    """

    def __init__(self, message: str, culprit: Task | SharedMemory | None = None, proven: bool = True):
        super().__init__(message)
        self.culprit = culprit
        self.proven = proven


def measure_stages(
    problem: Problem, stages: Sequence[Sequence[int]], kinds: Sequence[int], devices: Sequence[int]
) -> list[PipelineStage]:
    """What each stage of a split takes.

    Args:
        stages: the tasks of each, along the chain; every task is in one of them.
        kinds, devices: of each stage.
    """
    where = {task: number for number, tasks in enumerate(stages) for task in tasks}
    received, sent, memory = ([0.0] * len(stages) for _ in range(3))
    for tensor in problem.tensors:
        made = -1 if tensor.producer is None else where[tensor.producer]
        needed = {where[task] for task in tensor.consumers} - {made}
        beyond = tensor.output
        if problem.relayed:
            last = len(stages) if beyond else max(needed, default=made)
            receivers = list(range(made + 1, min(last + 1, len(stages))))
            senders = list(range(max(made, 0), last))
        else:
            receivers, senders = sorted(needed), [made] if made >= 0 and (needed or beyond) else []
        for stage in receivers:
            received[stage] += tensor.time[kinds[stage]]
        for stage in senders:
            sent[stage] += tensor.time[kinds[stage]]
    for shared in problem.shared:
        for stage in {where[task] for task in shared.tasks}:
            memory[stage] += shared.memory
    measured = []
    for number, (tasks, kind) in enumerate(zip(stages, kinds)):
        work = sum(problem.tasks[task].work[kind] for task in tasks)
        measured.append(
            PipelineStage(
                tasks=tuple(sorted(tasks)),
                kind=kind,
                device=devices[number],
                work=work,
                received=received[number],
                sent=sent[number],
                load=work + received[number] + sent[number],
                memory=memory[number] + sum(problem.tasks[task].memory for task in tasks),
            )
        )
    return measured
