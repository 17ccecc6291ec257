"""Goals of a search: limits on what remains of a model, and the agreement that must remain."""

from __future__ import annotations

from collections.abc import Mapping
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
        latency: median seconds of one run on one thread, by target; empty if nothing was measured.
    """

    bytes: int
    macs: int
    params: int
    latency: Mapping[str, float]

    def of(self, quantity: Quantity) -> int:
        """The figure with a name."""
        return {"bytes": self.bytes, "macs": self.macs, "params": self.params}[quantity]

    def to_json(self) -> dict[str, Any]:
        """JSON object of the figures."""
        return {"bytes": self.bytes, "macs": self.macs, "params": self.params, "latency": dict(self.latency)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Figures:
        """The figures of a JSON object that `to_json` made."""
        return cls(given["bytes"], given["macs"], given["params"], given["latency"])


@frozen_dataclass
class Goal:
    """Conditions for the chosen model.

    Attributes:
        limits: the largest figures, as numbers.
        keep: least agreement with the original model; None for the best agreement within the limits.
    """

    limits: Mapping[Quantity, int]
    keep: float | None

    def within(self, figures: Figures) -> bool:
        """Return whether figures are within all limits."""
        return all(figures.of(quantity) <= limit for quantity, limit in self.limits.items())

    def excess(self, figures: Figures) -> float:
        """Largest ratio of a figure to its limit, at least 1; 1 within all limits."""
        return max([1.0, *(figures.of(quantity) / max(limit, 1) for quantity, limit in self.limits.items())])

    @property
    def text(self) -> str:
        """Text of the goal, such as `at most 15,000,000 bytes, agreement at least 0.99`."""
        parts = [f"at most {limit:,} {UNITS[quantity]}" for quantity, limit in self.limits.items()]
        return ", ".join([*parts, *([f"agreement at least {self.keep:g}"] if self.keep is not None else [])])


def limit_of(amount: float, before: int) -> int:
    """Limit on a figure: a share of the figure of the original model up to 1, or a number above 1."""
    return int(amount * before) if amount <= 1 else int(amount)
