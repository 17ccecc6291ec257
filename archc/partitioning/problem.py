"""Partitioning problem and its solution, with the load and memory of each stage.

A downset (order ideal) of the task graph is a set of tasks that contains every producer of its members.  A split is a
chain of downsets, each a subset of the next one.  A stage is the difference of two successive downsets, so no tensor
returns to an earlier stage.  The load of a stage is the work of its tasks plus the time of its transfers.  The
bottleneck of a split is its largest load.  Tarnawski et al. 2020, "Efficient Algorithms for Device Placement of DNN
Graph Operators", call the bottleneck max-load and these stages contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from archc.frozen_dataclass import frozen_dataclass


@frozen_dataclass
class Task:
    """Unit of work that runs on one device.

    Attributes:
        name: name in messages.
        work: seconds on each kind of device; `math.inf` if the task cannot run there.
        memory: bytes that the task needs, without `SharedMemory`.
        together: key that is equal for tasks that must share a device; None if the task may be on any device.
    """

    name: str
    work: tuple[float, ...]
    memory: float = 0.0
    together: Hashable | None = None


@frozen_dataclass
class Tensor:
    """Result of a task or input of the model.

    Attributes:
        name: name in messages.
        producer: index of the task that computes the tensor; None for an input of the model.
        consumers: indices of the tasks that need the tensor.
        time: seconds to send or to receive the tensor once, on each kind of device.
        output: whether the tensor is an output of the model.
    """

    name: str
    producer: int | None
    consumers: tuple[int, ...]
    time: tuple[float, ...]
    output: bool = False


@frozen_dataclass
class SharedMemory:
    """Memory that several tasks share, such as a tied weight; each device of these tasks holds it once."""

    name: str
    memory: float
    tasks: tuple[int, ...]


@frozen_dataclass
class DeviceKind:
    """Kind of device: a number of equal devices.

    Attributes:
        name: name in messages.
        count: number of devices; ignored if the problem has an order.
        memory: bytes that one device holds.
    """

    name: str
    count: int
    memory: float = math.inf


@frozen_dataclass
class Problem:
    """Tasks to split over devices.

    Attributes:
        tasks, tensors: the graph, without cycles.
        kinds: the kinds of devices.
        shared: memory that tasks share.
        relayed: route of the tensors.  If False, stages exchange tensors through the memory of a host.  The stage that
            computes a tensor sends it once, if another stage or the host needs it.  Each other stage that needs the
            tensor receives it once.  If True, tensors go from each stage to the next one.  A stage then also receives
            and sends the tensors that only later stages need.
        all_used: whether every device gets a stage; if False, devices may stay idle.
        first: tasks that must be in the first stage.
        order: the kind of each device along the chain; None if any device may take any stage.

    Raises:
        ValueError: a size or time is negative, a table has the wrong length, or an index is out of range.
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
                raise ValueError(f"`{task.name}`: work must be one non-negative time for each of {kinds} kinds")
        for tensor in self.tensors:
            if len(tensor.time) != kinds or not all(0 <= seconds < math.inf for seconds in tensor.time):
                raise ValueError(f"`{tensor.name}`: time must be finite and not negative for each of {kinds} kinds")
            self._check(tensor.name, tensor.consumers)
            if tensor.producer is not None:
                self._check(tensor.name, [tensor.producer])
        for shared in self.shared:
            self._check(shared.name, shared.tasks)
        self._check("first", list(self.first))
        if self.order is not None and not all(0 <= kind < kinds for kind in self.order):
            raise ValueError(f"the order must contain kinds from 0 to {kinds - 1}")

    def _check(self, name: str, tasks: Sequence[int]) -> None:
        if not all(0 <= task < len(self.tasks) for task in tasks):
            raise ValueError(f"`{name}` refers to a task that does not exist")


@frozen_dataclass
class PipelineStage:
    """Stage: the tasks of one device.

    Attributes:
        tasks: indices of the tasks, ascending.
        kind: index of the kind of device.
        device: index of the device in `Problem.order`.  Without an order, the devices of the first kind have the first
            indices, the devices of the second kind have the next indices, and so on.
        work, received, sent: seconds to compute the tasks, receive tensors and send tensors.
        load: the sum of `work`, `received` and `sent`.
        memory: bytes that the tasks need, including shared memory.
    """

    tasks: tuple[int, ...]
    kind: int
    device: int
    work: float
    received: float
    sent: float
    load: float
    memory: float


@frozen_dataclass
class PipelineSplit:
    """Solution of a problem.

    Attributes:
        stages: the stages that have tasks, along the chain.
        bottleneck: the largest load.
        exact: whether the bottleneck is proven to be the smallest possible.
        lower_bound: lower bound on the bottleneck of every split.
        downsets: number of downsets that the search enumerated.
        stages_tried: number of pairs of nested downsets (stages) for which the search computed the load.
    """

    stages: tuple[PipelineStage, ...]
    bottleneck: float
    exact: bool
    lower_bound: float
    downsets: int = 0
    stages_tried: int = 0


class Infeasible(Exception):
    """Error for a problem that has no split, or for which none was found.

    Attributes:
        culprit: the task or the shared memory to name in a diagnostic; see `feasibility.check_feasible`.  None if no
            single task or memory is the reason, for example if all devices together have too little memory.
        proven: whether it is proven that no split exists; False if the search was incomplete.
    """

    def __init__(self, message: str, culprit: Task | SharedMemory | None = None, proven: bool = True):
        super().__init__(message)
        self.culprit = culprit
        self.proven = proven


def measure_stages(
    problem: Problem, stages: Sequence[Sequence[int]], kinds: Sequence[int], devices: Sequence[int]
) -> list[PipelineStage]:
    """Compute the load and the memory of each stage from their definitions.

    Args:
        stages: the tasks of each stage, along the chain; every task is in one stage.
        kinds: index of the kind of each stage's device.
        devices: index of each stage's device; see `PipelineStage`.
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
