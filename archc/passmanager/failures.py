"""The diagnostic for a model that cannot run on given or random inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from archc.diagnostics import ArchcError, error
from archc.interpreter.sample_inputs import size_minimums
from archc.ir.given_sizes import settings_text, size_names
from archc.types.dims import evaluate

if TYPE_CHECKING:
    from archc.interpreter.evaluate import NodeFailure
    from archc.ir.graph import Graph

_LARGEST = 4096
"""Exclusive limit on the sizes that are tried in the search for one that is large enough."""


def failed_run(graph: Graph, failure: NodeFailure, real: bool) -> ArchcError:
    """The diagnostic for a node that cannot run: the layer, the sizes that it received, and a way out.

    Args:
        real: whether the inputs are a user's data, and not random ones.
    """
    node = failure.node
    received = " and ".join("×".join(map(str, shape)) or "a single number" for shape in failure.shapes)
    sizes = {name: size for name, size in failure.sizes.items() if name in size_names(graph)}
    notes = [f"it receives {received}"] if received else []
    if sizes:
        notes.append(f"the inputs have {settings_text(sizes)}")
    larger = settings_text(_large_enough(graph, sizes))
    if larger and real:
        help = f"give larger samples with `--calib`: at least {larger}"
    elif larger:
        help = f"for passes, give samples with `--calib`: at least {larger}; without passes, there is `--no-check`"
    elif real:
        help = "give samples on which the model runs with `--calib`, or none for random inputs"
    else:
        help = "for passes, give samples with `--calib` on which the model runs; without passes, there is `--no-check`"
    what = "the calibration data" if real else "seeded random inputs"
    message = f"{node.title} cannot run on {what}: {failure.reason}"
    return error("calibration-failed", message, node.span, notes, help)


def _large_enough(graph: Graph, sizes: Mapping[str, int]) -> dict[str, int]:
    """The least value of one size with which the model runs, all others unchanged; empty where there is none."""
    needed = size_minimums(graph)
    missing = [(dim, least) for dim, least in needed if evaluate(dim, sizes=sizes) < least]
    for name in sizes if missing else ():
        for size in range(sizes[name] + 1, _LARGEST):
            trial = {**sizes, name: size}
            if all(evaluate(dim, sizes=trial) >= least for dim, least in (*missing, *needed)):
                return {name: size}
    return {}
