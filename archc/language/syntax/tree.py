"""The syntax tree: what the parser makes of a text, before anything in it has a meaning.

Every node carries its span.  Nodes are frozen and know nothing of graphs; `elaborate` gives them one.
Long operator chains such as `a + b + c + …` are nested to the left, as deep as they are long: walk them
with a loop down `left`, not with recursion.
"""

from __future__ import annotations

from archc.diagnostics import Source, Span
from archc.types.frozen_dataclass import frozen_dataclass


@frozen_dataclass
class SyntaxNode:
    """What all nodes have: the place in the text, from the first character to the last."""

    span: Span


# Expressions ----------------------------------------------------------------------------------------------


@frozen_dataclass
class Number(SyntaxNode):
    """`3`, `0.5`, `1e-5`; integers are ints, everything else floats.  Only `devices` gives a unit (`50GB/s`)."""

    value: int | float
    unit: str | None = None


@frozen_dataclass
class String(SyntaxNode):
    """`"zeros"`, with its escapes replaced."""

    value: str


@frozen_dataclass
class Boolean(SyntaxNode):
    """`true` and `false`."""

    value: bool


@frozen_dataclass
class Name(SyntaxNode):
    """A bare name: an attribute, a size, a tensor, a layer, an operator, a dtype."""

    name: str


@frozen_dataclass
class MemberExpression(SyntaxNode):
    """`wte.weight`, `att.SelfAttention`, `h[3].attn`."""

    value: Expression
    name: str


@frozen_dataclass
class SliceExpression(SyntaxNode):
    """`start:stop:step` inside an index; each part may be missing."""

    start: Expression | None
    stop: Expression | None
    step: Expression | None


@frozen_dataclass
class Ellipsis(SyntaxNode):
    """`...` inside an index: as many whole axes as it takes."""


@frozen_dataclass
class IndexExpression(SyntaxNode):
    """`x[:, 0]`, `sizes[i]`."""

    value: Expression
    items: tuple[Expression | SliceExpression | Ellipsis, ...]


@frozen_dataclass
class Argument(SyntaxNode):
    """One argument of a call; `name` is None for one given by position."""

    name: str | None
    value: Expression | SliceExpression


@frozen_dataclass
class Call(SyntaxNode):
    """`arange(T)`, `int8(axis = 0)`, `cuda(1)`, `sparse(2:4)`: a callee with arguments, no data flowing in."""

    callee: Expression
    arguments: tuple[Argument, ...]


@frozen_dataclass
class UnaryExpression(SyntaxNode):
    """`-x`, `not x`."""

    operator: str
    operand: Expression


@frozen_dataclass
class BinaryExpression(SyntaxNode):
    """`+ - * / // % **`, the comparisons `== != < <= > >=`, and `and`, `or`."""

    operator: str
    left: Expression
    right: Expression


@frozen_dataclass
class Tuple(SyntaxNode):
    """`(q, k, v)`."""

    items: tuple[Expression, ...]


@frozen_dataclass
class List(SyntaxNode):
    """`[1, 2, 3]`."""

    items: tuple[Expression, ...]


@frozen_dataclass
class RangeExpression(SyntaxNode):
    """`0..depth`: the stop is exclusive."""

    start: Expression
    stop: Expression


@frozen_dataclass
class Field(SyntaxNode):
    """`.a` in the label `fc1.a`."""

    name: str


@frozen_dataclass
class Label(SyntaxNode):
    """`conv1:`, `h[i]:` or `fc1.a:` before a step."""

    name: str
    parts: tuple[Expression | Field, ...] = ()


@frozen_dataclass
class ChainStep(SyntaxNode):
    """One step of a chain: `label: callee(arguments)`.

    `called` tells `relu()` from `relu`; both mean the same.  An `Index` as callee is a layer used again: `h[0]`.
    """

    label: Label | None
    callee: Name | MemberExpression | IndexExpression
    arguments: tuple[Argument, ...]
    called: bool


@frozen_dataclass
class Conditional(SyntaxNode):
    """`2 if i == 0 else 1`, which stands within brackets only: elsewhere an `if` begins a statement."""

    value: Expression
    condition: Expression
    otherwise: Expression


@frozen_dataclass
class Chain(SyntaxNode):
    """`source -> step -> step`.

    A source that makes a tensor without receiving one may be labelled as a step is:
    `arange(T) -> wpe: embedding(context, width)` has the `Call` `arange(T)` as its source.
    """

    source: Expression
    steps: tuple[ChainStep, ...]


_Literal = Number | String | Boolean
Expression = (
    _Literal
    | Name
    | MemberExpression
    | IndexExpression
    | Call
    | UnaryExpression
    | BinaryExpression
    | Tuple
    | List
    | RangeExpression
    | Conditional
    | Chain
)


# Types ----------------------------------------------------------------------------------------------------


@frozen_dataclass
class Dim(SyntaxNode):
    """One size in a tensor type: an expression, perhaps bounded (`T <= context`)."""

    value: Expression
    bound: Expression | None = None


@frozen_dataclass
class TypeExpression(SyntaxNode):
    """`f32[N, 1, 28, 28]`."""

    dtype: str
    dims: tuple[Dim, ...]


# Statements -----------------------------------------------------------------------------------------------


@frozen_dataclass
class Input(SyntaxNode):
    """`input image: f32[N, 1, 28, 28]`; in a block the type may be left out, and `?` makes it optional."""

    name: Name
    type: TypeExpression | None
    optional: bool = False


@frozen_dataclass
class Output(SyntaxNode):
    """`output logits: f32[N, 10] = expression`, or just `output expression`."""

    name: Name | None
    type: TypeExpression | None
    value: Expression


@frozen_dataclass
class LayerStatement(SyntaxNode):
    """`layer wte = embedding(vocab, width)`: a layer with weights, to be used (and shared) below."""

    name: Label
    value: Call | Name | MemberExpression


@frozen_dataclass
class Let(SyntaxNode):
    """`let half = width // 2`: a name for a size or another attribute value."""

    name: Name
    value: Expression


@frozen_dataclass
class Assign(SyntaxNode):
    """`x = …` or `a, b = …`: names for tensors."""

    targets: tuple[Name, ...]
    value: Expression


@frozen_dataclass
class For(SyntaxNode):
    """`for i in 0..depth { … }`; the body shares the names of what surrounds it."""

    variable: Name
    iterable: Expression
    body: tuple[Statement, ...]


@frozen_dataclass
class ScanSequence(SyntaxNode):
    """`x_t in x` of a scan: a sequence, and the name of its piece in a step."""

    name: Name
    value: Expression


@frozen_dataclass
class ScanState(SyntaxNode):
    """`h = h0` of a scan: a state, and what it is at first."""

    name: Name
    value: Expression


@frozen_dataclass
class ScanStatement(SyntaxNode):
    """`scan x_t in x, h = h0 { … }`: recurrence over the second axis of sequences."""

    parts: tuple[ScanSequence | ScanState, ...]
    body: tuple[Statement, ...]

    @property
    def sequences(self) -> list[ScanSequence]:
        return [part for part in self.parts if isinstance(part, ScanSequence)]

    @property
    def states(self) -> list[ScanState]:
        return [part for part in self.parts if isinstance(part, ScanState)]


@frozen_dataclass
class Yield(SyntaxNode):
    """`yield y = …` in a scan: when it is over, `y` is the sequence of what it was in all steps."""

    name: Name
    value: Expression


@frozen_dataclass
class If(SyntaxNode):
    """`if … { … } else { … }`; `else if` is an `If` as the only statement of `otherwise`."""

    condition: Expression
    body: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@frozen_dataclass
class Assert(SyntaxNode):
    """`assert D % heads == 0, "heads must divide the width"`."""

    condition: Expression
    message: Expression | None


Statement = Input | Output | LayerStatement | Let | Assign | For | ScanStatement | Yield | If | Assert


# Top level ------------------------------------------------------------------------------------------------


@frozen_dataclass
class Attribute(SyntaxNode):
    """A parameter of a definition's head: `heads` (required) or `ff = 4`."""

    name: Name
    default: Expression | None


@frozen_dataclass
class Definition(SyntaxNode):
    """`model name(attributes) { … }` or `block …`; `doc` is the comment that stands right above it."""

    kind: str
    name: Name
    attributes: tuple[Attribute, ...]
    body: tuple[Statement, ...]
    doc: str = ""


@frozen_dataclass
class Derivation(SyntaxNode):
    """`model bert_large = bert(width = 1024)`: a model with other defaults for its attributes."""

    name: Name
    base: Name | MemberExpression
    arguments: tuple[Argument, ...]
    doc: str = ""


@frozen_dataclass
class PipelineStatement(SyntaxNode):
    """`pipeline edge = lowrank(energy = 0.95) -> quant(int8)`: the passes, in order."""

    name: Name
    passes: tuple[ChainStep, ...]


@frozen_dataclass
class Import(SyntaxNode):
    """`import "std/attention.arch" as att`; without `as`, the file's own name serves."""

    path: String
    alias: Name | None


@frozen_dataclass
class LinkStatement(SyntaxNode):
    """`link a <-> b = 50GB/s`."""

    left: Name
    right: Name
    value: Expression


@frozen_dataclass
class DevicesStatement(SyntaxNode):
    """`devices box { a = cuda(0)  b = cuda(1)  link a <-> b = 50GB/s }`."""

    name: Name
    items: tuple[Assign | LinkStatement, ...]


Item = Definition | Derivation | PipelineStatement | Import | DevicesStatement


@frozen_dataclass
class Comment(SyntaxNode):
    """A comment, `#` to the end of the line, as written; `own_line` where nothing stands before it."""

    text: str
    own_line: bool


@frozen_dataclass
class File(SyntaxNode):
    """A whole text: its items in order, and its comments beside them for the formatter."""

    source: Source
    items: tuple[Item, ...]
    comments: tuple[Comment, ...]
