"""Expressions to text: canonical spacing, and parentheses only where precedence demands them.

Operands to the left are walked with a loop: `a + b + c + …` is nested as deeply as it is long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any

from archc.diagnostics import Source
from archc.language.syntax import tree

WIDTH = 120
"""Columns; what is wider is broken."""

COMFORTABLE = 100
"""Columns; a longer chain of several groups is broken although it would fit."""


class Break(Enum):
    """Before which steps a chain is broken."""

    GROUPS = "before each labelled step but norms: a convolution stays with what follows it"
    LABELS = "before each labelled step"
    ALL = "before every step"


@dataclass(frozen=True)
class Style:
    """How a statement is spread over lines.

    Attributes:
        chains: down to which nesting chains are broken, and `where`: before which steps.
        sums: whether the statement's sum is broken.
        branches: whether tuples of chains have one a line.
        calls: the columns beyond which a call has one argument a line; None for never.
    """

    chains: int = 0
    where: Break = Break.GROUPS
    sums: bool = False
    branches: bool = False
    calls: int | None = None


_LAST = Style(9, Break.ALL, sums=True, branches=True, calls=WIDTH)

STYLES = (
    Style(),
    Style(sums=True),
    Style(branches=True),
    *(Style(depth, where, branches=True) for depth in (1, 2) for where in Break),
    Style(9, Break.ALL, branches=True),
    Style(9, Break.ALL, sums=True, branches=True),
    *(Style(1, Break.LABELS, branches=True, calls=columns) for columns in (WIDTH, COMFORTABLE // 2)),
    _LAST,
    Style(9, Break.ALL, sums=True, branches=True, calls=0),
    _LAST,
)
"""The styles for what is too wide: the first that fits is taken, and the last one where none does."""


def breaks(steps: Sequence[tree.ChainStep], wanted: Break) -> set[int]:
    """Before which steps, by position, a chain is broken; where none is of the wanted sort, before more of them."""
    labelled = {position for position, step in enumerate(steps) if step.label is not None}
    if wanted is Break.GROUPS:
        groups = {position for position in labelled if not _is_norm(steps[position])}
        return groups or labelled or set(range(len(steps)))
    if wanted is Break.LABELS and labelled:
        return labelled
    return set(range(len(steps)))


def has_groups(statement: tree.SyntaxNode) -> bool:
    """Whether a statement is a chain of at least two groups, those of the branches that it begins with among them."""
    if not isinstance(statement, tree.Assign | tree.Output) or not isinstance(statement.value, tree.Chain):
        return False
    source = statement.value.source
    branches = source.items if isinstance(source, tree.Tuple) else ()
    chains = [statement.value, *(branch for branch in branches if isinstance(branch, tree.Chain))]
    return sum(step.label is not None and not _is_norm(step) for chain in chains for step in chain.steps) > 1


def is_branching(node: tree.SyntaxNode) -> bool:
    """Whether an expression is a tuple with chains among its items: `(x -> a, x -> b) -> concat(1)`."""
    return isinstance(node, tree.Tuple) and any(isinstance(item, tree.Chain) for item in node.items)


def _is_norm(step: tree.ChainStep) -> bool:
    return isinstance(step.callee, tree.Name) and step.callee.name.endswith("_norm")


class Precedence(IntEnum):
    """How tightly an expression holds together, from the loosest."""

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
    """An expression on one line."""
    return Unparser().expression(expression)


@dataclass
class Unparser:
    """Writes the expressions of one statement.

    By default all stand on one line.  Given a `source`, line breaks that its author made before a `->`, and behind
    the `(` of a tuple of chains, are kept, and `comments(start, end)` tells the comments between two offsets, to be
    put where such a break is.  What is broken anew is the `style`'s to say; what stands on a line of its own within
    brackets has a style of its own.
    """

    indent: int = 0
    source: Source | None = None
    comments: Callable[[int, int], Sequence[tree.Comment]] = lambda start, end: ()
    style: Style = STYLES[0]
    placed: list[tree.Comment] = field(default_factory=list)
    _depth: int = 0
    _in_sum: bool = False
    _margin: int = field(init=False)  # of the line that is being written
    _known: dict[tuple[int, int], Unparser] = field(default_factory=dict)
    text: str = ""

    def __post_init__(self) -> None:
        self._margin = self.indent

    def fitted(self, write: Callable[[Unparser], str], comfortable: int = WIDTH) -> Unparser:
        """The unparser of the first style in which what `write` gives fits, with its text.

        Args:
            comfortable: how wide it may be where nothing is broken.
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
        """The text of an expression, in parentheses if it holds together less tightly than `least`."""
        precedence = _precedence(expression)
        text = self._bare(expression)
        return f"({text})" if precedence < least else text

    def choice(self, expression: tree.Expression | tree.SliceExpression) -> str:
        """The text of an expression that stands within brackets, where a conditional needs no parentheses."""
        return self.expression(expression, Precedence.CONDITIONAL)

    def _bare(self, node: tree.Expression | tree.SliceExpression | tree.Ellipsis) -> str:
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
            # Power groups to the right, comparisons do not group at all; the others group to the left.
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
        """Arguments of a call, with their parentheses; `end` is the offset behind them."""
        if self.style.calls is not None and arguments:
            flat = Unparser()
            width = len(flat.expression(callee)) + sum(len(flat.argument(argument)) + 2 for argument in arguments)
            if self._margin + width > self.style.calls:
                return self._one_a_line(callee.span.end, arguments, Unparser.argument, end)
        return f"({', '.join(self.argument(argument) for argument in arguments)})"

    def _one_a_line(self, start: int, parts: Sequence[Any], write: Callable[[Unparser, Any], str], end: int) -> str:
        """What stands within parentheses, each part on a line of its own, with the comments between them."""
        inner, margin = self._margin + 4, "\n" + " " * (self._margin + 4)
        pieces = ["("]
        for part in parts:
            key = (id(part), inner)
            if key not in self._known:  # the styles of what is around it differ, and it does not
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
        """Whether a tuple's author put its items on lines of their own."""
        if self.source is None or not self._is_read(node):
            return False
        return "\n" in self.source.text[node.span.start : node.items[0].span.start]

    def _is_read(self, node: tree.SyntaxNode) -> bool:
        """Whether a node was read from the source."""
        return self.source is not None and node.span.source is self.source

    def argument(self, argument: tree.Argument) -> str:
        value = self.choice(argument.value)
        return value if argument.name is None else f"{argument.name} = {value}"

    def type(self, type_: tree.TypeExpression) -> str:
        dims = []
        for dim in type_.dims:
            bound = "" if dim.bound is None else f" <= {self.expression(dim.bound, Precedence.SUM)}"
            dims.append(self.expression(dim.value, Precedence.SUM) + bound)
        return f"{type_.dtype}[{', '.join(dims)}]"

    def label(self, label: tree.Label) -> str:
        parts = (f".{p.name}" if isinstance(p, tree.Field) else f"[{self.expression(p)}]" for p in label.parts)
        return label.name + "".join(parts)

    def step(self, step: tree.ChainStep) -> str:
        label = "" if step.label is None else f"{self.label(step.label)}: "
        arguments = self.arguments(step.arguments, step.callee, step.span.end) if step.called else ""
        return f"{label}{self.expression(step.callee)}{arguments}"

    def chain(self, first: tree.Expression | tree.ChainStep, steps: Sequence[tree.ChainStep]) -> str:
        """`first -> step -> step`, over several lines where the author or the width wants it."""
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
        """What the author wrote between two steps; nothing, if the tree was not read from a text."""
        if self.source is None or not (self._is_read(previous) and self._is_read(following)):
            return ""
        return self.source.text[previous.span.end : following.span.start]

    def _comments_in_gap(self, previous: tree.SyntaxNode, gap: str, margin: str) -> str:
        return self._comments_between(previous.span.end, previous.span.end + len(gap), margin, True) if gap else ""

    def _comments_between(self, start: int, end: int, margin: str, follows: bool) -> str:
        """The comments between two offsets, each on a line; `follows` if the first may stand behind what precedes."""
        comments = self.comments(start, end)
        self.placed.extend(comments)
        # Only the first can stand behind what precedes it; after a comment, all the rest of a line is comment.
        behind = follows and bool(comments) and not comments[0].own_line
        return "".join(("  " if behind and i == 0 else margin) + comment.text for i, comment in enumerate(comments))


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
