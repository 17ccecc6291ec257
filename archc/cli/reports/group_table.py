"""The groups of coupled channels: the output of `archc passes --groups`.

The channels of a group can be removed only together; see `archc.analysis.coupling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from archc.cli import output

if TYPE_CHECKING:
    from archc.analysis.coupling import Coupling


def to_json(coupling: Coupling) -> dict[str, Any]:
    """The groups, each with its weight elements, and the layers with channels that cannot be removed."""
    return {
        "groups": [
            {
                "layers": list(group.producers),
                "stays": group.reason,
                "weights": [
                    {"weight": path, "axis": axis, "elements": elements.tolist()}
                    for (path, axis), elements in group.slices.items()
                ],
            }
            for group in coupling.groups
        ],
        "stay": _stays(coupling),
    }


def text(coupling: Coupling) -> str:
    """Sections of the table: one for each set of coupled layers, and one for layers with fixed channels."""
    sections = []
    for family in coupling.families():
        layers = ", ".join(family[0].producers) or "channels that no layer produces"
        rows = [
            [path, f"axis {axis}", _ranges(elements.tolist())] for (path, axis), elements in family[0].slices.items()
        ]
        shown = "; elements of the first group" if len(family) > 1 else ""
        title = f"{layers}: {output.count(len(family), 'group')}{shown}"
        sections.append(output.section(title, output.columns(rows, indent=2)))
    stays = _stays(coupling)
    if stays:
        sections.append(
            output.section("stay as they are", output.columns([list(row) for row in stays.items()], indent=2))
        )
    return "\n\n".join(sections) or "no weight of the model produces channels"


def _stays(coupling: Coupling) -> dict[str, str]:
    """The layers with channels that cannot be removed, each with the reason."""
    held = coupling.shrinkable.fixed_indices
    found = {
        use.node.title: held[spots[0]] for use, spots in coupling.produced_axes() if all(spot in held for spot in spots)
    }
    for group in coupling.groups:
        if group.reason is not None:
            found |= {layer: group.reason for layer in group.producers if layer not in found}
    return found


def _ranges(numbers: Sequence[int]) -> str:
    """Text of sorted numbers as ranges: `0-3, 8, 10-11`."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
