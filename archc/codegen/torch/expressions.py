"""The expressions of one class: functions, weights, constructors; one text for all of its instances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from archc.codegen.outline.program import Definition
from archc.codegen.torch.arguments import Arguments
from archc.codegen.torch.formatting import lines_of
from archc.codegen.torch.fresh import decoded, registrations
from archc.codegen.torch.members import Member, access
from archc.codegen.torch.merge import check_same, merge, placeholders, substitute
from archc.codegen.torch.plans import Context
from archc.codegen.torch.reading import attribute_names
from archc.codegen.torch.spell import spelling
from archc.codegen.torch.surroundings import Extra, Surroundings
from archc.ir.graph import Node
from archc.operator.spelling import as_parameters, atom, literal, method
from archc.types.dims import symbol

Bases = Mapping[str, str]
"""The variables of the loops around a statement, by the path of the member that each stands for."""


class Expressions:
    """Spells what the statements of one class say.

    Args:
        instances: which instances of the definition the class serves.
    """

    def __init__(
        self,
        definition: Definition,
        instances: tuple[int, ...],
        context: Context,
        members: Member,
        arguments: Arguments,
        around: Surroundings,
    ):
        self.graph, self.placement = context.graph, context.placement
        self.members, self.arguments, self.around = members, arguments, around
        self.paths = [definition.scopes[k].path for k in instances]

    def access(self, path: str, bases: Bases) -> str:
        """The expression of the member at a path."""
        for base, variable in bases.items():
            if path == base or path.startswith(f"{base}."):
                inner = self.members.at(base)
                return access(inner, path[len(base) + 1 :], variable)
        return access(self.members, path)

    def extra(self, extra: Extra, instances: Sequence[int], bases: Bases) -> str:
        """What is handed to a use of a class for an extra argument; `instances` are numbers within that class."""
        if extra.symbol is not None:
            texts = [self.around.size(k, symbol(extra.symbol.name)) for k in range(len(instances))]
            check_same(texts)
            return texts[0]
        return self.weight(tuple(extra.weights[k] for k in instances), bases)

    def function(self, nodes: Sequence[Node], bases: Bases, layer: str) -> Callable[[Sequence[str]], str]:
        """What makes the expression of a node out of those of its operands; `nodes` has one for each instance.

        Raises:
            Mismatch: no one text serves all instances.
        """
        first = nodes[0]
        paths = {name: tuple(node.weights[name] for node in nodes) for name in first.weights}
        weights = as_parameters({name: self.weight(paths[name], bases) for name in paths}, first.transposed)
        here = self.placement.away(first)
        if all((node.op, node.types, self.placement.away(node)) == (first.op, first.types, here) for node in nodes[1:]):
            return lambda operands: self._spell(0, first, operands, weights)
        holes = placeholders(len(first.operands))
        texts = [self._spell(k, node, holes, weights) for k, node in enumerate(nodes)]
        names = attribute_names(nodes)
        merged = merge(
            texts, lambda values, keyword: self.arguments.keep(values, names.get(values) or keyword or layer, layer)
        )
        kind = type(texts[0])
        return lambda operands: kind(substitute(merged, operands))

    def _spell(self, instance: int, node: Node, operands: Sequence[str], weights: Mapping[str, str]) -> str:
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
        )
        return node.op.torch(spell)

    def weight(self, paths: tuple[str, ...], bases: Bases) -> str:
        """The expression of what a weight decodes to."""
        relative = self.around.weight(paths)
        if relative is None:
            return self.around.extra_weight(paths)
        owner, _, name = relative.rpartition(".")
        module = self.access(owner, bases) if owner else "self"
        weight = self.graph.weights[paths[0]]
        return decoded(weight.storage, module, name, len(weight.shape), weight.dtype)

    def registration(self, parameter: str) -> list[str]:
        """The lines of `__init__` for a parameter that the class holds itself, or for what is stored for it."""
        weights = [self.graph.weights[f"{path}.{parameter}"] for path in self.paths]
        rows = [registrations(weight, parameter) for weight in weights]
        lines: list[str] = []
        for name in rows[0]:
            text = merge(
                [row[name] for row in rows], lambda values, keyword: self.arguments.take(values, keyword or "size")
            )
            if text.startswith("nn.Parameter("):
                lines += lines_of(f"self.{name} = ", text, 2)
            else:
                lines += lines_of("", f"self.register_buffer({literal(name)}, {text})", 2)
        return lines
