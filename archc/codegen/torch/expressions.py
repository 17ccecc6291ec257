"""Expressions of one emitted class, for operators, weights and sizes.

All instances of the class share its code, so an expression must be correct for each instance.

`forward` reads a symbolic size from the shape of an input.  If no input has the size, `forward` takes the size as an
argument after the tensors.  A weight outside the class is also an argument of `forward` after the tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from archc.codegen.outline.alignment import is_argument
from archc.codegen.outline.definitions import BlockDefinition, Local
from archc.codegen.torch.constructors import ConstructorArguments
from archc.codegen.torch.layer_classes import spelling
from archc.codegen.torch.members import ModuleMember, access
from archc.codegen.torch.merge import Values, check_same, fill_placeholders, merge, placeholders
from archc.codegen.torch.names import PythonNames
from archc.codegen.torch.parameters import decoded, registration_lines, registrations
from archc.codegen.torch.placement import Placement
from archc.declaration.spelling import as_parameters, atom, literal, method
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Graph, Node
from archc.types.attributes import attributes
from archc.types.dims import Symbol, SymbolicDim, as_linear, as_symbol, substitute, symbol, symbols
from archc.types.storage import Int8, LowRankStorage
from archc.types.tensor_type import TensorType


@frozen_dataclass
class ExtraArgument:
    """An argument of `forward` after the tensors: a size or a weight.

    Attributes:
        symbol: the symbolic size; None for a weight.
        weights: the path of the weight in each instance.
    """

    name: str
    symbol: Symbol | None = None
    weights: tuple[str, ...] = ()


class OuterReferences:
    """Sizes and outer weights that the code of one class refers to.

    Args:
        types: the types of each input, one for each instance.
        inputs: the names of the inputs.
        names: the variables of `forward`; new variables are added.

    Attributes:
        extras: the arguments of `forward` after the tensors.
        lines: the variables for sizes, each with the expression that `forward` assigns to it.
    """

    def __init__(
        self,
        definition: BlockDefinition,
        instances: tuple[int, ...],
        types: Sequence[Sequence[TensorType]],
        inputs: dict[Local, str],
        names: PythonNames,
    ):
        self.scopes = [definition.scopes[k] for k in instances]
        self.types, self.inputs, self.names = types, list(inputs.values()), names
        self.extras: dict[object, ExtraArgument] = {}
        self.lines: list[tuple[str, str]] = []
        self._variables: dict[str, str] = {}
        self._sources: list[dict[SymbolicDim, str] | None] = [None] * len(instances)

    def size(self, instance: int, dim: int | SymbolicDim) -> str:
        """The text of a size in one instance; adds the variables and arguments that the text refers to."""
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
        """The text of each symbolic size of the inputs, and of symbols such as `N` in the size `2*N + 1`."""
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
            self.extras[found] = ExtraArgument(self.names.take(found.name), symbol=found)
        return self.extras[found].name

    def weight(self, paths: tuple[str, ...]) -> str | None:
        """The path of a weight relative to the class; None for a weight outside the class.

        Args:
            paths: the path of the weight in each instance.

        Raises:
            Mismatch: the relative paths of the instances differ.
        """
        relative = []
        for path, scope in zip(paths, self.scopes):
            prefix = f"{scope.path}." if scope.path else ""
            relative.append(path[len(prefix) :] if path.startswith(prefix) else None)
        check_same(relative)
        return relative[0]

    def extra_weight(self, paths: tuple[str, ...]) -> str:
        """The name of the `forward` argument for a weight outside the class."""
        if paths not in self.extras:
            base = "_".join(paths[0].split(".")[-2:])
            self.extras[paths] = ExtraArgument(self.names.take(base), weights=paths)
        return self.extras[paths].name

    @property
    def device(self) -> str | None:
        """The expression of the inputs' device; None without inputs."""
        return f"{self.inputs[0]}.device" if self.inputs else None


def _solved(dim: SymbolicDim, text: str) -> list[tuple[SymbolicDim, str]]:
    """The symbol in a linear size such as `2*N + 1`, with the text that computes it from the size."""
    part = as_linear(dim)
    if part is None:
        return []
    found, scale, offset = part
    shifted = text if not offset else f"{text} {'-' if offset > 0 else '+'} {abs(offset)}"
    if scale != 1:
        shifted = f"({shifted}) // {scale}" if offset else f"{text} // {scale}"
    return [(symbol(found.name), shifted)]


Bases = Mapping[str, str]
"""Maps the path of a list element, such as `blocks.0`, to the loop variable that holds it."""


class ExpressionWriter:
    """Writes the expressions in the statements of one class.

    Args:
        instances: the numbers of the instances of the definition that use the class.
    """

    def __init__(
        self,
        definition: BlockDefinition,
        instances: tuple[int, ...],
        graph: Graph,
        placement: Placement,
        members: ModuleMember,
        arguments: ConstructorArguments,
        around: OuterReferences,
    ):
        self.graph, self.placement = graph, placement
        self.members, self.arguments, self.around = members, arguments, around
        self.paths = [definition.scopes[k].path for k in instances]

    def access(self, path: str, bases: Bases) -> str:
        """The expression of the member at a path.

        It begins with a loop variable if `bases` has one for the member or for a module around it.
        """
        for base, variable in bases.items():
            if path == base or path.startswith(f"{base}."):
                inner = self.members.at(base)
                return access(inner, path[len(base) + 1 :], variable)
        return access(self.members, path)

    def extra(self, extra: ExtraArgument, instances: Sequence[int], bases: Bases) -> str:
        """The expression that this class passes to another class for an extra argument.

        Args:
            instances: instance k of this class calls instance `instances[k]` of the other class.
        """
        if extra.symbol is not None:
            texts = [self.around.size(k, symbol(extra.symbol.name)) for k in range(len(instances))]
            check_same(texts)
            return texts[0]
        return self.weight(tuple(extra.weights[k] for k in instances), bases)

    def function(self, nodes: Sequence[Node], bases: Bases, layer: str) -> Callable[[Sequence[str]], str]:
        """A function from the expressions of operands to the expression of a node.

        Args:
            nodes: the node in each instance.
            layer: the name of the layer or operator; new constructor arguments are named after it.

        Raises:
            Mismatch: the texts of the instances differ in more than literals.
        """
        first = nodes[0]
        paths = {name: tuple(node.weights[name] for node in nodes) for name in first.weights}
        weights = as_parameters({name: self.weight(paths[name], bases) for name in paths}, first.transposed)
        here = self.placement.away(first)
        if all((node.op, node.types, self.placement.away(node)) == (first.op, first.types, here) for node in nodes[1:]):
            return lambda operands: self._spell(0, first, operands, weights)
        holes = placeholders(len(first.operands))
        varying = _varying(nodes)
        texts = [self._spell(k, node, holes, weights, varying) for k, node in enumerate(nodes)]
        if all(text == texts[0] for text in texts):
            return lambda operands: self._spell(0, first, operands, weights)
        names = attribute_names(nodes)

        def argument(values: Values, keyword: str) -> str:
            return self.arguments.keep(values, lambda own: names.get(own) or keyword or "value", layer)

        merged = merge(texts, argument)
        kind = type(texts[0])
        return lambda operands: kind(fill_placeholders(merged, operands))

    def _spell(
        self,
        instance: int,
        node: Node,
        operands: Sequence[str],
        weights: Mapping[str, str],
        varying: Collection[str] = (),
    ) -> str:
        sizes = self.around
        for name in self.placement.away(node):
            weights = {**weights, name: method(weights[name], "to", f"{atom(operands[0])}.device")}
        spell = spelling(
            node,
            self.graph,
            operands,
            weights,
            lambda dim: sizes.size(instance, dim),
            sizes.device,
            training="self.training",
            varying=varying,
        )
        return node.op.torch(spell)

    def weight(self, paths: tuple[str, ...], bases: Bases) -> str:
        """The expression of a decoded weight; `paths` has its path in each instance."""
        relative = self.around.weight(paths)
        if relative is None:
            return self.around.extra_weight(paths)
        owner, _, name = relative.rpartition(".")
        module = self.access(owner, bases) if owner else "self"
        weight = self.graph.weights[paths[0]]
        text = decoded(weight.storage, module, name, len(weight.shape))
        # The class is a `Keeping`, which caches the decoded weight; `decoded()` and `floats` cache by themselves.
        storage = weight.storage
        integers = isinstance(storage, Int8) and name != "weight"
        factors = isinstance(storage, LowRankStorage) and storage.format is not None
        cached = not owner and (integers or factors)
        return f"self.kept({literal(name)}, lambda: {text})" if cached else text

    def registration(self, parameter: str) -> list[str]:
        """The lines of `__init__` that register the stored tensors of one of the class's own parameters."""
        weights = [self.graph.weights[f"{path}.{parameter}"] for path in self.paths]
        rows = [registrations(weight, parameter) for weight in weights]
        lines: list[str] = []
        for name in rows[0]:
            text = merge(
                [row[name] for row in rows], lambda values, keyword: self.arguments.take(values, keyword or "size")
            )
            lines += registration_lines("self", name, text)
        return lines


def _varying(nodes: Sequence[Node]) -> set[str]:
    """The attributes that differ between nodes of one operator class."""
    names = [info.name for info in attributes(type(nodes[0].op))]
    rows = [[getattr(node.op, name) for name in names] for node in nodes]
    return {name for name, values in zip(names, zip(*rows)) if any(value != values[0] for value in values)}


def attribute_names(nodes: Sequence[Node]) -> dict[tuple[str, ...], str]:
    """The name of each attribute, by a tuple with its literal in each instance.

    Example: `{("64", "128"): "out_channels"}`.
    """
    found: dict[tuple[str, ...], str] = {}
    for info in attributes(type(nodes[0].op)):
        rows = [list(_named_values(info.name, info.of(node.op))) for node in nodes]
        for column in zip(*rows):
            found.setdefault(tuple(literal(value) for _, value in column), column[0][0])
    return found


def _named_values(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield an attribute and its parts with their names; the parts of `(("h", 8), ("w", 4))` are h and w."""
    if is_argument(value):
        yield name, value
    if isinstance(value, tuple):
        has_names = bool(value) and all(isinstance(item, tuple) and len(item) == 2 for item in value)
        for item in value:
            part, own = item if has_names and isinstance(item[0], str) else (name, item)
            yield from _named_values(part, own)
