"""Layers whose weight has a mask: classes that extend those of `torch.nn`.

`MaskedLinear(1600, 128)` has the parameters of `nn.Linear(1600, 128)` and a buffer `weight_mask`.  It computes with
the product of the two, so no gradient reaches what the mask leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass

from archc.codegen.torch.formatting import lines_of
from archc.codegen.torch.layer_classes import MASKED, module_of
from archc.ir.graph import Graph


@dataclass(frozen=True)
class MaskedLayer:
    """A class of the emitted module.

    Attributes:
        name: of the class, base: the module that it extends; lines: how its `forward` ends.
    """

    name: str
    base: str
    lines: str


def masked_layers(graph: Graph) -> list[MaskedLayer]:
    """The classes that the layers of a graph need, by name."""
    found: dict[str, MaskedLayer] = {}
    for node in graph.nodes():
        module = module_of(node, graph)
        if module is not None and module.function.startswith(MASKED):
            forward = node.op.torch_forward("weight")
            assert forward is not None, "`module_of` saw that it has one"
            base = f"nn.{module.function.removeprefix(MASKED)}"
            found[module.function] = MaskedLayer(module.function, base, "\n".join(lines_of("return ", forward, 2)))
    return [found[name] for name in sorted(found)]
