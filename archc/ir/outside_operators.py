"""The operators from outside archc in a graph, as the likely cause of a failure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from archc.declaration.base import Operator
from archc.diagnostics import ArchcError, Note
from archc.extension_failure import class_text, is_outside
from archc.ir.graph import Graph, Node


def outside_operators(nodes: Iterable[Node]) -> list[type[Operator]]:
    """Classes of the operators from outside archc, each once, in the order of the nodes."""
    return list(dict.fromkeys(type(node.op) for node in nodes if is_outside(type(node.op))))


def suspecting(graph: Graph, failure: ArchcError) -> ArchcError:
    """The failure of an emitted program, with the operators from outside archc as its likely cause."""
    found = outside_operators(graph.nodes())
    if not found:
        return failure
    notes = [Note(f"a likely cause is an operator from outside archc: {class_text(cls)}") for cls in found]
    methods = f"correct `torch` or `onnx` of {' or '.join(f'`{cls.name}`' for cls in found)}"
    return ArchcError(
        replace(each, notes=(*notes, *each.notes), help=f"{methods}; or {each.help}") for each in failure.diagnostics
    )
