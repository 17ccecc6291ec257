"""Interfaces with which an operator spells itself in PyTorch and in ONNX.

Neither library is imported: the PyTorch spelling is text, and ONNX nodes go through a builder of the emitter.
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
    """PyTorch text that needs parentheses as the operand of a tighter operator: `a + b`, `-a`, `a == b`.

    `binding` is the precedence of its own operator; 0 if it needs parentheses next to any operator.
    """

    __slots__ = ()
    binding: ClassVar[int] = 0


class SumText(Infix):
    """Text whose operator of lowest precedence is `+` or `-`."""

    __slots__ = ()
    binding = 2


class ProductText(Infix):
    """Text whose operator of lowest precedence is `*`, `/` or `@`."""

    __slots__ = ()
    binding = 3


_KINDS: dict[str, type[Infix]] = {"+": SumText, "-": SumText, "*": ProductText, "/": ProductText, "@": ProductText}
_PLAIN = re.compile(r"-?\d[\w.]*|[A-Za-z_][\w.]*")
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


@dataclass(frozen=True, slots=True)
class TorchSpelling:
    """Context of one operator in PyTorch.

    Attributes:
        operands: an expression for each data operand.
        weights: an expression for each parameter of the operator, by name, in the order of the signature.
        types: types of the operands.
        results: types of the results.
        sizes: extents of the signature's indices.
        size_text: text of a symbolic size at this place (`T`, `x.shape[1]`).
        storages: storage of each parameter.
        device: an expression for the device of new tensors (`arange`); None for PyTorch's default.
        training: an expression that is true in training; None for inference semantics.
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


class QuantizedValue(NamedTuple):
    """Quantized form of a float value, scale · (q - zero_point), as names of ONNX values.

    `static` is True if scale and zero point are weights, and False if they are computed from the data at run time.
    """

    q: str
    scale: str
    zero_point: str
    static: bool


class OnnxSpelling(Protocol):
    """Context of one operator in ONNX, and the graph that it adds nodes to.

    Names are made on demand: an operator that uses the integers of a quantized operand, and not `operands[0]`, adds no
    node that decodes it.  The same holds for weights.

    Attributes:
        operands: names of the data operands.
        weights: name of each parameter's (decoded) value, by name, in the order of the signature.
        types: types of the operands.
        results: types of the results.
        sizes: extents of the signature's indices.
        storages: storage of each parameter.
    """

    operands: Sequence[str]
    weights: Mapping[str, str]
    types: Sequence[TensorType]
    results: Sequence[TensorType]

    @property
    def sizes(self) -> Mapping[str, Any]:
        """Extents of the signature's indices."""

    @property
    def storages(self) -> Mapping[str, Storage]:
        """Storage of each parameter."""

    @overload
    def add(self, op_type: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any) -> tuple[str, ...]: ...
    @overload
    def add(self, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> str: ...
    def add(
        self, op_type: str, *inputs: str, outputs: int | None = None, domain: str = "", **attributes: Any
    ) -> str | tuple[str, ...]:
        """Add a node, and return the name of its result, or a tuple of `outputs` names.

        An empty input name is an absent optional input.  Attributes that are None are omitted.
        """

    def constant(self, value: Any, dtype: DType | None = None) -> str:
        """Name of a constant: a number or a (nested) list.

        Integers are i64 and other numbers f32, unless `dtype` is given.
        """

    def size(self, dim: int | SymbolicDim) -> str:
        """Name of an i64 scalar with a size, computed from the inputs' shapes if it is symbolic."""

    def shape(self, dims: Sequence[int | SymbolicDim]) -> str:
        """Name of an i64 vector of sizes, as `Expand` takes it."""

    def reshape(self, value: str, dims: Sequence[int | SymbolicDim]) -> str:
        """Add a `Reshape` to a shape whose symbolic sizes may be 0 at run time."""

    def quantized(self, position: int) -> QuantizedValue | None:
        """Quantized form of a data operand that `dequantize` made with a single scale.

        None for any other operand.
        """

    def stored(self, name: str) -> tuple[str, ...]:
        """Names of a parameter's stored tensors, in the order of `Storage.tensors`: integers, scale."""

    def oriented(self, name: str) -> tuple[str, bool]:
        """Name of a weight's (decoded) value as it is stored, and whether the parameter is its transpose.

        For operators that take a matrix in either orientation; `weights[name]` is always the parameter itself.
        """

    def dequantized(self, name: str) -> str:
        """Name of a parameter's value decoded by `DequantizeLinear`, for products of two quantized operands.

        Other uses are slower than with `weights[name]`; see `archc.codegen.onnx.decode`.
        """

    def integer_bias(self, operand: QuantizedValue) -> str | None:
        """Name of the parameter `bias` as int32, which integer kernels add to the products of the integers.

        It is rounded to multiples of the product of their scales, by at most half of one.  `operand` must be static,
        and `weight` stored as int8.  The name is empty if the operator has no bias, and None if int32 cannot represent
        it.
        """


@dataclass(frozen=True, slots=True)
class TorchHelper:
    """A function that PyTorch lacks and that an operator's text calls; an emitted module defines it once.

    Attributes:
        name: begins with an underscore, unlike all other names in the module.
        imports: names that it needs from modules of torch, such as `torch.nn.utils.rnn.pad_sequence`; `torch`, `nn`,
            `Tensor`, `Any`, `Callable` and `Sequence` are always available.
        source: its source, formatted.
    """

    name: str
    imports: tuple[str, ...]
    source: str


def call(function: str, *positional: Any, **named: Any) -> str:
    """Text of a call; positional strings are expressions, all other arguments literals.

    A positional None is omitted together with all positional arguments after it, which must be None as well.
    """
    texts = []
    for argument in positional:
        if argument is None:
            break
        texts.append(argument if isinstance(argument, str) else literal(argument))
    texts += [f"{name}={literal(value)}" for name, value in named.items()]
    return f"{function}({', '.join(texts)})"


def method(receiver: str, name: str, *positional: Any, **named: Any) -> str:
    """Text of a method call on an expression."""
    return call(f"{atom(receiver)}.{name}", *positional, **named)


def infix(left: str, operator: str, right: str) -> Infix:
    """Text of a binary operator, with parentheses around operands that need them.

    `a * b + c - d` needs none; `a + (b + c)` keeps them, because rounding depends on the order.
    """
    kind = _KINDS.get(operator, Infix)
    # Readers may not know the precedence of powers, chained comparisons, `&` and `|`: they keep parentheses.
    least = kind.binding or (1 if operator in _COMPARISONS else 9)
    left_text, right_text = (
        text if getattr(text, "binding", 9) >= tight else atom(text)
        for text, tight in ((left, least), (right, least + 1))
    )
    # The formatter has no blanks around a power of plain names and numbers.
    blank = "" if operator == "**" and all(map(_PLAIN.fullmatch, (left_text, right_text))) else " "
    return kind(f"{left_text}{blank}{operator}{blank}{right_text}")


def atom(expression: str) -> str:
    """An expression as the operand of any operator or attribute access: in parentheses if it is `Infix`."""
    return f"({expression})" if isinstance(expression, Infix) else expression


def as_parameters(weights: Mapping[str, str], transposed: Collection[str]) -> dict[str, str]:
    """Expressions of a layer's parameters, from those of its weights; `.T` marks transposed weights."""
    return {name: f"{atom(text)}.T" if name in transposed else text for name, text in weights.items()}


class Verbatim(str):
    """Text of a keyword argument that is inserted unchanged, such as the name of a tensor."""

    __slots__ = ()


def literal(value: Any) -> str:
    """A Python literal; the only way of attribute values into generated source.

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

        # Double quotes, like the formatter; JSON escapes are valid in Python.
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, tuple):
        items = ", ".join(literal(item) for item in value)
        return f"({items},)" if len(value) == 1 else f"({items})"
    if isinstance(value, list):
        return f"[{', '.join(literal(item) for item in value)}]"
    raise TypeError(f"{value!r} has no literal form")


@dataclass(frozen=True, slots=True)
class TorchModule:
    """Constructor call of a `torch.nn` module, by argument.

    The arguments are separate because those that differ between the instances of a block become arguments of the
    block's class.

    Attributes:
        function: `nn.Conv2d`.
        positional: the positional arguments, with PyTorch's names.
        named: the keyword arguments, each with PyTorch's default; an argument equal to it is omitted.
        use: makes the expression of a call from those of the module and the operands; None for a plain call.
        unpack: nesting of several results: `{}, ({}, {})`; empty for a plain tuple.
    """

    function: str
    positional: Mapping[str, Any]
    named: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    use: Callable[[str, Sequence[str]], str] | None = None
    unpack: str = ""

    def __str__(self) -> str:
        named = {name: value for name, (value, default) in self.named.items() if value != default}
        return call(self.function, *(Verbatim(literal(value)) for value in self.positional.values()), **named)
