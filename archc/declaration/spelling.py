"""Interfaces for the spellings of an operator: its PyTorch expression and its ONNX nodes.

This module imports neither PyTorch nor ONNX: the PyTorch spelling is text, and the emitter creates the ONNX nodes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, overload

from archc.frozen_dataclass import frozen_dataclass
from archc.types.dims import SymbolicDim
from archc.types.storage import Storage
from archc.types.tensor_type import DType, Float8, TensorType


class Infix(str):
    """PyTorch text that needs parentheses as an operand of a stronger operator: `a + b`, `-a`, `a == b`.

    `binding` is the precedence of the text's own operator; 0 if the text needs parentheses next to any operator.
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


@frozen_dataclass
class TorchSpelling:
    """The texts and types from which one operator writes its PyTorch expression.

    Attributes:
        operands: an expression for each data operand.
        weights: an expression for each parameter of the operator, by name, in the order of the signature.
        types: types of the operands.
        results: types of the results.
        sizes: extents of the signature's indices.
        size_text: returns the text of a symbolic size at this place (`T`, `x.shape[1]`).
        storages: storage of each parameter.
        device: an expression for the device of new tensors (`arange`); None for PyTorch's default.
        training: an expression that is true in training; None for inference semantics.
        varying: the attributes that differ between the instances of a block.  The expression contains them even if they
            have their defaults, so that the expressions of all instances differ only in literals.
        rounds: True if the expression rounds operands that an operator quantizes inside, as the interpreter does; False
            for programs that may compute more accurately.
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
    varying: Collection[str] = ()
    rounds: bool = False

    def size(self, dim: int | SymbolicDim) -> str:
        """A size as Python text."""
        return str(dim) if isinstance(dim, int) else self.size_text(dim)

    def option(self, attribute: str, value: Any, default: Any) -> Any:
        """A positional argument for an attribute; None to omit it, because PyTorch has the default."""
        return value if value != default or attribute in self.varying else None

    def options(self, **options: tuple[Any, Any]) -> dict[str, Any]:
        """Keyword arguments for attributes, given as pairs of value and PyTorch's default; see `option`."""
        return {name: value for name, (value, default) in options.items() if value != default or name in self.varying}

    def unpacked(self, attribute: str, values: Sequence[Any]) -> Sequence[Any]:
        """Positional arguments for the items of an attribute; one `*(0, 2, 1)` if it varies."""
        return [Verbatim(f"*{literal(tuple(values))}")] if attribute in self.varying else values


class QuantizedValue(NamedTuple):
    """Quantized form of a float value, scale · (q - zero_point), as names of ONNX values.

    `static` is True if scale and zero point are weights, and False if they are computed from the data at run time.
    `by_token` is True if there is a scale for each position of all axes but the last, and a single zero point.
    """

    q: str
    scale: str
    zero_point: str
    static: bool
    by_token: bool = False


ScanStep: TypeAlias = Callable[[Sequence[str], Sequence[str]], tuple[Sequence[str], Sequence[tuple[str, TensorType]]]]
"""A function that adds the nodes of one step of a `Scan`; see `OnnxSpelling.scan`."""


class OnnxSpelling(Protocol):
    """Context of one operator in ONNX, and the graph to which the operator adds nodes.

    Nodes that decode a quantized operand or a stored weight are added on demand: when the operator reads the name from
    `operands` or `weights`.

    Attributes:
        operands: names of the data operands.
        weights: for each parameter by name, the ONNX name of its decoded value, in the order of the signature.
        types: types of the operands.
        results: types of the results.
        sizes: extents of the signature's indices.
        storages: storage of each parameter.
        contributed: True if the model may have operators of ONNX Runtime's own domain, `com.microsoft`.
    """

    operands: Sequence[str]
    weights: Mapping[str, str]
    types: Sequence[TensorType]
    results: Sequence[TensorType]
    contributed: bool

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

    def scan(
        self,
        first: Sequence[tuple[str, TensorType]],
        sequences: Sequence[tuple[str, TensorType]],
        step: ScanStep,
        reverse: bool = False,
    ) -> tuple[Sequence[str], Sequence[str]]:
        """Add a `Scan` along the first axis of sequences, and return its last states and its stacked results.

        `step` adds the nodes of the body.  It may use values from outside, except `operands`, by name.

        Args:
            first: initial states, with the types of the states.
            sequences: sequences, with the types of their elements.
            step: called once with the names of the states and of the elements; returns the names of the next states,
                and the results of a step with their types.
            reverse: True to run from the last element to the first; the results are in the order of the sequences.
        """

    def constant(self, value: Any, dtype: DType | None = None) -> str:
        """Name of a constant with the given value: a number or a (nested) list.

        Integers are i64 and other numbers f32, unless `dtype` is given.
        """

    def size(self, dim: int | SymbolicDim) -> str:
        """Name of an i64 scalar with a size; a symbolic size is computed from the shapes of the inputs."""

    def shape(self, dims: Sequence[int | SymbolicDim]) -> str:
        """Name of an i64 vector of sizes, for operands such as the shape of `Expand`."""

    def reshape(self, value: str, dims: Sequence[int | SymbolicDim]) -> str:
        """Add a `Reshape` of a value to a shape; symbolic sizes of the shape may be 0 at run time."""

    def quantized(self, position: int) -> QuantizedValue | None:
        """Quantized form of a data operand; None unless it is a result of `dequantize`.

        It is also None if the scales are along an axis.
        """

    def stored(self, name: str) -> tuple[str, ...]:
        """Names of a parameter's stored tensors, in the order of `Storage.tensors`: integers, scale."""

    def oriented(self, name: str) -> tuple[str, bool]:
        """Name of a decoded weight before any transposition; True if the parameter is its transpose.

        Use this method for ONNX operators that accept a matrix or its transpose, such as `Gemm`.  `weights[name]` is
        always the parameter itself.
        """

    def transposed(self, name: str) -> str:
        """Name of the transpose of a decoded weight matrix.

        Use this method for `MatMul`, whose second operand is [in, out].  No node is added if the transpose is stored.
        """

    def dequantized(self, name: str) -> str:
        """Name of a parameter's value decoded by `DequantizeLinear`, for products of two quantized operands.

        For other operators `weights[name]` is faster; see `archc.codegen.onnx.decode`.
        """

    def blocks(self, name: str, size: int) -> tuple[str, str, str]:
        """Names of the integers, scales and zero points of a parameter of int4.

        They are for kernels that decode the weight in each run.  The integers are u8 of shape [channels, blocks,
        bytes], and the scales f32; without zero points, their name is empty.

        Args:
            size: elements of a block, which is a group of the storage.  The last block is padded to this size.
        """

    def rows(self, name: str, indices: str, rank: int) -> str:
        """Name of selected rows of a decoded weight matrix; if the storage permits it, only these are decoded.

        Args:
            indices, rank: name of the indices, and number of their axes.
        """

    def integer_bias(self, operand: QuantizedValue) -> str | None:
        """Name of the parameter `bias` as int32, which integer kernels add to the products of the integers.

        The bias is rounded to a multiple of s · t, with s the scale of `operand` and t the scale of `weight`.
        `operand` must be static, and `weight` stored as int8.  The name is empty if the operator has no bias.  It is
        None if int32 cannot represent the bias.
        """


@frozen_dataclass
class TorchHelper:
    """A function that PyTorch lacks and that expressions of operators call.

    An emitted module defines the function once.

    Attributes:
        name: begins with an underscore, unlike all other names in the module.
        imports: names that the function imports from torch, such as `torch.nn.utils.rnn.pad_sequence`; `torch`,
            `nn`, `Tensor`, `Any`, `Callable` and `Sequence` are always available.
        source: the formatted source of the function.
    """

    name: str
    imports: tuple[str, ...]
    source: str


def call(function: str, *positional: Any, **named: Any) -> str:
    """Text of a call; positional strings are expressions, all other arguments literals.

    A positional argument that is None is omitted; all positional arguments after it must also be None.
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

    `a * b + c - d` needs no parentheses; `a + (b + c)` keeps its parentheses, because rounding depends on the order.
    """
    kind = _KINDS.get(operator, Infix)
    # Powers, chained comparisons, `&` and `|` keep parentheses, since readers may not know their precedence.
    least = kind.binding or (1 if operator in _COMPARISONS else 9)
    left_text, right_text = (
        text if getattr(text, "binding", 9) >= tight else atom(text)
        for text, tight in ((left, least), (right, least + 1))
    )
    # Like the formatter, write no blanks around a power of plain names and numbers.
    blank = "" if operator == "**" and all(map(_PLAIN.fullmatch, (left_text, right_text))) else " "
    return kind(f"{left_text}{blank}{operator}{blank}{right_text}")


def atom(expression: str) -> str:
    """An expression as the operand of an operator or attribute access: in parentheses if it is `Infix`."""
    return f"({expression})" if isinstance(expression, Infix) else expression


def as_parameters(weights: Mapping[str, str], transposed: Collection[str]) -> dict[str, str]:
    """Expressions of parameters, from expressions of the stored weights: `.T` for a transposed weight."""
    return {name: f"{atom(text)}.T" if name in transposed else text for name, text in weights.items()}


class Verbatim(str):
    """Text of a keyword argument that is inserted unchanged, such as the name of a tensor."""

    __slots__ = ()


def literal(value: Any) -> str:
    """A Python literal; attribute values enter generated source only through this function.

    Raises:
        TypeError: the value has no literal form.
    """
    if isinstance(value, Verbatim):
        return str(value)
    if isinstance(value, DType | Float8):
        return f"torch.{value.torch}"
    if value is None or isinstance(value, (bool, int)):
        return repr(value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return f'float("{value}")'
        return repr(value).replace("e+", "e")  # as the formatter writes it
    if isinstance(value, str):
        import json

        # JSON has the double quotes that the formatter writes, and its escapes are valid in Python.
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, tuple):
        items = ", ".join(literal(item) for item in value)
        return f"({items},)" if len(value) == 1 else f"({items})"
    if isinstance(value, list):
        return f"[{', '.join(literal(item) for item in value)}]"
    raise TypeError(f"{value!r} has no literal form")


@frozen_dataclass
class TorchModule:
    """Constructor call of a `torch.nn` module, with its arguments by name.

    The arguments are separate, because an argument that differs between the instances of a block becomes an argument of
    the block's class.

    Attributes:
        function: `nn.Conv2d`.
        positional: the positional arguments, with PyTorch's names.
        named: the keyword arguments, each with PyTorch's default; an argument that equals its default is omitted.
        use: returns the expression of a call, from the expressions of the module and the operands; None for a plain
            call.
        unpack: how several results are nested, such as `{}, ({}, {})`; empty for a plain tuple.
        encoded: True if the module has the weights in their storage; otherwise all its weights are dense.
    """

    function: str
    positional: Mapping[str, Any]
    named: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    use: Callable[[str, Sequence[str]], str] | None = None
    unpack: str = ""
    encoded: bool = False

    def __str__(self) -> str:
        named = {name: value for name, (value, default) in self.named.items() if value != default}
        return call(self.function, *(Verbatim(literal(value)) for value in self.positional.values()), **named)
