"""Lower bound on the size of a model's graph, from the text alone.

Blocks in blocks and loops in loops describe billions of operators in a few lines.  The bound is found before any of
them is built, by counting each definition once for each set of attribute values.  Anything that only elaboration can
tell (the size of an operand, a tensor's type) counts as 0, so that the bound does not exceed the true size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from archc.diagnostics import Span
from archc.language.elaboration.arithmetic import (
    FUNCTIONS,
    ArithmeticProblem,
    binary,
    call_function,
    check_items,
    item_count,
)
from archc.language.elaboration.modules import DerivedModel, Module
from archc.language.syntax import tree
from archc.types import dims
from archc.types.dims import SymbolicDim

MOST_PARTS = 150_000
"""Limit on the operators and instances of blocks in one model, beyond those that its text spells out one by one."""
MOST_PARTS_TOGETHER = 30_000
"""Limit on operators, instances of blocks and iterations of the models of one `archc check` together."""
MOST_ITERATIONS = 200_000
"""Limit on the iterations of all loops of one model together."""
CHARACTERS_OF_A_PART = 4
"""Length of the shortest stage of a text (`->a` and a space): n characters spell out at most n / 4 parts."""
MOST_VISITS = 10_000
"""Limit on the pairs of a definition and a set of attribute values that are counted; others count as 0."""


FREE_STEPS = 500_000
ALLOWED_BY_A_PART = 100
"""Steps that are allowed for an operator or an instance of a block in the bound, with its attributes."""
ALLOWED_BY_AN_ITERATION = 9
ALLOWED_BY_A_CHARACTER = 4
STEPS_OF_A_PART = 60
"""Steps of an operator or an instance of a block, without its operands and results."""
STEPS_OF_AN_OPERAND = 60
"""Steps of each operand beyond two."""
STEPS_OF_A_RESULT = 3
STEPS_OF_AN_ITERATION = 3
STEPS_OF_A_STATEMENT = 4
STEPS_OF_ARITHMETIC = 2
ITEMS_OF_A_STEP = 4
"""Items of a tuple or list that are copied in one step."""
CHARACTERS_OF_A_STEP = 64
"""Characters of a string that are copied or compared in one step."""


UNKNOWN = object()
"""The value of an expression that only elaboration can evaluate."""


class ModelSize(NamedTuple):
    """Parts (operators and uses of blocks) and loop iterations."""

    parts: int
    iterations: int

    def __add__(self, other: tuple[Any, ...]) -> ModelSize:
        return ModelSize(self.parts + other[0], self.iterations + other[1])

    def times(self, count: int) -> ModelSize:
        """The extent of a loop that runs `count` times and whose body has this extent."""
        return ModelSize(count * self.parts, count * (self.iterations + 1))


@dataclass
class SizeBound:
    """Lower bound on the extent of a model.

    Attributes:
        parts_span, iterations_span: the innermost place where the bound passes the limit, None where it does not.
    """

    size: ModelSize = ModelSize(0, 0)
    parts_span: Span | None = None
    iterations_span: Span | None = None


NOTHING = ModelSize(0, 0)
Values = Mapping[str, Any]


def allowed_parts(module: Module, most: int = MOST_PARTS) -> int:
    """Limit on the parts of a model of this file: `most`, and more in proportion to the length of the text."""
    return most + text_length(module) // CHARACTERS_OF_A_PART


def text_length(module: Module) -> int:
    """Number of characters of a file and of the files that it imports."""
    texts, waiting = {id(module): module}, [module]
    while waiting:
        for other in waiting.pop().imports.values():
            if id(other) not in texts:
                texts[id(other)] = other
                waiting.append(other)
    return sum(len(one.source.text) for one in texts.values())


def size_bound(module: Module, model: tree.Definition, values: Values) -> SizeBound:
    """Lower bound on the extent of a model with these attribute values."""
    derived = module.derived.get(model.name.name, DerivedModel(module, {}))
    defaults = {name: _value(_Place(own.module, {}), own.value) for name, own in derived.defaults.items()}
    counter = _Counter(allowed_parts(module))
    counter.bound.size = counter.definition(derived.home, model, {**defaults, **values})
    return counter.bound


@dataclass(frozen=True)
class _Place:
    """A definition with the values of its names.

    Attributes:
        layers: the callees of the layers that it declares, by name.
    """

    module: Module
    values: dict[str, Any]
    layers: dict[str, tuple[tree.Expression, Sequence[tree.Argument]]] = field(default_factory=dict)

    def copy(self) -> _Place:
        return _Place(self.module, dict(self.values), dict(self.layers))


class _Counter:
    def __init__(self, allowed: int) -> None:
        self.bound = SizeBound()
        self._allowed = allowed
        self._counted: dict[tuple[int, tuple[Any, ...]], ModelSize] = {}
        self._running: set[int] = set()
        self._visits = 0
        self._statements: dict[type, Callable[[_Place, Any], ModelSize]] = {
            tree.For: self._for,
            tree.If: self._if,
            tree.Let: self._let,
            tree.LayerStatement: self._layer,
        }

    def definition(self, module: Module, definition: tree.Definition, values: Values) -> ModelSize:
        # Defaults follow from the values that are given, and are evaluated once for each combination of them.
        names = [attribute.name.name for attribute in definition.attributes]
        given = tuple((name, _hashable(values[name])) for name in names if name in values)
        key = (id(definition), given)
        if key not in self._counted:
            self._visits += 1
            if self._visits > MOST_VISITS or id(definition) in self._running:  # a block in itself is a mistake
                return NOTHING
            bound: dict[str, Any] = {}
            for attribute in definition.attributes:
                name = attribute.name.name
                place = _Place(module, bound)
                bound[name] = values[name] if name in values else _value(place, attribute.default)
            self._running.add(id(definition))
            self._counted[key] = self._body(_Place(module, bound), definition.body)
            self._running.remove(id(definition))
        return self._counted[key]

    # Statements -------------------------------------------------------------------------------------------

    def _body(self, place: _Place, body: Iterable[tree.Statement]) -> ModelSize:
        total = NOTHING
        for statement in body:
            count = self._statements.get(type(statement))
            total += self._chains(place, statement) if count is None else count(place, statement)
            self._note(total, statement.span)
        return total

    def _note(self, extent: ModelSize, span: Span) -> None:
        """Keep the first place where an extent passes a limit; bodies are counted from the inside."""
        if extent.parts > self._allowed and self.bound.parts_span is None:
            self.bound.parts_span = span
        if extent.iterations > MOST_ITERATIONS and self.bound.iterations_span is None:
            self.bound.iterations_span = span

    def _for(self, place: _Place, node: tree.For) -> ModelSize:
        values = _value(place, node.iterable)
        if not isinstance(values, range | list | tuple):
            return NOTHING
        # A range of 10^20 has no `len`.
        count = max(0, values.stop - values.start) if isinstance(values, range) else len(values)
        if not count:
            return NOTHING
        _forget(place, node.body)
        name = node.variable.name
        shadowed = place.values.get(name)
        place.values[name] = values[0] if count == 1 else UNKNOWN
        total = self._body(place, node.body).times(count)
        if shadowed is not None:
            place.values[name] = shadowed
        else:
            place.values.pop(name, None)
        self._note(total, node.iterable.span)
        return total

    def _if(self, place: _Place, node: tree.If) -> ModelSize:
        condition = _value(place, node.condition)
        if isinstance(condition, bool):
            return self._body(place, node.body if condition else node.otherwise)
        branches = [self._body(place.copy(), body) for body in (node.body, node.otherwise)]
        _forget(place, (*node.body, *node.otherwise))
        return ModelSize(min(one.parts for one in branches), min(one.iterations for one in branches))

    def _let(self, place: _Place, node: tree.Let) -> ModelSize:
        place.values[node.name.name] = _value(place, node.value)
        return NOTHING

    def _layer(self, place: _Place, node: tree.LayerStatement) -> ModelSize:
        call = node.value
        if not node.name.parts:
            place.layers[node.name.name] = (call.callee, call.arguments) if isinstance(call, tree.Call) else (call, ())
        return NOTHING

    def _chains(self, place: _Place, node: Any) -> ModelSize:
        """The extent of the chains in any other statement, and of the statements in a scan."""
        total, waiting = NOTHING, [node]
        while waiting:
            one = waiting.pop()
            if isinstance(one, tuple):
                waiting += one
            elif type(one) in self._statements:
                total += self._body(place, (one,))
            elif isinstance(one, tree.SyntaxNode):
                if isinstance(one, tree.ChainStep):
                    total += self._use(place, one.callee, one.arguments)
                waiting += [getattr(one, name) for name in one.__dataclass_fields__ if name != "span"]
        return total

    def _use(self, place: _Place, callee: Any, arguments: Sequence[tree.Argument]) -> ModelSize:
        if isinstance(callee, tree.Name) and callee.name in place.layers:
            callee, arguments = place.layers[callee.name]
        found = _block(place, callee)
        if found is None:
            return ModelSize(1, 0)
        module, definition = found
        names = [attribute.name.name for attribute in definition.attributes]
        given: dict[str, Any] = {}
        for position, argument in enumerate(arguments):
            name = argument.name or (names[position] if position < len(names) else None)
            if name is not None:
                given[name] = _value(place, argument.value)
        return ModelSize(1, 0) + self.definition(module, definition, given)


def _block(place: _Place, callee: Any) -> tuple[Module, tree.Definition] | None:
    """The block that a callee names, and the file of its text."""
    if isinstance(callee, tree.Name) and callee.name not in place.values:
        module, name = place.module, callee.name
    elif isinstance(callee, tree.MemberExpression) and isinstance(callee.value, tree.Name):
        other = place.module.imports.get(callee.value.name)
        if other is None:
            return None
        module, name = other, callee.name
    else:
        return None
    definition = module.definitions.get(name)
    return (module, definition) if definition is not None and definition.kind == "block" else None


def _forget(place: _Place, body: Iterable[tree.Statement]) -> None:
    """Set the names that statements rebind, in any iteration or branch, to `UNKNOWN`."""
    for statement in body:
        if isinstance(statement, tree.Let):
            place.values[statement.name.name] = UNKNOWN
        elif isinstance(statement, tree.For | tree.ScanStatement):
            _forget(place, statement.body)
        elif isinstance(statement, tree.If):
            _forget(place, (*statement.body, *statement.otherwise))


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else UNKNOWN
    return (type(value), value)


# Values ---------------------------------------------------------------------------------------------------


def _value(place: _Place, node: Any) -> Any:
    """The value of an expression of numbers and of names that have values, else `UNKNOWN`."""
    try:
        return _HANDLERS[type(node)](place, node)
    except (KeyError, ArithmeticProblem, TypeError, ValueError, IndexError):
        return UNKNOWN


def _known(place: _Place, node: Any) -> Any:
    value = _value(place, node)
    if value is UNKNOWN:
        raise ValueError
    return value


def _items(place: _Place, node: tree.Tuple | tree.List) -> list[Any]:
    values = [_value(place, item) for item in node.items]
    check_items(values, node.span.end - node.span.start)
    return values


def _unary(place: _Place, node: tree.UnaryExpression) -> Any:
    value = _known(place, node.operand)
    return not value if node.operator == "not" else -value


def _binary(place: _Place, node: tree.BinaryExpression) -> Any:
    row: list[tree.BinaryExpression] = []  # `a + b + c` is nested to the left, as deep as it is long
    inner: tree.Expression = node
    while isinstance(inner, tree.BinaryExpression):
        row.append(inner)
        inner = inner.left
    value = _known(place, inner)
    for one in reversed(row):
        if one.operator not in ("and", "or"):
            value = binary(one.operator, value, _known(place, one.right))
        elif bool(value) is (one.operator == "and"):
            value = _known(place, one.right)
    return value


def _call(place: _Place, node: tree.Call) -> Any:
    if not isinstance(node.callee, tree.Name) or node.callee.name not in FUNCTIONS:
        return UNKNOWN
    return call_function(node.callee.name, [_known(place, argument.value) for argument in node.arguments])


def _index(place: _Place, node: tree.IndexExpression) -> Any:
    (item,) = node.items
    return _known(place, node.value)[_known(place, item)]


_HANDLERS: dict[type, Callable[[_Place, Any], Any]] = {
    tree.Number: lambda place, node: UNKNOWN if node.unit is not None else node.value,
    tree.String: lambda place, node: node.value,
    tree.Boolean: lambda place, node: node.value,
    tree.Name: lambda place, node: place.values[node.name],
    tree.UnaryExpression: _unary,
    tree.BinaryExpression: _binary,
    tree.Tuple: lambda place, node: tuple(_items(place, node)),
    tree.List: lambda place, node: _items(place, node),
    tree.RangeExpression: lambda place, node: range(_known(place, node.start), _known(place, node.stop)),
    tree.Conditional: lambda place, node: _value(
        place, node.value if _known(place, node.condition) else node.otherwise
    ),
    tree.Call: _call,
    tree.IndexExpression: _index,
}


# Steps --------------------------------------------------------------------------------------------------


class BudgetExceeded(Exception):
    """More steps than are allowed for a text."""


@dataclass
class StepBudget:
    """Counts the steps of building one model, or all models of one file.

    Attributes:
        allowed, done: numbers of steps.
    """

    allowed: int = FREE_STEPS
    done: int = 0
    _characters: int = 0

    def allow(self, parts: int, iterations: int, characters: int) -> None:
        """Allow the steps for a model of this extent, and those for its text, once for all models of that."""
        more = max(0, characters - self._characters)
        self._characters += more
        self.allowed += ALLOWED_BY_A_PART * parts + ALLOWED_BY_AN_ITERATION * iterations + ALLOWED_BY_A_CHARACTER * more

    def count(self, steps: int) -> None:
        """Count steps that are about to be taken.

        Raises:
            BudgetExceeded: there are too many.
        """
        self.done += steps
        if self.done > self.allowed:
            raise BudgetExceeded


def steps_of(*values: Any) -> int:
    """Number of steps to copy these values, to compare them or to compute with them."""
    steps = 0
    for value in values:
        if isinstance(value, tuple | list):
            steps += item_count(value)
        elif isinstance(value, str):
            steps += len(value) // CHARACTERS_OF_A_STEP
        elif isinstance(value, SymbolicDim):
            steps += 4 * dims.atom_count(value)
    return steps
