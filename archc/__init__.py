"""archc: a compiler for neural-network architectures.

    import archc

    graph = archc.parse("model m { input x: f32[N, 8]  output y = x -> fc: linear(2) }")
    compiled = archc.compile("specs/cnn.arch", passes="lowrank, quant")
    compiled.write("out")

Modules are imported when their names are first used, so `import archc` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from archc.version import __version__ as __version__

if TYPE_CHECKING:
    from archc.codegen.target import ModelToEmit, Runtime, Target
    from archc.compiler import compile, parse
    from archc.declaration import traits
    from archc.declaration.base import Operator, OperatorError, operator
    from archc.declaration.parameter import Parameter
    from archc.declaration.registry import make_operator
    from archc.diagnostics import ArchcError, Diagnostic, Diagnostics
    from archc.driver.compiled import Compiled
    from archc.driver.graph_views import draw, print_graph
    from archc.ir.graph import Graph, Node, Value
    from archc.passmanager import Context, Pass, select
    from archc.shrinking.entry_point import shrink
    from archc.shrinking.shrunk import Shrunk
    from archc.targets.registry import register_target
    from archc.types.attributes import AttributeProblem, attribute
    from archc.types.tensor_type import DType, TensorType

_HOMES = {
    "ArchcError": "archc.diagnostics",
    "AttributeProblem": "archc.types.attributes",
    "Compiled": "archc.driver.compiled",
    "Context": "archc.passmanager",
    "DType": "archc.types.tensor_type",
    "Diagnostic": "archc.diagnostics",
    "Diagnostics": "archc.diagnostics",
    "Graph": "archc.ir.graph",
    "ModelToEmit": "archc.codegen.target",
    "Node": "archc.ir.graph",
    "Operator": "archc.declaration.base",
    "OperatorError": "archc.declaration.base",
    "Parameter": "archc.declaration.parameter",
    "Pass": "archc.passmanager",
    "Runtime": "archc.codegen.target",
    "Target": "archc.codegen.target",
    "Shrunk": "archc.shrinking.shrunk",
    "TensorType": "archc.types.tensor_type",
    "Value": "archc.ir.graph",
    "attribute": "archc.types.attributes",
    "compile": "archc.compiler",
    "draw": "archc.driver.graph_views",
    "make_operator": "archc.declaration.registry",
    "operator": "archc.declaration.base",
    "parse": "archc.compiler",
    "print_graph": "archc.driver.graph_views",
    "register_target": "archc.targets.registry",
    "select": "archc.passmanager",
    "shrink": "archc.shrinking.entry_point",
    "traits": "archc.declaration",
}

__all__ = [
    "ArchcError",
    "AttributeProblem",
    "Compiled",
    "Context",
    "DType",
    "Diagnostic",
    "Diagnostics",
    "Graph",
    "ModelToEmit",
    "Node",
    "Operator",
    "OperatorError",
    "Parameter",
    "Pass",
    "Runtime",
    "Shrunk",
    "Target",
    "TensorType",
    "Value",
    "attribute",
    "compile",
    "draw",
    "make_operator",
    "operator",
    "parse",
    "print_graph",
    "register_target",
    "select",
    "shrink",
    "traits",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'archc' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return all public names, also those that are not imported yet, for completion."""
    return sorted({*globals(), *__all__})
