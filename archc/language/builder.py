"""From the parser's reductions to the syntax tree.

lark calls one method here for each rule that it has recognized, in the midst of parsing, with the rule's
parts: tokens that the grammar keeps, and what was built before.  So no second walk over the tree is needed,
and nothing recurses, however deep the tree.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import Any, NamedTuple

from lark import Transformer

from archc.diagnostics import Diagnostics, Source, Span
from archc.language import literals, syntax
from archc.language.scanner import Token

Parts = list[Any]

_LONGEST_ROW = 100  # of `.name`, `[index]` and `(arguments)` behind one another; each is a level of nesting


class TooDeep(Exception):
    """A text that is nested too deeply to parse; this was reported."""


class _Body(NamedTuple):
    """The statements between braces, and the closing brace."""

    statements: tuple[syntax.Statement, ...]
    end: Token


class _Arguments(NamedTuple):
    arguments: tuple[syntax.Argument, ...]
    end: Token


class Builder(Transformer[Token, Any]):
    """Builds the tree of one text at a time; `begin` says which."""

    def begin(self, source: Source, comments: list[syntax.Comment], diagnostics: Diagnostics) -> None:
        self._source = source
        self._comments = comments
        self._diagnostics = diagnostics

    def _span(self, first: Token | syntax.Node, last: Token | syntax.Node) -> Span:
        start = first.start if isinstance(first, Token) else first.span.start
        end = last.end if isinstance(last, Token) else last.span.end
        return Span(self._source, start, end)

    # Top level ------------------------------------------------------------------------------------------

    def file(self, items: Parts) -> syntax.File:
        span = Span(self._source, 0, len(self._source.text))
        return syntax.File(span, self._source, tuple(items), tuple(self._comments))

    def definition(self, parts: Parts) -> syntax.Definition:
        kind, name, attributes, body = parts
        span = self._span(kind, body.end)
        return syntax.Definition(
            span, kind.text, name, attributes or (), body.statements, self._comment_above(kind.start)
        )

    def attributes(self, attributes: Parts) -> tuple[syntax.Attribute, ...]:
        return tuple(attributes)

    def attribute(self, parts: Parts) -> syntax.Attribute:
        name, default = parts
        return syntax.Attribute(self._span(name, default or name), name, default)

    def derivation(self, parts: Parts) -> syntax.Derivation:
        keyword, name, base, called = parts
        span = self._span(keyword, called.end if called else base)
        arguments = called.arguments if called else ()
        return syntax.Derivation(span, name, base, arguments, self._comment_above(keyword.start))

    def pipeline(self, parts: Parts) -> syntax.Pipeline:
        keyword, name, *passes = parts
        return syntax.Pipeline(self._span(keyword, passes[-1]), name, tuple(passes))

    def pass_stage(self, parts: Parts) -> syntax.Stage:
        return self.stage([None, *parts])

    def import_item(self, parts: Parts) -> syntax.Import:
        keyword, path, alias = parts
        return syntax.Import(self._span(keyword, alias or path), path, alias)

    def devices(self, parts: Parts) -> syntax.Devices:
        keyword, name, *items, end = parts
        return syntax.Devices(self._span(keyword, end), name, tuple(items))

    def device(self, parts: Parts) -> syntax.Assign:
        name, value = parts
        return syntax.Assign(self._span(name, value), (name,), value)

    def link(self, parts: Parts) -> syntax.Link:
        keyword, left, right, value = parts
        return syntax.Link(self._span(keyword, value), left, right, value)

    def pipeline_text(self, stages: Parts) -> tuple[syntax.Stage, ...]:
        return tuple(stages)

    def value_text(self, parts: Parts) -> syntax.Expression:
        value: syntax.Expression = parts[0]
        return value

    def _comment_above(self, start: int) -> str:
        """The text of the comments on the lines right above an offset."""
        text = self._source.text
        lines: list[str] = []
        position = bisect_left(self._comments, start, key=lambda comment: comment.span.start)
        for comment in reversed(self._comments[:position]):
            between = text[comment.span.end : start]
            if not comment.own_line or between.strip() or between.count("\n") != 1:
                break
            lines.append(comment.text[1:].removeprefix(" "))
            start = comment.span.start
        return "\n".join(reversed(lines))

    # Statements -----------------------------------------------------------------------------------------

    def body(self, parts: Parts) -> _Body:
        *statements, end = parts
        return _Body(tuple(statements), end)

    def input(self, parts: Parts) -> syntax.Input:
        keyword, name, type_, mark = parts
        return syntax.Input(self._span(keyword, mark or type_ or name), name, type_, mark is not None)

    def typed_output(self, parts: Parts) -> syntax.Output:
        keyword, name, type_, value = parts
        return syntax.Output(self._span(keyword, value), name, type_, value)

    def named_output(self, parts: Parts) -> syntax.Output:
        keyword, name, value = parts
        return syntax.Output(self._span(keyword, value), name, None, value)

    def bare_output(self, parts: Parts) -> syntax.Output:
        keyword, value = parts
        return syntax.Output(self._span(keyword, value), None, None, value)

    def layer(self, parts: Parts) -> syntax.Layer:
        keyword, label, value = parts
        return syntax.Layer(self._span(keyword, value), self._label(label), value)

    def let(self, parts: Parts) -> syntax.Let:
        keyword, name, value = parts
        return syntax.Let(self._span(keyword, value), name, value)

    def assign(self, parts: Parts) -> syntax.Assign:
        *targets, value = parts
        return syntax.Assign(self._span(targets[0], value), tuple(targets), value)

    def for_loop(self, parts: Parts) -> syntax.For:
        keyword, variable, iterable, body = parts
        return syntax.For(self._span(keyword, body.end), variable, iterable, body.statements)

    def scan(self, parts: Parts) -> syntax.Scan:
        keyword, *items, body = parts
        return syntax.Scan(self._span(keyword, body.end), tuple(items), body.statements)

    def sequence(self, parts: Parts) -> syntax.Each:
        name, value = parts
        return syntax.Each(self._span(name, value), name, value)

    def state(self, parts: Parts) -> syntax.State:
        name, value = parts
        return syntax.State(self._span(name, value), name, value)

    def yielded(self, parts: Parts) -> syntax.Yield:
        keyword, name, value = parts
        return syntax.Yield(self._span(keyword, value), name, value)

    def if_else(self, parts: Parts) -> syntax.If:
        keyword, condition, body, otherwise = parts
        if otherwise is None:
            return syntax.If(self._span(keyword, body.end), condition, body.statements, ())
        if isinstance(otherwise, syntax.If):
            return syntax.If(self._span(keyword, otherwise), condition, body.statements, (otherwise,))
        return syntax.If(self._span(keyword, otherwise.end), condition, body.statements, otherwise.statements)

    def assertion(self, parts: Parts) -> syntax.Assert:
        keyword, condition, message = parts
        return syntax.Assert(self._span(keyword, message or condition), condition, message)

    def type(self, parts: Parts) -> syntax.TensorType:
        dtype, *dims, end = parts
        return syntax.TensorType(self._span(dtype, end), dtype.name, tuple(dims))

    def dim(self, parts: Parts) -> syntax.Dim:
        value, bound = parts
        return syntax.Dim(self._span(value, bound or value), value, bound)

    # Chains and calls -----------------------------------------------------------------------------------

    def chain(self, parts: Parts) -> syntax.Chain:
        source, *stages = parts
        return syntax.Chain(self._span(source, stages[-1]), source, tuple(stages))

    def stage(self, parts: Parts) -> syntax.Stage:
        label, callee, called = parts
        span = self._span(label or callee, called.end if called else callee)
        arguments = called.arguments if called else ()
        return syntax.Stage(span, label and self._label(label), callee, arguments, called is not None)

    def _label(self, path: syntax.Expression) -> syntax.Label:
        """What was read as a path turns out to be a label."""
        parts: list[syntax.Expression | syntax.Field] = []
        inner = path
        while not isinstance(inner, syntax.Name):
            assert isinstance(inner, syntax.Member | syntax.Index), "the grammar lets nothing else stand in a path"
            part = inner.items[0] if isinstance(inner, syntax.Index) else syntax.Field(inner.span, inner.name)
            assert not isinstance(part, syntax.Slice | syntax.Ellipsis)
            parts.append(part)
            inner = inner.value
        return syntax.Label(path.span, inner.name, tuple(reversed(parts)))

    def member(self, parts: Parts) -> syntax.Member:
        value, name = parts
        self._check_row(value)
        return syntax.Member(self._span(value, name), value, name.name)

    def call(self, parts: Parts) -> syntax.Call:
        callee, called = parts
        self._check_row(callee)
        return syntax.Call(self._span(callee, called.end), callee, called.arguments)

    layer_call = call

    def arguments(self, parts: Parts) -> _Arguments:
        *arguments, end = parts
        self._check_order(arguments)
        return _Arguments(tuple(arguments), end)

    def keyword_argument(self, parts: Parts) -> syntax.Argument:
        name, value = parts
        text = name.text if isinstance(name, Token) else name.name  # the one keyword that is an option of a pass
        return syntax.Argument(self._span(name, value), text, value)

    def positional_argument(self, parts: Parts) -> syntax.Argument:
        value = parts[0]
        return syntax.Argument(value.span, None, value)

    def _check_row(self, value: syntax.Expression) -> None:
        """Report a row of members, indices and calls that is too long.

        Raises:
            TooDeep: the row is too long.
        """
        length = 0
        while length <= _LONGEST_ROW and isinstance(value, syntax.Member | syntax.Index | syntax.Call):
            value = value.callee if isinstance(value, syntax.Call) else value.value
            length += 1
        if length == _LONGEST_ROW:
            message = f"more than {_LONGEST_ROW} members, indices or calls in a row"
            self._diagnostics.error("nesting-too-deep", message, value.span)
            raise TooDeep

    def _check_order(self, arguments: list[syntax.Argument]) -> None:
        named: set[str] = set()
        for argument in arguments:
            if argument.name is None:
                if named:
                    self._diagnostics.error(
                        "positional-after-keyword",
                        "an argument without a name comes after one with a name",
                        argument.span,
                        help="arguments by position come first",
                    )
            elif argument.name in named:
                self._diagnostics.error("duplicate-argument", f"`{argument.name}` is given twice", argument.span)
            else:
                named.add(argument.name)

    # Operators ------------------------------------------------------------------------------------------

    def conditional(self, parts: Parts) -> syntax.Conditional:
        value, _, condition, otherwise = parts
        return syntax.Conditional(self._span(value, otherwise), value, condition, otherwise)

    def binary(self, parts: Parts) -> syntax.Binary:
        left, operator, right = parts
        return syntax.Binary(self._span(left, right), operator.text, left, right)

    def unary(self, parts: Parts) -> syntax.Unary:
        operator, operand = parts
        return syntax.Unary(self._span(operator, operand), operator.text, operand)

    def range(self, parts: Parts) -> syntax.Range:
        start, stop = parts
        return syntax.Range(self._span(start, stop), start, stop)

    def index(self, parts: Parts) -> syntax.Index:
        value, *items, end = parts
        self._check_row(value)
        return syntax.Index(self._span(value, end), value, tuple(items))

    def slice(self, parts: Parts) -> syntax.Slice:
        bounds: list[syntax.Expression | None] = [None]
        for part in parts:
            if isinstance(part, Token):
                bounds.append(None)
            else:
                bounds[-1] = part
        start, stop, step = [*bounds, None][:3]
        return syntax.Slice(self._span(parts[0], parts[-1]), start, stop, step)

    def ellipsis(self, parts: Parts) -> syntax.Ellipsis:
        return syntax.Ellipsis(parts[0].span)

    # Atoms ----------------------------------------------------------------------------------------------

    def name(self, parts: Parts) -> syntax.Name:
        token = parts[0]
        return syntax.Name(Span(self._source, token.start, token.end), token.text)

    def number(self, parts: Parts) -> syntax.Number:
        return literals.number(parts[0], self._diagnostics)

    def string(self, parts: Parts) -> syntax.String:
        return literals.string(parts[0], self._diagnostics)

    def boolean(self, parts: Parts) -> syntax.Boolean:
        token = parts[0]
        return syntax.Boolean(token.span, token.type == "TRUE")

    def parenthesized(self, parts: Parts) -> syntax.Expression:
        """The inner expression, with the parentheses in its span: what encloses it starts where they do."""
        start, inner, end = parts
        widened: syntax.Expression = replace(inner, span=self._span(start, end))
        return widened

    def tuple(self, parts: Parts) -> syntax.Tuple:
        start, *items, end = parts
        return syntax.Tuple(self._span(start, end), (*items,))

    def list(self, parts: Parts) -> syntax.List:
        start, *items, end = parts
        return syntax.List(self._span(start, end), (*items,))
