"""Shapes for the reader: in comments at the ends of lines, and in docstrings."""

from __future__ import annotations

from collections.abc import Callable

from archc.codegen.outline.argument_names import parameter_name
from archc.codegen.outline.program import Definition, Local
from archc.codegen.torch.local_types import Types
from archc.types.tensor_type import TensorType


class Notes:
    """The shapes within one class, as its text calls their sizes.

    Args:
        definition: with the scopes of the instances that the class serves.
        types: the types of a local in these instances.
    """

    def __init__(self, definition: Definition, types: Callable[[Local], Types]):
        self.definition, self.types = definition, types
        self.silent: set[Local] = set()  # tensors whose shape changes with the iteration of a loop

    def line(self, result: Local, source: Local | None) -> str:
        """The comment for a line that makes a result mainly out of a source: its shape, if that is news."""
        types = self.types(result)
        if result in self.silent:
            return ""
        if source is not None:
            before = self.types(source)
            if all(own.shape == other.shape for own, other in zip(types, before)):
                return ""
        return self.shape(types) or ""

    def shape(self, types: Types) -> str | None:
        """`[N, 32, 13, 13]`; None where the instances differ and nobody has a name for it."""
        if any(own.rank != types[0].rank for own in types):
            return None
        sizes = []
        for axis in range(types[0].rank):
            values = [own.shape[axis] for own in types]
            same = all(value == values[0] for value in values)
            if same and isinstance(values[0], int):
                sizes.append(str(values[0]))
                continue
            name = parameter_name(self.definition, values, str(values[0]) if same else "")
            if not name:
                return None
            sizes.append(name)
        return f"[{', '.join(sizes)}]"

    def described(self, local: Local, name: str) -> str:
        """`image: float32 [N, 1, 28, 28]`, for a docstring."""
        types = self.types(local)
        return f"{name}: {_dtype(types[0])} {self.shape(types) or f'of {types[0].rank} axes'}"


def _dtype(type: TensorType) -> str:
    return type.dtype.torch
