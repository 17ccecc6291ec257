"""Syntax tree: the parser's result for a text, before elaboration.

Every node has a span.  Nodes are frozen, and independent of graphs: elaboration creates a graph from them.
A sum such as `a + b + c + …` nests to the left, one level for each operator.  Traverse it with a loop along `left`, not
with recursion.
"""

from __future__ import annotations

from archc.diagnostics import Source, Span
from archc.frozen_dataclass import frozen_dataclass


@frozen_dataclass
class SyntaxNode:
    """Base of all nodes: a span of the text, from the first character to the last."""

    span: Span


# Expressions ----------------------------------------------------------------------------------------------


@frozen_dataclass
class Number(SyntaxNode):
    """`3`, `0.5`, `1e-5`: an int if written as an integer, otherwise a float.

    `unit` is the suffix of a quantity such as `50GB/s`, which `devices` and pass options accept.
    """

    value: int | float
    unit: str | None = None


@frozen_dataclass
class String(SyntaxNode):
    """`"zeros"`; `value` has the escapes decoded."""

    value: str


@frozen_dataclass
class Boolean(SyntaxNode):
    """`true` and `false`."""

    value: bool


@frozen_dataclass
class Name(SyntaxNode):
    """Name without dots or indices: an attribute, size, tensor, layer, operator or dtype."""

    name: str


@frozen_dataclass
class MemberExpression(SyntaxNode):
    """Member access: `wte.weight`, `att.SelfAttention`, `h[3].attn`."""

    value: Expression
    name: str


@frozen_dataclass
class SliceExpression(SyntaxNode):
    """`start:stop:step` inside an index; each part is optional."""

    start: Expression | None
    stop: Expression | None
    step: Expression | None


@frozen_dataclass
class Ellipsis(SyntaxNode):
    """`...` inside an index: a full slice for each axis that has no other item."""


@frozen_dataclass
class IndexExpression(SyntaxNode):
    """Index into a tensor or a list: `x[:, 0]`, `sizes[i]`."""

    value: Expression
    items: tuple[Expression | SliceExpression | Ellipsis, ...]


@frozen_dataclass
class Argument(SyntaxNode):
    """Argument of a call; `name` is None for a positional argument."""

    name: str | None
    value: Expression | SliceExpression


@frozen_dataclass
class Call(SyntaxNode):
    """Call without operands: `arange(T)`, `int8(axis = 0)`, `cuda(1)`, `sparse(2:4)`."""

    callee: Expression
    arguments: tuple[Argument, ...]


@frozen_dataclass
class UnaryExpression(SyntaxNode):
    """Prefix operator with its operand: `-x`, `not x`."""

    operator: str
    operand: Expression


@frozen_dataclass
class BinaryExpression(SyntaxNode):
    """Binary operator with its operands: arithmetic, comparison, `and`, `or`.

    The operators are `+ - * / // % **`, `== != < <= > >=`, `and` and `or`.
    """

    operator: str
    left: Expression
    right: Expression


@frozen_dataclass
class Tuple(SyntaxNode):
    """Tuple of expressions: `(q, k, v)`."""

    items: tuple[Expression, ...]


@frozen_dataclass
class List(SyntaxNode):
    """List of expressions: `[1, 2, 3]`."""

    items: tuple[Expression, ...]


@frozen_dataclass
class RangeExpression(SyntaxNode):
    """Range of integers, with an exclusive end: `0..depth`."""

    start: Expression
    stop: Expression


@frozen_dataclass
class Field(SyntaxNode):
    """Named part of a label: `.a` in `fc1.a`."""

    name: str


@frozen_dataclass
class Label(SyntaxNode):
    """Label of a chain step: `conv1:`, `h[i]:` or `fc1.a:`.

    `parts` are the indices and fields after the first name, in order.
    """

    name: str
    parts: tuple[Expression | Field, ...] = ()


@frozen_dataclass
class ChainStep(SyntaxNode):
    """Step of a chain, or pass of a pipeline: `label: callee(arguments)`.

    `called` is true for `relu()` and false for `relu`; both have the same meaning.  A callee that is an
    `IndexExpression`, such as `h[0]`, is a declared layer.
    """

    label: Label | None
    callee: Name | MemberExpression | IndexExpression
    arguments: tuple[Argument, ...]
    called: bool


@frozen_dataclass
class Conditional(SyntaxNode):
    """Conditional expression inside brackets: `(2 if i == 0 else 1)`.

    Outside brackets, an `if` begins a statement.
    """

    value: Expression
    condition: Expression
    otherwise: Expression


@frozen_dataclass
class Chain(SyntaxNode):
    """Chain of operators applied to a source: `source -> step -> step`.

    The source may be a call without operands: `arange(T) -> wpe: embedding(context, width)`.
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
    """Dimension of a tensor type: an expression with an optional upper bound (`T <= context`)."""

    value: Expression
    bound: Expression | None = None


@frozen_dataclass
class TypeExpression(SyntaxNode):
    """Tensor type: `f32[N, 1, 28, 28]`."""

    dtype: str
    dims: tuple[Dim, ...]


# Statements -----------------------------------------------------------------------------------------------


@frozen_dataclass
class Input(SyntaxNode):
    """Input declaration: `input image: f32[N, 1, 28, 28]`.

    The type is optional in a block.  A trailing `?` makes the input itself optional.
    """

    name: Name
    type: TypeExpression | None
    optional: bool = False


@frozen_dataclass
class Output(SyntaxNode):
    """Output statement: `output logits: f32[N, 10] = expression`, or `output expression`."""

    name: Name | None
    type: TypeExpression | None
    value: Expression


@frozen_dataclass
class LayerStatement(SyntaxNode):
    """Layer declaration: `layer wte = embedding(vocab, width)`; each use shares the weights."""

    name: Label
    value: Call | Name | MemberExpression


@frozen_dataclass
class Let(SyntaxNode):
    """Name for a size or another attribute value: `let half = width // 2`."""

    name: Name
    value: Expression


@frozen_dataclass
class Assign(SyntaxNode):
    """Names for tensors: `x = …` or `a, b = …`."""

    targets: tuple[Name, ...]
    value: Expression


@frozen_dataclass
class For(SyntaxNode):
    """Loop that elaboration unrolls: `for i in 0..depth { … }`."""

    variable: Name
    iterable: Expression
    body: tuple[Statement, ...]


@frozen_dataclass
class ScanSequence(SyntaxNode):
    """Sequence of a scan, `x_t in x`: the tensor, and the name of its element in an iteration."""

    name: Name
    value: Expression


@frozen_dataclass
class ScanState(SyntaxNode):
    """State of a scan, `h = h0`: its name, and its initial value."""

    name: Name
    value: Expression


@frozen_dataclass
class ScanStatement(SyntaxNode):
    """Recurrence over axis 1 of sequences: `scan x_t in x, h = h0 { … }`."""

    parts: tuple[ScanSequence | ScanState, ...]
    body: tuple[Statement, ...]

    @property
    def sequences(self) -> list[ScanSequence]:
        """Sequences among the parts, in order."""
        return [part for part in self.parts if isinstance(part, ScanSequence)]

    @property
    def states(self) -> list[ScanState]:
        """States among the parts, in order."""
        return [part for part in self.parts if isinstance(part, ScanState)]


@frozen_dataclass
class Yield(SyntaxNode):
    """Sequence result of a scan, `yield y = …`: after the scan, `y` holds the values of all iterations."""

    name: Name
    value: Expression


@frozen_dataclass
class If(SyntaxNode):
    """Conditional that elaboration evaluates: `if … { … } else { … }`.

    An `else if` is an `If` as the only statement of `otherwise`.
    """

    condition: Expression
    body: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@frozen_dataclass
class Assert(SyntaxNode):
    """Check of attributes: `assert D % heads == 0, "heads must divide the width"`."""

    condition: Expression
    message: Expression | None


Statement = Input | Output | LayerStatement | Let | Assign | For | ScanStatement | Yield | If | Assert


# Top level ------------------------------------------------------------------------------------------------


@frozen_dataclass
class Attribute(SyntaxNode):
    """Attribute of a definition: `heads` (required) or `ff = 4` (with a default)."""

    name: Name
    default: Expression | None


@frozen_dataclass
class Definition(SyntaxNode):
    """Definition of a model or a block: `model name(attributes) { … }`.

    `kind` is `model` or `block`.  `doc` is the text of the comment directly above.
    """

    kind: str
    name: Name
    attributes: tuple[Attribute, ...]
    body: tuple[Statement, ...]
    doc: str = ""


@frozen_dataclass
class Derivation(SyntaxNode):
    """Model derived from a base with new attribute defaults: `model bert_large = bert(width = 1024)`."""

    name: Name
    base: Name | MemberExpression
    arguments: tuple[Argument, ...]
    doc: str = ""


@frozen_dataclass
class PipelineStatement(SyntaxNode):
    """Named sequence of passes: `pipeline edge = lowrank(energy = 0.95) -> quant(int8)`."""

    name: Name
    passes: tuple[ChainStep, ...]


@frozen_dataclass
class Import(SyntaxNode):
    """Import of a file: `import "std/attention.arch" as att`; by default the alias is the file's name."""

    path: String
    alias: Name | None


@frozen_dataclass
class LinkStatement(SyntaxNode):
    """Bandwidth between two devices: `link a <-> b = 50GB/s`."""

    left: Name
    right: Name
    value: Expression


@frozen_dataclass
class DevicesStatement(SyntaxNode):
    """Devices and their links: `devices box { a = cuda(0)  b = cuda(1)  link a <-> b = 50GB/s }`."""

    name: Name
    items: tuple[Assign | LinkStatement, ...]


Item = Definition | Derivation | PipelineStatement | Import | DevicesStatement


@frozen_dataclass
class Comment(SyntaxNode):
    """Comment from `#` to the end of the line; `own_line` is true if only white space precedes it."""

    text: str
    own_line: bool


@frozen_dataclass
class File(SyntaxNode):
    """Text of a file: its items in order, and its comments, which the formatter places."""

    source: Source
    items: tuple[Item, ...]
    comments: tuple[Comment, ...]
