"""The report of one pass: costs before and after, errors at the outputs, and remarks on layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from archc.analysis.cost import Cost
from archc.frozen_dataclass import frozen_dataclass
from archc.passmanager.base import Preserves, Remark


@frozen_dataclass
class PassReport:
    """Outcome of one pass.

    Attributes:
        changed: True if the graph or a stored tensor differs from that before this pass.
        error: relative error of the outputs, compared with the graph before this pass.
        total_error: relative error of the outputs, compared with the graph before the first pass.

        new_results: layers whose result changes by design; see `Context`.

    The relative error of an output y that became y' is ‖y' - y‖₂ / ‖y‖₂; for an integer output, it is the fraction of
    elements that differ.  The report has the largest error of all outputs.  An error is infinite (null in JSON) if an
    output is no longer finite.
    """

    text: str
    preserves: Preserves
    before: Cost
    after: Cost
    changed: bool
    error: float
    total_error: float
    remarks: tuple[Remark, ...]
    new_results: Mapping[str, str | None] = field(default_factory=dict)

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
    """An error as a JSON number; None (null) for infinity, which JSON does not have."""
    return error if math.isfinite(error) else None
