"""Operators, blocks and layers at work: what a stage or a call does to a graph."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from archc.diagnostics import ArchcError, Note, Span
from archc.ir.graph import Value
from archc.language.elaboration.block_attributes import given_attributes
from archc.language.elaboration.environment import ABSENT, POISON, BlockRef, Failed, LayerRef, WeightRef
from archc.language.elaboration.expressions import describe_value
from archc.language.elaboration.fitting import check_sizes, check_storages, check_weights, report_misfit
from archc.language.elaboration.frames import Frame
from archc.language.elaboration.input_sizes import warn_of_input_size
from archc.language.elaboration.labels import Labels
from archc.language.elaboration.limits import (
    MOST_PARTS,
    STEPS_OF_A_PART,
    STEPS_OF_A_RESULT,
    STEPS_OF_AN_OPERAND,
    steps_of,
)
from archc.language.elaboration.operator_attributes import stated_operator
from archc.language.elaboration.references import lookup, meaning
from archc.language.elaboration.symbols import apply_index, apply_symbol
from archc.language.elaboration.tensor_arguments import holds_tensors
from archc.language.syntax import tree
from archc.language.syntax.foreign_names import axis_text, operator_help
from archc.operator.base import Operator, OperatorError
from archc.types.dims import SymbolicDim
from archc.types.storage import Storage

if TYPE_CHECKING:
    from archc.language.elaboration.elaborate import Elaborator

LONGEST_CHAIN = 60  # characters of a chain that a help text repeats

Callee = type[Operator] | BlockRef | LayerRef


class Application:
    """Adds nodes to the elaborator's graph."""

    def __init__(self, elaborator: Elaborator):
        self.elaborator = elaborator
        self.report = elaborator.report
        self.labels = Labels(elaborator)
        self.parts = 0
        self.allowed_parts = MOST_PARTS

    # Chains and calls -------------------------------------------------------------------------------------

    def chain(self, frame: Frame, node: tree.Chain) -> Any:
        """The value of `source -> stage -> stage`: a tensor, or a tuple of several."""
        done = 0
        try:
            value = self.elaborator.expressions.evaluate(frame, node.source)
            for stage in node.steps:
                source = node.source if done == 0 else node.steps[done - 1]
                operands = self._operands(frame, value, source, stage)
                done += 1
                fresh = stage.called or stage.label is not None
                callee = self.callee(frame, stage.callee, fresh, stage.arguments)
                results = self._apply(frame, callee, operands, stage.arguments, stage.label, stage)
                value = results[0] if len(results) == 1 else results
        except Failed:
            # Nothing flows on, but what means nothing further down is a mistake of its own.
            for stage in node.steps[done:]:
                self._look_at(frame, stage)
            for stage in node.steps[max(done - 1, 0) :]:
                if stage.label is not None:
                    with contextlib.suppress(Failed):
                        frame.lost.add(self.labels.path(frame, stage.label))
            raise
        return value

    def _look_at(self, frame: Frame, stage: tree.ChainStep) -> None:
        """Report the names without meaning in a stage that nothing reaches."""
        with contextlib.suppress(Failed):
            self.callee(frame, stage.callee, stage.called or stage.label is not None, stage.arguments)
        for argument in stage.arguments:
            with contextlib.suppress(Failed):
                self.elaborator.expressions.argument(frame, argument)

    def call(self, frame: Frame, node: tree.Call, callee: Any) -> Any:
        """The value of `arange(T)`: an operator or block that receives no tensors."""
        if isinstance(node.callee, tree.Name):
            callee = self._meant(frame, node.callee.name, callee, bool(node.arguments))
        callee = self._callable(frame, callee, node.callee.span)
        results = self._apply(frame, callee, (), node.arguments, None, node)
        return results[0] if len(results) == 1 else results

    def _operands(
        self, frame: Frame, value: Any, source: tree.Expression | tree.ChainStep, stage: tree.ChainStep
    ) -> tuple[Value, ...]:
        items = value if isinstance(value, tuple) else (value,)
        while len(items) > 1 and items[-1] is ABSENT:  # what is optional stands last, here as in signatures
            items = items[:-1]
        parts = source.items if isinstance(source, tree.Tuple) and len(source.items) >= len(items) else None
        for number, item in enumerate(items):
            if isinstance(item, Value):
                continue
            self.report(
                frame,
                "wrong-type",
                f"only tensors flow along arrows, and this is {describe_value(item)}",
                parts[number].span if parts is not None else source.span,
                help=_help_for_operand(item, source, stage),
            )
        return items

    def callee(
        self, frame: Frame, node: tree.Expression, fresh: bool = False, arguments: Sequence[tree.Argument] = ()
    ) -> Callee:
        """Operator, block or layer that a stage calls.

        Args:
            fresh: whether the stage has attributes or a label, which a declared layer cannot take.
            arguments: arguments of the stage, for the help about an unknown operator.
        """
        if isinstance(node, tree.Name):
            value = lookup(frame, node.name)
            is_storage = isinstance(value, type) and issubclass(value, Storage)
            if value is None or is_storage:  # `dense` is a storage here, and a layer in Keras
                self.report(
                    frame,
                    "unknown-operator",
                    f"there is no operator, block or layer `{node.name}`",
                    node.span,
                    help=operator_help(
                        node.name, [*frame.module.blocks, *self._layer_names(frame)], axis_text(arguments)
                    )
                    or "`archc ops` lists the operators",
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
        other = meaning(frame, name)
        is_callable = isinstance(other, BlockRef) or (isinstance(other, type) and issubclass(other, Operator))
        return other if is_callable else value

    def _layer_names(self, frame: Frame) -> list[str]:
        return [name for name, binding in frame.environment.bindings.items() if isinstance(binding.value, LayerRef)]

    def _callable(self, frame: Frame, value: Any, span: Span) -> Callee:  # noqa: RET503 - `report` never returns
        if value is POISON:
            raise Failed
        if isinstance(value, BlockRef | LayerRef) or (isinstance(value, type) and issubclass(value, Operator)):
            return value
        self.report(
            frame,
            "not-callable",
            f"a stage is an operator, a block or a layer, and this is {describe_value(value)}",
            span,
        )

    def _apply(
        self,
        frame: Frame,
        callee: Callee,
        operands: tuple[Value, ...],
        arguments: Sequence[tree.Argument],
        label: tree.Label | None,
        node: tree.ChainStep | tree.Call,
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
                    help=f"a tensor flows into it: `x -> {callee.name}`",
                )
            with frame.environment.meaning(callee.meanings):
                return self._use(frame, callee.callee, operands, callee.arguments, callee.name, span)
        path = self.labels.enter(frame, callee, label, span)
        return self._use(frame, callee, operands, arguments, path, span)

    def _use(
        self,
        frame: Frame,
        target: type[Operator] | BlockRef,
        operands: tuple[Value, ...],
        arguments: Sequence[tree.Argument],
        path: str | None,
        span: Span,
    ) -> tuple[Value, ...]:
        if isinstance(target, BlockRef):
            assert path is not None
            return self._use_block(frame, target, operands, arguments, path, span)
        return self._use_operator(frame, target, operands, arguments, path, span)

    # Blocks -----------------------------------------------------------------------------------------------

    def _use_block(
        self,
        frame: Frame,
        block: BlockRef,
        operands: tuple[Value, ...],
        arguments: Sequence[tree.Argument],
        path: str,
        span: Span,
    ) -> tuple[Value, ...]:
        self._count(frame, span)
        values = given_attributes(self.elaborator, frame, block, arguments)
        return self.elaborator.block(frame, block, values, operands, path, span)

    # Operators --------------------------------------------------------------------------------------------

    def _use_operator(
        self,
        frame: Frame,
        operator: type[Operator],
        operands: tuple[Value, ...],
        arguments: Sequence[tree.Argument],
        name: str | None,
        span: Span,
    ) -> tuple[Value, ...]:
        stated = stated_operator(self.elaborator, frame, operator, arguments, name, span, operands)
        if stated.weights and name is not None:
            frame.labels[name] = replace(frame.labels[name], ties=stated.weights)
        return self.add(frame, stated.op, operands, name, span, arguments, stated.weights, stated.storages)

    def add(
        self,
        frame: Frame,
        op: Operator,
        operands: Sequence[Value],
        name: str | None,
        span: Span,
        arguments: Sequence[tree.Argument] = (),
        weights: Mapping[str, WeightRef] | None = None,
        storages: Mapping[str, Storage] | None = None,
    ) -> tuple[Value, ...]:
        """The results of a new node; whatever does not fit is reported at the place that is at fault."""
        self._count(frame, span)
        rewriter = self.elaborator.rewriter
        paths = {parameter: weight.path for parameter, weight in (weights or {}).items()}
        turned = {parameter for parameter, weight in (weights or {}).items() if weight.transposed}
        try:
            self._count_operands(operands)
            inference = op.infer([value.type for value in operands])
            self.elaborator.work.count(STEPS_OF_A_RESULT * len(inference.results))
            if inference.parameters:
                own = frame.within(name or op.name)
                paths = {parameter: f"{own}.{parameter}" for parameter in inference.parameters} | paths
                check_weights(self.elaborator, frame, op, inference, paths, turned, operands, span)
                check_storages(self.elaborator, frame, inference, storages or {}, arguments, span)
            check_sizes(self.elaborator, frame, op, inference, operands, span)
            warn_of_input_size(self.elaborator.diagnostics, op, arguments, [value.type for value in operands], span)
            node = rewriter.add(
                op,
                operands,
                name=name,
                scope=frame.scope,
                span=span,
                weights=paths,
                transposed=turned,
                storages=storages,
            )
        except OperatorError as problem:
            report_misfit(self.elaborator, frame, op, operands, problem, arguments, span)
        return node.results

    def _count_operands(self, operands: Sequence[Value]) -> None:
        symbolic = (dim for value in operands for dim in value.type.shape if isinstance(dim, SymbolicDim))
        self.elaborator.work.count(STEPS_OF_AN_OPERAND * max(0, len(operands) - 2) + steps_of(*symbolic))

    def _count(self, frame: Frame, span: Span) -> None:
        """Note one more operator or use of a block.

        Raises:
            ArchcError: there are too many, and no going on.
        """
        self.parts += 1
        self.elaborator.work.count(STEPS_OF_A_PART)
        if self.parts > self.allowed_parts:
            self.too_large(frame, f"more than {self.allowed_parts:,}", span)

    def too_large(self, frame: Frame, count: str, span: Span) -> NoReturn:
        """Report a model of too many operators and instances of blocks, and end elaboration.

        Raises:
            ArchcError: always.
        """
        with contextlib.suppress(Failed):
            self.report(
                frame,
                "model-too-large",
                f"the model has {count} operators and instances of blocks; the limit is {self.allowed_parts:,}",
                span,
                help="use fewer blocks within blocks, or shorter loops",
            )
        raise ArchcError(self.elaborator.diagnostics)

    # Symbols and indices ----------------------------------------------------------------------------------

    def symbol(self, frame: Frame, node: tree.SyntaxNode, symbol: str, operands: Sequence[Any]) -> Value:
        """The tensor that `a + b`, `x * 0.5` or `-x` makes."""
        return apply_symbol(self.elaborator, frame, node, symbol, operands)

    def index(self, frame: Frame, node: tree.IndexExpression, value: Value) -> Value:
        """The tensor that `x[:, 0]` makes."""
        return apply_index(self.elaborator, frame, node, value)


def _help_for_operand(item: Any, source: tree.Expression | tree.ChainStep, stage: tree.ChainStep) -> str:
    """Help for an operand that is not a tensor."""
    if isinstance(item, list) and holds_tensors(item):
        chain = f"({source.span.text[1:-1].strip()}) -> {stage.span.text}"
        is_short = isinstance(source, tree.List) and len(chain) <= LONGEST_CHAIN and "\n" not in chain
        return f"several tensors are a tuple: `{chain if is_short else '(x, y) -> concat(1)'}`"
    if item is ABSENT:
        return "an optional input must be last in a tuple, or inside `if given(...)`"
    if isinstance(item, type | BlockRef):
        return "an operator that makes a tensor of numbers is called: `arange(n) -> ...`"
    if isinstance(item, list):
        return "a tensor of numbers is `constant((3,))`, which the weights file holds, or `full((3,), 0.5)`"
    return "attributes go in parentheses after an operator: `x -> linear(8)`"
