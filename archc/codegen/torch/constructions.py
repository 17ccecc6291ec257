"""Constructors of modules, with a literal for each instance of a block: one text for all of them.

The elements of a list that has more of them in one instance than in another need one text as well:
`nn.ModuleList(DenseLayer(C=C + 32 * i) for i in range(depth))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from archc.codegen.torch.arguments import Arguments
from archc.codegen.torch.merge import Values, check_same
from archc.operator.spelling import TorchModule, atom, literal

INDEX = "i"
"""The number of an element of a list."""


class Given(NamedTuple):
    """An argument of a constructor.

    Attributes:
        keyword: the name that it is passed by; empty for one by position.
        hint: what it is called where it becomes an argument of the class around.
        values: its literal for each instance.
        usual: it is what it would be if it was left out.
    """

    keyword: str
    hint: str
    values: Values
    usual: bool = False

    def text(self, value: str) -> str:
        return f"{self.keyword}={value}" if self.keyword else value


@dataclass(frozen=True)
class Construction:
    """The call of a constructor in all instances; `layer` tells whose it is."""

    function: str
    given: tuple[Given, ...]
    layer: str

    def text(self, arguments: Arguments) -> str:
        """One text for all instances, with arguments of the class for what differs."""
        given = [each for each in self.given if not each.usual]
        texts = [each.text(arguments.take(each.values, each.hint, self.layer)) for each in given]
        return f"{self.function}({', '.join(texts)})"

    @property
    def form(self) -> tuple[object, ...]:
        """What is the same in calls that differ in values alone."""
        return self.function, tuple((each.keyword, each.hint) for each in self.given)


def construction(modules: Sequence[TorchModule], layer: str) -> Construction:
    """The constructor of a layer, given the modules of all instances.

    Raises:
        Mismatch: they differ in more than the values of arguments.
    """
    first = modules[0]
    check_same([(module.function, tuple(module.positional), tuple(module.named)) for module in modules])
    given = [
        Given("", name, tuple(literal(module.positional[name]) for module in modules)) for name in first.positional
    ]
    for name, (_, default) in first.named.items():
        usual = all(module.named[name][0] == default for module in modules)
        given.append(Given(name, name, tuple(literal(module.named[name][0]) for module in modules), usual))
    return Construction(first.function, tuple(given), layer)


def element_texts(calls: Sequence[Construction], counts: Sequence[int], first: int, arguments: Arguments) -> list[str]:
    """The constructors of consecutive elements of a list: from some element on, which all instances have, one text.

    Args:
        calls: one for each element of the longest list.
        counts: how many of them each instance has; first: the number of the first one in the list.

    Raises:
        Mismatch: an instance is too short for that.
    """
    common = next(k for k in range(len(calls)) if all(call.form == calls[k].form for call in calls[k:]))
    # One element more by itself, if what follows can do without a list of values then.
    tails = [_Tail(calls, counts, start, first) for start in (common, common + 1) if start < len(calls)]
    fitting = [tail for tail in tails if tail.start <= min(counts)]
    if not fitting:
        check_same(counts)
        raise AssertionError("all instances are as long as the longest")
    tail = next((tail for tail in fitting if tail.is_regular), fitting[0])
    texts = [call.text(arguments) for call in calls[: tail.start]]
    return texts + [tail.text(arguments)] * (len(calls) - tail.start)


class _Tail:
    """The elements of a list from some element on, which is one that all instances have, or the one after it."""

    def __init__(self, calls: Sequence[Construction], counts: Sequence[int], start: int, first: int):
        self.calls, self.start, self.first = calls[start:], start, first
        self.counts = [count - start for count in counts]
        positions = range(len(calls[-1].given))
        self.tables = [[call.given[position].values for call in self.calls] for position in positions]
        self.columns = [[self._column(table, k) for k in range(len(counts))] for table in self.tables]

    def _column(self, table: Sequence[Values], instance: int) -> list[str]:
        return [values[instance] for values in table[: max(self.counts[instance], 0)]]

    @property
    def is_regular(self) -> bool:
        """Whether every argument is the same in all elements, or grows in equal steps."""
        return all(_steps(columns) is not None for columns in self.columns)

    def text(self, arguments: Arguments) -> str:
        call = self.calls[0]
        texts = []
        for position, columns in enumerate(self.columns):
            if not all(later.given[position].usual for later in self.calls):
                texts.append(call.given[position].text(self._value(position, columns, arguments)))
        return f"{call.function}({', '.join(texts)})"

    def _value(self, position: int, columns: list[list[str]], arguments: Arguments) -> str:
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
    """By how much a value grows from element to element, in each instance; None where it does not so."""
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
