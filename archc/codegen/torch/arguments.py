"""What a class takes as constructor arguments: what differs between its instances."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from archc.codegen.outline.argument_names import defaulting, means_another, own_order, parameter_name, stands_for
from archc.codegen.outline.multiples import multiple_of
from archc.codegen.outline.program import Definition
from archc.codegen.torch.merge import Values
from archc.codegen.torch.names import IN_CONSTRUCTORS, Names, identifier, is_reserved_member


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a constructor, with its literal for each instance."""

    name: str
    values: Values


class Arguments:
    """The arguments of one class, collected while its code is made.

    Args:
        members: the names of its modules so far, which attributes that keep arguments must not reuse.
        classes: the names of the classes of its modules, which arguments must not shadow.
    """

    def __init__(
        self,
        definition: Definition,
        instances: tuple[int, ...],
        members: set[str],
        classes: Iterable[str] = (),
    ):
        self.definition = replace(definition, scopes=tuple(definition.scopes[k] for k in instances))
        self.members = members
        self.found: dict[Values, Argument] = {}
        self.kept: dict[str, str] = {}  # the arguments that `forward` reads, with the attributes that hold them
        self._names = Names((*IN_CONSTRUCTORS, *classes))

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
            multiple = None if stands_for(self.definition, wanted, given) else multiple_of(self.definition, given)
            if multiple is not None:
                base = self.take(tuple(map(str, multiple.base)), multiple.name)
                return f"{multiple.factor} * {base}" if multiple.factor > 0 else f"{base} // {-multiple.factor}"
            taken = wanted in self._names or (bool(layer) and means_another(self.definition, wanted, given))
            name = f"{layer.replace('.', '_')}_{hint}" if taken else wanted
            self.found[values] = Argument(self._names.take(identifier(name)), values)
        return self.found[values].name

    def known(self, values: Sequence[str | None]) -> Values | None:
        """The values of an argument that is there already, given some of them."""
        for found in self.found:
            if all(value is None or value == own for value, own in zip(values, found)):
                return found
        return None

    def reserve(self, name: str) -> None:
        """Let no argument have a name."""
        self._names.take(name)

    def keep(self, values: Values, hint: str, layer: str = "") -> str:
        """The text for a value in `forward`: the argument is kept as an attribute."""
        text = self.take(values, hint, layer)
        if values not in self.found:
            return text
        if text not in self.kept:
            self.kept[text] = self._attribute(text)
        return f"self.{self.kept[text]}"

    def _attribute(self, argument: str) -> str:
        """Name of the attribute that keeps an argument; no other member of the module has it."""
        name = argument
        while name in self.members or name in self.kept.values() or is_reserved_member(name):
            name += "_"
        return name

    def parameters(self) -> list[str]:
        """The constructor's parameters after `self`; those with defaults come last."""
        required, others = [], []
        for argument in self._in_order():
            text, default = f"{argument.name}{_annotation(argument.values)}", self.default(argument)
            if default is None:
                required.append(text)
            else:
                others.append(f"{text} = {default}" if ":" in text else f"{text}={default}")
        return required + others

    def _in_order(self) -> list[Argument]:
        return sorted(self.found.values(), key=lambda argument: own_order(self.definition, argument.name))

    def default(self, argument: Argument) -> str | None:
        """The literal that an argument has where it is not given; None where it must be."""
        instance = defaulting(self.definition, argument.name, [_value(text) for text in argument.values])
        return None if instance is None else argument.values[instance]

    def of(self, instances: Sequence[int]) -> list[tuple[str, Values, bool]]:
        """What instances pass: name, literals, and whether they are all the default.

        Instances are counted within the class.
        """
        found = []
        for argument in self._in_order():
            values = tuple(argument.values[instance] for instance in instances)
            default = self.default(argument)
            found.append((argument.name, values, all(value == default for value in values)))
        return found


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except ValueError:  # `torch.float16`, `float("inf")`
        return text


def _annotation(values: Values) -> str:
    kinds = {_kind(_value(text)) for text in values}
    return "" if "" in kinds else f": {' | '.join(sorted(kinds, key=lambda kind: (kind.startswith('tuple'), kind)))}"


def _kind(value: object) -> str:
    """`int`, `list[int]` or `tuple[int, int]`; nothing for what has no simple type."""
    if isinstance(value, list):
        kinds = {_kind(item) for item in value}
        return "" if "" in kinds or not kinds else f"list[{' | '.join(sorted(kinds))}]"
    if isinstance(value, tuple):
        inner = [_kind(item) for item in value]
        return "" if "" in inner or not inner else f"tuple[{', '.join(inner)}]"
    return type(value).__name__ if type(value) in (bool, int, float, str) else ""
