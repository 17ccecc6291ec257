"""What an operator is given to spell itself in PyTorch and in ONNX.

Spelling needs neither library: PyTorch is spelled as text, ONNX through a builder that the emitter passes in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, overload

from archc.types.dims import SymbolicDim
from archc.types.storage import Storage
from archc.types.tensor_type import DType, TensorType


class Infix(str):
    """PyTorch text that needs parentheses where something binds tighter: `a + b`, `-a`, `a == b`.

    `binding` tells how tight its own operator binds; 0 where it is parted from any other operator by parentheses.
    """

    __slots__ = ()
    binding: ClassVar[int] = 0


class SumText(Infix):
    """Text whose loosest operator is `+` or `-`."""

    __slots__ = ()
    binding = 2


class ProductText(Infix):
    """Text whose loosest operator is `*`, `/` or `@`."""

    __slots__ = ()
    binding = 3


_KINDS: dict[str, type[Infix]] = {"+": SumText, "-": SumText, "*": ProductText, "/": ProductText, "@": ProductText}
_PLAIN = re.compile(r"-?\d[\w.]*|[A-Za-z_][\w.]*")
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


@dataclass(frozen=True, slots=True)
class TorchSpelling:
    """The surroundings of one operator in PyTorch.

    Attributes:
        operands: an expression for each data operand; types: their types; results: the types of the results.
        weights: an expression for each parameter that the operator has, by name, in the signature's order.
        sizes: the extents of the signature's indices.
        size_text: how a symbolic size is written here (`T`, `x.shape[1]`).
        storages: how each parameter is stored.
        device: an expression for the device on which new tensors (`arange`) belong, or None for PyTorch's default.
        training: an expression for whether the model trains, or None where the inference meaning is wanted.
    """

    operands: Sequence[str]
    weights: Mapping[str, str]
    types: Sequence[TensorType]
    results: Sequence[TensorType]
    sizes: Mapping[str, Any]
    size_text: Callable[[SymbolicDim], str]
    storages: Mapping[str, Storage]
    device: str | None = None
    training: str | None = None

    def size(self, dim: int | SymbolicDim) -> str:
        """A size as Python text."""
        return str(dim) if isinstance(dim, int) else self.size_text(dim)


class Quantized(NamedTuple):
    """The names of the integers behind a float value, and of what they are decoded with: scale · (q - zero_point).

    `static` says that scale and zero point are weights; else they are computed from the data when the model runs.
    """

    q: str
    scale: str
    zero_point: str
    static: bool


class OnnxSpelling(Protocol):
    """The surroundings of one operator in ONNX, and the graph that it adds its nodes to.

    Names are made when they are asked for: an operator that takes a quantized operand's integers, and not
    `operands[0]`, leaves no decoding behind; the same holds of weights.

    Attributes:
        operands: the names of the data operands; types: their types; results: the types of the results.
        weights: the name of each parameter's (decoded) value, by name, in the signature's order.
        sizes: the extents of the signature's indices; storages: how each parameter is stored.
    """

    operands: Sequence[str]
    weights: Mapping[str, str]
    types: Sequence[TensorType]
    results: Sequence[TensorType]

    @property
    def sizes(self) -> Mapping[str, Any]: ...
    @property
    def storages(self) -> Mapping[str, Storage]: ...

    @overload
    def add(self, op_type: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any) -> tuple[str, ...]: ...
    @overload
    def add(self, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> str: ...
    def add(
        self, op_type: str, *inputs: str, outputs: int | None = None, domain: str = "", **attributes: Any
    ) -> str | tuple[str, ...]:
        """Add a node; an empty input name is an absent optional one.

        Attributes that are None are left out.  Returns the result's name, or a tuple of them where `outputs` tells
        how many there are.
        """

    def constant(self, value: Any, dtype: DType | None = None) -> str:
        """The name of a constant: a number or (nested) list; integers are i64, numbers f32, unless `dtype` is given."""

    def size(self, dim: int | SymbolicDim) -> str:
        """The name of an i64 scalar that holds a size, computed from the inputs' shapes where it is symbolic."""

    def shape(self, dims: Sequence[int | SymbolicDim]) -> str:
        """The name of an i64 vector of sizes, as `Expand` takes it."""

    def reshape(self, value: str, dims: Sequence[int | SymbolicDim]) -> str:
        """Add a `Reshape` to a shape whose symbolic sizes may be 0 when the model runs."""

    def quantized(self, position: int) -> Quantized | None:
        """What stands behind a data operand that `dequantize` made with a single scale; None for any other operand."""

    def stored(self, name: str) -> tuple[str, ...]:
        """The names of a parameter's stored tensors, in the order of `Storage.tensors`: integers, then their scale."""

    def oriented(self, name: str) -> tuple[str, bool]:
        """The name of a weight's (decoded) value as it is kept, and whether the parameter is the transpose of that.

        For operators that can take a matrix either way; `weights[name]` is always the parameter itself.
        """

    def dequantized(self, name: str) -> str:
        """The name of a parameter's value as `DequantizeLinear` decodes it, for products of two quantized operands.

        Elsewhere it costs more than `weights[name]`; see `archc.codegen.onnx.decode`.
        """

    def integer_bias(self, operand: Quantized) -> str | None:
        """The name of the parameter `bias` as integer kernels add it to the sums of products of `weight` and `operand`.

        It is rounded to multiples of the product of their scales, by half of one at most.  Empty where the operator
        has no bias, None if int32 cannot hold it; `operand` must be static, and `weight` stored as int8.
        """


@dataclass(frozen=True, slots=True)
class TorchHelper:
    """A function that PyTorch has not, and that an operator's text calls: it stands in an emitted module once.

    Attributes:
        name: begins with an underscore, as no other name in the module does.
        imports: what it takes from modules of torch, as `torch.nn.utils.rnn.pad_sequence`; `torch`, `nn`, `Tensor`,
            `Any`, `Callable` and `Sequence` are there.
        source: its text, as the formatter leaves it.
    """

    name: str
    imports: tuple[str, ...]
    source: str


def call(function: str, *positional: Any, **named: Any) -> str:
    """The text of a call: strings given by position are expressions and stand as they are; the rest are literals.

    None among the positional arguments is left out together with all that follow it, so what follows must be None too.
    """
    texts = []
    for argument in positional:
        if argument is None:
            break
        texts.append(argument if isinstance(argument, str) else literal(argument))
    texts += [f"{name}={literal(value)}" for name, value in named.items()]
    return f"{function}({', '.join(texts)})"


def method(receiver: str, name: str, *positional: Any, **named: Any) -> str:
    """The text of a method call on an expression."""
    return call(f"{atom(receiver)}.{name}", *positional, **named)


def infix(left: str, operator: str, right: str) -> Infix:
    """The text of a binary operator, with parentheses where an operand needs them.

    `a * b + c - d` needs none; `a + (b + c)` keeps them, because rounding depends on the order.
    """
    kind = _KINDS.get(operator, Infix)
    # Nothing else is trusted to be known by heart: powers, comparisons of comparisons, `&` and `|`.
    least = kind.binding or (1 if operator in _COMPARISONS else 9)
    left_text, right_text = (
        text if getattr(text, "binding", 9) >= tight else atom(text)
        for text, tight in ((left, least), (right, least + 1))
    )
    # The formatter of Python code has no blanks around a power of plain names and numbers.
    blank = "" if operator == "**" and all(map(_PLAIN.fullmatch, (left_text, right_text))) else " "
    return kind(f"{left_text}{blank}{operator}{blank}{right_text}")


def atom(expression: str) -> str:
    """An expression that anything may be hung on: in parentheses where it is an operator's."""
    return f"({expression})" if isinstance(expression, Infix) else expression


def as_parameters(weights: Mapping[str, str], transposed: Collection[str]) -> dict[str, str]:
    """Expressions of a layer's parameters, from those of its weights; `.T` marks transposed weights."""
    return {name: f"{atom(text)}.T" if name in transposed else text for name, text in weights.items()}


class Verbatim(str):
    """Text that stands in a keyword argument as it is, such as the name of a tensor."""

    __slots__ = ()


def literal(value: Any) -> str:
    """A Python literal.  Attribute values reach generated source through here and in no other way.

    Raises:
        TypeError: the value has no literal form.
    """
    if isinstance(value, Verbatim):
        return str(value)
    if isinstance(value, DType):
        return f"torch.{value.torch}"
    if value is None or isinstance(value, (bool, int)):
        return repr(value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return f'float("{value}")'
        return repr(value)
    if isinstance(value, str):
        import json

        # Double quotes, as the formatter of Python code has them; JSON's escapes are Python's too.
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, tuple):
        items = ", ".join(literal(item) for item in value)
        return f"({items},)" if len(value) == 1 else f"({items})"
    if isinstance(value, list):
        return f"[{', '.join(literal(item) for item in value)}]"
    raise TypeError(f"{value!r} has no literal form")


@dataclass(frozen=True, slots=True)
class TorchModule:
    """A `torch.nn` module's constructor, argument by argument.

    It is kept apart from its text because the arguments that differ between the instances of a block become
    arguments of the block's class.

    Attributes:
        function: `nn.Conv2d`.
        positional: the arguments by position, with the names that PyTorch gives them.
        named: the arguments by name, each with PyTorch's default; an argument equal to it is left out.
        use: the expression of a call, from that of the module and those of the operands; None where they are all
            that it is called with.
        unpack: how several results are nested: `{}, ({}, {})`; empty where they are a plain tuple.
    """

    function: str
    positional: Mapping[str, Any]
    named: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    use: Callable[[str, Sequence[str]], str] | None = None
    unpack: str = ""

    def __str__(self) -> str:
        named = {name: value for name, (value, default) in self.named.items() if value != default}
        return call(self.function, *(Verbatim(literal(value)) for value in self.positional.values()), **named)
