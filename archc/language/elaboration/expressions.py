"""Evaluating expressions: attribute values, tensors, layers, weights and storages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from archc.diagnostics import Span
from archc.ir.graph import Value
from archc.language.elaboration.arithmetic import (
    FUNCTIONS,
    ArithmeticProblem,
    binary,
    call_function,
    check_items,
    check_number,
    kind,
)
from archc.language.elaboration.environment import ABSENT, POISON, BlockRef, Failed, LayerRef, WeightRef
from archc.language.elaboration.limits import ITEMS_OF_A_STEP, STEPS_OF_ARITHMETIC, steps_of
from archc.language.elaboration.references import References, lookup, own_names
from archc.language.elaboration.unused import mark_untaken
from archc.language.syntax import tree
from archc.language.syntax.foreign_names import name_help
from archc.language.syntax.foreign_syntax import SYMBOLS
from archc.operator.base import Operator
from archc.types.attributes import AttributeProblem, bind
from archc.types.dims import SymbolicDim
from archc.types.storage import Storage

if TYPE_CHECKING:
    from archc.language.elaboration.frames import Frame

SCAN = "a loop over data is a `scan`: `scan x_t in x { yield y = x_t -> tanh }`"
"""Help for a loop over a tensor, or over a size that is known only when the model runs."""


class Expressions:
    """Evaluates expressions in a frame; the elaborator gives it the meaning of chains and tensor operators.

    Args:
        report: reports an error at a span and raises `Failed`.
        apply_chain, apply_call: the value of a chain, and of an operator or block that is called without operands.
        apply_symbol: the value of `a + b` or `-a` where an operand is a tensor.
        apply_index: the value of `x[...]` on a tensor.
        count: counts steps of elaboration.
    """

    def __init__(
        self,
        report: Callable[..., NoReturn],
        apply_chain: Callable[[Frame, tree.Chain], Any],
        apply_call: Callable[[Frame, tree.Call, Any], Any],
        apply_symbol: Callable[[Frame, tree.SyntaxNode, str, Sequence[Any]], Any],
        apply_index: Callable[[Frame, tree.IndexExpression, Value], Any],
        count: Callable[[int], None],
    ):
        self.count = count
        self.report = report
        self.apply_call = apply_call
        self.apply_symbol = apply_symbol
        self.apply_index = apply_index
        self._references = References(self)
        self._handlers: dict[type, Callable[[Frame, Any], Any]] = {
            tree.Number: self._number,
            tree.String: lambda frame, node: node.value,
            tree.Boolean: lambda frame, node: node.value,
            tree.Name: self._name,
            tree.MemberExpression: self._references.member,
            tree.IndexExpression: self._index,
            tree.Call: self._call,
            tree.UnaryExpression: self._unary,
            tree.BinaryExpression: self._binary,
            tree.Tuple: lambda frame, node: tuple(self._items(frame, node)),
            tree.List: self._items,
            tree.RangeExpression: self._range,
            tree.Conditional: self._conditional,
            tree.Chain: apply_chain,
        }

    def evaluate(self, frame: Frame, node: tree.Expression) -> Any:
        """The value of an expression.

        Raises:
            Failed: it has none; that was reported.
            BudgetExceeded: elaboration takes too many steps.
        """
        self.count(1)
        return self._handlers[type(node)](frame, node)

    def argument(self, frame: Frame, node: tree.Argument) -> Any:
        """The value of an argument of a call.

        Raises:
            Failed: it has none; that was reported.
        """
        if isinstance(node.value, tree.SliceExpression):
            self.report(
                frame,
                "wrong-type",
                "a slice is no attribute",
                node.value.span,
                help="slices are written in indices: `x[0:2]`",
            )
        return self.evaluate(frame, node.value)

    def size(self, frame: Frame, node: tree.Expression) -> Any:
        """The value of an expression that must be an integer or a size."""
        value = self.evaluate(frame, node)
        if isinstance(value, bool) or not isinstance(value, int | SymbolicDim):
            self.report(frame, "wrong-type", f"a size is needed here, and this is {kind(value)}", node.span)
        return value

    def _number(self, frame: Frame, node: tree.Number) -> Any:
        if node.unit is not None:
            where = "only `devices` and the options of passes have quantities with units"
            self.report(frame, "unit-misplaced", where, node.span, help="drop the unit")
        return self._checked(frame, node.span, lambda: check_number(node.value))

    def _name(self, frame: Frame, node: tree.Name) -> Any:
        value = lookup(frame, node.name)
        if value is POISON:
            raise Failed
        if value is None:
            self.report(
                frame,
                "unknown-name",
                f"nothing is called `{node.name}` here",
                node.span,
                help=self._name_help(frame, node),
            )
        return value

    def _name_help(self, frame: Frame, node: tree.Name) -> str | None:
        """Help for an unknown name: the text to write instead."""
        text, start = node.span.source.text, node.span.start
        before = text[text.rfind("\n", 0, start) + 1 : start].strip()
        if before == "//":  # a comment that reads as a division of the line above
            return SYMBOLS["//"]
        return name_help(node.name, own_names(frame)) or (SYMBOLS["//"] if before.endswith("//") else None)

    def _index(self, frame: Frame, node: tree.IndexExpression) -> Any:
        declared = self._references.declared(frame, node)
        if declared is not None:
            return declared
        value = self.evaluate(frame, node.value)
        if isinstance(value, Value):
            return self.apply_index(frame, node, value)
        if not isinstance(value, (tuple, list)):
            is_stage = isinstance(value, type | BlockRef)
            way = f"attributes go in parentheses: `x -> {node.value.span.text}(...)`" if is_stage else None
            self.report(frame, "wrong-type", f"{describe_value(value)} cannot be indexed", node.span, help=way)
        if len(node.items) != 1 or isinstance(node.items[0], (tree.SliceExpression, tree.Ellipsis)):
            self.report(frame, "wrong-type", "a tuple is indexed by one integer", node.span)
        position = self.evaluate(frame, node.items[0])
        if not isinstance(position, int) or isinstance(position, bool):
            self.report(frame, "wrong-type", f"an index is an integer, and this is {kind(position)}", node.span)
        if not -len(value) <= position < len(value):
            self.report(
                frame,
                "index-out-of-range",
                f"there is no item {position} among {len(value)}",
                node.items[0].span,
                help="items are counted from 0" if value else None,
            )
        return value[position]

    def _items(self, frame: Frame, node: tree.Tuple | tree.List) -> list[Any]:
        values = [self.evaluate(frame, item) for item in node.items]
        self._checked(frame, node.span, lambda: check_items(values, node.span.end - node.span.start))
        return values

    def _conditional(self, frame: Frame, node: tree.Conditional) -> Any:
        """The value that the condition chooses; the other is not looked at, and makes no layers."""
        holds = self.truth(frame, self.evaluate(frame, node.condition), node.condition.span)
        chosen, other = (node.value, node.otherwise) if holds else (node.otherwise, node.value)
        self.pass_over(frame, (other,))
        return self.evaluate(frame, chosen)

    def pass_over(self, frame: Frame, body: tuple[tree.SyntaxNode, ...]) -> None:
        """Mark the names in statements that do not run as used."""
        for node in body:
            self.count(node.span.end - node.span.start)
        mark_untaken(frame.environment, body)

    def _given(self, frame: Frame, node: tree.Call) -> bool:
        """`given(mask)`: whether an optional input is there."""
        names = [argument.value for argument in node.arguments if argument.name is None]
        value = self.argument(frame, node.arguments[0]) if len(names) == len(node.arguments) == 1 else None
        if value is not ABSENT and not isinstance(value, Value):
            self.report(
                frame, "wrong-type", "`given` asks whether an input is there", node.span, help="write `given(mask)`"
            )
        return value is not ABSENT

    def _call(self, frame: Frame, node: tree.Call) -> Any:
        if isinstance(node.callee, tree.Name) and node.callee.name == "given":
            return self._given(frame, node)
        if isinstance(node.callee, tree.Name) and node.callee.name in FUNCTIONS:
            bound = frame.environment.get(node.callee.name)
            if bound is None and not any(argument.name for argument in node.arguments):
                values = [self.argument(frame, argument) for argument in node.arguments]
                if not any(isinstance(value, Value) for value in values):
                    self.count(steps_of(*values))
                    name = node.callee.name
                    return self._checked(frame, node.span, lambda: call_function(name, values))
        callee = self.evaluate(frame, node.callee)
        if isinstance(callee, type) and issubclass(callee, Storage):
            return self._storage(frame, node, callee)
        return self.apply_call(frame, node, callee)

    def _storage(self, frame: Frame, node: tree.Call, storage: type[Storage]) -> Storage:
        positional = [self.argument(frame, a) for a in node.arguments if a.name is None]
        named = {a.name: self.argument(frame, a) for a in node.arguments if a.name is not None}
        try:
            return bind(storage, f"`{storage.name}`", positional, named)
        except AttributeProblem as problem:
            self.report(frame, problem.code, problem.message, node.span, help=problem.help)

    def _unary(self, frame: Frame, node: tree.UnaryExpression) -> Any:
        value = self.evaluate(frame, node.operand)
        if isinstance(value, Value):
            return self.apply_symbol(frame, node, node.operator, (value,))
        if node.operator == "not":
            return not self.truth(frame, value, node.operand.span)
        if isinstance(value, bool) or not isinstance(value, int | float | SymbolicDim):
            self.report(frame, "wrong-type", f"`-` does not apply to {kind(value)}", node.span)
        return -value

    def _binary(self, frame: Frame, node: tree.BinaryExpression) -> Any:
        # A long sum leans to the left, as deep as it is long: go down its spine, then come back up.
        spine = []
        left: tree.Expression = node
        while isinstance(left, tree.BinaryExpression):
            spine.append(left)
            left = left.left
        value = self.evaluate(frame, left)
        for step in reversed(spine):
            value = self._step(frame, step, value)
        return value

    def _step(self, frame: Frame, node: tree.BinaryExpression, left: Any) -> Any:
        if node.operator in ("and", "or") and not isinstance(left, Value):
            decided = self.truth(frame, left, node.left.span)
            if decided == (node.operator == "or"):
                return decided
            right = self.evaluate(frame, node.right)
            return self.truth(frame, right, node.right.span)
        right = self.evaluate(frame, node.right)
        if isinstance(left, Value) or isinstance(right, Value):
            return self.apply_symbol(frame, node, node.operator, (left, right))
        items = steps_of(left, right)
        self.count(STEPS_OF_ARITHMETIC + (items // ITEMS_OF_A_STEP if node.operator == "+" else items))
        return self._checked(frame, node.span, lambda: binary(node.operator, left, right))

    def _range(self, frame: Frame, node: tree.RangeExpression) -> range:
        bounds = [self.evaluate(frame, bound) for bound in (node.start, node.stop)]
        for bound, part in zip(bounds, (node.start, node.stop)):
            if isinstance(bound, bool) or not isinstance(bound, int):
                is_size = isinstance(bound, SymbolicDim)
                fraction = isinstance(bound, float) and isinstance(part, tree.BinaryExpression) and part.operator == "/"
                self.report(
                    frame,
                    "wrong-type",
                    f"a range needs integers, and this is {describe_value(bound)}",
                    part.span,
                    help="`//` divides and rounds down" if fraction else SCAN if is_size else None,
                )
        return range(bounds[0], bounds[1])

    def truth(self, frame: Frame, value: Any, span: Span) -> bool:
        """A truth value; nothing else counts as one."""
        if not isinstance(value, bool):
            number = isinstance(value, int | float) and len(span.text) <= 40
            self.report(
                frame,
                "wrong-type",
                f"`true` or `false` is needed here, and this is {describe_value(value)}",
                span,
                help="`if` decides when the text is compiled; by data chooses `(mask, x, y) -> where`"
                if isinstance(value, Value)
                else f"compare it: `{span.text} > 0`"
                if number
                else None,
            )
        return value

    def _checked(self, frame: Frame, span: Span, compute: Callable[[], Any]) -> Any:
        try:
            return compute()
        except ArithmeticProblem as problem:
            self.report(frame, problem.code, problem.message, span, help=problem.help)


def describe_value(value: Any) -> str:
    """What a message calls anything that an expression can give."""
    if value is ABSENT:
        return "an input that is not given"
    if isinstance(value, Value):
        return f"a tensor ({value.type})"
    if isinstance(value, type) and issubclass(value, Operator):
        return f"the operator `{value.name}`"
    if isinstance(value, BlockRef):
        return f"the block `{value.definition.name.name}`"
    if isinstance(value, LayerRef):
        return f"the layer `{value.name}`"
    if isinstance(value, WeightRef):
        return f"the weight `{value.path}`"
    return kind(value)
