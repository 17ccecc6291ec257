"""Definition of operators: the base class, the parts of a declaration, and the table of all operators."""

from archc.declaration.base import OPERATORS, Operator, OperatorError

__all__ = ["OPERATORS", "Operator", "OperatorError"]
