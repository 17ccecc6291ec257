"""Split a graph of tasks into stages of a pipeline, so that the slowest stage is as fast as possible.

The package does not depend on the graphs of neural networks.  The module `problem` has the data structures, and
`solver` has the entry point.  The method follows Tarnawski et al. 2020, "Efficient Algorithms for Device Placement of
DNN Graph Operators".
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
