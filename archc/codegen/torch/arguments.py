"""What a class takes as constructor arguments: what differs between its instances."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace

from archc.codegen.program import Definition, means_another, parameter_name
from archc.codegen.torch.merge import Values
from archc.codegen.torch.names import Names, identifier


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a constructor, with its literal for each instance."""

    name: str
    values: Values


class Arguments:
    """The arguments of one class, collected while its code is made.

    Args:
        members: the names of its modules, which an argument kept as an attribute must not have.
    """

    def __init__(self, definition: Definition, instances: tuple[int, ...], members: frozenset[str]):
        self.definition = replace(definition, scopes=tuple(definition.scopes[k] for k in instances))
        self.members = members
        self.found: dict[Values, Argument] = {}
        self.kept: dict[str, None] = {}
        self._names = Names()

    def take(self, values: Values, hint: str, layer: str = "") -> str:
        """The text for a value in the constructor: the literal that all instances share, or an argument.

        Args:
            hint: what PyTorch or the operator calls it; layer: whose it is, in case that name is taken, or the
                block's own for something else.
        """
        first = values[0]
        if all(value == first for value in values):
            return first
        if values not in self.found:
            given = [_value(text) for text in values]
            wanted = parameter_name(self.definition, given, hint)
            taken = wanted in self._names or (bool(layer) and means_another(self.definition, wanted, given))
            name = f"{layer.replace('.', '_')}_{hint}" if taken else wanted
            self.found[values] = Argument(self._names.take(identifier(name)), values)
        return self.found[values].name

    def keep(self, values: Values, hint: str, layer: str = "") -> str:
        """The text for a value in `forward`: the argument is kept as an attribute."""
        text = self.take(values, hint, layer)
        if values not in self.found:
            return text
        self.kept[text] = None
        return f"self.{self.attribute(text)}"

    def attribute(self, argument: str) -> str:
        """The attribute under which an argument is kept."""
        from archc.codegen.torch.names import is_reserved_member

        return f"{argument}_" if argument in self.members or is_reserved_member(argument) else argument

    def parameters(self) -> list[str]:
        """The constructor's parameters after `self`."""
        return [f"{argument.name}{_annotation(argument.values)}" for argument in self.found.values()]

    def of(self, instance: int) -> list[tuple[str, str]]:
        """What an instance passes, by name; instances are counted within the class."""
        return [(argument.name, argument.values[instance]) for argument in self.found.values()]


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except ValueError:  # `torch.float16`, `float("inf")`
        return text


def _annotation(values: Values) -> str:
    kinds = {type(_value(text)) for text in values}
    (kind,) = kinds if len(kinds) == 1 else (None,)
    return f": {kind.__name__}" if kind in (bool, int, float, str, tuple) else ""
