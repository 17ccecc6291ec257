"""The base class of operators, the parts of an operator's declaration, and the table of all operators."""

from archc.operator.base import OPERATORS, Operator, OperatorError

__all__ = ["OPERATORS", "Operator", "OperatorError"]
