"""Syntax tree to graph: definitions are used, their statements run, and names get their meaning.

Elaboration goes on after a mistake: the names that a failed statement would have bound become `POISON`, and
whatever depends on them fails in silence, so that one run reports each mistake once and as many as there are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NoReturn

from archc.diagnostics import Diagnostics, Note, Span
from archc.ir.graph import Graph, Scope, Value
from archc.ir.rewriter import Rewriter
from archc.ir.verifier import verify
from archc.language.elaboration.apply import Application
from archc.language.elaboration.block_attributes import bind_attributes, holds_callables
from archc.language.elaboration.control import too_many_iterations
from archc.language.elaboration.dead_layers import remove_dead_layers
from archc.language.elaboration.environment import ABSENT, BlockRef, Failed
from archc.language.elaboration.expressions import Expressions
from archc.language.elaboration.frames import Frame
from archc.language.elaboration.limits import BudgetExceeded, StepBudget, allowed_parts, size_bound, text_length
from archc.language.elaboration.modules import DerivedModel, Module
from archc.language.elaboration.names import check_definition_name, check_name
from archc.language.elaboration.statements import Statements
from archc.language.elaboration.tensor_types import axis_names, unify
from archc.language.elaboration.unused import UnusedValues
from archc.language.syntax import tree
from archc.operator.registry import find_operator

DEEPEST_NESTING = 64  # of blocks in blocks
LONGEST_MESSAGE = 1000  # characters; a name of ten thousand is not repeated in full
LONGEST_NOTE = 240  # characters; a size of a thousand terms says no more than its first ones


def elaborate(
    module: Module,
    model: tree.Definition,
    values: Mapping[str, Any],
    diagnostics: Diagnostics,
    work: StepBudget | None = None,
) -> Graph | None:
    """The graph of a model, with no weights bound.

    Args:
        values: attribute values that take the place of the defaults.
        work: counter of steps, shared by the models of a file.

    Returns:
        The graph, or None where errors were added to `diagnostics`.
    """
    errors = len(diagnostics.errors)
    elaborator = Elaborator(diagnostics, work)
    graph = elaborator.model(module, model, values)
    if len(diagnostics.errors) > errors:
        return None
    remove_dead_layers(graph, diagnostics, elaborator.unused.told)
    verify(graph)
    return graph


class Elaborator:
    """Builds one graph."""

    def __init__(self, diagnostics: Diagnostics, work: StepBudget | None = None):
        self.diagnostics = diagnostics
        self.work = work if work is not None else StepBudget()
        self.rewriter: Rewriter
        self._derived: list[Note] = []  # where the model is derived, for those who are told of its base's text
        self.unused = UnusedValues()
        self._reported: set[tuple[str, int, int, str]] = set()
        self.application = Application(self)
        self.expressions = Expressions(
            self.report,
            self.application.chain,
            self.application.call,
            self.application.symbol,
            self.application.index,
            self.work.count,
        )
        self.statements = Statements(self)

    # Reporting --------------------------------------------------------------------------------------------

    def report(
        self,
        frame: Frame,
        code: str,
        message: str,
        span: Span | None,
        notes: Iterable[Note | str] = (),
        help: str | None = None,
    ) -> NoReturn:
        """Report an error, with the way from the model to the block that it is in, and give up the statement.

        Raises:
            Failed: always.
        """
        # A block that is used twelve times has one mistake, not twelve.
        place = (code, span.start, span.end, span.source.name) if span is not None else (code, 0, 0, message)
        if place not in self._reported:
            self._reported.add(place)
            shortened = [_cut(note, LONGEST_NOTE) if isinstance(note, str) else note for note in notes]
            message = _cut(message, LONGEST_MESSAGE)
            self.diagnostics.error(code, message, span, [*shortened, *self._trace(frame, span)], help)
        raise Failed

    def _trace(self, frame: Frame, span: Span | None) -> list[Note]:
        blocks = [
            Note(f"in the block `{around.definition.name.name}`, used as `{around.scope.path}`", around.use)
            for around in frame.around()
            if around.use is not None
        ]
        return [*blocks, *(note for note in self._derived if note.span != span)]

    # Definitions ------------------------------------------------------------------------------------------

    def model(self, module: Module, definition: tree.Definition, values: Mapping[str, Any]) -> Graph:
        """The graph of a model; incomplete where errors were reported."""
        name = definition.name.name
        scope = Scope("", name, doc=definition.doc)
        derived = module.derived.get(name, DerivedModel(module, {}))
        frame = Frame(definition, derived.home, scope)
        if name in module.derived:
            self._derived = [Note(f"in the model `{name}`, which is derived here", definition.name.span)]
        self.rewriter = Rewriter(Graph(name, scope))
        try:
            self._check_definition(frame)
            self._check_extent(frame, module, values)
            bind_attributes(self, frame, values, definition.name.span, derived.defaults, module)
            self.statements.run(frame, definition.body)
            if not frame.outputs and not self.diagnostics.errors:
                self._no_output(frame)
        except Failed:
            return self.rewriter.graph
        except BudgetExceeded:
            self._too_much_work(definition)
            return self.rewriter.graph
        self._enter_outputs(frame)
        self.unused.gather(frame.environment)
        if not self.diagnostics.errors:  # a statement that failed used names that it never came to
            self.unused.warn(self.diagnostics)
        return self.rewriter.graph

    def _check_extent(self, frame: Frame, module: Module, values: Mapping[str, Any]) -> None:
        """Refuse a model that nested blocks or loops make too large, before it is built."""
        least = size_bound(module, frame.definition, values)
        self.application.allowed_parts = allowed_parts(module)
        self.work.allow(*least.size, text_length(module))
        if least.iterations_span is not None:
            too_many_iterations(self.statements, frame, least.size.iterations, least.iterations_span)
        if least.parts_span is not None:
            self.application.too_large(frame, f"{least.size.parts:,}", least.parts_span)

    def _too_much_work(self, definition: tree.Definition) -> None:
        self.diagnostics.error(
            "model-too-large",
            f"`{definition.name.name}` takes more than {self.work.allowed:,} steps to build, the most for this text",
            definition.name.span,
            help="use shorter loops, shorter tuples, or sizes with fewer terms",
        )

    def _check_definition(self, frame: Frame) -> None:
        with contextlib.suppress(Failed):  # the body may have mistakes of its own
            check_definition_name(self, frame, frame.definition)

    def _enter_outputs(self, frame: Frame) -> None:
        """Make a model's outputs the graph's; one without a name takes that of its value, else `result`."""
        names = [name or self.statements.name_of(frame, value) for name, value, _ in frame.outputs]
        received = {value.name for value in self.rewriter.graph.inputs}
        for number, (name, _, _) in enumerate(frame.outputs):
            if name is None and names[number] in received:  # `x = x -> relu  output x`: ONNX tells all names apart
                names[number] = None
        places: dict[str, Span] = {}
        for number, (name, (_, value, span)) in enumerate(zip(names, frame.outputs)):
            fallback = "result" if names.count(None) == 1 else f"result_{names[: number + 1].count(None)}"
            while name is None and fallback in names:
                fallback += "_"
            name = name or fallback
            if name in places:
                self.diagnostics.error(
                    "duplicate-name",
                    f"two outputs are called `{name}`",
                    span,
                    notes=[Note("this is the first", places[name])],
                    help="give one of them another name",
                )
            places.setdefault(name, span)
            self.rewriter.output(name, value)
            self.statements.name_value(frame, value, name)

    def _no_output(self, frame: Frame) -> NoReturn:
        definition = frame.definition
        self.report(
            frame,
            "no-output",
            f"the {definition.kind} `{definition.name.name}` has no output",
            definition.name.span,
            help="end it with `output ...`",
        )

    def block(
        self,
        frame: Frame,
        block: BlockRef,
        values: Mapping[str, Any],
        operands: tuple[Value, ...],
        path: str,
        use: Span,
    ) -> tuple[Value, ...]:
        """The outputs of one use of a block.

        Args:
            path: the layer's path within the frame that uses it.

        Raises:
            Failed: it gives none; that was reported.
        """
        definition = block.definition
        self._check_use(frame, definition, use)
        arguments: dict[str, Any] = {}
        sizes: dict[str, Any] = {}
        scope = Scope(frame.within(path), definition.name.name, frame.scope, arguments, sizes, definition.doc)
        inner = Frame(definition, block.module, scope, use=use, parent=frame)
        errors = len(self.diagnostics.errors)
        self._check_definition(inner)
        if not bind_attributes(self, inner, values, use):
            raise Failed
        given = {a.name.name: inner.environment.bindings[a.name.name].value for a in definition.attributes}
        arguments.update({name: value for name, value in given.items() if not holds_callables(value)})
        scope.defaults.update({name: value for name, value in arguments.items() if name not in values})
        sizes.update(self._bind_inputs(frame, inner, operands, use))
        self.statements.run(inner, [part for part in definition.body if not isinstance(part, tree.Input)])
        frame.labels[path].inner.update(inner.labels)
        self.unused.gather(inner.environment)
        if len(self.diagnostics.errors) > errors or self._failed_silently(inner):
            raise Failed
        if not inner.outputs:
            self._no_output(inner)
        return tuple(value for _, value, _ in inner.outputs)

    def _check_use(self, frame: Frame, definition: tree.Definition, use: Span) -> None:
        name = definition.name.name
        if definition.kind == "model":
            self.report(
                frame,
                "not-a-block",
                f"`{name}` is a model, and cannot be used inside another",
                use,
                notes=[Note("it is defined here", definition.name.span)],
                help=f"write `block {name}`; a model can use it then",
            )
        if any(around.definition is definition for around in frame.around()):
            self.report(
                frame,
                "recursive-block",
                f"the block `{name}` uses itself",
                use,
                help=f"it hides the operator `{name}`: give the block another name, such as `{name}_block`"
                if find_operator(name)
                else "repeat a block with `for i in 0..n { ... }`",
            )
        if frame.depth >= DEEPEST_NESTING:
            self.report(frame, "nesting-too-deep", f"blocks are nested more than {DEEPEST_NESTING} deep", use)

    def _bind_inputs(self, frame: Frame, inner: Frame, operands: tuple[Value, ...], use: Span) -> dict[str, Any]:
        """Bind a block's inputs to what it receives; gives the sizes that their types name."""
        definition = inner.definition
        inputs = [statement for statement in definition.body if isinstance(statement, tree.Input)]
        self._check_optional(inner, inputs)
        needed = sum(not statement.optional for statement in inputs)
        if not needed <= len(operands) <= len(inputs):
            names = ", ".join(f"{statement.name.name}{'?' * statement.optional}" for statement in inputs)
            self.report(
                frame,
                "operand-count",
                f"the block `{definition.name.name}` has {len(inputs)} input{'s' if len(inputs) != 1 else ''}"
                f" ({names or 'none'}), got {len(operands)}",
                use,
                notes=[Note(f"`{definition.name.name}` is defined here", definition.name.span)],
                help=_help_for_inputs(definition.name.name, [one.name.name for one in inputs], len(operands)),
            )
        sizes: dict[str, Any] = {}
        for statement, value in zip(inputs, operands):
            check_name(self, inner, statement.name, "an input")
            self.statements.check_new(inner, statement.name, "inputs", "input")
            if statement.type is not None:
                sizes.update(unify(self.expressions, inner, statement, value))
            inner.scope.inputs.append(value)
            inner.scope.axes.append(axis_names(statement.type, sizes) if statement.type is not None else None)
            inner.scope.names.setdefault(value, statement.name.name)
            inner.environment.bind(statement.name.name, value, statement.name.span, "input")
        for statement in inputs[len(operands) :]:
            check_name(self, inner, statement.name, "an input")
            self.statements.check_new(inner, statement.name, "inputs", "input")
            inner.environment.bind(statement.name.name, ABSENT, statement.name.span, "input")
        return sizes

    def _check_optional(self, inner: Frame, inputs: Sequence[tree.Input]) -> None:
        """Refuse an input that must be given behind one that need not."""
        for before, statement in pairwise(inputs):
            if before.optional and not statement.optional:
                self.report(
                    inner,
                    "input-misplaced",
                    f"the input `{statement.name.name}` must be given, and comes after one that is optional",
                    statement.name.span,
                    notes=[Note(f"`{before.name.name}` need not be given", before.name.span)],
                    help="the optional inputs of a block are its last",
                )

    def _failed_silently(self, frame: Frame) -> bool:
        """Whether a mistake that was reported at another use of the block kept this use from its outputs."""
        expected = any(isinstance(statement, tree.Output) for statement in frame.definition.body)
        return expected and not frame.outputs


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


def _help_for_inputs(block: str, names: Sequence[str], received: int) -> str | None:
    """Help for a block that receives too few or too many tensors."""
    if not names:
        return "what a block receives is named in its body: `input x`"
    if received >= len(names):
        return None
    return (
        f"several inputs flow as a tuple: `({', '.join(names)}) -> {block}`"
        if len(names) > 1
        else (f"a tensor flows into it: `{names[0]} -> {block}`")
    )
