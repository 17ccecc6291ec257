"""Syntax tree nodes from the parser's reductions.

When the parser reduces by a grammar rule, lark calls the method of that rule with the rule's parts: the tokens that the
grammar keeps, and the results of earlier reductions.  So the tree is built bottom-up during the parse, without
recursion.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import Any, NamedTuple

from lark import Transformer

from archc.diagnostics import Diagnostics, Source, Span
from archc.language.syntax import literals, tree
from archc.language.syntax.scanner import Token

Parts = list[Any]

_MOST_SUFFIXES = 100  # limit on consecutive `.name`, `[index]` and `(arguments)`: each nests the tree one level deeper


class TooDeep(Exception):
    """Exception for a text that is nested too deeply to parse; the diagnostic is already reported."""


class _ParsedBody(NamedTuple):
    """Statements between braces, and the closing brace."""

    statements: tuple[tree.Statement, ...]
    end: Token


class _ParsedArguments(NamedTuple):
    """Arguments between parentheses, and the closing parenthesis."""

    arguments: tuple[tree.Argument, ...]
    end: Token


class TreeBuilder(Transformer[Token, Any]):
    """lark transformer that builds the tree of one text at a time.

    The methods are named after the rules of `grammar.lark`, or after their aliases (`-> name`).
    """

    def begin(self, source: Source, comments: list[tree.Comment], diagnostics: Diagnostics) -> None:
        """Start the tree of a text.

        Args:
            comments: list to which the scanner adds the comments while the text is parsed.
        """
        self._source = source
        self._comments = comments
        self._diagnostics = diagnostics

    def _span(self, first: Token | tree.SyntaxNode, last: Token | tree.SyntaxNode) -> Span:
        start = first.start if isinstance(first, Token) else first.span.start
        end = last.end if isinstance(last, Token) else last.span.end
        return Span(self._source, start, end)

    # Top level ------------------------------------------------------------------------------------------

    def file(self, items: Parts) -> tree.File:
        """All items and comments of a text."""
        span = Span(self._source, 0, len(self._source.text))
        return tree.File(span, self._source, tuple(items), tuple(self._comments))

    def definition(self, parts: Parts) -> tree.Definition:
        """`model name(attributes) { … }` or `block name(attributes) { … }`."""
        kind, name, attributes, body = parts
        span = self._span(kind, body.end)
        return tree.Definition(
            span, kind.text, name, attributes or (), body.statements, self._comment_above(kind.start)
        )

    def attributes(self, attributes: Parts) -> tuple[tree.Attribute, ...]:
        """Attributes of a definition, without the parentheses."""
        return tuple(attributes)

    def attribute(self, parts: Parts) -> tree.Attribute:
        """`name` or `name = default`."""
        name, default = parts
        return tree.Attribute(self._span(name, default or name), name, default)

    def derivation(self, parts: Parts) -> tree.Derivation:
        """`model name = base(arguments)`."""
        keyword, name, base, called = parts
        span = self._span(keyword, called.end if called else base)
        arguments = called.arguments if called else ()
        return tree.Derivation(span, name, base, arguments, self._comment_above(keyword.start))

    def pipeline(self, parts: Parts) -> tree.PipelineStatement:
        """`pipeline name = pass -> pass`."""
        keyword, name, *passes = parts
        return tree.PipelineStatement(self._span(keyword, passes[-1]), name, tuple(passes))

    def pass_step(self, parts: Parts) -> tree.ChainStep:
        """One pass of a pipeline: a chain step without a label."""
        return self.step([None, *parts])

    def import_item(self, parts: Parts) -> tree.Import:
        """`import "path" as alias`."""
        keyword, path, alias = parts
        return tree.Import(self._span(keyword, alias or path), path, alias)

    def devices(self, parts: Parts) -> tree.DevicesStatement:
        """`devices name { … }`."""
        keyword, name, *items, end = parts
        return tree.DevicesStatement(self._span(keyword, end), name, tuple(items))

    def device(self, parts: Parts) -> tree.Assign:
        """`name = cuda(0)` in a `devices` item."""
        name, value = parts
        return tree.Assign(self._span(name, value), (name,), value)

    def link(self, parts: Parts) -> tree.LinkStatement:
        """`link a <-> b = 50GB/s` in a `devices` item."""
        keyword, left, right, value = parts
        return tree.LinkStatement(self._span(keyword, value), left, right, value)

    def pipeline_text(self, steps: Parts) -> tuple[tree.ChainStep, ...]:
        """Passes of the command-line option `--passes`."""
        return tuple(steps)

    def value_text(self, parts: Parts) -> tree.Expression:
        """Value of the command-line option `--set`."""
        value: tree.Expression = parts[0]
        return value

    def _comment_above(self, start: int) -> str:
        """Text of the comments on the lines directly above an offset."""
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

    def body(self, parts: Parts) -> _ParsedBody:
        """`{ statements }`."""
        *statements, end = parts
        return _ParsedBody(tuple(statements), end)

    def input(self, parts: Parts) -> tree.Input:
        """`input name: type?`."""
        keyword, name, type_, mark = parts
        return tree.Input(self._span(keyword, mark or type_ or name), name, type_, mark is not None)

    def typed_output(self, parts: Parts) -> tree.Output:
        """`output name: type = value`."""
        keyword, name, type_, value = parts
        return tree.Output(self._span(keyword, value), name, type_, value)

    def named_output(self, parts: Parts) -> tree.Output:
        """`output name = value`."""
        keyword, name, value = parts
        return tree.Output(self._span(keyword, value), name, None, value)

    def bare_output(self, parts: Parts) -> tree.Output:
        """`output value`."""
        keyword, value = parts
        return tree.Output(self._span(keyword, value), None, None, value)

    def layer(self, parts: Parts) -> tree.LayerStatement:
        """`layer path = operator(arguments)`."""
        keyword, label, value = parts
        return tree.LayerStatement(self._span(keyword, value), self._label(label), value)

    def let(self, parts: Parts) -> tree.Let:
        """`let name = value`."""
        keyword, name, value = parts
        return tree.Let(self._span(keyword, value), name, value)

    def assign(self, parts: Parts) -> tree.Assign:
        """`a, b = value`."""
        *targets, value = parts
        return tree.Assign(self._span(targets[0], value), tuple(targets), value)

    def for_loop(self, parts: Parts) -> tree.For:
        """`for variable in iterable { … }`."""
        keyword, variable, iterable, body = parts
        return tree.For(self._span(keyword, body.end), variable, iterable, body.statements)

    def scan(self, parts: Parts) -> tree.ScanStatement:
        """`scan x_t in x, h = h0 { … }`."""
        keyword, *items, body = parts
        return tree.ScanStatement(self._span(keyword, body.end), tuple(items), body.statements)

    def sequence(self, parts: Parts) -> tree.ScanSequence:
        """`x_t in x` in the head of a scan."""
        name, value = parts
        return tree.ScanSequence(self._span(name, value), name, value)

    def state(self, parts: Parts) -> tree.ScanState:
        """`h = h0` in the head of a scan."""
        name, value = parts
        return tree.ScanState(self._span(name, value), name, value)

    def yielded(self, parts: Parts) -> tree.Yield:
        """`yield name = value`."""
        keyword, name, value = parts
        return tree.Yield(self._span(keyword, value), name, value)

    def if_else(self, parts: Parts) -> tree.If:
        """`if condition { … } else { … }`, with or without the `else`."""
        keyword, condition, body, otherwise = parts
        if otherwise is None:
            return tree.If(self._span(keyword, body.end), condition, body.statements, ())
        if isinstance(otherwise, tree.If):
            return tree.If(self._span(keyword, otherwise), condition, body.statements, (otherwise,))
        return tree.If(self._span(keyword, otherwise.end), condition, body.statements, otherwise.statements)

    def assertion(self, parts: Parts) -> tree.Assert:
        """`assert condition, message`."""
        keyword, condition, message = parts
        return tree.Assert(self._span(keyword, message or condition), condition, message)

    def type(self, parts: Parts) -> tree.TypeExpression:
        """`dtype[dims]`."""
        dtype, *dims, end = parts
        return tree.TypeExpression(self._span(dtype, end), dtype.name, tuple(dims))

    def dim(self, parts: Parts) -> tree.Dim:
        """`size` or `size <= bound` in a tensor type."""
        value, bound = parts
        return tree.Dim(self._span(value, bound or value), value, bound)

    # Chains and calls -----------------------------------------------------------------------------------

    def chain(self, parts: Parts) -> tree.Chain:
        """`source -> step -> step`."""
        source, *steps = parts
        return tree.Chain(self._span(source, steps[-1]), source, tuple(steps))

    def step(self, parts: Parts) -> tree.ChainStep:
        """`label: callee(arguments)`."""
        label, callee, called = parts
        span = self._span(label or callee, called.end if called else callee)
        arguments = called.arguments if called else ()
        return tree.ChainStep(span, label and self._label(label), callee, arguments, called is not None)

    def _label(self, path: tree.Expression) -> tree.Label:
        """Label from the expression before a colon, which the grammar has parsed as a path."""
        parts: list[tree.Expression | tree.Field] = []
        inner = path
        while not isinstance(inner, tree.Name):
            assert isinstance(inner, tree.MemberExpression | tree.IndexExpression), (
                "the grammar allows only members and indices in a path"
            )
            part = inner.items[0] if isinstance(inner, tree.IndexExpression) else tree.Field(inner.span, inner.name)
            assert not isinstance(part, tree.SliceExpression | tree.Ellipsis)
            parts.append(part)
            inner = inner.value
        return tree.Label(path.span, inner.name, tuple(reversed(parts)))

    def member(self, parts: Parts) -> tree.MemberExpression:
        """`value.name`."""
        value, name = parts
        self._check_suffixes(value)
        return tree.MemberExpression(self._span(value, name), value, name.name)

    def call(self, parts: Parts) -> tree.Call:
        """`callee(arguments)`."""
        callee, called = parts
        self._check_suffixes(callee)
        return tree.Call(self._span(callee, called.end), callee, called.arguments)

    layer_call = call

    def arguments(self, parts: Parts) -> _ParsedArguments:
        """`(arguments)`."""
        *arguments, end = parts
        self._check_order(arguments)
        return _ParsedArguments(tuple(arguments), end)

    def keyword_argument(self, parts: Parts) -> tree.Argument:
        """`name = value` in a call."""
        name, value = parts
        # The name is a token if it is a keyword, such as `devices`, which is also an option of the pass `partition`.
        text = name.text if isinstance(name, Token) else name.name
        return tree.Argument(self._span(name, value), text, value)

    def positional_argument(self, parts: Parts) -> tree.Argument:
        """`value` in a call."""
        value = parts[0]
        return tree.Argument(value.span, None, value)

    def _check_suffixes(self, value: tree.Expression) -> None:
        """Limit the consecutive members, indices and calls of an expression to `_MOST_SUFFIXES`.

        Raises:
            TooDeep: the expression has more than `_MOST_SUFFIXES` of them; a diagnostic is added.
        """
        length = 0
        while length <= _MOST_SUFFIXES and isinstance(value, tree.MemberExpression | tree.IndexExpression | tree.Call):
            value = value.callee if isinstance(value, tree.Call) else value.value
            length += 1
        if length == _MOST_SUFFIXES:
            message = f"more than {_MOST_SUFFIXES} consecutive members, indices or calls"
            self._diagnostics.error("nesting-too-deep", message, value.span)
            raise TooDeep

    def _check_order(self, arguments: list[tree.Argument]) -> None:
        """Report positional arguments after keyword arguments, and repeated keywords."""
        named: set[str] = set()
        for argument in arguments:
            if argument.name is None:
                if named:
                    self._diagnostics.error(
                        "positional-after-keyword",
                        "a positional argument comes after a keyword argument",
                        argument.span,
                        help="move it before the keyword arguments, or give it a name",
                    )
            elif argument.name in named:
                self._diagnostics.error("duplicate-argument", f"`{argument.name}` is given twice", argument.span)
            else:
                named.add(argument.name)

    # Operators ------------------------------------------------------------------------------------------

    def conditional(self, parts: Parts) -> tree.Conditional:
        """`value if condition else otherwise`."""
        value, _, condition, otherwise = parts
        return tree.Conditional(self._span(value, otherwise), value, condition, otherwise)

    def binary(self, parts: Parts) -> tree.BinaryExpression:
        """`left operator right`."""
        left, operator, right = parts
        return tree.BinaryExpression(self._span(left, right), operator.text, left, right)

    def unary(self, parts: Parts) -> tree.UnaryExpression:
        """`-operand` or `not operand`."""
        operator, operand = parts
        return tree.UnaryExpression(self._span(operator, operand), operator.text, operand)

    def range(self, parts: Parts) -> tree.RangeExpression:
        """`start..stop`."""
        start, stop = parts
        return tree.RangeExpression(self._span(start, stop), start, stop)

    def index(self, parts: Parts) -> tree.IndexExpression:
        """`value[items]`."""
        value, *items, end = parts
        self._check_suffixes(value)
        return tree.IndexExpression(self._span(value, end), value, tuple(items))

    def slice(self, parts: Parts) -> tree.SliceExpression:
        """`start:stop:step` in an index or an argument."""
        bounds: list[tree.Expression | None] = [None]
        for part in parts:
            if isinstance(part, Token):
                bounds.append(None)
            else:
                bounds[-1] = part
        start, stop, step = [*bounds, None][:3]
        return tree.SliceExpression(self._span(parts[0], parts[-1]), start, stop, step)

    def ellipsis(self, parts: Parts) -> tree.Ellipsis:
        """`...` in an index."""
        return tree.Ellipsis(parts[0].span)

    # Atoms ----------------------------------------------------------------------------------------------

    def name(self, parts: Parts) -> tree.Name:
        """Name without dots or indices."""
        token = parts[0]
        return tree.Name(Span(self._source, token.start, token.end), token.text)

    def number(self, parts: Parts) -> tree.Number:
        """Number, with or without a unit."""
        return literals.number(parts[0], self._diagnostics)

    def string(self, parts: Parts) -> tree.String:
        """String in single or double quotes."""
        return literals.string(parts[0], self._diagnostics)

    def boolean(self, parts: Parts) -> tree.Boolean:
        """`true` or `false`."""
        token = parts[0]
        return tree.Boolean(token.span, token.type == "TRUE")

    def parenthesized(self, parts: Parts) -> tree.Expression:
        """Expression inside parentheses; its span includes the parentheses."""
        start, inner, end = parts
        widened: tree.Expression = replace(inner, span=self._span(start, end))
        return widened

    def tuple(self, parts: Parts) -> tree.Tuple:
        """`(items)` with a comma, or `()`."""
        start, *items, end = parts
        return tree.Tuple(self._span(start, end), (*items,))

    def list(self, parts: Parts) -> tree.List:
        """`[items]`."""
        start, *items, end = parts
        return tree.List(self._span(start, end), (*items,))
