"""Where the layers of a model with stages live, when one process runs all of them.

`to_stage` is a module that moves a tensor to the device of its stage.  Every layer lives in one stage, that of its
first use.  A weight that another layer uses in a later stage goes there with each call, so that it stays one parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from archc.codegen.torch.layer_classes import owns
from archc.ir.graph import Graph, Node
from archc.ir.stages import Stages, has_stages


@dataclass(frozen=True)
class Placement:
    """What an emitted module has to know of stages.

    Attributes:
        stages: the stage of each node; None for a model of one stage.
    """

    graph: Graph
    stages: Stages | None

    @classmethod
    def of(cls, graph: Graph) -> Placement:
        """The placement of a graph.

        Raises:
            ArchcError: its stages do not fit together; see `archc.ir.stages.Stages`.
        """
        return cls(graph, Stages(graph) if has_stages(graph) else None)

    @cached_property
    def homes(self) -> dict[str, int]:
        """The stage that each layer with weights of its own lives in, by path."""
        found: dict[str, int] = {}
        if self.stages is not None:
            for node, stage in self.stages.of_node.items():
                if node.path is not None and any(owns(node, parameter) for parameter in node.weights):
                    found.setdefault(node.path, stage)
        return found

    def away(self, node: Node) -> frozenset[str]:
        """The parameters of a node that live in another stage, in layers that are not this one."""
        if self.stages is None:
            return frozenset()
        stage = self.stages.of_node[node]
        return frozenset(
            name
            for name, path in node.weights.items()
            if not owns(node, name) and self.homes.get(path.rpartition(".")[0], stage) != stage
        )

    def layers(self) -> list[tuple[str, ...]]:
        """The layers that live in each stage; a path stands for all below it where that is one stage."""
        assert self.stages is not None
        found: list[list[str]] = [[] for _ in range(self.stages.count)]
        _collect("", self.homes, found)
        return [tuple(paths) for paths in found]

    def guests(self) -> tuple[str, ...]:
        """The layers that are at work in more than one stage."""
        assert self.stages is not None
        at_work = ((node.path or "", stage) for node, stage in self.stages.of_node.items())
        return tuple(dict.fromkeys(path for path, stage in at_work if self.homes.get(path, stage) != stage))

    def devices(self) -> tuple[str, ...]:
        """The device of each stage unless the user says otherwise."""
        assert self.stages is not None
        return tuple(device or "cpu" for device in self.stages.devices)


def _collect(prefix: str, homes: Mapping[str, int], found: list[list[str]]) -> None:
    """Enter the layers below a path, in their order."""
    below: dict[str, dict[str, int]] = {}
    for path, stage in homes.items():
        segment = path.removeprefix(prefix).partition(".")[0]
        below.setdefault(f"{prefix}{segment}", {})[path] = stage
    for path, layers in below.items():
        stages = set(layers.values())
        if len(stages) == 1:
            found[stages.pop()].append(path)
            continue
        if path in layers:  # a layer that has others below its own name
            found[layers.pop(path)].append(path)
        _collect(f"{path}.", layers, found)
