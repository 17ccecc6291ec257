"""What each kind of statement does to a definition at work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from archc.diagnostics import Note, Span
from archc.ir.graph import Value
from archc.language.elaboration.advice import describe, help_for_results
from archc.language.elaboration.control import run_assert, run_for, run_if
from archc.language.elaboration.environment import ABSENT, POISON, BlockRef, Failed, LayerRef
from archc.language.elaboration.expressions import describe_value
from archc.language.elaboration.frames import Frame
from archc.language.elaboration.limits import STEPS_OF_A_STATEMENT
from archc.language.elaboration.names import check_layer_name, check_name
from archc.language.elaboration.scans import Scans, yielded_names
from archc.language.elaboration.tensor_types import declare
from archc.language.elaboration.unused import names_in
from archc.language.syntax import tree
from archc.types.tensor_type import TensorType

if TYPE_CHECKING:
    from archc.language.elaboration.elaborate import Elaborator


class Statements:
    """Runs the statements of definitions."""

    def __init__(self, elaborator: Elaborator):
        self.elaborator = elaborator
        self.report = elaborator.report
        self.expressions = elaborator.expressions
        self.application = elaborator.application
        self.work = elaborator.work
        self.iterations = 0  # of the loops so far
        self.scans = Scans(self)
        self._handlers: dict[type, Callable[[Frame, Any], None]] = {
            tree.Input: self._input,
            tree.Output: self._output,
            tree.LayerStatement: self._layer,
            tree.Let: self._let,
            tree.Assign: self._assign,
            tree.For: partial(run_for, self),
            tree.ScanStatement: self.scans.run,
            tree.Yield: self.scans.keep,
            tree.If: partial(run_if, self),
            tree.Assert: partial(run_assert, self),
        }

    def run(self, frame: Frame, body: Iterable[tree.Statement]) -> bool:
        """Run statements; False where one failed.  In a block all rests on its assertions: what follows is silent."""
        whole = sound = True
        for statement in body:
            self.work.count(STEPS_OF_A_STATEMENT)
            try:
                if not sound:
                    raise Failed
                self._handlers[type(statement)](frame, statement)
            except Failed:
                whole = False
                sound = sound and not (isinstance(statement, tree.Assert) and frame.parent is not None)
                self._poison(frame, statement)
        return whole

    def _poison(self, frame: Frame, statement: tree.Statement) -> None:
        """Bind the names that a failed statement would have bound, so that their users stay silent."""
        if isinstance(statement, tree.Assign):
            targets = [(target.name, target.span) for target in statement.targets]
        elif isinstance(statement, tree.Let | tree.Input | tree.LayerStatement):
            targets = [(statement.name.name, statement.name.span)]
        elif isinstance(statement, tree.ScanStatement):
            states = [(part.name.name, part.name.span) for part in statement.states]
            targets = [*states, *((name.name, name.span) for name in yielded_names(statement.body))]
        elif isinstance(statement, tree.For | tree.If):
            inner = [*statement.body, *(statement.otherwise if isinstance(statement, tree.If) else ())]
            for part in inner:
                self._poison(frame, part)
            return
        elif isinstance(statement, tree.Output) and statement.name is not None:
            targets = [(statement.name.name, statement.name.span)]
        else:
            return
        for name, span in targets:
            frame.environment.bind(name, POISON, span, "tensor")
        if isinstance(statement, tree.Input) and statement.type is not None:
            for name in names_in((statement.type,)):
                if name not in frame.environment.bindings:
                    frame.environment.bind(name, POISON, None, "size")

    # Inputs and outputs -----------------------------------------------------------------------------------

    def check_new(self, frame: Frame, name: tree.Name, plural: str, kind: str) -> None:
        """Refuse an input or attribute whose name another one has."""
        earlier = frame.environment.bindings.get(name.name)
        if earlier is not None and (earlier.span is not None or earlier.value not in (POISON, ABSENT)):
            self.report(
                frame,
                "duplicate-name",
                f"two {plural} are called `{name.name}`"
                if earlier.kind == kind
                else f"`{name.name}` already names {'an' if earlier.kind[0] in 'ai' else 'a'} {earlier.kind}",
                name.span,
                notes=[Note("this is the first", earlier.span)] if earlier.span is not None else (),
                help="give one of them another name",
            )

    def _input(self, frame: Frame, node: tree.Input) -> None:
        check_name(self.elaborator, frame, node.name, "an input")
        name = node.name.name
        if self.scans.running(frame):
            self.report(
                frame,
                "input-misplaced",
                f"the input `{name}` is inside a `scan`",
                node.name.span,
                help="put it among the first statements",
            )
        if frame.parent is not None:
            self.report(
                frame,
                "input-misplaced",
                f"the input `{name}` of a block is inside a `for` or an `if`",
                node.name.span,
                help="a block's inputs are always the same: put it among the block's first statements",
            )
        self.check_new(frame, node.name, "inputs", "input")
        if node.optional:
            self.report(
                frame,
                "input-misplaced",
                f"the input `{name}` of a model is optional; a program takes all of its inputs",
                node.name.span,
                help=f"let an attribute decide: `if with_{name} {{ input {name}: ... }}`; it is absent otherwise",
            )
        if node.type is None:
            self.report(
                frame,
                "missing-type",
                f"the input `{name}` of a model needs a type",
                node.name.span,
                help=f"write `input {name}: f32[N, ...]`; only a block's input takes the type of what it is given",
            )
        type = declare(self.expressions, frame, node.type)
        self.check_new(frame, node.name, "inputs", "input")  # of a size in its own type
        frame.environment.bind(name, self.elaborator.rewriter.input(name, type), node.name.span, "input")

    def _output(self, frame: Frame, node: tree.Output) -> None:
        if node.name is not None:
            check_name(self.elaborator, frame, node.name, "an output")
        if self.scans.running(frame):
            self.report(
                frame,
                "output-misplaced",
                "an output is inside a `scan`, where there is one in each step",
                node.span,
                help="`yield` keeps what all steps make; put the output after the `scan`",
            )
        value = self.expressions.evaluate(frame, node.value)
        values = value if isinstance(value, tuple) else (value,)
        for item in values:
            self._needs_tensor(frame, item, node.value.span, "an output")
        if not values:
            self.report(frame, "wrong-type", "an output must be a tensor, and this is an empty tuple", node.value.span)
        if node.type is not None:
            self._check_type(frame, node, node.type, values)
        for item in values:
            name = node.name.name if node.name is not None and len(values) == 1 else None
            frame.outputs.append((name, item, node.name.span if node.name is not None else node.value.span))
        if node.name is not None:
            self.check_free(frame, node.name, "output")
            self.name_value(frame, values[0], node.name.name)
            frame.environment.bind(node.name.name, value, None, "tensor")

    def _check_type(
        self, frame: Frame, node: tree.Output, type_node: tree.TypeExpression, values: tuple[Value, ...]
    ) -> None:
        declared = declare(self.expressions, frame, type_node)
        actual: TensorType = values[0].type
        if len(values) != 1:
            self.report(frame, "result-count", f"one type is given to {len(values)} outputs", type_node.span)
        if declared != actual:
            self.report(
                frame,
                "shape-mismatch" if declared.dtype is actual.dtype else "dtype-mismatch",
                f"the output is declared as {declared}, and is {actual}",
                type_node.span,
                notes=describe(values[0]),
                help="correct the type, or leave it out",
            )

    # Names ------------------------------------------------------------------------------------------------

    def _layer(self, frame: Frame, node: tree.LayerStatement) -> None:
        callee_node = node.value.callee if isinstance(node.value, tree.Call) else node.value
        arguments = node.value.arguments if isinstance(node.value, tree.Call) else ()
        callee = self.application.callee(frame, callee_node, fresh=True)
        if isinstance(callee, LayerRef):
            self.report(
                frame,
                "layer-redefined",
                f"`{callee.name}` is a layer already",
                callee_node.span,
                notes=[Note("it is declared here", callee.span)],
                help="a layer is declared from an operator or a block, and shared by its name",
            )
        labels = self.application.labels
        path = labels.path(frame, node.name)
        check_layer_name(self.elaborator, frame, node.name)
        labels.register(frame, path, callee, node.name.span)
        self.check_new(frame, tree.Name(node.name.span, path), "layers", "layer")
        bindings = frame.environment.bindings
        meanings = {name: bindings[name] for name in names_in(tuple(arguments)) if name in bindings}
        reference = LayerRef(path, callee, tuple(arguments), node.span, meanings)
        frame.environment.bind(path, reference, node.name.span, "layer")

    def _let(self, frame: Frame, node: tree.Let) -> None:
        check_name(self.elaborator, frame, node.name, "a value")
        value = self.expressions.evaluate(frame, node.value)
        if isinstance(value, Value) or (isinstance(value, tuple) and any(isinstance(item, Value) for item in value)):
            self.report(
                frame,
                "wrong-type",
                f"`let` names a size or an attribute value, and this is {describe_value(value)}",
                node.value.span,
                help=f"write `{node.name.name} = ...` for a tensor",
            )
        frame.environment.bind(node.name.name, value, node.name.span, "size")

    def _assign(self, frame: Frame, node: tree.Assign) -> None:
        for target in node.targets:
            check_name(self.elaborator, frame, target, "a tensor")
        value = self.expressions.evaluate(frame, node.value)
        if len(node.targets) == 1:
            self._needs_tensor(frame, value, node.value.span, f"`{node.targets[0].name}`", node)
            self._bind_tensor(frame, node.targets[0], value, node.span)
            return
        if not isinstance(value, tuple) or len(value) != len(node.targets):
            count = len(value) if isinstance(value, tuple) else 1
            self.report(
                frame,
                "result-count",
                f"{len(node.targets)} names are given to {count} tensor{'s' if count != 1 else ''}",
                node.targets[0].span.to(node.targets[-1].span),
                help=help_for_results(value, len(node.targets)),
            )
        for target, item in zip(node.targets, value):
            self._needs_tensor(frame, item, node.value.span, f"`{target.name}`", node)
            self._bind_tensor(frame, target, item, node.span)

    def _bind_tensor(self, frame: Frame, target: tree.Name, value: Any, statement: Span) -> None:
        self.check_free(frame, target, "tensor")
        if isinstance(value, Value):
            self.name_value(frame, value, target.name)
        frame.environment.bind(target.name, value, target.span, "tensor", statement)

    def check_free(self, frame: Frame, name: tree.Name, what: str) -> None:
        """Refuse a tensor's name that stands for something else; another tensor's may be given again."""
        previous = frame.environment.bindings.get(name.name)
        if previous is not None and previous.kind in ("size", "attribute", "layer") and previous.value is not POISON:
            other = "the attribute" if previous.kind == "attribute" else describe_value(previous.value)
            self.report(
                frame,
                "duplicate-name",
                f"`{name.name}` already names {other}",
                name.span,
                notes=[Note("it is given here", previous.span)] if previous.span is not None else (),
                help=f"begin a tuple of tensors without `let`: `{name.name} = ()`"
                if previous.kind == "size" and previous.value == ()
                else f"give the {what} another name",
            )

    def name_value(self, frame: Frame, value: Value, name: str) -> None:
        """Keep the user's name for a tensor: the first one that a definition gives to what it or its blocks made."""
        if value.producer is None:
            return
        if value.producer.scope is frame.scope:
            value.name = value.name or name
        elif frame.scope in value.producer.scope.ancestors():
            frame.scope.names.setdefault(value, name)

    def name_of(self, frame: Frame, value: Value) -> str | None:
        """The name that a definition knows a tensor by."""
        own = value.producer is None or value.producer.scope is frame.scope
        return value.name if own else frame.scope.names.get(value)

    def _needs_tensor(self, frame: Frame, value: Any, span: Span, what: str, assign: tree.Assign | None = None) -> None:
        grows = assign is not None  # `keys = ()` begins a tuple that a loop adds to
        items = value if isinstance(value, tuple) and (value or grows) else (value,)
        if all(isinstance(item, Value) for item in items):
            return
        help_ = None
        if isinstance(value, type | BlockRef | LayerRef):
            help_ = f"let a tensor flow through it: `x -> {span.text}`"
        elif isinstance(value, list):
            help_ = "several tensors are a tuple: `keys = ()`, then `keys = keys + (x,)`"
        elif assign is not None and len(assign.targets) == 1:
            help_ = f"write `let {assign.targets[0].name} = ...` for a size"
        self.report(
            frame, "wrong-type", f"{what} must be a tensor, and this is {describe_value(value)}", span, help=help_
        )
