"""Texts of boxes: operators with their main attributes, shapes, uses of blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archc.declaration.base import Operator, formula_of
from archc.drawing.scene import BoxRow
from archc.ir.graph import Node, Scope
from archc.types import attributes as language
from archc.types.attributes import attributes
from archc.types.extent_solver import Extent
from archc.types.storage import Dense, Weight
from archc.types.tensor_type import TensorType

if TYPE_CHECKING:
    from archc.codegen.outline.definitions import Loop


LONGEST = 40
"""The maximum number of characters of a text in a box."""
_LONGEST_DIM = 7
"""The maximum number of characters of a size.

Longer formulas, such as the size of an image after several convolutions, are omitted.
"""
_SIGNS = {"*": "×", "/": "÷", "-": "−", "**": "^", "<=": "≤", ">=": "≥", "!=": "≠", "not": "¬"}


def sign(symbol: str) -> str:
    """The mathematical sign of an operator of the language."""
    return _SIGNS.get(symbol, symbol)


def cut(text: str, longest: int = LONGEST) -> str:
    """A text in one line, truncated to a length."""
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1].rstrip(" ,(") + "…"


def call(name: str, arguments: Sequence[str]) -> str:
    """The text of a call with as many arguments as fit in a box."""
    shown = list(arguments)
    while len(shown) > 1 and len(name) + len(", ".join(shown)) + 2 > LONGEST:
        shown.pop()
    more = ["…"] if len(shown) < len(arguments) else []
    return cut(f"{name}({', '.join([*shown, *more])})" if shown else name, LONGEST + 3)


def operator_text(nodes: Sequence[Node]) -> str:
    """The text of an operator, with its required attributes, and its other attributes that affect shapes."""
    op = nodes[0].op
    kind = formula_of(op)
    if kind == "unary":
        return f"{sign(op.symbol)} x"
    if kind == "index":
        return cut(f"[{', '.join(op.arguments())}]")
    if kind == "binary":
        left, right = op.sides() or (None, None)
        scalar = right if left is None else left
        if scalar is not None:
            number = value_text([_scalar(node) for node in nodes], nodes)
            return cut(f"{sign(op.symbol)} {number}" if left is None else f"{number} {sign(op.symbol)} x")
    if type(op).arguments is not Operator.arguments:
        arguments = op.arguments()
    else:
        arguments = [text for info in attributes(type(op)) if (text := _argument(info, nodes))]
    return call(op.name, arguments)


def _scalar(node: Node) -> Any:
    left, right = node.op.sides() or (None, None)
    return right if left is None else left


def _argument(info: Any, nodes: Sequence[Node]) -> str:
    """The text of an attribute; empty for a default, and for a value that does not affect shapes."""
    values = [info.of(node.op) for node in nodes]
    if info.required:
        text = value_text(values, nodes)
        return f"{info.name} {text}" if info.keyword else text
    if all(value == info.default for value in values):
        return ""
    if all(isinstance(value, float) for value in values):  # a rate or an epsilon
        return ""
    if all(isinstance(value, bool) or value is None for value in values):
        return str(info.name) if all(value is True for value in values) else ""
    text = value_text(values, nodes)
    return text if text == info.name else f"{info.name} {text}"


def value_text(values: Sequence[Any], nodes: Sequence[Node]) -> str:
    """The text of the values of an attribute in several instances.

    If all values are equal, the text is this value.  If they differ, the text is the name of the block's attribute or
    size that has these values; without such a name, the text is the range of the values.  Tuples of equal length have
    a text for each item: `(N, C, 1, 1)`.
    """
    if all(value == values[0] for value in values):
        return _number(values[0])
    scopes = [node.scope for node in nodes]
    for known in ([scope.arguments for scope in scopes], [scope.sizes for scope in scopes]):
        for name in known[0]:
            if all(own.get(name) == value for own, value in zip(known, values, strict=True)):
                return name
    if all(isinstance(value, tuple) and len(value) == len(values[0]) for value in values):
        return f"({', '.join(value_text(items, nodes) for items in zip(*values))})"
    return range_text(values)


def range_text(values: Sequence[Any]) -> str:
    """The range of integer values, such as `64…256`; `…` for values of other types."""
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        low, high = min(values), max(values)
        return str(low) if low == high else f"{low}…{high}"
    return "…"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_number, value))})"
    return language.value_text(value)


def use_text(name: str, scopes: Sequence[Scope]) -> str:
    """The text of a block use with its numeric arguments: `Block(128, stride 2)`."""
    found: list[str] = []
    for argument in scopes[0].arguments:
        if all(_left_out(scope, argument) for scope in scopes):
            continue
        values = [scope.arguments.get(argument) for scope in scopes]
        if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            found.append(range_text(values) if not found else f"{argument} {range_text(values)}")
        elif all(value is True for value in values):
            found.append(argument)
    return call(name, found)


def _left_out(scope: Scope, argument: str) -> bool:
    """Return whether the text of a block use omits an argument.

    An argument is omitted if its value is its default.  It is also omitted if the outer block has an omitted argument
    with the same name and value.  For example, `block Outer(width = 64)` contains `x -> Inner(width)`: if a use of
    `Outer` gives no width, the text of `Inner` has no width, either.
    """
    if argument in scope.defaults:
        return True
    parent = scope.parent
    if parent is None or argument not in parent.arguments:
        return False
    return scope.arguments[argument] == parent.arguments[argument] and _left_out(parent, argument)


def shape_text(types: Sequence[TensorType], sizes: dict[str, tuple[Extent, ...]]) -> str:
    """The text of a shape: `N × 64 × 26 × 26`.

    If a size differs between instances, its text is the block's name for the size, or `·` without such a name.
    """
    if any(type_.rank != types[0].rank for type_ in types):
        return ""
    if not types[0].shape:
        return "scalar"
    names: list[str] = []
    for dims in zip(*(type_.shape for type_ in types)):
        names.append(_dim(dims, sizes, names))
    if len(names) > 1 and set(names[1:]) == {"·"}:  # only the batch is known
        return ""
    return " × ".join(names)


def _dim(dims: tuple[Extent, ...], sizes: dict[str, tuple[Extent, ...]], taken: list[str]) -> str:
    """The text of a size; if the block has several names for it, a name that no earlier axis has."""
    text = str(dims[0])
    if all(dim == dims[0] for dim in dims) and len(text) <= _LONGEST_DIM:
        return text
    fitting = [name for name, own in sizes.items() if own == dims]
    return next((name for name in fitting if name not in taken), fitting[0] if fitting else "·")


def bracketed(path: str) -> str:
    """A path in the syntax of the language: `h[0].attn` for `h.0.attn`."""
    head, *rest = path.split(".")
    return head + "".join(
        f"[{part}]" if part.isdecimal() else part if part.startswith("[") else f".{part}" for part in rest
    )


def is_symbol(node: Node) -> bool:
    """Return whether an operator is drawn as a sign in a circle: it has no name, and combines two tensors."""
    return node.name is None and formula_of(node.op) == "binary" and len(node.operands) == 2


def layer_row(nodes: Sequence[Node], label: str, weights: Mapping[str, Weight]) -> BoxRow:
    """The row of an operator in a box."""
    stored = {weights[path].storage for node in nodes for path in node.weights.values()}
    names = sorted({storage.label for storage in stored if not isinstance(storage, Dense)})
    return BoxRow(
        operator_text(nodes),
        cut(label, 28),
        nodes[0].op.family,
        light=_is_light(nodes[0], weights),
        storage=", ".join(names),
    )


def _is_light(node: Node, weights: Mapping[str, Weight]) -> bool:
    """Return whether all operands have one common producer, and all weights have fewer than two axes."""
    producers = {value.producer for value in node.operands}
    return len(producers) == 1 and all(len(weights[path].shape) < 2 for path in node.weights.values())


def member_label(name: str, loops: Sequence[tuple[Loop, str]]) -> str:
    """The name of a layer in the syntax of the language, with the indices of loops."""
    for loop, letter in reversed(loops):
        for one in loop.lists:
            first = f"{one}.{loop.first}"
            if name == first or name.startswith(f"{first}."):
                name = f"{one}.[{letter}]{name[len(first) :]}"
    return bracketed(name)
