"""Batches of calibration data for sequential compression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from archc.compression.calibration.bounded_batches import MEMORY, bounded_batches
from archc.ir.graph import Graph
from archc.passmanager import Context

if TYPE_CHECKING:
    import torch


def calibration_batches(graph: Graph, context: Context, method: str) -> Sequence[Mapping[str, torch.Tensor]]:
    """Batches of calibration data for `compress_sequentially`, with a note if some are left out.

    Args:
        method: name of the method that uses the batches, for the note.
    """
    batches = list(context.calibration.batches())
    used = bounded_batches(graph, batches)
    if len(used) < len(batches):
        context.note(
            graph.name,
            f"{method} uses {len(used)} of {len(batches)} batches of the calibration data: the activations of more"
            f" batches need over {MEMORY / 1e9:.1f} GB",
        )
    return used
