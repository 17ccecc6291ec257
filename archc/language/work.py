"""Limit on the work that a text makes: steps, of a microsecond or two each.

A short text can describe much work in many ways: loops, tuples that grow, sizes of a thousand terms.  Whatever does
work on behalf of a text counts it here.  What the bound on a model's extent foresees, and each character of the text,
allow for as many steps as they are likely to take; beyond them, `FREE_STEPS` are left for what no bound can foresee.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archc.ir import dims
from archc.ir.dims import SymbolicDim
from archc.language.arithmetic import item_count

FREE_STEPS = 500_000
ALLOWED_BY_A_PART = 100
"""Steps that an operator or a use of a block brings along, if the bound foresees it: itself, and its attributes."""
ALLOWED_BY_AN_ITERATION = 9
ALLOWED_BY_A_CHARACTER = 4
STEPS_OF_A_PART = 60
"""Steps that an operator or a use of a block takes, without its operands and results."""
STEPS_OF_AN_OPERAND = 60
"""The same of each operand beyond two."""
STEPS_OF_A_RESULT = 3
STEPS_OF_AN_ITERATION = 3
STEPS_OF_A_STATEMENT = 4
STEPS_OF_ARITHMETIC = 2
ITEMS_OF_A_STEP = 4
"""Items of a tuple or list that are copied in one step."""
CHARACTERS_OF_A_STEP = 64
"""Characters of a string that are copied or compared in one step."""


class TooMuchWork(Exception):
    """More steps than a text may take."""


@dataclass
class Work:
    """Counts the steps of building one model, or all models of one file.

    Attributes:
        allowed, done: steps.
    """

    allowed: int = FREE_STEPS
    done: int = 0
    _characters: int = 0

    def allow(self, parts: int, iterations: int, characters: int) -> None:
        """Allow for a model of this extent in a text of this length, which counts once for all of its models."""
        more = max(0, characters - self._characters)
        self._characters += more
        self.allowed += ALLOWED_BY_A_PART * parts + ALLOWED_BY_AN_ITERATION * iterations + ALLOWED_BY_A_CHARACTER * more

    def count(self, steps: int) -> None:
        """Count steps that are about to be taken.

        Raises:
            TooMuchWork: there are too many.
        """
        self.done += steps
        if self.done > self.allowed:
            raise TooMuchWork


def steps_of(*values: Any) -> int:
    """Steps that it takes to copy, compare or compute with these values."""
    steps = 0
    for value in values:
        if isinstance(value, tuple | list):
            steps += item_count(value)
        elif isinstance(value, str):
            steps += len(value) // CHARACTERS_OF_A_STEP
        elif isinstance(value, SymbolicDim):
            steps += 4 * dims.atom_count(value)
    return steps
