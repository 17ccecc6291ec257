"""The operators, a family a file.  Importing this package makes all of them known."""

import importlib
import pkgutil

from archc.ops.operator import OPERATORS, Operator, OperatorError

# A new file in this folder is a new family: nothing else has to name it.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["OPERATORS", "Operator", "OperatorError"]
