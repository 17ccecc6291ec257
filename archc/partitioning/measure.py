"""The load and the memory of stages, as they are defined; what the search finds is measured here in the end."""

from __future__ import annotations

from collections.abc import Sequence

from archc.partitioning.problem import Problem, Stage


def measure(
    problem: Problem, stages: Sequence[Sequence[int]], kinds: Sequence[int], devices: Sequence[int]
) -> list[Stage]:
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
            Stage(
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
