"""Weights that no layer of a graph owns: in one stage of a pipeline, those of a layer that lives in another stage.

The stage keeps its own copy under the same path, in a module that does nothing but hold it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archc.codegen.torch.formatting import lines_of
from archc.codegen.torch.fresh import registrations
from archc.codegen.torch.spell import owns
from archc.ir.graph import Graph
from archc.operator.spelling import literal
from archc.types.storage import Int8

_PARAMETER = "nn.Parameter("


@dataclass
class Holder:
    """A module for the borrowed weights of one layer.

    Attributes:
        path: of the layer.
        tensors: the expression of each stored tensor, by name.
        base: the class to make it of.
        axis: of a weight stored as int8, where there is a scale for each place.
    """

    path: str
    tensors: dict[str, str] = field(default_factory=dict)
    base: str = "nn.Module"
    axis: int | None = None

    @property
    def is_dict(self) -> bool:
        """Whether it has parameters and nothing else."""
        return all(text.startswith(_PARAMETER) for text in self.tensors.values())

    def constructor(self) -> str:
        """What makes the module; `registrations` add the tensors where it is no dictionary of them."""
        if self.is_dict:
            return (
                f"nn.ParameterDict({{{', '.join(f'{literal(name)}: {text}' for name, text in self.tensors.items())}}})"
            )
        return f"{self.base}()"

    def registrations(self, access: str) -> Iterator[str]:
        """The lines of `__init__` that give the module its tensors; `access` is its expression."""
        if self.is_dict:
            return
        if self.axis:
            yield from lines_of(f"{access}.axis = ", literal(self.axis), 2)
        for name, text in self.tensors.items():
            if text.startswith(_PARAMETER):
                yield from lines_of(f"{access}.{name} = ", text, 2)
            else:
                yield from lines_of("", f"{access}.register_buffer({literal(name)}, {text})", 2)


def borrowed(graph: Graph) -> list[Holder]:
    """The holders that a graph needs, in the order of its weights."""
    own = {path for node in graph.nodes() for name, path in node.weights.items() if owns(node, name)}
    found: dict[str, Holder] = {}
    for path, weight in graph.weights.items():
        if path in own:
            continue
        layer, _, name = path.rpartition(".")
        holder = found.setdefault(layer, Holder(layer))
        holder.tensors |= registrations(weight, name)
        if isinstance(weight.storage, Int8) and name == "weight":
            holder.base, holder.axis = "Int8Weight", weight.storage.axis
    return list(found.values())
