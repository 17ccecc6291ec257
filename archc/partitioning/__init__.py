"""Split a graph of tasks into the stages of a pipeline with the smallest bottleneck.

The package does not depend on the graphs of neural networks.  `problem` has the data structures, `solver` the entry
point.  The method follows Tarnawski et al. 2020, "Efficient Algorithms for Device Placement of DNN Graph Operators".
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
