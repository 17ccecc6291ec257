"""Splitting a graph of tasks into the stages of a pipeline, so that the largest stage is as small as can be.

Nothing here knows of networks: `problem` says what is asked and answered, `solver` answers it.
"""

from __future__ import annotations

from archc.partitioning.problem import Infeasible, Kind, Problem, Shared, Split, Stage, Task, Tensor
from archc.partitioning.solver import solve

__all__ = ["Infeasible", "Kind", "Problem", "Shared", "Split", "Stage", "Task", "Tensor", "solve"]
