"""Evaluating expressions: attribute values, tensors, layers, weights and storages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from archc.diagnostics import Span, did_you_mean
from archc.ir.attributes import AttributeProblem, bind
from archc.ir.dims import SymbolicDim
from archc.ir.graph import Value
from archc.ir.storage import STORAGES, Storage
from archc.ir.types import DType
from archc.language import syntax
from archc.language.arithmetic import FUNCTIONS, ArithmeticProblem, binary, call_function, check_number, kind
from archc.language.environment import POISON, BlockRef, LayerRef, WeightRef
from archc.ops.operator import Operator
from archc.ops.registry import find_operator, operator_names

if TYPE_CHECKING:
    from archc.language.frames import Frame


class Failed(Exception):
    """Something that was already reported; whoever depends on it is silent."""


class Expressions:
    """Evaluates expressions in a frame; the elaborator gives it the meaning of chains and tensor operators.

    Args:
        report: reports an error at a span and raises `Failed`.
        apply_chain, apply_call: the value of a chain, and of an operator or block that is called without operands.
        apply_symbol: the value of `a + b` or `-a` where an operand is a tensor.
        apply_index: the value of `x[...]` on a tensor.
    """

    def __init__(
        self,
        report: Callable[..., NoReturn],
        apply_chain: Callable[[Frame, syntax.Chain], Any],
        apply_call: Callable[[Frame, syntax.Call, Any], Any],
        apply_symbol: Callable[[Frame, syntax.Node, str, Sequence[Any]], Any],
        apply_index: Callable[[Frame, syntax.Index, Value], Any],
    ):
        self.report = report
        self.apply_call = apply_call
        self.apply_symbol = apply_symbol
        self.apply_index = apply_index
        self._handlers: dict[type, Callable[[Frame, Any], Any]] = {
            syntax.Number: self._number,
            syntax.String: lambda frame, node: node.value,
            syntax.Boolean: lambda frame, node: node.value,
            syntax.Name: self._name,
            syntax.Member: self._member,
            syntax.Index: self._index,
            syntax.Call: self._call,
            syntax.Unary: self._unary,
            syntax.Binary: self._binary,
            syntax.Tuple: lambda frame, node: tuple(self.evaluate(frame, item) for item in node.items),
            syntax.List: lambda frame, node: [self.evaluate(frame, item) for item in node.items],
            syntax.Range: self._range,
            syntax.Chain: apply_chain,
        }

    def evaluate(self, frame: Frame, node: syntax.Expression) -> Any:
        """The value of an expression.

        Raises:
            Failed: it has none; that was reported.
        """
        return self._handlers[type(node)](frame, node)

    def argument(self, frame: Frame, node: syntax.Argument) -> Any:
        """The value of an argument of a call.

        Raises:
            Failed: it has none; that was reported.
        """
        if isinstance(node.value, syntax.Slice):
            self.report(
                frame,
                "wrong-type",
                "a slice is no attribute",
                node.value.span,
                help="slices stand in indices: `x[0:2]`",
            )
        return self.evaluate(frame, node.value)

    def size(self, frame: Frame, node: syntax.Expression) -> Any:
        """The value of an expression that must be an integer or a size."""
        value = self.evaluate(frame, node)
        if isinstance(value, bool) or not isinstance(value, int | SymbolicDim):
            self.report(frame, "wrong-type", f"a size is needed here, and this is {kind(value)}", node.span)
        return value

    def _number(self, frame: Frame, node: syntax.Number) -> Any:
        if node.unit is not None:
            self.report(
                frame, "unit-misplaced", "only `devices` has quantities with units", node.span, help="drop the unit"
            )
        return self._checked(frame, node.span, lambda: check_number(node.value))

    def _name(self, frame: Frame, node: syntax.Name) -> Any:
        value = self.lookup(frame, node.name)
        if value is POISON:
            raise Failed
        if value is None:
            self.report(
                frame,
                "unknown-name",
                f"nothing is called `{node.name}` here",
                node.span,
                help=did_you_mean(node.name, self.known_names(frame)),
            )
        return value

    def lookup(self, frame: Frame, name: str) -> Any | None:
        """What a name means: a value of the frame, a block of the file, an operator, a dtype, a storage; or None."""
        value = frame.environment.get(name)
        return self.meaning(frame, name) if value is None else value

    def meaning(self, frame: Frame, name: str) -> Any | None:
        """What a name means where the definition itself does not use it."""
        definition = frame.module.definitions.get(name)
        if definition is not None:
            return BlockRef(definition, frame.module)
        if name in STORAGES:
            return STORAGES[name]
        if name in DType.__members__:
            return DType(name)
        return math.inf if name == "inf" else find_operator(name)

    def known_names(self, frame: Frame) -> Iterable[str]:
        """All names that mean something here, for suggestions."""
        return [*frame.environment.bindings, *frame.module.definitions, *frame.module.imports, *operator_names()]

    def _declared(self, frame: Frame, node: syntax.Member | syntax.Index) -> Any | None:
        """The layer `h[0]` or `encoder.first`, if it was declared with `layer`."""
        path = self.path(frame, node)
        return frame.environment.get(path) if path is not None else None

    def _member(self, frame: Frame, node: syntax.Member) -> Any:
        declared = self._declared(frame, node)
        if declared is not None:
            return declared
        if isinstance(node.value, syntax.Name) and frame.environment.get(node.value.name) is None:
            module = frame.module.imports.get(node.value.name)
            if module is not None:
                definition = module.definitions.get(node.name)
                if definition is not None:
                    return BlockRef(definition, module)
                self.report(
                    frame,
                    "unknown-name",
                    f"{module.source.name} defines no `{node.name}`",
                    node.span,
                    help=did_you_mean(node.name, module.definitions),
                )
        path = self.path(frame, node.value)
        if path is None:
            value = self.evaluate(frame, node.value)
            if isinstance(value, Value):
                self.report(
                    frame,
                    "no-member",
                    f"a tensor has no `{node.name}`",
                    node.span,
                    help="its sizes have names: declare it as `f32[N, D]`, and use `D`",
                )
            self.report(frame, "no-member", f"{kind(value)} has no `{node.name}`", node.span)
        return self._weight(frame, node, path)

    def _weight(self, frame: Frame, node: syntax.Member, path: str) -> WeightRef:
        """`wte.weight`: the layer must have been declared in this definition, and own such a parameter."""
        if path not in frame.labels:
            self.report(
                frame,
                "unknown-layer",
                f"no layer or import is called `{path}` here",
                node.value.span,
                help=did_you_mean(path, [*frame.labels, *frame.module.imports])
                or "a layer is known below the line that names it",
            )
        callee = frame.labels[path].callee
        if isinstance(callee, type) and node.name not in callee.parameters:
            owned = ", ".join(f"`{name}`" for name in callee.parameters)
            self.report(
                frame,
                "unknown-parameter",
                f"`{path}` has no parameter `{node.name}`",
                node.span,
                help=did_you_mean(node.name, callee.parameters) or (f"it has {owned}" if owned else None),
            )
        storage = None
        declared = frame.environment.get(path)
        if isinstance(declared, LayerRef):  # perhaps used for the first time here, so its own say counts
            values = [self.argument(frame, a) for a in declared.arguments if a.name == node.name]
            values = [value() if isinstance(value, type) and issubclass(value, Storage) else value for value in values]
            storage = next((value for value in values if isinstance(value, Storage)), None)
        whole = f"{frame.scope.path}.{path}" if frame.scope.path else path
        return WeightRef(f"{whole}.{node.name}", node.span, storage)

    def path(self, frame: Frame, node: syntax.Expression) -> str | None:
        """The path that `h[3].attn` writes, or None for what writes none."""
        if isinstance(node, syntax.Name):
            value = frame.environment.bindings.get(node.name)
            layer = value is None or isinstance(value.value, LayerRef) or node.name in frame.labels
            return node.name if layer else None
        if isinstance(node, syntax.Member):
            inner = self.path(frame, node.value)
            return None if inner is None else f"{inner}.{node.name}"
        if isinstance(node, syntax.Index) and len(node.items) == 1:
            inner = self.path(frame, node.value)
            item = node.items[0]
            if inner is None or isinstance(item, (syntax.Slice, syntax.Ellipsis)):
                return None
            number = self.evaluate(frame, item)
            return f"{inner}.{number}" if isinstance(number, int) else None
        return None

    def _index(self, frame: Frame, node: syntax.Index) -> Any:
        declared = self._declared(frame, node)
        if declared is not None:
            return declared
        value = self.evaluate(frame, node.value)
        if isinstance(value, Value):
            return self.apply_index(frame, node, value)
        if not isinstance(value, (tuple, list)):
            self.report(frame, "wrong-type", f"{kind(value)} cannot be indexed", node.span)
        if len(node.items) != 1 or isinstance(node.items[0], (syntax.Slice, syntax.Ellipsis)):
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

    def _call(self, frame: Frame, node: syntax.Call) -> Any:
        if isinstance(node.callee, syntax.Name) and node.callee.name in FUNCTIONS:
            bound = frame.environment.get(node.callee.name)
            if bound is None and not any(argument.name for argument in node.arguments):
                values = [self.argument(frame, argument) for argument in node.arguments]
                if not any(isinstance(value, Value) for value in values):
                    return self._checked(frame, node.span, lambda: call_function(node.callee.name, values))  # type: ignore[union-attr]
        callee = self.evaluate(frame, node.callee)
        if isinstance(callee, type) and issubclass(callee, Storage):
            return self._storage(frame, node, callee)
        return self.apply_call(frame, node, callee)

    def _storage(self, frame: Frame, node: syntax.Call, storage: type[Storage]) -> Storage:
        positional = [self.argument(frame, a) for a in node.arguments if a.name is None]
        named = {a.name: self.argument(frame, a) for a in node.arguments if a.name is not None}
        try:
            return bind(storage, f"`{storage.name}`", positional, named)
        except AttributeProblem as problem:
            self.report(frame, problem.code, problem.message, node.span, help=problem.help)

    def _unary(self, frame: Frame, node: syntax.Unary) -> Any:
        value = self.evaluate(frame, node.operand)
        if isinstance(value, Value):
            return self.apply_symbol(frame, node, node.operator, (value,))
        if node.operator == "not":
            return not self.truth(frame, value, node.operand.span)
        if isinstance(value, bool) or not isinstance(value, int | float | SymbolicDim):
            self.report(frame, "wrong-type", f"`-` does not apply to {kind(value)}", node.span)
        return -value

    def _binary(self, frame: Frame, node: syntax.Binary) -> Any:
        # A long sum leans to the left, as deep as it is long: go down its spine, then come back up.
        spine = []
        left: syntax.Expression = node
        while isinstance(left, syntax.Binary):
            spine.append(left)
            left = left.left
        value = self.evaluate(frame, left)
        for step in reversed(spine):
            value = self._step(frame, step, value)
        return value

    def _step(self, frame: Frame, node: syntax.Binary, left: Any) -> Any:
        if node.operator in ("and", "or") and not isinstance(left, Value):
            decided = self.truth(frame, left, node.left.span)
            if decided == (node.operator == "or"):
                return decided
            right = self.evaluate(frame, node.right)
            return self.truth(frame, right, node.right.span)
        right = self.evaluate(frame, node.right)
        if isinstance(left, Value) or isinstance(right, Value):
            return self.apply_symbol(frame, node, node.operator, (left, right))
        return self._checked(frame, node.span, lambda: binary(node.operator, left, right))

    def _range(self, frame: Frame, node: syntax.Range) -> range:
        bounds = [self.evaluate(frame, bound) for bound in (node.start, node.stop)]
        for bound, part in zip(bounds, (node.start, node.stop)):
            if isinstance(bound, bool) or not isinstance(bound, int):
                fraction = isinstance(bound, float) and isinstance(part, syntax.Binary) and part.operator == "/"
                self.report(
                    frame,
                    "wrong-type",
                    f"a range needs integers, and this is {describe_value(bound)}",
                    part.span,
                    help="`//` divides and rounds down" if fraction else None,
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
                help=f"compare it: `{span.text} > 0`" if number else None,
            )
        return value

    def _checked(self, frame: Frame, span: Span, compute: Callable[[], Any]) -> Any:
        try:
            return compute()
        except ArithmeticProblem as problem:
            self.report(frame, problem.code, problem.message, span, help=problem.help)


def describe_value(value: Any) -> str:
    """What a message calls anything that an expression can give."""
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
