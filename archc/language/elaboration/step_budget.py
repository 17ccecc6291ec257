"""Limit on the steps of elaboration.

Elaboration counts its steps, because long tuples and sizes of a thousand terms take time.  A step takes one to two
microseconds.  The limit on steps has three terms: one is proportional to the lower bound on the size of the model
(`size_bound.py`), one is proportional to the length of the text, and the constant `FREE_STEPS` is for steps that the
lower bound does not include.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archc.language.elaboration.arithmetic import item_count
from archc.types import dims
from archc.types.dims import SymbolicDim

FREE_STEPS = 500_000
"""Number of steps that are allowed for every file, whatever its length."""
ALLOWED_BY_A_PART = 100
"""Number of additional steps that are allowed for each operator or block instance in the lower bound."""
ALLOWED_BY_AN_ITERATION = 9
ALLOWED_BY_A_CHARACTER = 4
STEPS_OF_A_PART = 60
"""Number of steps for an operator or block instance, without its operands and results."""
STEPS_OF_AN_OPERAND = 60
"""Number of steps for each operand after the second."""
STEPS_OF_A_RESULT = 3
STEPS_OF_AN_ITERATION = 3
STEPS_OF_A_STATEMENT = 4
STEPS_OF_ARITHMETIC = 2
ITEMS_OF_A_STEP = 4
"""Items of a tuple or list that are copied in one step."""
CHARACTERS_OF_A_STEP = 64
"""Characters of a string that are copied or compared in one step."""


class BudgetExceeded(Exception):
    """Failure of elaboration because it takes more steps than are allowed for the text."""


@dataclass
class StepBudget:
    """Counter of the steps to build one model, or all models of a file.

    Attributes:
        allowed: the limit on steps.
        done: the steps so far.
    """

    allowed: int = FREE_STEPS
    done: int = 0
    _characters: int = 0

    def allow(self, parts: int, iterations: int, characters: int) -> None:
        """Raise the limit by the steps for one model.

        The first call for a file also adds the steps for the text of the file.

        Args:
            parts: the lower bound on the number of the model's parts.
            iterations: the lower bound on the number of the model's loop iterations.
            characters: the length of the file and of its imports.
        """
        more = max(0, characters - self._characters)
        self._characters += more
        self.allowed += ALLOWED_BY_A_PART * parts + ALLOWED_BY_AN_ITERATION * iterations + ALLOWED_BY_A_CHARACTER * more

    def count(self, steps: int) -> None:
        """Count steps before they are taken.

        Raises:
            BudgetExceeded: the limit is exceeded.
        """
        self.done += steps
        if self.done > self.allowed:
            raise BudgetExceeded


def steps_of(*values: Any) -> int:
    """Number of steps to copy, compare or compute with values."""
    steps = 0
    for value in values:
        if isinstance(value, tuple | list):
            steps += item_count(value)
        elif isinstance(value, str):
            steps += len(value) // CHARACTERS_OF_A_STEP
        elif isinstance(value, SymbolicDim):
            steps += 4 * dims.atom_count(value)
    return steps
