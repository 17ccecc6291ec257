"""Elaboration context: the state of building one graph, and the instances of definitions in the graph.

All functions of elaboration take the context as an argument.  The functions are mutually recursive: expressions contain
calls, a call instantiates a block, a block runs statements, and statements contain expressions.  The recursion goes
through the context, which avoids circular imports: `Elaboration.evaluate` and `Elaboration.run` look up the handler of
a node's type in the tables of `Semantics`.  `archc.language.elaboration.elaborate` fills the tables.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from archc.declaration.base import Operator
from archc.diagnostics import ArchcError, Diagnostics, Note, Span
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Scope, Value
from archc.ir.rewriter import Rewriter
from archc.language.elaboration.arithmetic import describe_kind
from archc.language.elaboration.environment import (
    POISON,
    BlockRef,
    Environment,
    Failed,
    LayerRef,
    UnusedValues,
    WeightRef,
    names_in,
)
from archc.language.elaboration.modules import Module
from archc.language.elaboration.size_bound import MOST_ITERATIONS, MOST_PARTS
from archc.language.elaboration.step_budget import (
    STEPS_OF_A_PART,
    STEPS_OF_A_STATEMENT,
    STEPS_OF_AN_ITERATION,
    StepBudget,
)
from archc.language.syntax import tree
from archc.types.dims import SymbolicDim

LONGEST_MESSAGE = 1000
"""Limit on the characters of a message: a name of ten thousand characters is not repeated in full."""
LONGEST_NOTE = 240
"""Limit on the characters of a note: the first terms of a size with a thousand terms are enough."""


# Instances ------------------------------------------------------------------------------------------------


@frozen_dataclass
class NamedLayer:
    """A named layer of an instance.

    Attributes:
        callee: the operator or block of the layer.
        span: the place of the layer's name.
        inner: if the callee is a block, the layers in the block, by path within the block; empty before the
            first use of the layer.
        ties: weights of other layers that this layer shares, by parameter of this layer.
    """

    callee: type[Operator] | BlockRef
    span: Span
    inner: dict[str, NamedLayer] = field(default_factory=dict)
    ties: Mapping[str, WeightRef] = field(default_factory=dict)


@dataclass
class OpenScan:
    """A scan whose statements are being elaborated.

    Attributes:
        states: the place of each state's name.
        yields: for each name in a `yield`, the tensor that a step yields, and the place of the name.
    """

    states: dict[str, Span]
    yields: dict[str, tuple[Value, Span]] = field(default_factory=dict)


@dataclass(eq=False)
class Instance:
    """One instance of a definition: a model, or one use of a block.

    Attributes:
        layers: the named layers, by path within the instance.
        failed_layers: paths of the layers in failed statements.
        layer_lists: names that are prefixes of layer paths, such as `h` of `h[0]`, with their places.
        name_counts: for each operator or block, by name, the number of the last layer named after it: 2 for `linear_2`.
        scans: the scans whose statements are being elaborated, innermost last.
        outputs: the name, value and place of each output; the name is None for an unnamed output.
        use: the place where the block is used; None for a model.
        parent: the instance that uses the block; None for a model.
    """

    definition: tree.Definition
    module: Module
    scope: Scope
    environment: Environment = field(default_factory=Environment)
    layers: dict[str, NamedLayer] = field(default_factory=dict)
    failed_layers: set[str] = field(default_factory=set)
    layer_lists: dict[str, Span] = field(default_factory=dict)
    name_counts: dict[str, int] = field(default_factory=dict)
    scans: list[OpenScan] = field(default_factory=list)
    outputs: list[tuple[str | None, Value, Span]] = field(default_factory=list)
    use: Span | None = None
    parent: Instance | None = None

    @property
    def depth(self) -> int:
        """Number of instances that contain this one."""
        return sum(1 for _ in self.enclosing()) - 1

    def enclosing(self) -> Iterator[Instance]:
        """Yield this instance, then the instances that use it, up to the model."""
        instance: Instance | None = self
        while instance is not None:
            yield instance
            instance = instance.parent

    def path_in_model(self, path: str) -> str:
        """Convert a path of a layer within this instance to a path within the model."""
        return self.scope.within(path)


# Context --------------------------------------------------------------------------------------------------


@frozen_dataclass
class Semantics:
    """Handlers of syntax nodes, by node type.

    Attributes:
        expressions: functions that evaluate a node to its value.
        statements: functions that run a node.
    """

    expressions: Mapping[type[tree.SyntaxNode], Callable[[Elaboration, Instance, Any], Any]]
    statements: Mapping[type[tree.SyntaxNode], Callable[[Elaboration, Instance, Any], None]]


class Elaboration:
    """State of building one graph.

    Args:
        budget: counter of steps; all models of a file share one counter.
        derivation: for a derived model, a note on the place of its derivation.  The note is added to each diagnostic
            whose place is in the text of the base model.

    Attributes:
        parts: number of operators and block instances so far.
        iterations: number of loop iterations so far.
        open_weights: (layer, parameter) pairs that are being looked up, to detect circular references.
    """

    def __init__(
        self,
        rewriter: Rewriter,
        diagnostics: Diagnostics,
        semantics: Semantics,
        budget: StepBudget,
        derivation: Sequence[Note] = (),
    ):
        self.rewriter = rewriter
        self.diagnostics = diagnostics
        self.budget = budget
        self.unused = UnusedValues()
        self.parts = 0
        self.allowed_parts = MOST_PARTS
        self.iterations = 0
        self.open_weights: list[tuple[LayerRef, str]] = []
        self._expressions = semantics.expressions
        self._statements = semantics.statements
        self._derivation = derivation
        self._reported: set[tuple[str, int, int, str]] = set()

    # Diagnostics ------------------------------------------------------------------------------------------

    def report(
        self,
        instance: Instance,
        code: str,
        message: str,
        span: Span | None,
        notes: Iterable[Note | str] = (),
        help: str | None = None,
    ) -> NoReturn:
        """Report an error with notes on the enclosing blocks, and abandon the statement.

        Raises:
            Failed: always.
        """
        # A mistake in a block with twelve instances is reported once.
        place = (code, span.start, span.end, span.source.name) if span is not None else (code, 0, 0, message)
        if place not in self._reported:
            self._reported.add(place)
            shortened = [_cut(note, LONGEST_NOTE) if isinstance(note, str) else note for note in notes]
            message = _cut(message, LONGEST_MESSAGE)
            self.diagnostics.error(code, message, span, [*shortened, *self._trace(instance, span)], help)
        raise Failed

    def _trace(self, instance: Instance, span: Span | None) -> list[Note]:
        blocks = [
            Note(f"in the block `{around.definition.name.name}`, used as `{around.scope.path}`", around.use)
            for around in instance.enclosing()
            if around.use is not None
        ]
        return [*blocks, *(note for note in self._derivation if note.span != span)]

    # Limits -----------------------------------------------------------------------------------------------

    def count_part(self, instance: Instance, span: Span) -> None:
        """Count one more operator or block instance.

        Raises:
            ArchcError: the model has too many operators and block instances.
        """
        self.parts += 1
        self.budget.count(STEPS_OF_A_PART)
        if self.parts > self.allowed_parts:
            self.report_parts(instance, f"more than {self.allowed_parts:,}", span)

    def report_parts(self, instance: Instance, count: str, span: Span) -> NoReturn:
        """Report too many operators and block instances, and end elaboration.

        Raises:
            ArchcError: always.
        """
        with contextlib.suppress(Failed):
            self.report(
                instance,
                "model-too-large",
                f"the model has {count} operators and instances of blocks; the limit is {self.allowed_parts:,}",
                span,
                help="use fewer blocks within blocks, or shorter loops",
            )
        raise ArchcError(self.diagnostics)

    def count_iterations(self, instance: Instance, count: int, span: Span) -> None:
        """Count the iterations of a loop before it runs.

        Raises:
            Failed: the loops of the model have too many iterations; the reason is reported.
        """
        self.iterations += count
        if self.iterations > MOST_ITERATIONS:
            self.report_iterations(instance, self.iterations, span)
        self.budget.count(STEPS_OF_AN_ITERATION * count)

    def report_iterations(self, instance: Instance, count: int, span: Span) -> NoReturn:
        """Report too many loop iterations.

        Raises:
            Failed: always.
        """
        self.report(
            instance,
            "too-many-iterations",
            f"the loops of this model run {count:,} times; the limit is {MOST_ITERATIONS:,}",
            span,
            help="use shorter loops",
        )

    # Expressions ------------------------------------------------------------------------------------------

    def evaluate(self, instance: Instance, node: tree.Expression) -> Any:
        """Value of an expression.

        Raises:
            Failed: the expression has no value; the reason is reported.
            BudgetExceeded: elaboration takes too many steps.
        """
        self.budget.count(1)
        return self._expressions[type(node)](self, instance, node)

    def evaluate_argument(self, instance: Instance, node: tree.Argument) -> Any:
        """Value of an argument of a call.

        Raises:
            Failed: the argument has no value; the reason is reported.
        """
        if isinstance(node.value, tree.SliceExpression):
            self.report(
                instance,
                "wrong-type",
                "a slice cannot be an attribute",
                node.value.span,
                help="write a slice in an index: `x[0:2]`",
            )
        return self.evaluate(instance, node.value)

    def evaluate_size(self, instance: Instance, node: tree.Expression) -> Any:
        """Value of an expression that must be an integer or a symbolic size.

        Raises:
            Failed: the value is neither an integer nor a symbolic size; the reason is reported.
        """
        value = self.evaluate(instance, node)
        if isinstance(value, bool) or not isinstance(value, int | SymbolicDim):
            message = f"expected a size, got {describe_kind(value)}"
            self.report(instance, "wrong-type", message, node.span)
        return value

    # Statements -------------------------------------------------------------------------------------------

    def run(self, instance: Instance, body: Iterable[tree.Statement]) -> bool:
        """Run statements, and return whether all of them succeeded.

        A failed statement binds its names to `POISON`.  After a failed assertion in a block, the remaining
        statements of the block fail without a report, because they may rely on the assertion.
        """
        succeeded = sound = True
        for statement in body:
            self.budget.count(STEPS_OF_A_STATEMENT)
            try:
                if not sound:
                    raise Failed
                self._statements[type(statement)](self, instance, statement)
            except Failed:
                succeeded = False
                sound = sound and not (isinstance(statement, tree.Assert) and instance.parent is not None)
                _poison(instance, statement)
        return succeeded


def _poison(instance: Instance, statement: tree.Statement) -> None:
    """Bind the names of a failed statement to `POISON`."""
    if isinstance(statement, tree.Assign):
        targets = [(target.name, target.span) for target in statement.targets]
    elif isinstance(statement, tree.Let | tree.Input | tree.LayerStatement):
        targets = [(statement.name.name, statement.name.span)]
    elif isinstance(statement, tree.ScanStatement):
        states = [(part.name.name, part.name.span) for part in statement.states]
        targets = [*states, *((name.name, name.span) for name in _yielded_names(statement.body))]
    elif isinstance(statement, tree.For | tree.If):
        inner = [*statement.body, *(statement.otherwise if isinstance(statement, tree.If) else ())]
        for part in inner:
            _poison(instance, part)
        return
    elif isinstance(statement, tree.Output) and statement.name is not None:
        targets = [(statement.name.name, statement.name.span)]
    else:
        return
    for name, span in targets:
        instance.environment.bind(name, POISON, span, "tensor")
    if isinstance(statement, tree.Input) and statement.type is not None:
        for name in names_in((statement.type,)):
            if name not in instance.environment.bindings:
                instance.environment.bind(name, POISON, None, "size")


def _yielded_names(body: Iterable[tree.Statement]) -> Iterator[tree.Name]:
    """Yield the names in the `yield` statements of a scan, in all branches."""
    for statement in body:
        if isinstance(statement, tree.Yield):
            yield statement.name
        elif isinstance(statement, tree.If):
            yield from _yielded_names((*statement.body, *statement.otherwise))
        elif isinstance(statement, tree.For):
            yield from _yielded_names(statement.body)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
