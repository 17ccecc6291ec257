"""Text of expressions, with canonical spacing, line breaks, and only necessary parentheses.

Left operands are traversed with a loop, because `a + b + c + …` nests one level for each operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any

from archc.diagnostics import Source
from archc.frozen_dataclass import frozen_dataclass
from archc.language.syntax import tree

WIDTH = 120
"""Limit on the columns of a line."""

COMFORTABLE = 100
"""Limit on the columns of a one-line chain that the printer makes from a graph.

Chains with fewer than two labelled layers have the limit `WIDTH`, and so have parsed chains.  Half of `COMFORTABLE` is
also a limit on the width of calls in `STYLES`.
"""


class ChainBreaks(Enum):
    """Steps that begin a new line in a broken chain."""

    GROUPS = "each labelled step except norms: a convolution and its norm are on one line"
    LABELS = "each labelled step"
    ALL = "every step"


@frozen_dataclass
class Style:
    """Rules for the line breaks of a statement.

    Attributes:
        chains: nesting depth up to which chains are broken; 0 to break none.
        where: steps of a broken chain that begin a new line.
        sums: whether to break the outermost sum of the statement.
        branches: whether to put each chain of a tuple of chains on a separate line.
        calls: width of a call in columns beyond which each argument is on a separate line; None for no limit.
    """

    chains: int = 0
    where: ChainBreaks = ChainBreaks.GROUPS
    sums: bool = False
    branches: bool = False
    calls: int | None = None


_LAST = Style(9, ChainBreaks.ALL, sums=True, branches=True, calls=WIDTH)

STYLES = (
    Style(),
    Style(sums=True),
    Style(branches=True),
    *(Style(depth, where, branches=True) for depth in (1, 2) for where in ChainBreaks),
    Style(9, ChainBreaks.ALL, branches=True),
    Style(9, ChainBreaks.ALL, sums=True, branches=True),
    *(Style(1, ChainBreaks.LABELS, branches=True, calls=columns) for columns in (WIDTH, COMFORTABLE // 2)),
    _LAST,
    Style(9, ChainBreaks.ALL, sums=True, branches=True, calls=0),
    _LAST,
)
"""Styles in the order in which they are tried; the last one is used if no style fits."""


def breaks(steps: Sequence[tree.ChainStep], wanted: ChainBreaks) -> set[int]:
    """Positions of the steps that begin a new line in a broken chain.

    If the chain has no step of the wanted kind, the next kind in the order of `ChainBreaks` is used.
    """
    labelled = {position for position, step in enumerate(steps) if step.label is not None}
    if wanted is ChainBreaks.GROUPS:
        groups = {position for position in labelled if not _is_norm(steps[position])}
        return groups or labelled or set(range(len(steps)))
    if wanted is ChainBreaks.LABELS and labelled:
        return labelled
    return set(range(len(steps)))


def has_groups(statement: tree.SyntaxNode) -> bool:
    """Return whether a statement is a chain of at least two groups.

    A group begins at each labelled step that is not a norm.  If the source of the chain is a tuple of chains, their
    groups count, too.
    """
    if not isinstance(statement, tree.Assign | tree.Output) or not isinstance(statement.value, tree.Chain):
        return False
    source = statement.value.source
    branches = source.items if isinstance(source, tree.Tuple) else ()
    chains = [statement.value, *(branch for branch in branches if isinstance(branch, tree.Chain))]
    return sum(step.label is not None and not _is_norm(step) for chain in chains for step in chain.steps) > 1


def is_branching(node: tree.SyntaxNode) -> bool:
    """Return whether an expression is a tuple with a chain as an item: `(x -> a, x -> b)`."""
    return isinstance(node, tree.Tuple) and any(isinstance(item, tree.Chain) for item in node.items)


def _is_norm(step: tree.ChainStep) -> bool:
    return isinstance(step.callee, tree.Name) and step.callee.name.endswith("_norm")


class Precedence(IntEnum):
    """Precedence of an expression, from the lowest."""

    CONDITIONAL = -1
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
    "or": Precedence.OR,
    "and": Precedence.AND,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), Precedence.COMPARISON),
    **dict.fromkeys("+-", Precedence.SUM),
    **dict.fromkeys(("*", "/", "//", "%"), Precedence.PRODUCT),
    "**": Precedence.POWER,
}
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\\": "\\\\", '"': '\\"'}


def expression_text(expression: tree.Expression) -> str:
    """Text of an expression on one line."""
    return Unparser().expression(expression)


@dataclass
class Unparser:
    """Text of the expressions of one statement, on one line by default.

    Line breaks have two origins.  If there is a `source`, its line breaks before a `->` and after the `(` of a tuple of
    chains are kept.  `style` adds further line breaks.  An item on a separate line inside brackets is written in the
    first style that fits, independently of the statement's style.

    Attributes:
        indent: columns before the statement.
        source: text from which the nodes were parsed; None for a tree that was not parsed.
        comments: function that returns the comments between two offsets, which are written at a line break.
        placed: comments that are already written.
        text: text of the statement, if `fitted` made this unparser.
    """

    indent: int = 0
    source: Source | None = None
    comments: Callable[[int, int], Sequence[tree.Comment]] = lambda start, end: ()
    style: Style = STYLES[0]
    placed: list[tree.Comment] = field(default_factory=list)
    _depth: int = 0
    _in_sum: bool = False
    _margin: int = field(init=False)  # indentation of the current line
    _known: dict[tuple[int, int], Unparser] = field(default_factory=dict)
    text: str = ""

    def __post_init__(self) -> None:
        self._margin = self.indent

    def fitted(self, write: Callable[[Unparser], str], comfortable: int = WIDTH) -> Unparser:
        """Unparser in the first style in which the text fits; its `text` is the result of `write`.

        Args:
            comfortable: limit on the columns of a text without line breaks.
        """
        for style in STYLES:
            unparser = Unparser(self.indent, self.source, self.comments, style, _known=self._known)
            unparser.text = write(unparser)
            first, *rest = unparser.text.split("\n")
            width = WIDTH if style.chains or "\n" in unparser.text else comfortable
            if self.indent + len(first) <= width and all(len(line) <= WIDTH for line in rest):
                break
        return unparser

    def expression(self, expression: tree.Expression | tree.SliceExpression | tree.Ellipsis, least: int = 0) -> str:
        """Text of an expression, in parentheses if its precedence is lower than `least`."""
        precedence = _precedence(expression)
        text = self._bare(expression)
        return f"({text})" if precedence < least else text

    def choice(self, expression: tree.Expression | tree.SliceExpression) -> str:
        """Text of an expression inside brackets, where a conditional needs no parentheses."""
        return self.expression(expression, Precedence.CONDITIONAL)

    def _bare(self, node: tree.Expression | tree.SliceExpression | tree.Ellipsis) -> str:
        """Text of an expression without parentheses around it."""
        match node:
            case tree.Chain():
                return self.chain(node.source, node.steps)
            case tree.Conditional():
                value, condition = (self.expression(part, Precedence.OR) for part in (node.value, node.condition))
                return f"{value} if {condition} else {self.expression(node.otherwise, Precedence.CONDITIONAL)}"
            case tree.BinaryExpression():
                return self._binary(node)
            case tree.MemberExpression() | tree.IndexExpression() | tree.Call():
                return self._postfix(node)
            case tree.UnaryExpression():
                sign = "not " if node.operator == "not" else node.operator
                return sign + self.expression(node.operand, _precedence(node))
            case tree.RangeExpression():
                return f"{self.expression(node.start, Precedence.OR)}..{self.expression(node.stop, Precedence.OR)}"
            case tree.SliceExpression():
                start, stop, step = (
                    "" if part is None else self.expression(part, Precedence.OR)
                    for part in (node.start, node.stop, node.step)
                )
                return f"{start}:{stop}" + (f":{step}" if step else "")
            case tree.Tuple() if is_branching(node) and (self.style.branches or self._is_spread(node)):
                return self._one_a_line(node.span.start, node.items, Unparser.choice, node.span.end)
            case tree.Tuple():
                comma = "," if len(node.items) == 1 else ""
                return f"({self._list(node.items)}{comma})"
            case tree.List():
                return f"[{self._list(node.items)}]"
            case tree.Name():
                return node.name
            case tree.Number():
                return number_text(node)
            case tree.String():
                return string_text(node.value)
            case tree.Boolean():
                return "true" if node.value else "false"
            case tree.Ellipsis():
                return "..."

    def _binary(self, node: tree.BinaryExpression) -> str:
        pieces: list[str] = []
        current: tree.Expression = node
        least: int = Precedence.CHAIN
        broken = self.style.sums and not self._depth and not self._in_sum  # the outermost sum only
        outer, self._in_sum = self._in_sum, True
        while isinstance(current, tree.BinaryExpression) and _BINARY[current.operator] >= least:
            precedence = _BINARY[current.operator]
            right = Precedence.SIGN if precedence is Precedence.POWER else precedence + 1
            gap = " "
            if broken and precedence is Precedence.SUM:
                self._margin = self.indent + 4
                gap = "\n" + " " * self._margin
            pieces.append(f"{gap}{current.operator} {self.expression(current.right, right)}")
            # Powers associate to the right, comparisons do not associate, all other operators associate to the left.
            least = precedence + 1 if precedence in (Precedence.POWER, Precedence.COMPARISON) else precedence
            current = current.left
        if broken:
            self._margin = self.indent
        pieces.append(self.expression(current, least))
        self._in_sum = outer
        return "".join(reversed(pieces))

    def _postfix(self, node: tree.MemberExpression | tree.IndexExpression | tree.Call) -> str:
        suffixes: list[str] = []
        current: tree.Expression = node
        while True:
            match current:
                case tree.MemberExpression():
                    suffixes.append(f".{current.name}")
                    current = current.value
                case tree.IndexExpression():
                    suffixes.append(f"[{', '.join(self.expression(item) for item in current.items)}]")
                    current = current.value
                case tree.Call():
                    suffixes.append(self.arguments(current.arguments, current.callee, current.span.end))
                    current = current.callee
                case _:
                    return self.expression(current, Precedence.POSTFIX) + "".join(reversed(suffixes))

    def _list(self, items: Sequence[tree.Expression]) -> str:
        return ", ".join(map(self.choice, items))

    def arguments(self, arguments: Sequence[tree.Argument], callee: tree.Expression, end: int) -> str:
        """Arguments of a call, with their parentheses; `end` is the offset after them."""
        if self.style.calls is not None and arguments:
            flat = Unparser()
            width = len(flat.expression(callee)) + sum(len(flat.argument(argument)) + 2 for argument in arguments)
            if self._margin + width > self.style.calls:
                return self._one_a_line(callee.span.end, arguments, Unparser.argument, end)
        return f"({', '.join(self.argument(argument) for argument in arguments)})"

    def _one_a_line(self, start: int, parts: Sequence[Any], write: Callable[[Unparser, Any], str], end: int) -> str:
        """Parts in parentheses, each on a separate line, with the comments between them.

        `start` and `end` are the offsets of the parentheses, and `write` gives the text of a part.
        """
        inner, margin = self._margin + 4, "\n" + " " * (self._margin + 4)
        pieces = ["("]
        for part in parts:
            key = (id(part), inner)
            if key not in self._known:  # cached: the text of a part is equal in all styles of the statement
                own = Unparser(inner, self.source, self.comments, _known=self._known)
                self._known[key] = own.fitted(
                    lambda unparser, part=part: f"{write(unparser, part)},"  # type: ignore[misc]  # a default argument
                )
            written = self._known[key]
            self.placed.extend(written.placed)
            before = (
                self._comments_between(start, part.span.start, margin, part is not parts[0])
                if self._is_read(part)
                else ""
            )
            pieces.append(f"{before}{margin}{written.text}")
            start = part.span.end
        after = self._comments_between(start, end, margin, True) if self._is_read(parts[-1]) else ""
        return "".join([*pieces, after, "\n", " " * self._margin, ")"])

    def _is_spread(self, node: tree.Tuple) -> bool:
        """Return whether the source has a line break after the `(` of a tuple."""
        if self.source is None or not self._is_read(node):
            return False
        return "\n" in self.source.text[node.span.start : node.items[0].span.start]

    def _is_read(self, node: tree.SyntaxNode) -> bool:
        """Return whether a node was parsed from the source."""
        return self.source is not None and node.span.source is self.source

    def argument(self, argument: tree.Argument) -> str:
        """Text of an argument: `value` or `name = value`."""
        value = self.choice(argument.value)
        return value if argument.name is None else f"{argument.name} = {value}"

    def type(self, type_: tree.TypeExpression) -> str:
        """Text of a tensor type: `f32[N, T <= 1024]`."""
        dims = []
        for dim in type_.dims:
            bound = "" if dim.bound is None else f" <= {self.expression(dim.bound, Precedence.SUM)}"
            dims.append(self.expression(dim.value, Precedence.SUM) + bound)
        return f"{type_.dtype}[{', '.join(dims)}]"

    def label(self, label: tree.Label) -> str:
        """Text of a label without the colon: `h[i].attn`."""
        parts = (f".{p.name}" if isinstance(p, tree.Field) else f"[{self.expression(p)}]" for p in label.parts)
        return label.name + "".join(parts)

    def step(self, step: tree.ChainStep) -> str:
        """Text of a chain step: `label: callee(arguments)`."""
        label = "" if step.label is None else f"{self.label(step.label)}: "
        arguments = self.arguments(step.arguments, step.callee, step.span.end) if step.called else ""
        return f"{label}{self.expression(step.callee)}{arguments}"

    def chain(self, first: tree.Expression | tree.ChainStep, steps: Sequence[tree.ChainStep]) -> str:
        """Text of a chain, `first -> step -> step`, with the line breaks of the source and the style."""
        self._depth += 1
        outer, inner = self._margin, self.indent + 4 * self._depth
        margin = "\n" + " " * inner
        pieces = [self.step(first) if isinstance(first, tree.ChainStep) else self.expression(first, Precedence.RANGE)]
        forced = breaks(steps, self.style.where) if self._depth <= self.style.chains else ()
        previous: tree.SyntaxNode = first
        for position, step in enumerate(steps):
            gap = self._gap(previous, step)
            if "\n" in gap or position in forced:
                pieces.append(self._comments_in_gap(previous, gap, margin) + margin)
                self._margin = inner
            else:
                pieces.append(" ")
            pieces.append(f"-> {self.step(step)}")
            previous = step
        self._depth -= 1
        self._margin = outer
        return "".join(pieces)

    def _gap(self, previous: tree.SyntaxNode, following: tree.SyntaxNode) -> str:
        """Source text between two nodes; empty if one of them was not parsed from the source."""
        if self.source is None or not (self._is_read(previous) and self._is_read(following)):
            return ""
        return self.source.text[previous.span.end : following.span.start]

    def _comments_in_gap(self, previous: tree.SyntaxNode, gap: str, margin: str) -> str:
        """Comments in `gap`, the source text after the node `previous`."""
        return self._comments_between(previous.span.end, previous.span.end + len(gap), margin, True) if gap else ""

    def _comments_between(self, start: int, end: int, margin: str, follows: bool) -> str:
        """Comments between two offsets, each on a separate line.

        If `follows` is true, the first comment may stay at the end of the line before it, as in the source.
        """
        comments = self.comments(start, end)
        self.placed.extend(comments)
        trailing = follows and bool(comments) and not comments[0].own_line
        return "".join(("  " if trailing and i == 0 else margin) + comment.text for i, comment in enumerate(comments))


def _precedence(node: tree.Expression | tree.SliceExpression | tree.Ellipsis) -> Precedence:
    match node:
        case tree.Conditional():
            return Precedence.CONDITIONAL
        case tree.Chain():
            return Precedence.CHAIN
        case tree.RangeExpression():
            return Precedence.RANGE
        case tree.BinaryExpression():
            return _BINARY[node.operator]
        case tree.UnaryExpression():
            return Precedence.NOT if node.operator == "not" else Precedence.SIGN
        case tree.Number() if math.copysign(1, node.value) < 0:
            return Precedence.SIGN
        case _:
            return Precedence.POSTFIX


def number_text(node: tree.Number) -> str:
    """Shortest exact text of a number; an integer keeps the underscores of its source."""
    unit = node.unit or ""
    if isinstance(node.value, int):
        written = node.span.text
        if "_" in written and written.replace("_", "") == f"{node.value}{unit}":
            return written
        return f"{node.value}{unit}"
    mantissa, exponent, power = repr(node.value).partition("e")
    return f"{mantissa}{exponent}{int(power)}{unit}" if exponent else f"{mantissa}{unit}"


def string_text(value: str) -> str:
    """Text of a string in double quotes, with escapes for characters that are not printable."""
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in value) + '"'
