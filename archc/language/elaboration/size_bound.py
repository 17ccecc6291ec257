"""Lower bound on the size of a model, computed from the text, and the limits on sizes.

A few lines with nested blocks and nested loops can describe billions of operators.  Before a graph is built, a lower
bound on its size is computed from the text.  This takes little time, because the size of a definition is computed once
for each set of attribute values, and reused for all instances with these values.  Some values are known only during
elaboration, such as the size of an operand.  A loop or branch that depends on such a value adds as little as possible,
so the bound does not exceed the true size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from archc.diagnostics import Span
from archc.frozen_dataclass import frozen_dataclass
from archc.language.elaboration.arithmetic import FUNCTIONS, ArithmeticProblem, binary, call_function, check_items
from archc.language.elaboration.modules import DerivedModel, Module
from archc.language.syntax import tree

MOST_PARTS = 150_000
"""Limit on the parts of one model: its operators and block instances.

`allowed_parts` raises the limit for long texts.
"""
MOST_PARTS_TOGETHER = 30_000
"""Limit on the operators, block instances and iterations of all models in one run of `archc check`."""
MOST_ITERATIONS = 200_000
"""Limit on the iterations of all loops of one model."""
CHARACTERS_OF_A_PART = 4
"""Length of the shortest chain step, `->a` and a space.

A text of n characters has at most n / 4 chain steps.
"""
MOST_VISITS = 10_000
"""Limit on the (definition, attribute values) pairs that the bound counts; further pairs count as 0."""

UNKNOWN = object()
"""Value of an expression that only elaboration can evaluate."""


class ModelSize(NamedTuple):
    """Number of parts (operators and block instances) and of loop iterations."""

    parts: int
    iterations: int

    def __add__(self, other: tuple[Any, ...]) -> ModelSize:
        return ModelSize(self.parts + other[0], self.iterations + other[1])

    def times(self, count: int) -> ModelSize:
        """Size of a loop of `count` iterations with a body of this size."""
        return ModelSize(count * self.parts, count * (self.iterations + 1))


@dataclass
class SizeBound:
    """Lower bound on the size of a model.

    Attributes:
        size: the bound.
        parts_span: the innermost place where the number of parts exceeds its limit; None if it is within the limit.
        iterations_span: the innermost place where the number of iterations exceeds its limit; None if it is within
            the limit.
    """

    size: ModelSize = ModelSize(0, 0)
    parts_span: Span | None = None
    iterations_span: Span | None = None


NOTHING = ModelSize(0, 0)
Values = Mapping[str, Any]


def allowed_parts(module: Module, most: int = MOST_PARTS) -> int:
    """Limit on the parts of a model of a file: `most`, plus one part for each 4 characters of the text."""
    return most + text_length(module) // CHARACTERS_OF_A_PART


def text_length(module: Module) -> int:
    """Number of characters of a file and of all files that it imports."""
    texts, waiting = {id(module): module}, [module]
    while waiting:
        for other in waiting.pop().imports.values():
            if id(other) not in texts:
                texts[id(other)] = other
                waiting.append(other)
    return sum(len(one.source.text) for one in texts.values())


def size_bound(module: Module, model: tree.Definition, values: Values) -> SizeBound:
    """Lower bound on the size of a model with the given attribute values."""
    derived = module.derived.get(model.name.name, DerivedModel(module, {}))
    defaults = {name: _value(_KnownNames(own.module, {}), own.value) for name, own in derived.defaults.items()}
    counter = _SizeCounter(allowed_parts(module))
    counter.bound.size = counter.definition(derived.home, model, {**defaults, **values})
    return counter.bound


@frozen_dataclass
class _KnownNames:
    """Known names of a definition while its parts are counted.

    Attributes:
        layers: callee and arguments of each declared layer.
    """

    module: Module
    values: dict[str, Any]
    layers: dict[str, tuple[tree.Expression, Sequence[tree.Argument]]] = field(default_factory=dict)

    def copy(self) -> _KnownNames:
        return _KnownNames(self.module, dict(self.values), dict(self.layers))


class _SizeCounter:
    def __init__(self, allowed: int) -> None:
        self.bound = SizeBound()
        self._allowed = allowed
        self._counted: dict[tuple[int, tuple[Any, ...]], ModelSize] = {}
        self._running: set[int] = set()
        self._visits = 0
        self._statements: dict[type, Callable[[_KnownNames, Any], ModelSize]] = {
            tree.For: self._for,
            tree.If: self._if,
            tree.Let: self._let,
            tree.LayerStatement: self._layer,
        }

    def definition(self, module: Module, definition: tree.Definition, values: Values) -> ModelSize:
        # The given values determine the defaults, so the key has only the given values.
        names = [attribute.name.name for attribute in definition.attributes]
        given = tuple((name, _hashable(values[name])) for name in names if name in values)
        key = (id(definition), given)
        if key not in self._counted:
            self._visits += 1
            if self._visits > MOST_VISITS or id(definition) in self._running:  # recursion, which elaboration reports
                return NOTHING
            bound: dict[str, Any] = {}
            for attribute in definition.attributes:
                name = attribute.name.name
                env = _KnownNames(module, bound)
                bound[name] = values[name] if name in values else _value(env, attribute.default)
            self._running.add(id(definition))
            self._counted[key] = self._body(_KnownNames(module, bound), definition.body)
            self._running.remove(id(definition))
        return self._counted[key]

    # Statements -------------------------------------------------------------------------------------------

    def _body(self, env: _KnownNames, body: Iterable[tree.Statement]) -> ModelSize:
        total = NOTHING
        for statement in body:
            count = self._statements.get(type(statement))
            total += self._chains(env, statement) if count is None else count(env, statement)
            self._note(total, statement.span)
        return total

    def _note(self, size: ModelSize, span: Span) -> None:
        """Store the first place where a size exceeds a limit.

        This is the innermost place, because inner bodies are counted first.
        """
        if size.parts > self._allowed and self.bound.parts_span is None:
            self.bound.parts_span = span
        if size.iterations > MOST_ITERATIONS and self.bound.iterations_span is None:
            self.bound.iterations_span = span

    def _for(self, env: _KnownNames, node: tree.For) -> ModelSize:
        values = _value(env, node.iterable)
        if not isinstance(values, range | list | tuple):
            return NOTHING
        # `len` fails for a range of 10^20 values.
        count = max(0, values.stop - values.start) if isinstance(values, range) else len(values)
        if not count:
            return NOTHING
        _forget(env, node.body)
        name = node.variable.name
        shadowed = env.values.get(name)
        env.values[name] = values[0] if count == 1 else UNKNOWN
        total = self._body(env, node.body).times(count)
        if shadowed is not None:
            env.values[name] = shadowed
        else:
            env.values.pop(name, None)
        self._note(total, node.iterable.span)
        return total

    def _if(self, env: _KnownNames, node: tree.If) -> ModelSize:
        condition = _value(env, node.condition)
        if isinstance(condition, bool):
            return self._body(env, node.body if condition else node.otherwise)
        branches = [self._body(env.copy(), body) for body in (node.body, node.otherwise)]
        _forget(env, (*node.body, *node.otherwise))
        return ModelSize(min(one.parts for one in branches), min(one.iterations for one in branches))

    def _let(self, env: _KnownNames, node: tree.Let) -> ModelSize:
        env.values[node.name.name] = _value(env, node.value)
        return NOTHING

    def _layer(self, env: _KnownNames, node: tree.LayerStatement) -> ModelSize:
        call = node.value
        if not node.name.parts:
            env.layers[node.name.name] = (call.callee, call.arguments) if isinstance(call, tree.Call) else (call, ())
        return NOTHING

    def _chains(self, env: _KnownNames, node: Any) -> ModelSize:
        """Size of the chains in a statement of a type that is not in `_statements`, such as a scan."""
        total, waiting = NOTHING, [node]
        while waiting:
            one = waiting.pop()
            if isinstance(one, tuple):
                waiting += one
            elif type(one) in self._statements:
                total += self._body(env, (one,))
            elif isinstance(one, tree.SyntaxNode):
                if isinstance(one, tree.ChainStep):
                    total += self._use(env, one.callee, one.arguments)
                waiting += [getattr(one, name) for name in one.__dataclass_fields__ if name != "span"]
        return total

    def _use(self, env: _KnownNames, callee: Any, arguments: Sequence[tree.Argument]) -> ModelSize:
        if isinstance(callee, tree.Name) and callee.name in env.layers:
            callee, arguments = env.layers[callee.name]
        found = _block(env, callee)
        if found is None:
            return ModelSize(1, 0)
        module, definition = found
        names = [attribute.name.name for attribute in definition.attributes]
        given: dict[str, Any] = {}
        for position, argument in enumerate(arguments):
            name = argument.name or (names[position] if position < len(names) else None)
            if name is not None:
                given[name] = _value(env, argument.value)
        return ModelSize(1, 0) + self.definition(module, definition, given)


def _block(env: _KnownNames, callee: Any) -> tuple[Module, tree.Definition] | None:
    """Block that a callee names, and its file; None if the callee is not a block."""
    if isinstance(callee, tree.Name) and callee.name not in env.values:
        module, name = env.module, callee.name
    elif isinstance(callee, tree.MemberExpression) and isinstance(callee.value, tree.Name):
        other = env.module.imports.get(callee.value.name)
        if other is None:
            return None
        module, name = other, callee.name
    else:
        return None
    definition = module.definitions.get(name)
    return (module, definition) if definition is not None and definition.kind == "block" else None


def _forget(env: _KnownNames, body: Iterable[tree.Statement]) -> None:
    """Set a name to `UNKNOWN` if a `let` in the given body of a loop or branch binds the name."""
    for statement in body:
        if isinstance(statement, tree.Let):
            env.values[statement.name.name] = UNKNOWN
        elif isinstance(statement, tree.For | tree.ScanStatement):
            _forget(env, statement.body)
        elif isinstance(statement, tree.If):
            _forget(env, (*statement.body, *statement.otherwise))


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else UNKNOWN
    return (type(value), value)


# Values ---------------------------------------------------------------------------------------------------


def _value(env: _KnownNames, node: Any) -> Any:
    """Value of an expression of literals and known names; `UNKNOWN` for other expressions."""
    try:
        return _HANDLERS[type(node)](env, node)
    except (KeyError, ArithmeticProblem, TypeError, ValueError, IndexError):
        return UNKNOWN


def _known_value(env: _KnownNames, node: Any) -> Any:
    value = _value(env, node)
    if value is UNKNOWN:
        raise ValueError
    return value


def _items(env: _KnownNames, node: tree.Tuple | tree.List) -> list[Any]:
    values = [_value(env, item) for item in node.items]
    check_items(values, node.span.end - node.span.start)
    return values


def _unary(env: _KnownNames, node: tree.UnaryExpression) -> Any:
    value = _known_value(env, node.operand)
    return not value if node.operator == "not" else -value


def _binary(env: _KnownNames, node: tree.BinaryExpression) -> Any:
    row: list[tree.BinaryExpression] = []  # no recursion: a sum of n terms is a left-leaning tree of depth n
    inner: tree.Expression = node
    while isinstance(inner, tree.BinaryExpression):
        row.append(inner)
        inner = inner.left
    value = _known_value(env, inner)
    for one in reversed(row):
        if one.operator not in ("and", "or"):
            value = binary(one.operator, value, _known_value(env, one.right))
        elif bool(value) is (one.operator == "and"):
            value = _known_value(env, one.right)
    return value


def _call(env: _KnownNames, node: tree.Call) -> Any:
    if not isinstance(node.callee, tree.Name) or node.callee.name not in FUNCTIONS:
        return UNKNOWN
    return call_function(node.callee.name, [_known_value(env, argument.value) for argument in node.arguments])


def _index(env: _KnownNames, node: tree.IndexExpression) -> Any:
    (item,) = node.items
    return _known_value(env, node.value)[_known_value(env, item)]


_HANDLERS: dict[type, Callable[[_KnownNames, Any], Any]] = {
    tree.Number: lambda env, node: UNKNOWN if node.unit is not None else node.value,
    tree.String: lambda env, node: node.value,
    tree.Boolean: lambda env, node: node.value,
    tree.Name: lambda env, node: env.values[node.name],
    tree.UnaryExpression: _unary,
    tree.BinaryExpression: _binary,
    tree.Tuple: lambda env, node: tuple(_items(env, node)),
    tree.List: lambda env, node: _items(env, node),
    tree.RangeExpression: lambda env, node: range(_known_value(env, node.start), _known_value(env, node.stop)),
    tree.Conditional: lambda env, node: _value(
        env, node.value if _known_value(env, node.condition) else node.otherwise
    ),
    tree.Call: _call,
    tree.IndexExpression: _index,
}
