"""Goals of a search: limits on what remains of a model, and the agreement that must remain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from archc.frozen_dataclass import frozen_dataclass

Quantity = Literal["bytes", "macs", "params"]
"""Figure with a limit: bytes of the emitted program, multiply-adds of one run, or parameters."""

UNITS: Mapping[Quantity, str] = {"bytes": "bytes", "macs": "multiply-adds", "params": "parameters"}


@frozen_dataclass
class Figures:
    """Size and cost of a model.

    Attributes:
        bytes: bytes of the largest emitted program, with its weights and the files that it imports.
        macs: multiply-adds of one run.
        params: parameters.
        latency: median time of one run on one thread as a share of the original model's, by target; empty if nothing
            was measured.
        spread: two standard errors of these shares.
    """

    bytes: int
    macs: int
    params: int
    latency: Mapping[str, float]
    spread: Mapping[str, float] = field(default_factory=dict)

    def of(self, quantity: Quantity) -> int:
        """The figure with a name."""
        return {"bytes": self.bytes, "macs": self.macs, "params": self.params}[quantity]

    def to_json(self) -> dict[str, Any]:
        """JSON object of the figures."""
        sizes = {"bytes": self.bytes, "macs": self.macs, "params": self.params}
        return {**sizes, "latency": dict(self.latency), "latency_spread": dict(self.spread)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Figures:
        """The figures of a JSON object that `to_json` made."""
        return cls(given["bytes"], given["macs"], given["params"], given["latency"], given["latency_spread"])

    @property
    def slowest(self) -> float:
        """The largest share of the latency over all targets; 1 if nothing was measured."""
        return max(self.latency.values(), default=1.0)


@frozen_dataclass
class Goal:
    """Conditions for the chosen model.

    Attributes:
        limits: the largest figures, as numbers.
        keep: least agreement with the original model; None for the best agreement within the limits.
        latency: largest share of the original model's latency, for each measured target; None without a limit.
    """

    limits: Mapping[Quantity, int]
    keep: float | None
    latency: float | None = None

    @property
    def limited(self) -> bool:
        """True if there is a limit."""
        return bool(self.limits) or self.latency is not None

    def within(self, figures: Figures) -> bool:
        """Return whether figures are within all limits."""
        return self.excess(figures) <= 1

    def excess(self, figures: Figures) -> float:
        """Largest ratio of a figure to its limit, at least 1; 1 within all limits."""
        ratios = [figures.of(quantity) / max(limit, 1) for quantity, limit in self.limits.items()]
        return max([1.0, *ratios, *([figures.slowest / self.latency] if self.latency is not None else [])])

    @property
    def text(self) -> str:
        """Text of the goal, such as `at most 15,000,000 bytes, agreement at least 0.99`."""
        parts = [f"at most {limit:,} {UNITS[quantity]}" for quantity, limit in self.limits.items()]
        if self.latency is not None:
            parts.append(f"at most {self.latency:.1%} of the latency")
        return ", ".join([*parts, *([f"agreement at least {self.keep:g}"] if self.keep is not None else [])])


def limit_of(amount: float, before: int) -> int:
    """Limit on a figure: a share of the figure of the original model up to 1, or a number above 1."""
    return int(amount * before) if amount <= 1 else int(amount)
