"""Splitting a graph of tasks into the stages of a pipeline, so that the largest stage is as small as can be.

Nothing here knows of networks: `problem` says what is asked and answered, `solver` answers it.
"""

from __future__ import annotations

from archc.partitioning.problem import (
    DeviceKind,
    Infeasible,
    PipelineSplit,
    PipelineStage,
    Problem,
    SharedMemory,
    Task,
    Tensor,
)
from archc.partitioning.solver import solve

__all__ = [
    "DeviceKind",
    "Infeasible",
    "PipelineSplit",
    "PipelineStage",
    "Problem",
    "SharedMemory",
    "Task",
    "Tensor",
    "solve",
]
