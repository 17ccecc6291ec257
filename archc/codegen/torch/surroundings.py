"""What the code of a class refers to besides its tensors: symbolic sizes, and weights that are not its own.

A size is read off one of the inputs at the start of `forward`.  What cannot be had from within a class (a size that
no input shows, a weight that lies outside it) enters `forward` as an argument after the tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archc.codegen.outline.program import Definition, Local
from archc.codegen.torch.merge import check_same
from archc.codegen.torch.names import Names
from archc.types.dims import Symbol, SymbolicDim, as_linear, as_symbol, substitute, symbol, symbols
from archc.types.tensor_type import TensorType


@dataclass(frozen=True, slots=True)
class Extra:
    """An argument of `forward` besides the tensors.

    Attributes:
        symbol: the size that it is, or None.
        weights: the path of the weight that it is, for each instance.
    """

    name: str
    symbol: Symbol | None = None
    weights: tuple[str, ...] = ()


class Surroundings:
    """The sizes and extra arguments of one class.

    Args:
        types: the types of each input, one for each instance.
        inputs: the names of the inputs.
        names: the variables of `forward`; what is made here is entered.
    """

    def __init__(
        self,
        definition: Definition,
        instances: tuple[int, ...],
        types: Sequence[Sequence[TensorType]],
        inputs: dict[Local, str],
        names: Names,
    ):
        self.scopes = [definition.scopes[k] for k in instances]
        self.types, self.inputs, self.names = types, list(inputs.values()), names
        self.extras: dict[object, Extra] = {}
        self.lines: list[tuple[str, str]] = []
        self._variables: dict[str, str] = {}
        self._sources: list[dict[SymbolicDim, str] | None] = [None] * len(instances)

    def size(self, instance: int, dim: int | SymbolicDim) -> str:
        """A size as text for one instance; `forward` reads what it needs of it."""
        if isinstance(dim, int):
            return str(dim)
        sources = self._source(instance)
        if dim in sources:
            return self._variable(sources[dim], dim)
        names = {}
        for name, found in symbols(dim).items():
            source = sources.get(symbol(name))
            names[name] = symbol(self._extra_size(found) if source is None else self._variable(source, symbol(name)))
        return str(substitute(dim, names))

    def _source(self, instance: int) -> dict[SymbolicDim, str]:
        """The text of each size that an input of an instance shows, and of each symbol that follows from one."""
        known = self._sources[instance]
        if known is None:
            known = self._sources[instance] = {}
            derived: dict[SymbolicDim, str] = {}
            for name, types in zip(self.inputs, self.types):
                for axis, dim in enumerate(types[instance].shape):
                    if isinstance(dim, SymbolicDim):
                        known.setdefault(dim, f"{name}.shape[{axis}]")
                        for found, text in _solved(dim, f"{name}.shape[{axis}]"):
                            derived.setdefault(found, text)
            for found, text in derived.items():
                known.setdefault(found, text)
        return known

    def _variable(self, source: str, dim: SymbolicDim) -> str:
        if source not in self._variables:
            own = next((name for name, value in self.scopes[0].sizes.items() if value == dim), None)
            found = as_symbol(dim)
            name = own or (found.name if found is not None else "size")
            self._variables[source] = self.names.take(name)
            self.lines.append((self._variables[source], source))
        return self._variables[source]

    def _extra_size(self, found: Symbol) -> str:
        if found not in self.extras:
            self.extras[found] = Extra(self.names.take(found.name), symbol=found)
        return self.extras[found].name

    def weight(self, paths: tuple[str, ...]) -> str | None:
        """A weight's path below the class's own, or None where it lies outside.

        Raises:
            Mismatch: the instances differ.
        """
        relative = []
        for path, scope in zip(paths, self.scopes):
            prefix = f"{scope.path}." if scope.path else ""
            relative.append(path[len(prefix) :] if path.startswith(prefix) else None)
        check_same(relative)
        return relative[0]

    def extra_weight(self, paths: tuple[str, ...]) -> str:
        """The argument of `forward` that hands in a weight from outside."""
        if paths not in self.extras:
            base = "_".join(paths[0].split(".")[-2:])
            self.extras[paths] = Extra(self.names.take(base), weights=paths)
        return self.extras[paths].name

    @property
    def device(self) -> str | None:
        """The device of the tensors here."""
        return f"{self.inputs[0]}.device" if self.inputs else None


def _solved(dim: SymbolicDim, text: str) -> list[tuple[SymbolicDim, str]]:
    """The symbol of a size such as `2*N + 1`, given the text of the size."""
    part = as_linear(dim)
    if part is None:
        return []
    found, scale, offset = part
    shifted = text if not offset else f"{text} {'-' if offset > 0 else '+'} {abs(offset)}"
    if scale != 1:
        shifted = f"({shifted}) // {scale}" if offset else f"{text} // {scale}"
    return [(symbol(found.name), shifted)]
