"""The stages of a model, as `archc show` prints them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from archc.analysis.devices import KINDS, Devices, StageDevice
from archc.analysis.stage_costs import StageCost, duration, stage_costs
from archc.cli import output
from archc.ir.graph import Graph
from archc.ir.stages import Stages, has_stages

UNKNOWN = "cpu"
"""The kind of device that is assumed if the text names no device."""


def costs(graph: Graph, machines: Iterable[Devices], sizes: Mapping[str, int]) -> list[StageCost]:
    """The costs of each stage; empty for a model of one stage.

    Args:
        machines: the `devices` statements of the file.

    Raises:
        ArchcError: the stages are wrong; see `Stages`.
    """
    if not has_stages(graph):
        return []
    stages = Stages(graph)
    return stage_costs(graph, stages, _places(stages.devices, machines), sizes)


def _places(names: Sequence[str | None], machines: Iterable[Devices]) -> list[StageDevice]:
    """Return the devices with these PyTorch names, from the first machine that has all of them.

    Without such a machine, each device has the default speeds of its kind.
    """
    for machine in machines:
        known = {place.device.torch: place for place in machine.stage_devices()}
        if all(name in known for name in names):
            return [known[name] for name in names if name is not None]
    return [
        StageDevice(name or UNKNOWN, KINDS.get((name or UNKNOWN).partition(":")[0], KINDS[UNKNOWN])()) for name in names
    ]


def to_json(found: Sequence[StageCost]) -> list[dict[str, Any]]:
    """An object for each stage."""
    return [cost.to_json() for cost in found]


def text(found: Sequence[StageCost]) -> str:
    """A table with a row for each stage."""
    columns: list[tuple[str, output.Align]] = [
        ("stage", "left"),
        ("device", "left"),
        ("layers", "left"),
        ("operators", "right"),
        ("load", "right"),
        ("share", "right"),
        ("work", "right"),
        ("transfers", "right"),
        ("bytes received", "right"),
        ("bytes sent", "right"),
        ("memory", "right"),
    ]
    total = sum(cost.load for cost in found) or 1.0
    rows = [
        [
            str(cost.stage),
            cost.device,
            cost.ends,
            f"{cost.operators:,}",
            duration(cost.load),
            f"{cost.load / total:.0%}",
            duration(cost.work),
            duration(cost.transfer),
            f"{cost.received:,}",
            f"{cost.sent:,}",
            f"{cost.memory:,}",
        ]
        for cost in found
    ]
    return output.table(columns, rows)
