"""Budgets: what remains of the parameters, multiply-adds or bytes of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from archc.types.attributes import AttributeProblem

Measure = Literal["params", "macs", "bytes"]

NAMES: dict[Measure, str] = {"params": "parameters", "macs": "multiply-adds", "bytes": "bytes"}


@dataclass(frozen=True)
class ModelBudget:
    """Upper bound on what remains of a model after a pass, as a share or as a number.

    Attributes:
        measure: what is counted, over the whole model: parameters, multiply-adds of one run, or bytes of the emitted
            program.
        amount: a share of the model before the pass, above 0 and at most 1, or an absolute number above 1.
    """

    measure: Measure
    amount: float

    def limit(self, total: int) -> int:
        """Largest number that remains.

        Args:
            total: number before the pass.
        """
        return int(self.amount * total) if self.amount <= 1 else int(self.amount)

    def __str__(self) -> str:
        amount = f"{self.amount:.0%} of the" if self.amount <= 1 else f"{int(self.amount):,}"
        return f"{amount} {NAMES[self.measure]}"


def model_budget(step: str, params: float | None, macs: float | None, bytes: float | None = None) -> ModelBudget | None:
    """Budget that the options `params`, `macs` and `bytes` of a pass give; None without them.

    Args:
        step: name of the pass.

    Raises:
        AttributeProblem: more than one is given, or the amount is not above 0.
    """
    options: dict[Measure, float | None] = {"params": params, "macs": macs, "bytes": bytes}
    given = {measure: amount for measure, amount in options.items() if amount is not None}
    if not given:
        return None
    (measure, amount), *others = given.items()
    if others:
        other = others[0][0]
        raise AttributeProblem(
            "conflicting-options",
            f"`{step}` takes one of `params`, `macs` and `bytes`, got `{measure}` and `{other}`",
            other,
            f"remove `{other}`",
        )
    if amount <= 0 or (amount > 1 and amount != int(amount)):
        raise AttributeProblem(
            "bad-option",
            f"`{measure}` of `{step}` must be a share up to 1 or a whole number, got {amount}",
            measure,
            f"for example `{measure} = 0.6` for 60 % of the {NAMES[measure]}",
        )
    return ModelBudget(measure, amount)
