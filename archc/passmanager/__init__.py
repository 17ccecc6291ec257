"""Passes: the base class, discovery, order, execution, verification and measurement.

A pass is a frozen dataclass; its fields are its options.  `run_passes` runs a pipeline of them over a graph.
"""

from archc.passmanager.base import FLOAT_WEIGHTS, UNDIVIDED, Context, Pass, Preserves, Remark, select
from archc.passmanager.registry import known_passes, load_pass, make_pass, pass_names

__all__ = [
    "FLOAT_WEIGHTS",
    "UNDIVIDED",
    "Context",
    "Pass",
    "Preserves",
    "Remark",
    "known_passes",
    "load_pass",
    "make_pass",
    "pass_names",
    "select",
]
