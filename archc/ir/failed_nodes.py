"""Positions in the text of operators whose methods fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from archc.declaration.operator_failure import OperatorFailure
from archc.ir.graph import Graph


@contextmanager
def located(graph: Graph) -> Iterator[None]:
    """Add the position of its node to the failure of an operator.

    Raises:
        OperatorFailure: a method of an operator from outside archc failed.
    """
    try:
        yield
    except OperatorFailure as failure:
        nodes = (node for node in graph.nodes() if node.op is failure.op)
        raise failure.at(next((node.span for node in nodes), None)) from failure.__cause__
