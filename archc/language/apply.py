"""Operators, blocks and layers at work: what a stage, a call, `a + b` and `x[:, 0]` do to a graph."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archc.diagnostics import Note, Span, did_you_mean
from archc.ir.attributes import AttributeProblem
from archc.ir.dims import SymbolicDim
from archc.ir.graph import Value
from archc.ir.storage import Storage
from archc.language import syntax
from archc.language.advice import advise, describe
from archc.language.environment import POISON, BlockRef, LayerRef, WeightRef
from archc.language.expressions import Failed, describe_value
from archc.language.names import check_layer_name
from archc.ops.binary import BINARY
from archc.ops.operator import OPERATORS, Operator, OperatorError

if TYPE_CHECKING:
    from archc.language.elaborate import Elaborator, Frame

Callee = type[Operator] | BlockRef | LayerRef


class Application:
    """Adds nodes to the elaborator's graph."""

    def __init__(self, elaborator: Elaborator):
        self.elaborator = elaborator
        self.report = elaborator.report

    # Chains and calls -------------------------------------------------------------------------------------

    def chain(self, frame: Frame, node: syntax.Chain) -> Any:
        """The value of `source -> stage -> stage`: a tensor, or a tuple of several."""
        try:
            value = self.elaborator.expressions.evaluate(frame, node.source)
        except Failed:
            # Nothing flows, but a stage that means nothing is a mistake of its own.
            for stage in node.stages:
                self.callee(frame, stage.callee)
            raise
        for stage in node.stages:
            operands = self._operands(frame, value, node.source.span if stage is node.stages[0] else stage.span)
            callee = self.callee(frame, stage.callee, stage.called or stage.label is not None)
            results = self._apply(frame, callee, operands, stage.arguments, stage.label, stage)
            value = results[0] if len(results) == 1 else results
        return value

    def call(self, frame: Frame, node: syntax.Call, callee: Any) -> Any:
        """The value of `arange(T)`: an operator or block that receives no tensors."""
        if isinstance(node.callee, syntax.Name):
            callee = self._meant(frame, node.callee.name, callee, bool(node.arguments))
        callee = self._callable(frame, callee, node.callee.span)
        results = self._apply(frame, callee, (), node.arguments, None, node)
        return results[0] if len(results) == 1 else results

    def _operands(self, frame: Frame, value: Any, span: Span) -> tuple[Value, ...]:
        items = value if isinstance(value, tuple) else (value,)
        for item in items:
            if not isinstance(item, Value):
                self.report(
                    frame,
                    "wrong-type",
                    f"only tensors flow along arrows, and this is {describe_value(item)}",
                    span,
                    help="an operator that makes a tensor of numbers is called: `arange(n) -> ...`",
                )
        return items

    def callee(self, frame: Frame, node: syntax.Expression, fresh: bool = False) -> Callee:
        """What a stage's callee means; `fresh` where it is given attributes or a label, as no declared layer is."""
        if isinstance(node, syntax.Name):
            value = self.elaborator.expressions.lookup(frame, node.name)
            if value is None:
                known = [*frame.module.blocks, *OPERATORS, *self._layer_names(frame)]
                self.report(
                    frame,
                    "unknown-operator",
                    f"there is no operator, block or layer `{node.name}`",
                    node.span,
                    help=did_you_mean(node.name, known) or "`archc ops` lists the operators",
                )
            return self._callable(frame, self._meant(frame, node.name, value, fresh), node.span)
        return self._callable(frame, self.elaborator.expressions.evaluate(frame, node), node.span)

    def _meant(self, frame: Frame, name: str, value: Any, fresh: bool) -> Any:
        """What is called by a name: an operator or block, where `value` bears its name and is not what is called.

        So `dropout(dropout)` takes an attribute of the operator's name, and `linear(3)` is a fresh layer beside a
        declared one called `linear`.
        """
        if value is POISON or isinstance(value, BlockRef | type) or (isinstance(value, LayerRef) and not fresh):
            return value
        other = self.elaborator.expressions.meaning(frame, name)
        is_callable = isinstance(other, BlockRef) or (isinstance(other, type) and issubclass(other, Operator))
        return other if is_callable else value

    def _layer_names(self, frame: Frame) -> list[str]:
        return [name for name, binding in frame.environment.bindings.items() if isinstance(binding.value, LayerRef)]

    def _callable(self, frame: Frame, value: Any, span: Span) -> Callee:
        if value is POISON:
            raise Failed
        if isinstance(value, (BlockRef, LayerRef)) or (isinstance(value, type) and issubclass(value, Operator)):
            return value
        what = describe_value(value)
        self.report(frame, "not-callable", f"a stage is an operator, a block or a layer, and this is {what}", span)

    def _apply(
        self,
        frame: Frame,
        callee: Callee,
        operands: tuple[Value, ...],
        arguments: Sequence[syntax.Argument],
        label: syntax.Label | None,
        node: syntax.Stage | syntax.Call,
    ) -> tuple[Value, ...]:
        callee_span = node.callee.span
        span = callee_span if label is None else label.span.to(callee_span)
        if isinstance(callee, LayerRef):
            if label is not None or arguments:
                self.report(
                    frame,
                    "layer-redefined",
                    f"`{callee.name}` is a layer already, and takes neither a label nor attributes",
                    node.span,
                    notes=[Note("it is declared here", callee.span)],
                )
            path, arguments, target = callee.name, callee.arguments, callee.callee
        else:
            target = callee
            path = self._path(frame, target, label, span)
        if isinstance(target, BlockRef):
            assert path is not None
            return self._use_block(frame, target, operands, arguments, path, span)
        return self._use_operator(frame, target, operands, arguments, path, span)

    # Layers' names ----------------------------------------------------------------------------------------

    def label_path(self, frame: Frame, label: syntax.Label) -> str:
        """The path that a label gives: `h[3]` is `h.3`."""
        path = label.name
        for part in label.parts:
            if isinstance(part, syntax.Field):
                path += f".{part.name}"
                continue
            number = self.elaborator.expressions.evaluate(frame, part)
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                self.report(frame, "wrong-type", "a layer's index is an integer from 0 up", part.span)
            path += f".{number}"
        return path

    def _path(
        self, frame: Frame, callee: type[Operator] | BlockRef, label: syntax.Label | None, span: Span
    ) -> str | None:
        """The path of a fresh layer; None for an operator without weights that nobody named."""
        if label is not None:
            check_layer_name(self.elaborator, frame, label)
            path = self.label_path(frame, label)
            self.register(frame, path, callee, label.span)
            return path
        if isinstance(callee, type):
            if not callee.parameters:
                return None
            base = callee.name
        else:
            base = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", callee.definition.name.name).lower()
        path = base
        while path in frame.labels or path in frame.lists:
            frame.counts[base] = frame.counts.get(base, 1) + 1
            path = f"{base}_{frame.counts[base]}"
        self.register(frame, path, callee, span)
        return path

    def register(self, frame: Frame, path: str, callee: type[Operator] | BlockRef, span: Span) -> None:
        """Enter a layer's path in its definition; it must be new, and no list of layers may have its name."""
        from archc.language.elaborate import Labelled

        head, _, rest = path.partition(".")
        earlier = frame.labels[path].span if path in frame.labels else None
        if rest and head in frame.labels:
            earlier = frame.labels[head].span
        elif not rest and head in frame.lists:
            earlier = frame.lists[head]
        if earlier is not None:
            self.report(
                frame,
                "duplicate-label",
                f"two layers are called `{path}`",
                span,
                notes=[Note("the name is given here first", earlier)],
                help="give one of them another name; to share weights, declare it with `layer` and use it twice",
            )
        frame.labels[path] = Labelled(callee, span)
        if rest:
            frame.lists.setdefault(head, span)

    # Blocks -----------------------------------------------------------------------------------------------

    def _use_block(
        self,
        frame: Frame,
        block: BlockRef,
        operands: tuple[Value, ...],
        arguments: Sequence[syntax.Argument],
        path: str,
        span: Span,
    ) -> tuple[Value, ...]:
        names = [attribute.name.name for attribute in block.definition.attributes]
        values: dict[str, Any] = {}
        for position, argument in enumerate(arguments):
            if argument.name is None and position >= len(names):
                self.report(
                    frame,
                    "too-many-attributes",
                    f"the block `{block.definition.name.name}` takes {len(names)} attributes",
                    argument.span,
                )
            name = argument.name or names[position]
            if name in values:
                self.report(frame, "duplicate-attribute", f"`{name}` is given twice", argument.span)
            if name not in names:
                self.report(
                    frame,
                    "unknown-attribute",
                    f"the block `{block.definition.name.name}` has no attribute `{name}`",
                    argument.span,
                    help=did_you_mean(name, names)
                    or ("it has " + ", ".join(f"`{own}`" for own in names) if names else "it has none"),
                )
            values[name] = self.elaborator.expressions.evaluate(frame, argument.value)
        return self.elaborator.block(frame, block, values, operands, path, span)

    # Operators --------------------------------------------------------------------------------------------

    def _use_operator(
        self,
        frame: Frame,
        operator: type[Operator],
        operands: tuple[Value, ...],
        arguments: Sequence[syntax.Argument],
        name: str | None,
        span: Span,
    ) -> tuple[Value, ...]:
        weights: dict[str, str] = {}
        storages: dict[str, Storage] = {}
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for argument in arguments:
            value = self.elaborator.expressions.evaluate(frame, argument.value)
            if isinstance(value, type) and issubclass(value, Storage):
                value = value()
            if argument.name in operator.parameters and isinstance(value, WeightRef):
                weights[argument.name] = value.path
            elif argument.name in operator.parameters and isinstance(value, Storage):
                storages[argument.name] = value
            elif isinstance(value, Value):
                self.report(
                    frame,
                    "wrong-type",
                    "tensors flow along arrows, and are no attributes",
                    argument.span,
                    help=f"write `{argument.value.span.text} -> {operator.name}`",
                )
            elif argument.name is None:
                positional.append(value)
            elif argument.name in named:
                self.report(frame, "duplicate-attribute", f"`{argument.name}` is given twice", argument.span)
            else:
                named[argument.name] = value
        try:
            op = operator.from_arguments(positional, named)
        except AttributeProblem as problem:
            self.report(
                frame,
                problem.code,
                problem.message,
                _argument_span(arguments, problem.argument) or span,
                help=problem.help,
            )
        return self.add(frame, op, operands, name, span, arguments, weights, storages)

    def add(
        self,
        frame: Frame,
        op: Operator,
        operands: Sequence[Value],
        name: str | None,
        span: Span,
        arguments: Sequence[syntax.Argument] = (),
        weights: Mapping[str, str] | None = None,
        storages: Mapping[str, Storage] | None = None,
    ) -> tuple[Value, ...]:
        """The results of a new node; whatever does not fit is reported at the place that is at fault."""
        rewriter = self.elaborator.rewriter
        try:
            inference = op.infer([value.type for value in operands])
            self._check_weights(frame, op, name, inference.parameters, weights or {}, span)
            node = rewriter.add(
                op, operands, name=name, scope=frame.scope, span=span, weights=weights, storages=storages
            )
        except OperatorError as problem:
            place = _argument_span(arguments, problem.attribute) if problem.code != "shape-mismatch" else None
            notes = [*problem.notes]
            for value in operands if problem.operand is None else [operands[problem.operand]]:
                notes += self.describe(value)
            advice = problem.help or advise(op, operands, problem)
            self.report(frame, problem.code, str(problem), place or span, notes=notes, help=advice)
        return node.results

    def describe(self, value: Value) -> list[str]:
        """Notes that tell what a tensor is and where it comes from."""
        return describe(value)

    def _check_weights(
        self,
        frame: Frame,
        op: Operator,
        name: str | None,
        parameters: Mapping[str, Any],
        given: Mapping[str, str],
        span: Span,
    ) -> None:
        """A weight that exists already, of a shared layer or another one, must have the shape that is needed here."""
        own = f"{frame.scope.path}.{name}" if frame.scope.path else name
        for parameter, needed in parameters.items():
            path = given.get(parameter, f"{own}.{parameter}")
            weight = self.elaborator.rewriter.graph.weights.get(path)
            if weight is not None and weight.shape != needed.shape:
                self.report(
                    frame,
                    "shape-mismatch",
                    f"the weight `{path}` is {weight.dtype}{list(weight.shape)}, and `{op.name}` needs {needed} here",
                    span,
                    help="layers share a weight only where its shape fits both",
                )

    # Symbols and indices ----------------------------------------------------------------------------------

    def symbol(self, frame: Frame, node: syntax.Node, symbol: str, operands: Sequence[Any]) -> Value:
        """The tensor that `a + b`, `x * 0.5` or `-x` makes."""
        if len(operands) == 1:
            unary = {"-": "neg", "not": "logical_not"}[symbol]
            return self.add(frame, OPERATORS[unary](), operands, None, node.span)[0]
        if symbol not in BINARY:
            self.report(
                frame,
                "wrong-type",
                f"`{symbol}` does not apply to tensors",
                node.span,
                help=f"write `(a, b) -> logical_{symbol}`" if symbol in ("and", "or") else None,
            )
        operator = BINARY[symbol]
        tensors = [operand for operand in operands if isinstance(operand, Value)]
        if len(tensors) == 2:
            return self.add(frame, operator(), tensors, None, node.span)[0]
        left, right = operands
        scalar = right if isinstance(left, Value) else left
        if isinstance(scalar, bool) or not isinstance(scalar, (int, float, SymbolicDim)):
            self.report(
                frame,
                "wrong-type",
                f"`{symbol}` combines a tensor with a tensor or a number, and this is {describe_value(scalar)}",
                node.span,
            )
        op = operator(scalar=scalar, reverse=not isinstance(left, Value))
        return self.add(frame, op, tensors, None, node.span)[0]

    def index(self, frame: Frame, node: syntax.Index, value: Value) -> Value:
        """The tensor that `x[:, 0]` makes."""
        items: list[Any] = []
        for item in node.items:
            if isinstance(item, syntax.Slice):
                parts = (item.start, item.stop, item.step)
                items.append(tuple(None if part is None else self._bound(frame, part) for part in parts))
            elif isinstance(item, syntax.Ellipsis):
                items.append(Ellipsis)
            else:
                items.append(self._bound(frame, item))
        return self.add(frame, OPERATORS["slice"](tuple(items)), (value,), None, node.span)[0]

    def _bound(self, frame: Frame, node: syntax.Expression) -> int | SymbolicDim:
        value = self.elaborator.expressions.evaluate(frame, node)
        if isinstance(value, bool) or not isinstance(value, (int, SymbolicDim)):
            self.report(frame, "wrong-type", f"an index is an integer, and this is {describe_value(value)}", node.span)
        return value


def _argument_span(arguments: Sequence[syntax.Argument], which: str | int | None) -> Span | None:
    """The place of an argument, by its name or position."""
    positional = [argument for argument in arguments if argument.name is None]
    if isinstance(which, int):
        return positional[which].span if which < len(positional) else None
    return next((argument.span for argument in arguments if which is not None and argument.name == which), None)
