"""Limit on the steps that elaboration of a text takes, of a microsecond or two each.

A short text can take many steps: by loops, by tuples that grow, by sizes of a thousand terms.  Elaboration counts its
steps here.  The limit is proportional to the lower bound on the model's extent and to the length of the text, with
`FREE_STEPS` more for steps that the bound does not include.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archc.language.elaboration.arithmetic import item_count
from archc.types import dims
from archc.types.dims import SymbolicDim

FREE_STEPS = 500_000
ALLOWED_BY_A_PART = 100
"""Steps that are allowed for an operator or an instance of a block in the bound, with its attributes."""
ALLOWED_BY_AN_ITERATION = 9
ALLOWED_BY_A_CHARACTER = 4
STEPS_OF_A_PART = 60
"""Steps of an operator or an instance of a block, without its operands and results."""
STEPS_OF_AN_OPERAND = 60
"""Steps of each operand beyond two."""
STEPS_OF_A_RESULT = 3
STEPS_OF_AN_ITERATION = 3
STEPS_OF_A_STATEMENT = 4
STEPS_OF_ARITHMETIC = 2
ITEMS_OF_A_STEP = 4
"""Items of a tuple or list that are copied in one step."""
CHARACTERS_OF_A_STEP = 64
"""Characters of a string that are copied or compared in one step."""


class TooMuchWork(Exception):
    """More steps than are allowed for a text."""


@dataclass
class Work:
    """Counts the steps of building one model, or all models of one file.

    Attributes:
        allowed, done: numbers of steps.
    """

    allowed: int = FREE_STEPS
    done: int = 0
    _characters: int = 0

    def allow(self, parts: int, iterations: int, characters: int) -> None:
        """Allow the steps for a model of this extent, and those for its text, once for all models of that."""
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
    """Number of steps to copy these values, to compare them or to compute with them."""
    steps = 0
    for value in values:
        if isinstance(value, tuple | list):
            steps += item_count(value)
        elif isinstance(value, str):
            steps += len(value) // CHARACTERS_OF_A_STEP
        elif isinstance(value, SymbolicDim):
            steps += 4 * dims.atom_count(value)
    return steps
