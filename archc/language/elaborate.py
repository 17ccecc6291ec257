"""Syntax tree to graph: statements run, blocks are used, names get their meaning.

Elaboration goes on after a mistake: the names that a failed statement would have bound become `POISON`, and
whatever depends on them fails in silence, so that one run reports each mistake once and as many as there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from archc.diagnostics import Diagnostics, Note, Span, did_you_mean
from archc.ir.graph import Graph, Scope, Value
from archc.ir.rewriter import Rewriter
from archc.ir.types import TensorType
from archc.ir.verifier import verify
from archc.language import syntax
from archc.language.apply import Application
from archc.language.environment import POISON, BlockRef, Environment, LayerRef
from archc.language.expressions import Expressions, Failed, describe_value
from archc.language.modules import Module
from archc.language.names import check_layer_name, check_name
from archc.language.tensor_types import declare, unify
from archc.language.unused import UnusedValues, mark_untaken
from archc.ops.operator import Operator

MOST_ITERATIONS = 1_000_000  # of all loops of a model together
DEEPEST_NESTING = 64  # of blocks in blocks


@dataclass(eq=False)
class Frame:
    """One definition at work.

    Attributes:
        labels: the layers named in it, by their paths within it.
        lists: the names that stand for lists of layers (`h` of `h[0]`).
        use: the place that uses the block, None for the model; parent: the frame of that place.
    """

    definition: syntax.Definition
    module: Module
    scope: Scope
    environment: Environment = field(default_factory=Environment)
    labels: dict[str, Labelled] = field(default_factory=dict)
    lists: dict[str, Span] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    outputs: list[tuple[str | None, Value, Span]] = field(default_factory=list)
    use: Span | None = None
    parent: Frame | None = None

    @property
    def depth(self) -> int:
        depth, frame = 0, self.parent
        while frame is not None:
            depth, frame = depth + 1, frame.parent
        return depth


@dataclass(frozen=True, slots=True)
class Labelled:
    """A layer as a frame knows it: what it is, and the place that names it."""

    callee: type[Operator] | BlockRef
    span: Span


def elaborate(
    module: Module, model: syntax.Definition, values: Mapping[str, Any], diagnostics: Diagnostics
) -> Graph | None:
    """The graph of a model, with no weights bound.

    Args:
        values: attribute values that take the place of the defaults.

    Returns:
        The graph, or None where errors were added to `diagnostics`.
    """
    errors = len(diagnostics.errors)
    graph = Elaborator(diagnostics).model(module, model, values)
    if len(diagnostics.errors) > errors:
        return None
    rewriter = Rewriter(graph)
    rewriter.remove_unused_nodes()
    rewriter.remove_unused_weights()
    verify(graph)
    return graph


class Elaborator:
    """Builds one graph."""

    def __init__(self, diagnostics: Diagnostics):
        self.diagnostics = diagnostics
        self.rewriter: Rewriter
        self.iterations = 0
        self._unused = UnusedValues()
        self._reported: set[tuple[str, int, int, str]] = set()
        self.application = Application(self)
        self.expressions = Expressions(
            self.report,
            self.application.chain,
            self.application.call,
            self.application.symbol,
            self.application.index,
        )
        self._handlers: dict[type, Callable[[Frame, Any], None]] = {
            syntax.Input: self._input,
            syntax.Output: self._output,
            syntax.Layer: self._layer,
            syntax.Let: self._let,
            syntax.Assign: self._assign,
            syntax.For: self._for,
            syntax.If: self._if,
            syntax.Assert: self._assert,
        }

    # Reporting --------------------------------------------------------------------------------------------

    def report(
        self,
        frame: Frame,
        code: str,
        message: str,
        span: Span | None,
        notes: Iterable[Note | str] = (),
        help: str | None = None,  # noqa: A002
    ) -> NoReturn:
        """Report an error, with the way from the model to the block that it is in, and give up the statement.

        Raises:
            Failed: always.
        """
        # A block that is used twelve times has one mistake, not twelve.
        place = (code, span.start, span.end, span.source.name) if span is not None else (code, 0, 0, message)
        if place not in self._reported:
            self._reported.add(place)
            self.diagnostics.error(code, message, span, [*notes, *self._trace(frame)], help)
        raise Failed

    def _trace(self, frame: Frame | None) -> list[Note]:
        notes = []
        while frame is not None and frame.use is not None:
            notes.append(Note(f"in the block `{frame.definition.name.name}`, used as `{frame.scope.path}`", frame.use))
            frame = frame.parent
        return notes

    # Definitions ------------------------------------------------------------------------------------------

    def model(self, module: Module, definition: syntax.Definition, values: Mapping[str, Any]) -> Graph:
        """The graph of a model; incomplete where errors were reported."""
        name = definition.name.name
        scope = Scope("", name, doc=definition.doc)
        frame = Frame(definition, module, scope)
        self.rewriter = Rewriter(Graph(name, scope))
        try:
            self._bind_attributes(frame, values, definition.name.span)
        except Failed:
            return self.rewriter.graph
        self._body(frame, definition.body)
        if not frame.outputs and not self.diagnostics.errors:
            self.diagnostics.error(
                "no-output", f"the model `{name}` has no output", definition.name.span, help="end it with `output ...`"
            )
        for output_name, value, span in self._named_outputs(frame):
            if output_name in self.rewriter.graph.outputs:
                self.diagnostics.error("duplicate-name", f"two outputs are called `{output_name}`", span)
            self.rewriter.output(output_name, value)
            self._name_value(frame, value, output_name)
        self._unused.gather(frame.environment)
        self._unused.warn(self.diagnostics)
        return self.rewriter.graph

    def _named_outputs(self, frame: Frame) -> list[tuple[str, Value, Span]]:
        """Outputs by name; one without takes that of its value, else `output`."""
        names = [name or self._name_of(frame, value) for name, value, _ in frame.outputs]
        named = []
        for number, (name, (_, value, span)) in enumerate(zip(names, frame.outputs)):
            fallback = "output" if names.count(None) == 1 else f"output_{names[: number + 1].count(None)}"
            named.append((name or fallback, value, span))
        return named

    def block(
        self, frame: Frame, block: BlockRef, values: Mapping[str, Any], operands: tuple[Value, ...], path: str, use: Span
    ) -> tuple[Value, ...]:
        """The outputs of one use of a block.

        Args:
            path: the layer's path within the frame that uses it.
        """
        definition = block.definition
        name = definition.name.name
        if definition.kind == "model":
            self.report(frame, "not-a-block", f"`{name}` is a model, and cannot be used inside another", use)
        above: Frame | None = frame
        while above is not None:
            if above.definition is definition:
                self.report(
                    frame,
                    "recursive-block",
                    f"the block `{name}` uses itself",
                    use,
                    help="repeat a block with `for i in 0..n { ... }`",
                )
            above = above.parent
        if frame.depth >= DEEPEST_NESTING:
            self.report(frame, "nesting-too-deep", f"blocks are nested more than {DEEPEST_NESTING} deep", use)
        whole = f"{frame.scope.path}.{path}" if frame.scope.path else path
        arguments: dict[str, Any] = {}
        sizes: dict[str, Any] = {}
        scope = Scope(whole, name, frame.scope, arguments, sizes, definition.doc)
        inner = Frame(definition, block.module, scope, use=use, parent=frame)
        self._bind_attributes(inner, values, use)
        arguments.update({a.name.name: inner.environment.bindings[a.name.name].value for a in definition.attributes})
        inputs = [statement for statement in definition.body if isinstance(statement, syntax.Input)]
        if len(inputs) != len(operands):
            names = ", ".join(statement.name.name for statement in inputs)
            self.report(
                frame,
                "operand-count",
                f"the block `{name}` has {len(inputs)} input{'s' if len(inputs) != 1 else ''}"
                f" ({names or 'none'}), and receives {len(operands)}",
                use,
                notes=[Note(f"`{name}` is defined here", definition.name.span)],
            )
        for statement, value in zip(inputs, operands):
            if statement.type is not None:
                bound = unify(self.expressions, inner, statement, value.type)
                sizes.update(bound)
            scope.names[value] = statement.name.name
            inner.environment.bind(statement.name.name, value, statement.name.span, "input")
        errors = len(self.diagnostics.errors)
        self._body(inner, [statement for statement in definition.body if not isinstance(statement, syntax.Input)])
        self._unused.gather(inner.environment)
        if len(self.diagnostics.errors) > errors or self._failed_silently(inner):
            raise Failed
        if not inner.outputs:
            self.report(
                inner, "no-output", f"the block `{name}` has no output", definition.name.span, help="end it with `output ...`"
            )
        return tuple(value for _, value, _ in inner.outputs)

    def _failed_silently(self, frame: Frame) -> bool:
        """Whether a mistake that was reported at another use of the block kept this use from its outputs."""
        expected = any(isinstance(statement, syntax.Output) for statement in frame.definition.body)
        return expected and not frame.outputs

    def _bind_attributes(self, frame: Frame, values: Mapping[str, Any], use: Span) -> None:
        definition = frame.definition
        names = [attribute.name.name for attribute in definition.attributes]
        what = f"the {definition.kind} `{definition.name.name}`"
        for name in values:
            if name not in names:
                known = ", ".join(f"`{own}`" for own in names)
                self.report(
                    frame.parent or frame,
                    "unknown-attribute",
                    f"{what} has no attribute `{name}`",
                    use,
                    help=did_you_mean(name, names) or (f"it has {known}" if names else "it has none"),
                )
        for attribute in definition.attributes:
            name = attribute.name.name
            check_name(self, frame, attribute.name, "an attribute")
            if name in frame.environment.bindings:
                self.report(frame, "duplicate-name", f"two attributes are called `{name}`", attribute.name.span)
            if name in values:
                value = values[name]
            elif attribute.default is not None:
                value = self.expressions.evaluate(frame, attribute.default)
            else:
                way = f"`--set {name}=...`" if definition.kind == "model" else f"`{definition.name.name}({name} = ...)`"
                self.report(
                    frame.parent or frame,
                    "missing-attribute",
                    f"{what} needs a value for `{name}`",
                    use if frame.parent else attribute.name.span,
                    notes=[Note("it has no default", attribute.name.span)] if frame.parent else (),
                    help=f"give one: {way}, or a default",
                )
            frame.environment.bind(name, value, attribute.name.span, "attribute")

    # Statements -------------------------------------------------------------------------------------------

    def _body(self, frame: Frame, body: Iterable[syntax.Statement]) -> bool:
        """Run statements; False where one failed."""
        whole = True
        for statement in body:
            try:
                self._handlers[type(statement)](frame, statement)
            except Failed:
                whole = False
                self._poison(frame, statement)
        return whole

    def _poison(self, frame: Frame, statement: syntax.Statement) -> None:
        """Bind the names that a failed statement would have bound, so that their users stay silent."""
        if isinstance(statement, syntax.Assign):
            targets = [(target.name, target.span) for target in statement.targets]
        elif isinstance(statement, (syntax.Let, syntax.Input, syntax.Layer)):
            targets = [(statement.name.name, statement.name.span)]
        elif isinstance(statement, (syntax.For, syntax.If)):
            inner = [*statement.body, *(statement.otherwise if isinstance(statement, syntax.If) else ())]
            for part in inner:
                self._poison(frame, part)
            return
        elif isinstance(statement, syntax.Output) and statement.name is not None:
            targets = [(statement.name.name, statement.name.span)]
        else:
            return
        for name, span in targets:
            frame.environment.bind(name, POISON, span, "tensor")

    def _input(self, frame: Frame, node: syntax.Input) -> None:
        check_name(self, frame, node.name, "an input")
        name = node.name.name
        if any(value.name == name for value in self.rewriter.graph.inputs):
            self.report(frame, "duplicate-name", f"two inputs are called `{name}`", node.name.span)
        if node.type is None:
            self.report(
                frame,
                "missing-type",
                f"the input `{name}` of a model needs a type",
                node.name.span,
                help=f"write `input {name}: f32[N, ...]`; only a block's input takes the type of what it is given",
            )
        type = declare(self.expressions, frame, node.type)  # noqa: A001 - the language's own word
        frame.environment.bind(name, self.rewriter.input(name, type), node.name.span, "input")

    def _output(self, frame: Frame, node: syntax.Output) -> None:
        if node.name is not None:
            check_name(self, frame, node.name, "an output")
        value = self.expressions.evaluate(frame, node.value)
        values = value if isinstance(value, tuple) else (value,)
        for item in values:
            self._needs_tensor(frame, item, node.value.span, "an output")
        if node.type is not None:
            self._check_type(frame, node, values)
        for item in values:
            name = node.name.name if node.name is not None and len(values) == 1 else None
            frame.outputs.append((name, item, node.span))
        if node.name is not None:
            self._name_value(frame, values[0], node.name.name)
            frame.environment.bind(node.name.name, value, None, "tensor")

    def _check_type(self, frame: Frame, node: syntax.Output, values: tuple[Value, ...]) -> None:
        assert node.type is not None
        declared = declare(self.expressions, frame, node.type)
        actual: TensorType = values[0].type
        if declared != actual:
            self.report(
                frame,
                "shape-mismatch" if declared.dtype is actual.dtype else "dtype-mismatch",
                f"the output is declared as {declared}, and is {actual}",
                node.type.span,
                notes=self.application.describe(values[0]),
                help="correct the type, or leave it out",
            )

    def _layer(self, frame: Frame, node: syntax.Layer) -> None:
        callee_node = node.value.callee if isinstance(node.value, syntax.Call) else node.value
        arguments = node.value.arguments if isinstance(node.value, syntax.Call) else ()
        callee = self.application.callee(frame, callee_node, fresh=True)
        path = self.application.label_path(frame, node.name)
        check_layer_name(self, frame, node.name)
        self.application.register(frame, path, callee, node.name.span)
        reference = LayerRef(path, callee, tuple(arguments), node.span)
        frame.environment.bind(path, reference, node.name.span, "layer")

    def _let(self, frame: Frame, node: syntax.Let) -> None:
        check_name(self, frame, node.name, "a value")
        value = self.expressions.evaluate(frame, node.value)
        if isinstance(value, Value) or (isinstance(value, tuple) and any(isinstance(item, Value) for item in value)):
            self.report(
                frame,
                "wrong-type",
                f"`let` names a size or an attribute value, and this is {describe_value(value)}",
                node.span,
                help=f"write `{node.name.name} = ...` for a tensor",
            )
        frame.environment.bind(node.name.name, value, node.name.span, "size")

    def _assign(self, frame: Frame, node: syntax.Assign) -> None:
        for target in node.targets:
            check_name(self, frame, target, "a tensor")
        value = self.expressions.evaluate(frame, node.value)
        if len(node.targets) == 1:
            self._needs_tensor(frame, value, node.value.span, f"`{node.targets[0].name}`", node)
            self._bind_tensor(frame, node.targets[0], value)
            return
        if not isinstance(value, tuple) or len(value) != len(node.targets):
            count = len(value) if isinstance(value, tuple) else 1
            self.report(
                frame,
                "result-count",
                f"{len(node.targets)} names are given to {count} tensor{'s' if count != 1 else ''}",
                node.targets[0].span.to(node.targets[-1].span),
            )
        for target, item in zip(node.targets, value):
            self._needs_tensor(frame, item, node.value.span, f"`{target.name}`", node)
            self._bind_tensor(frame, target, item)

    def _bind_tensor(self, frame: Frame, target: syntax.Name, value: Any) -> None:
        previous = frame.environment.bindings.get(target.name)
        if previous is not None and previous.kind in ("size", "attribute", "layer"):
            self.report(
                frame,
                "duplicate-name",
                f"`{target.name}` already names {describe_value(previous.value)}",
                target.span,
                notes=[Note("it is given here", previous.span)] if previous.span is not None else (),
                help="give the tensor another name",
            )
        if isinstance(value, Value):
            self._name_value(frame, value, target.name)
        frame.environment.bind(target.name, value, target.span, "tensor")

    def _name_value(self, frame: Frame, value: Value, name: str) -> None:
        """Keep the user's name for a tensor: the first one that a definition gives to what it or its blocks made."""
        if value.producer is None:
            return
        if value.producer.scope is frame.scope:
            value.name = value.name or name
        elif frame.scope in value.producer.scope.ancestors():
            frame.scope.names.setdefault(value, name)

    def _name_of(self, frame: Frame, value: Value) -> str | None:
        own = value.producer is None or value.producer.scope is frame.scope
        return value.name if own else frame.scope.names.get(value)

    def _needs_tensor(
        self, frame: Frame, value: Any, span: Span, what: str, assign: syntax.Assign | None = None
    ) -> None:
        items = value if isinstance(value, tuple) and value else (value,)
        if all(isinstance(item, Value) for item in items):
            return
        simple = assign is not None and not isinstance(value, (type, BlockRef, LayerRef))
        self.report(
            frame,
            "wrong-type",
            f"{what} must be a tensor, and this is {describe_value(value)}",
            span,
            help=f"write `let {assign.targets[0].name} = ...` for a size" if simple and assign is not None else None,
        )

    def _for(self, frame: Frame, node: syntax.For) -> None:
        check_name(self, frame, node.variable, "a loop variable")
        values = self.expressions.evaluate(frame, node.iterable)
        if not isinstance(values, (range, list, tuple)):
            self.report(
                frame,
                "wrong-type",
                f"`for` goes over a range or a list, and this is {describe_value(values)}",
                node.iterable.span,
                help="write `for i in 0..n { ... }`",
            )
        # A range of 10^20 has no `len`.
        count = max(0, values.stop - values.start) if isinstance(values, range) else len(values)
        self.iterations += count
        if self.iterations > MOST_ITERATIONS:
            self.report(
                frame,
                "too-many-iterations",
                f"the loops of this model run {self.iterations:,} times; {MOST_ITERATIONS:,} are the most",
                node.iterable.span,
            )
        shadowed = frame.environment.bindings.get(node.variable.name)
        for value in values:
            frame.environment.bind(node.variable.name, value, None, "size")
            if not self._body(frame, node.body):
                raise Failed
        frame.environment.bindings.pop(node.variable.name, None)
        if shadowed is not None:
            frame.environment.bindings[node.variable.name] = shadowed

    def _if(self, frame: Frame, node: syntax.If) -> None:
        value = self.expressions.evaluate(frame, node.condition)
        holds = self.expressions.truth(frame, value, node.condition.span)
        chosen, other = (node.body, node.otherwise) if holds else (node.otherwise, node.body)
        mark_untaken(frame.environment, other)
        if not self._body(frame, chosen):
            raise Failed

    def _assert(self, frame: Frame, node: syntax.Assert) -> None:
        value = self.expressions.evaluate(frame, node.condition)
        if self.expressions.truth(frame, value, node.condition.span):
            return
        message = self.expressions.evaluate(frame, node.message) if node.message is not None else None
        bound = [
            f"`{name}` is {binding.value}"
            for name, binding in frame.environment.bindings.items()
            if binding.kind in ("attribute", "size") and not isinstance(binding.value, (type, BlockRef))
        ]
        self.report(
            frame,
            "assertion-failed",
            message if isinstance(message, str) else "the assertion does not hold",
            node.condition.span,
            notes=[", ".join(bound)] if bound else (),
        )
