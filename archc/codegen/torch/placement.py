"""Placement of layers on the devices of stages, for a model whose stages all run in one process.

The module of the operator `to_stage` moves a tensor to the device of a stage.  Every layer is placed in the stage of
its first use.  If layers in two stages share a weight, the weight is a parameter of one layer only.  Each call of the
other layer copies the weight to the device of that layer's stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from archc.codegen.torch.layer_classes import owns
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Graph, Node
from archc.ir.stages import Stages, has_stages


@frozen_dataclass
class Placement:
    """The stages of a model's layers.

    Attributes:
        stages: the stage of each node; None for a model of one stage.
    """

    graph: Graph
    stages: Stages | None

    @classmethod
    def of(cls, graph: Graph) -> Placement:
        """The placement of a graph.

        Raises:
            ArchcError: its stages are inconsistent; see `archc.ir.stages.Stages`.
        """
        return cls(graph, Stages(graph) if has_stages(graph) else None)

    @cached_property
    def homes(self) -> dict[str, int]:
        """The stage of each layer that owns weights, by path."""
        found: dict[str, int] = {}
        if self.stages is not None:
            for node, stage in self.stages.of_node.items():
                if node.path is not None and any(owns(node, parameter) for parameter in node.weights):
                    found.setdefault(node.path, stage)
        return found

    def away(self, node: Node) -> frozenset[str]:
        """The parameters of a node that belong to layers in another stage."""
        if self.stages is None:
            return frozenset()
        stage = self.stages.of_node[node]
        return frozenset(
            name
            for name, path in node.weights.items()
            if not owns(node, name) and self.homes.get(path.rpartition(".")[0], stage) != stage
        )

    def layers(self) -> list[tuple[str, ...]]:
        """The paths of the layers in each stage; a path includes all layers below it."""
        assert self.stages is not None
        found: list[list[str]] = [[] for _ in range(self.stages.count)]
        _collect("", self.homes, found)
        return [tuple(paths) for paths in found]

    def guests(self) -> tuple[str, ...]:
        """The layers that own weights and are called in more than one stage."""
        assert self.stages is not None
        at_work = ((node.path or "", stage) for node, stage in self.stages.of_node.items())
        return tuple(dict.fromkeys(path for path, stage in at_work if self.homes.get(path, stage) != stage))

    def devices(self) -> tuple[str, ...]:
        """The default device of each stage."""
        assert self.stages is not None
        return tuple(device or "cpu" for device in self.stages.devices)


def _collect(prefix: str, homes: Mapping[str, int], found: list[list[str]]) -> None:
    """Add the layers below a path to the stages in `found`, in order."""
    below: dict[str, dict[str, int]] = {}
    for path, stage in homes.items():
        segment = path.removeprefix(prefix).partition(".")[0]
        below.setdefault(f"{prefix}{segment}", {})[path] = stage
    for path, layers in below.items():
        stages = set(layers.values())
        if len(stages) == 1:
            found[stages.pop()].append(path)
            continue
        if path in layers:  # a layer with further layers below its path
            found[layers.pop(path)].append(path)
        _collect(f"{path}.", layers, found)
