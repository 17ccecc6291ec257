"""Expressions to text: canonical spacing, and parentheses only where precedence demands them.

Operands to the left are walked with a loop: `a + b + c + …` is nested as deeply as it is long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from archc.diagnostics import Source
from archc.language import syntax
from archc.language.spacing import Break, breaks


class Binding(IntEnum):
    """How tightly an expression holds together, from the loosest."""

    CHAIN = 0
    RANGE = 1
    OR = 2
    AND = 3
    NOT = 4
    COMPARISON = 5
    SUM = 6
    PRODUCT = 7
    SIGN = 8
    POWER = 9
    POSTFIX = 10


_BINARY = {
    "or": Binding.OR,
    "and": Binding.AND,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), Binding.COMPARISON),
    **dict.fromkeys("+-", Binding.SUM),
    **dict.fromkeys(("*", "/", "//", "%"), Binding.PRODUCT),
    "**": Binding.POWER,
}
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\\": "\\\\", '"': '\\"'}


def expression_text(expression: syntax.Expression) -> str:
    """An expression on one line."""
    return Unparser().expression(expression)


@dataclass
class Unparser:
    """Writes the expressions of one statement.

    By default all stand on one line.  Given a `source`, line breaks that its author made before a `->` are
    kept, and `comments(start, end)` tells the comments between two offsets, to be put where such a break is.
    Chains nested up to `broken` deep are broken anew, before the stages that `where` says; with `sums`, the
    statement's own sum is, before each `+` and `-`.
    """

    indent: int = 0
    source: Source | None = None
    comments: Callable[[int, int], Sequence[syntax.Comment]] = lambda start, end: ()
    broken: int = 0
    where: Break = Break.LABELS
    sums: bool = False
    placed: list[syntax.Comment] = field(default_factory=list)
    _depth: int = 0

    def expression(self, expression: syntax.Expression | syntax.Slice | syntax.Ellipsis, least: int = 0) -> str:
        """The text of an expression, in parentheses if it holds together less tightly than `least`."""
        binding = _binding(expression)
        text = self._bare(expression)
        return f"({text})" if binding < least else text

    def _bare(self, node: syntax.Expression | syntax.Slice | syntax.Ellipsis) -> str:
        match node:
            case syntax.Chain():
                return self.chain(node.source, node.stages)
            case syntax.Binary():
                return self._binary(node)
            case syntax.Member() | syntax.Index() | syntax.Call():
                return self._postfix(node)
            case syntax.Unary():
                sign = "not " if node.operator == "not" else node.operator
                return sign + self.expression(node.operand, _binding(node))
            case syntax.Range():
                return f"{self.expression(node.start, Binding.OR)}..{self.expression(node.stop, Binding.OR)}"
            case syntax.Slice():
                start, stop, step = (
                    "" if part is None else self.expression(part, Binding.OR)
                    for part in (node.start, node.stop, node.step)
                )
                return f"{start}:{stop}" + (f":{step}" if step else "")
            case syntax.Tuple():
                comma = "," if len(node.items) == 1 else ""
                return f"({self._list(node.items)}{comma})"
            case syntax.List():
                return f"[{self._list(node.items)}]"
            case syntax.Name():
                return node.name
            case syntax.Number():
                return number_text(node)
            case syntax.String():
                return string_text(node.value)
            case syntax.Boolean():
                return "true" if node.value else "false"
            case syntax.Ellipsis():
                return "..."

    def _binary(self, node: syntax.Binary) -> str:
        pieces: list[str] = []
        current: syntax.Expression = node
        least: int = Binding.CHAIN
        broken, self.sums = self.sums and not self._depth, False  # the outermost sum only
        while isinstance(current, syntax.Binary) and _BINARY[current.operator] >= least:
            binding = _BINARY[current.operator]
            right = Binding.SIGN if binding is Binding.POWER else binding + 1
            gap = "\n" + " " * (self.indent + 4) if broken and binding is Binding.SUM else " "
            pieces.append(f"{gap}{current.operator} {self.expression(current.right, right)}")
            # Power groups to the right, comparisons do not group at all; the others group to the left.
            least = binding + 1 if binding in (Binding.POWER, Binding.COMPARISON) else binding
            current = current.left
        pieces.append(self.expression(current, least))
        return "".join(reversed(pieces))

    def _postfix(self, node: syntax.Member | syntax.Index | syntax.Call) -> str:
        suffixes: list[str] = []
        current: syntax.Expression = node
        while True:
            match current:
                case syntax.Member():
                    suffixes.append(f".{current.name}")
                    current = current.value
                case syntax.Index():
                    suffixes.append(f"[{self._list(current.items)}]")
                    current = current.value
                case syntax.Call():
                    suffixes.append(self.arguments(current.arguments))
                    current = current.callee
                case _:
                    return self.expression(current, Binding.POSTFIX) + "".join(reversed(suffixes))

    def _list(self, items: Sequence[syntax.Expression | syntax.Slice | syntax.Ellipsis]) -> str:
        return ", ".join(self.expression(item) for item in items)

    def arguments(self, arguments: Sequence[syntax.Argument]) -> str:
        """Arguments of a call, with their parentheses."""
        return f"({', '.join(self.argument(argument) for argument in arguments)})"

    def argument(self, argument: syntax.Argument) -> str:
        value = self.expression(argument.value)
        return value if argument.name is None else f"{argument.name} = {value}"

    def type(self, type_: syntax.TensorType) -> str:
        dims = []
        for dim in type_.dims:
            bound = "" if dim.bound is None else f" <= {self.expression(dim.bound, Binding.SUM)}"
            dims.append(self.expression(dim.value, Binding.SUM) + bound)
        return f"{type_.dtype}[{', '.join(dims)}]"

    def label(self, label: syntax.Label) -> str:
        parts = (f".{p.name}" if isinstance(p, syntax.Field) else f"[{self.expression(p)}]" for p in label.parts)
        return label.name + "".join(parts)

    def stage(self, stage: syntax.Stage) -> str:
        label = "" if stage.label is None else f"{self.label(stage.label)}: "
        arguments = self.arguments(stage.arguments) if stage.called else ""
        return f"{label}{self.expression(stage.callee)}{arguments}"

    def chain(self, first: syntax.Expression | syntax.Stage, stages: Sequence[syntax.Stage]) -> str:
        """`first -> stage -> stage`, over several lines where the author or the width wants it."""
        self._depth += 1
        margin = "\n" + " " * (self.indent + 4 * self._depth)
        pieces = [self.stage(first) if isinstance(first, syntax.Stage) else self.expression(first, Binding.RANGE)]
        forced = breaks(stages, self.where) if self._depth <= self.broken else ()
        previous: syntax.Node = first
        for position, stage in enumerate(stages):
            gap = self._gap(previous, stage)
            if "\n" in gap or position in forced:
                pieces.append(self._comments_in_gap(previous, gap, margin) + margin)
            else:
                pieces.append(" ")
            pieces.append(f"-> {self.stage(stage)}")
            previous = stage
        self._depth -= 1
        return "".join(pieces)

    def _gap(self, previous: syntax.Node, following: syntax.Node) -> str:
        """What the author wrote between two stages; nothing, if the tree was not read from a text."""
        if self.source is None or previous.span.source is not self.source or following.span.source is not self.source:
            return ""
        return self.source.text[previous.span.end : following.span.start]

    def _comments_in_gap(self, previous: syntax.Node, gap: str, margin: str) -> str:
        if not gap:
            return ""
        comments = self.comments(previous.span.end, previous.span.end + len(gap))
        self.placed.extend(comments)
        # Only the first can stand behind what precedes it; after a comment, all the rest of a line is comment.
        behind = bool(comments) and not comments[0].own_line
        return "".join(("  " if behind and i == 0 else margin) + comment.text for i, comment in enumerate(comments))


def _binding(node: syntax.Expression | syntax.Slice | syntax.Ellipsis) -> Binding:
    match node:
        case syntax.Chain():
            return Binding.CHAIN
        case syntax.Range():
            return Binding.RANGE
        case syntax.Binary():
            return _BINARY[node.operator]
        case syntax.Unary():
            return Binding.NOT if node.operator == "not" else Binding.SIGN
        case syntax.Number() if math.copysign(1, node.value) < 0:
            return Binding.SIGN
        case _:
            return Binding.POSTFIX


def number_text(node: syntax.Number) -> str:
    """A number as short as it can be said exactly; an integer keeps the underscores that its author gave it."""
    unit = node.unit or ""
    if isinstance(node.value, int):
        written = node.span.text
        if "_" in written and written.replace("_", "") == f"{node.value}{unit}":
            return written
        return f"{node.value}{unit}"
    mantissa, exponent, power = repr(node.value).partition("e")
    return f"{mantissa}{exponent}{int(power)}{unit}" if exponent else f"{mantissa}{unit}"


def string_text(value: str) -> str:
    """A string in double quotes; what a reader could not see is written as an escape."""
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in value) + '"'
