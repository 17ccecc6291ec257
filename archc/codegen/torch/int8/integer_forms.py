"""PyTorch forms of statements that compute on integers: int8 modules, and expressions.

Operators declare these forms in `Operator.torch_integers`.
"""

from __future__ import annotations

from collections.abc import Sequence

from archc.codegen.outline.definitions import OperatorStep
from archc.codegen.torch.layer_classes import owns, spelling
from archc.declaration.spelling import TorchModule
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Graph, Node


@frozen_dataclass
class IntegerForms:
    """The integer form of a statement, which the operators of its nodes declare.

    Attributes:
        graph: the graph of the nodes, which has their weights.
    """

    graph: Graph

    def modules(self, statement: OperatorStep) -> list[TorchModule] | None:
        """The integer module of each node; None if a node has none."""
        forms = [self._form(node) for node in statement.nodes]
        modules = [form for form in forms if isinstance(form, TorchModule)]
        return modules if len(modules) == len(forms) else None

    def has_expression(self, statement: OperatorStep) -> bool:
        """Return whether one expression over integers is correct for all nodes of a statement."""
        first = statement.nodes[0]
        return isinstance(self._form(first), str) and all(node.op == first.op for node in statement.nodes)

    def expression(self, statement: OperatorStep, operands: Sequence[str]) -> str:
        """The expression of a statement for which `has_expression` is True."""
        return str(self._form(statement.nodes[0], operands))

    def _form(self, node: Node, operands: Sequence[str] = ()) -> TorchModule | str | None:
        """The form of a node, if it has one and uses no weight of another layer."""
        if not all(owns(node, name) for name in node.weights):
            return None
        operands = operands or ("",) * len(node.operands)
        return node.op.torch_integers(spelling(node, self.graph, operands, dict.fromkeys(node.weights, "")))
