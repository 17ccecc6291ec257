"""The report of one pass: costs before and after, errors at the outputs, and remarks on layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from archc.analysis.cost import Cost
from archc.passmanager.base import Preserves, Remark


@dataclass(frozen=True)
class PassReport:
    """Outcome of one pass.

    Attributes:
        error: relative error at the outputs against the graph before this pass; total_error: against the graph
            before the first pass.  Both are ‖y' - y‖₂ / ‖y‖₂, the largest over the outputs; for integer outputs
            the fraction of elements that differ.  An error is infinite (null in JSON) if an output is no longer finite.
    """

    text: str
    preserves: Preserves
    before: Cost
    after: Cost
    error: float
    total_error: float
    remarks: tuple[Remark, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON object of the report."""
        return {
            "pass": self.text,
            "preserves": self.preserves,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "error": _finite(self.error),
            "total_error": _finite(self.total_error),
            "remarks": [remark.to_json() for remark in self.remarks],
        }


def _finite(error: float) -> float | None:
    """A number for JSON, which has no infinity."""
    return error if math.isfinite(error) else None
