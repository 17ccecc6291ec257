"""Allocation of a budget: one option for each layer, with the smallest summed loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from archc.frozen_dataclass import frozen_dataclass

Key = TypeVar("Key")
Choice = TypeVar("Choice")

ROUNDS = 6
"""Number of allocations after which `allocate_total` takes the best one that fits."""


@frozen_dataclass
class Option(Generic[Choice]):
    """A way to compress one layer.

    Attributes:
        cost: part of the budget, such as bytes of the layer.
        loss: expected squared error of the outputs; losses of layers are summed.
    """

    choice: Choice
    cost: int
    loss: float


def best_options(options: Sequence[Option[Choice]]) -> list[Option[Choice]]:
    """The options that have a smaller loss than all cheaper ones, by their cost."""
    found: list[Option[Choice]] = []
    for option in sorted(options, key=lambda option: (option.cost, option.loss)):
        if not found or option.loss < found[-1].loss:
            found.append(option)
    return found


def allocate(options: Mapping[Key, Sequence[Option[Choice]]], budget: int) -> dict[Key, Option[Choice]] | None:
    """An option for each layer with a total cost of at most `budget`; None if no choice is that small.

    With a Lagrange multiplier λ, each layer takes the option with the smallest loss + λ · cost, and bisection finds the
    smallest λ within the budget (Shoham and Gersho 1988, "Efficient Bit Allocation for an Arbitrary Set of
    Quantizers").  The options on the lower convex hulls are optimal for their total cost.  The rest of the budget is
    then spent greedily, on the change with the largest reduction of loss.
    """
    cheapest = {key: min(each, key=lambda option: (option.cost, option.loss)) for key, each in options.items()}
    if _cost(cheapest) > budget:
        return None
    chosen = _at(options, 0.0)
    if _cost(chosen) > budget:
        low, high = 0.0, 1.0
        while _cost(_at(options, high)) > budget and high < 1e30:
            low, high = high, high * 16
        for _ in range(100):
            middle = (low * high) ** 0.5 if low > 0 else high / 1024
            low, high = (middle, high) if _cost(_at(options, middle)) > budget else (low, middle)
        chosen = _at(options, high)
        if _cost(chosen) > budget:
            chosen = cheapest
    return _fill(options, chosen, budget)


def allocate_total(
    options: Mapping[Key, Sequence[Option[Choice]]],
    budget: int,
    smallest: Mapping[Key, Option[Choice]],
    total: Callable[[Mapping[Key, Option[Choice]]], int],
) -> Mapping[Key, Option[Choice]]:
    """An option for each layer with a total of at most `budget`; a total is more than the sum of costs.

    The rest of the total, the reserve, may differ a little between choices.  So the reserve is taken from the choice
    before, or by bisection between reserves that are too small and large enough.

    Args:
        smallest: a choice within the budget.
        total: the total of a choice, such as the bytes of a program with all weights.
    """
    best = smallest
    too_small, enough = -math.inf, math.inf
    reserve = total(best) - _cost(best)
    for _ in range(ROUNDS):
        chosen = allocate(options, budget - reserve) or best
        whole = total(chosen)
        if whole <= budget:
            best, enough = min(best, chosen, key=_loss), reserve
        else:
            too_small = reserve
        found = whole - _cost(chosen)
        if enough <= found or (found <= too_small and enough - too_small < 2):
            break
        reserve = found if too_small < found else int(too_small + enough) // 2
    return best


def _at(options: Mapping[Key, Sequence[Option[Choice]]], price: float) -> dict[Key, Option[Choice]]:
    return {
        key: min(each, key=lambda option: (option.loss + price * option.cost, option.cost))
        for key, each in options.items()
    }


def _fill(
    options: Mapping[Key, Sequence[Option[Choice]]], chosen: dict[Key, Option[Choice]], budget: int
) -> dict[Key, Option[Choice]]:
    left = budget - _cost(chosen)
    while True:
        changes = [
            (chosen[key].loss - option.loss, key, option)
            for key, each in options.items()
            for option in each
            if option.loss < chosen[key].loss and option.cost - chosen[key].cost <= left
        ]
        if not changes:
            return chosen
        _, key, option = max(changes, key=lambda change: change[0])
        left -= option.cost - chosen[key].cost
        chosen = {**chosen, key: option}


def _cost(chosen: Mapping[Key, Option[Choice]]) -> int:
    return sum(option.cost for option in chosen.values())


def _loss(chosen: Mapping[Key, Option[Choice]]) -> float:
    return sum(option.loss for option in chosen.values())
