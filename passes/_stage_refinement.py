"""Refinement of a split by local search: fewer transfers and fewer divided blocks at equal bottleneck.

The bottleneck is the load of the slowest stage.  The partitioner minimizes only the bottleneck, so the boundaries of
the other stages are arbitrary.  A block is divided if its nodes are in several stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from archc.ir.graph import Node, Scope
from archc.partitioning import PipelineSplit, PipelineStage, Problem
from archc.partitioning.problem import measure_stages

FARTHEST = 64
"""Maximum number of operators by which the boundary of two stages moves in one step."""


def refine_stages(
    problem: Problem, nodes: Sequence[Node], split: PipelineSplit, allowed: Callable[[Mapping[Node, int]], bool]
) -> Sequence[PipelineStage]:
    """Move stage boundaries to reduce transfers, and, at equal transfers, the number of divided blocks.

    Args:
        nodes: the node of each task.
        allowed: predicate that returns True if a split, given as the stage of each node, is admissible.
    """
    kinds, devices = ([getattr(stage, name) for stage in split.stages] for name in ("kind", "device"))
    best = list(split.stages)
    key = _key(problem, nodes, best)
    improved = True
    while improved:
        improved = False
        for candidate in list(_neighbours(problem, best, split.bottleneck)):
            found = measure_stages(problem, candidate, kinds, devices)
            found_key = _key(problem, nodes, found)
            if found_key < key and _fits(problem, found, split.bottleneck) and allowed(stage_numbers(nodes, found)):
                best, key, improved = found, found_key, True
    return best


def stage_numbers(nodes: Sequence[Node], stages: Sequence[PipelineStage]) -> dict[Node, int]:
    """Stage of each node."""
    return {nodes[task]: number for number, stage in enumerate(stages) for task in stage.tasks}


def _neighbours(problem: Problem, stages: Sequence[PipelineStage], bottleneck: float) -> Iterator[list[list[int]]]:
    """Splits with one moved boundary, in which no stage is empty or computes longer than the bottleneck."""
    tasks = [list(stage.tasks) for stage in stages]
    for number in range(len(stages) - 1):
        before, after = tasks[number], tasks[number + 1]
        for count in _movable(problem, after[:-1], stages[number], bottleneck):
            yield [*tasks[:number], before + after[:count], after[count:], *tasks[number + 2 :]]
        for count in _movable(problem, before[:0:-1], stages[number + 1], bottleneck):
            yield [*tasks[:number], before[:-count], before[-count:] + after, *tasks[number + 2 :]]


def _movable(problem: Problem, tasks: Sequence[int], stage: PipelineStage, bottleneck: float) -> Iterator[int]:
    """Counts k for which a stage can take the first k tasks without computing longer than the bottleneck."""
    work = stage.work
    for count, task in enumerate(tasks[:FARTHEST], 1):
        work += problem.tasks[task].work[stage.kind]
        if work > bottleneck:
            return
        yield count


def _fits(problem: Problem, stages: Sequence[PipelineStage], bottleneck: float) -> bool:
    """Return whether a split does not exceed the bottleneck and satisfies all constraints of the problem."""
    where = {task: number for number, stage in enumerate(stages) for task in stage.tasks}
    together: dict[object, int] = {}
    return (
        all(stage.load <= bottleneck and stage.memory <= problem.kinds[stage.kind].memory for stage in stages)
        and all(where[task] == 0 for task in problem.first)
        and all(together.setdefault(task.together, where[n]) == where[n] for n, task in enumerate(problem.tasks))
        and all(
            tensor.producer is None or where[tensor.producer] <= where[task]
            for tensor in problem.tensors
            for task in tensor.consumers
        )
    )


def _key(problem: Problem, nodes: Sequence[Node], stages: Sequence[PipelineStage]) -> tuple[float, int]:
    """Sort key of a split: the time of all transfers, then the number of divided blocks.

    If the producer and a consumer of a tensor are in different stages, each block that contains both is divided.  A
    block counts once for each such pair of producer and consumer.
    """
    transfers = sum(stage.received + stage.sent for stage in stages)
    where = {task: number for number, stage in enumerate(stages) for task in stage.tasks}
    depth = 0
    for tensor in problem.tensors:
        if tensor.producer is not None:
            for task in tensor.consumers:
                if where[task] != where[tensor.producer]:
                    depth += _depth(nodes[tensor.producer].scope, nodes[task].scope)
    return float(f"{transfers:.9e}"), depth  # sums of the same numbers in another order may differ in the last bits


def _depth(one: Scope, other: Scope) -> int:
    """Number of blocks that contain both scopes."""
    return sum(own is another for own, another in zip(one.ancestors(), other.ancestors())) - 1
