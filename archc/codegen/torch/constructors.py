"""Constructor calls and constructor arguments: one text for all instances of a class.

Literals that differ between instances become arguments of the class (`ConstructorArguments`).  If the length of a list
differs between instances, the constructor calls of its elements must have one text:
`nn.ModuleList(DenseLayer(C=C + 32 * i) for i in range(depth))`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from archc.codegen.outline.argument_names import (
    has_values,
    instance_with_default,
    parameter_name,
    position_in_text,
)
from archc.codegen.outline.definitions import BlockDefinition
from archc.codegen.outline.derived_values import NamedValues, Term, formula_of
from archc.codegen.torch.merge import Values, check_same
from archc.codegen.torch.names import IN_CONSTRUCTORS, PythonNames, identifier, is_reserved_member
from archc.declaration.spelling import TorchModule, atom, infix, literal
from archc.frozen_dataclass import frozen_dataclass

Hint = Callable[[Values], str]
"""Returns the name of a value in PyTorch or in the operator, from its literal in each instance."""


@frozen_dataclass
class ConstructorArgument:
    """An argument of the constructor of a class, with its literal in each instance."""

    name: str
    values: Values


class ConstructorArguments:
    """The constructor arguments of one class, collected while its code is written.

    Args:
        members: the names of its modules; attributes that store arguments must have other names.
        classes: the names of other classes, which arguments must not shadow.

    Attributes:
        found: the arguments, by their values.
        kept: the attributes that store arguments for `forward`, by the name of the argument.
    """

    def __init__(
        self,
        definition: BlockDefinition,
        instances: tuple[int, ...],
        members: set[str],
        classes: Iterable[str] = (),
    ):
        self.definition = replace(definition, scopes=tuple(definition.scopes[k] for k in instances))
        self.members = members
        self.found: dict[Values, ConstructorArgument] = {}
        self.kept: dict[str, str] = {}
        self._names = PythonNames((*IN_CONSTRUCTORS, *classes))

    def take(self, values: Values, hint: str, layer: str = "") -> str:
        """The text of a value in the constructor: a literal, an argument, or a formula of arguments.

        Args:
            values: the literal in each instance.
            hint: the name of the value in PyTorch or in the operator.
            layer: the path of the layer that uses the value, or its operator.  If the block has no name for the value,
                the argument is called `<layer>_<hint>`.
        """
        return self._text(values, lambda values: hint, layer, lambda name: name)

    def keep(self, values: Values, hint: Hint, layer: str = "") -> str:
        """The text of a value in `forward`, which reads arguments from attributes; see `take`."""
        return self._text(values, hint, layer, self._kept)

    def _text(self, values: Values, hint: Hint, layer: str, read: Callable[[str], str]) -> str:
        """The text of a value; `read` returns the text of an argument, from its name."""
        first = values[0]
        if all(value == first for value in values):
            return first
        if values not in self.found:
            given = [_value(text) for text in values]
            wanted = parameter_name(self.definition, given, hint(values))
            known = has_values(self.definition, wanted, given)
            formula = None if known else formula_of(self.definition, given)
            if formula is not None:
                return infix(self._term(formula.left, read), formula.operator, self._term(formula.right, read))
            items = None if known else self._items(given)
            if items is not None:
                return f"({', '.join(self._text(item, hint, layer, read) for item in items)})"
            parts = [part for part in layer.split(".") if part and not part.isdecimal()]
            name = wanted if (known and wanted not in self._names) or not parts else f"{parts[-1]}_{hint(values)}"
            self.found[values] = ConstructorArgument(self._names.take(identifier(name)), values)
        return read(self.found[values].name)

    def _items(self, given: Sequence[object]) -> list[Values] | None:
        """The items of tuples, if at most one item is an argument without a name in the block; else None."""
        if not all(isinstance(value, tuple) and len(value) > 1 for value in given):
            return None
        rows = [value for value in given if isinstance(value, tuple)]
        if any(len(row) != len(rows[0]) for row in rows):
            return None
        columns = list(zip(*rows))
        nameless = [
            column
            for column in columns
            if any(item != column[0] for item in column)
            and not has_values(self.definition, parameter_name(self.definition, column, ""), column)
            and formula_of(self.definition, column) is None
        ]
        return [tuple(map(literal, column)) for column in columns] if len(nameless) <= 1 else None

    def _term(self, term: Term, read: Callable[[str], str]) -> str:
        if isinstance(term, NamedValues):
            return self._text(tuple(map(str, term.values)), lambda values: term.name, "", read)
        return str(term)

    def _kept(self, argument: str) -> str:
        """The expression of the attribute that stores an argument."""
        if argument not in self.kept:
            self.kept[argument] = self._attribute(argument)
        return f"self.{self.kept[argument]}"

    def known(self, values: Sequence[str | None]) -> Values | None:
        """The values of an existing argument that equal the given values; a given None matches any value."""
        for found in self.found:
            if all(value is None or value == own for value, own in zip(values, found)):
                return found
        return None

    def __contains__(self, name: str) -> bool:
        """Return whether no new argument can have a name."""
        return name in self._names

    def reserve(self, name: str) -> None:
        """Reserve a name, so that no argument gets it."""
        self._names.take(name)

    def _attribute(self, argument: str) -> str:
        """The name of the attribute that stores an argument; it differs from all other members of the module."""
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

    def _in_order(self) -> list[ConstructorArgument]:
        return sorted(self.found.values(), key=lambda argument: position_in_text(self.definition, argument.name))

    def default(self, argument: ConstructorArgument) -> str | None:
        """The default of an argument; None for a required argument."""
        instance = instance_with_default(self.definition, argument.name, [_value(text) for text in argument.values])
        return None if instance is None else argument.values[instance]

    def of(self, instances: Sequence[int]) -> list[tuple[str, Values, bool]]:
        """The arguments that instances pass: name, literals, and whether all literals are the default.

        Args:
            instances: positions among the instances of the class.
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
    order = sorted(kinds, key=lambda kind: (kind == "None", kind.startswith("tuple"), kind))
    return "" if "" in kinds else f": {' | '.join(order)}"


def _kind(value: object) -> str:
    """The type of a value: `int`, `None`, `list[int]`, `tuple[int, int]`; empty for other types."""
    if value is None:
        return "None"
    if isinstance(value, list):
        kinds = {_kind(item) for item in value}
        return "" if "" in kinds or not kinds else f"list[{' | '.join(sorted(kinds))}]"
    if isinstance(value, tuple):
        inner = [_kind(item) for item in value]
        return "" if "" in inner or not inner else f"tuple[{', '.join(inner)}]"
    return type(value).__name__ if type(value) in (bool, int, float, str) else ""


INDEX = "i"
"""The loop variable for the number of a list element."""


class PassedArgument(NamedTuple):
    """An argument that a constructor call passes.

    Attributes:
        keyword: its name in the call; empty for a positional argument.
        hint: the preferred name if the value becomes an argument of the calling class.
        values: its literal in each instance.
        usual: True if the argument equals its default in all instances.
    """

    keyword: str
    hint: str
    values: Values
    usual: bool = False

    def text(self, value: str) -> str:
        """The text of the argument with a value."""
        return f"{self.keyword}={value}" if self.keyword else value


@frozen_dataclass
class ConstructorCall:
    """A constructor call, with its arguments in all instances.

    Attributes:
        function: the class or function that is called.
        given: its arguments.
        layer: the path of the constructed layer.
    """

    function: str
    given: tuple[PassedArgument, ...]
    layer: str

    def text(self, arguments: ConstructorArguments) -> str:
        """One text for all instances; values that differ become constructor arguments of the class."""
        given = [each for each in self.given if not each.usual]
        texts = [each.text(arguments.take(each.values, each.hint, self.layer)) for each in given]
        return f"{self.function}({', '.join(texts)})"

    @property
    def form(self) -> tuple[object, ...]:
        """The function and the argument names; calls that differ only in values have equal forms."""
        return self.function, tuple((each.keyword, each.hint) for each in self.given)


def constructor_call(modules: Sequence[TorchModule], layer: str) -> ConstructorCall:
    """The constructor call of a layer, from its module in each instance.

    Raises:
        Mismatch: the modules differ in more than the values of arguments.
    """
    first = modules[0]
    check_same([(module.function, tuple(module.positional), tuple(module.named)) for module in modules])
    given = [
        PassedArgument("", name, tuple(literal(module.positional[name]) for module in modules))
        for name in first.positional
    ]
    for name, (_, default) in first.named.items():
        usual = all(module.named[name][0] == default for module in modules)
        given.append(PassedArgument(name, name, tuple(literal(module.named[name][0]) for module in modules), usual))
    return ConstructorCall(first.function, tuple(given), layer)


def element_texts(
    calls: Sequence[ConstructorCall], counts: Sequence[int], first: int, arguments: ConstructorArguments
) -> list[str]:
    """The constructor texts of consecutive list elements; from some element on, all have the same text.

    Args:
        calls: the constructor call of each element; an instance with a shorter list lacks the last elements.
        counts: the number of these elements that each instance has.
        first: the index of the first of these elements in the list.

    Raises:
        Mismatch: the list of an instance ends before the first element with the common text.
    """
    common = next(k for k in range(len(calls)) if all(call.form == calls[k].form for call in calls[k:]))
    # The common text may start one element after `common`.  For example, for elements with the values 3, 8, 16 and 24,
    # the first text is `3`, and the common text of the others is `8 * i`.
    tails = [_Tail(calls, counts, start, first) for start in (common, common + 1) if start < len(calls)]
    fitting = [tail for tail in tails if tail.start <= min(counts)]
    if not fitting:
        check_same(counts)
        raise AssertionError("with equal counts, the first tail fits all instances")
    tail = next((tail for tail in fitting if tail.is_regular), fitting[0])
    texts = [call.text(arguments) for call in calls[: tail.start]]
    return texts + [tail.text(arguments)] * (len(calls) - tail.start)


class _Tail:
    """The elements of a list from number `start` on, whose constructor calls have one text."""

    def __init__(self, calls: Sequence[ConstructorCall], counts: Sequence[int], start: int, first: int):
        self.calls, self.start, self.first = calls[start:], start, first
        self.counts = [count - start for count in counts]
        positions = range(len(calls[-1].given))
        self.tables = [[call.given[position].values for call in self.calls] for position in positions]
        self.columns = [[self._column(table, k) for k in range(len(counts))] for table in self.tables]

    def _column(self, table: Sequence[Values], instance: int) -> list[str]:
        return [values[instance] for values in table[: max(self.counts[instance], 0)]]

    @property
    def is_regular(self) -> bool:
        """Return whether every argument is constant over the elements or grows in equal steps."""
        return all(_steps(columns) is not None for columns in self.columns)

    def text(self, arguments: ConstructorArguments) -> str:
        """The common text of the elements."""
        call = self.calls[0]
        texts = []
        for position, columns in enumerate(self.columns):
            if not all(later.given[position].usual for later in self.calls):
                texts.append(call.given[position].text(self._value(position, columns, arguments)))
        return f"{call.function}({', '.join(texts)})"

    def _value(self, position: int, columns: list[list[str]], arguments: ConstructorArguments) -> str:
        given, layer = self.calls[0].given[position], self.calls[0].layer
        steps = _steps(columns)
        if steps is None:
            lists = tuple(f"[{', '.join(column)}]" for column in columns)
            offset = self.first + self.start
            name = arguments.take(lists, given.hint if given.hint.endswith("s") else f"{given.hint}s", layer)
            return f"{name}[{INDEX}{f' - {offset}' if offset else ''}]"
        if not any(steps):
            known = arguments.known([column[0] if column else None for column in columns])
            return arguments.take(known or self._bases(columns, given.values), given.hint, layer)
        shift = self.first + self.start
        bases = tuple(
            str(int(column[0]) - step * shift) if column else values
            for column, step, values in zip(columns, steps, given.values)
        )
        base = arguments.take(bases, given.hint, layer)
        step = arguments.take(tuple(map(str, steps)), f"{given.hint}_step", layer)
        if step.startswith("-"):
            return f"{base} - {_multiple(step[1:])}"
        return _multiple(step) if base == "0" else f"{base} + {_multiple(step)}"

    def _bases(self, columns: list[list[str]], values: Values) -> Values:
        return tuple(column[0] if column else value for column, value in zip(columns, values))


def _multiple(step: str) -> str:
    return INDEX if step == "1" else f"{atom(step)} * {INDEX}"


def _steps(columns: Sequence[Sequence[str]]) -> list[int] | None:
    """The step between the values of consecutive elements in each instance; None without a constant step."""
    found: list[int | None] = []
    for column in columns:
        if all(text == column[0] for text in column):
            found.append(0 if len(column) > 1 else None)
            continue
        if not all(text.removeprefix("-").isdecimal() for text in column):
            return None
        differences = {later - number for number, later in pairwise(map(int, column))}
        if len(differences) > 1:
            return None
        found += differences
    known = next((step for step in found if step is not None), 0)
    return [known if step is None else step for step in found]
