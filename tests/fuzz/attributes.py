"""Random attribute values of operators, generated from their declared types."""

from __future__ import annotations

import types as python_types
from dataclasses import MISSING
from random import Random
from string import ascii_lowercase
from typing import Any, Literal, Union, get_args, get_origin

from archc.declaration.base import Operator
from archc.types.attributes import AttributeInfo, attributes
from archc.types.dims import SymbolicDim, as_symbol, product
from archc.types.tensor_type import DType, TensorType

FLOATS = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, -0.5, -1.0, 3.0, 1e-3)
DTYPES = ("f32", "f32", "f32", "i64", "i64", "bool", "f16", "f64", "i32", "bf16", "u8", "i8", "i16")
KEEPS_DEFAULT = 0.6
"""Probability that an attribute keeps its default."""


class Undrawable(Exception):
    """No useful random value exists for the type of an attribute."""


def draw_operator(cls: type[Operator], types: list[TensorType], chance: Random) -> Operator:
    """Generate an operator with random attributes; it may reject operands of these types.

    Raises:
        Undrawable: a required attribute is a string, or a pattern has no operand.
    """
    if any(info.name == "pattern" for info in attributes(cls)):
        pattern, sizes = draw_pattern(types[0] if types else None, chance)
        return cls.from_arguments([pattern], sizes)
    values = {}
    for info in attributes(cls):
        if info.default is not MISSING and chance.random() < KEEPS_DEFAULT:
            continue
        values[info.name] = _draw(info.type, info, types, chance)
    return cls(**values)


def _draw(wanted: Any, info: AttributeInfo, types: list[TensorType], chance: Random) -> Any:
    origin = get_origin(wanted)
    if origin in (Union, python_types.UnionType):
        return _draw(chance.choice([one for one in get_args(wanted) if one is not str]), info, types, chance)
    if origin is Literal:
        return chance.choice(get_args(wanted))
    if origin is tuple:
        return _tuple(get_args(wanted), info, types, chance)
    if wanted is type(None):
        return None
    if wanted is python_types.EllipsisType:
        return ...
    if wanted is bool:
        return chance.random() < 0.5
    if wanted is int:
        return _integer(types, chance)
    if wanted is float:
        return chance.choice([*FLOATS, *([info.default] * 3 if isinstance(info.default, float) else ())])
    if wanted is DType:
        return DType(chance.choice(DTYPES))
    if wanted is SymbolicDim:
        return _symbolic(types, chance)
    raise Undrawable(info.name)


def _integer(types: list[TensorType], chance: Random) -> int:
    """Random small number, axis, operand size, or divisor of an operand size."""
    sizes = [dim for operand in types for dim in operand.shape if isinstance(dim, int)]
    divisors = [k for k in range(1, 9) if any(size % k == 0 for size in sizes)]
    pools = [(1, 2, 3, 4, 6, 8), (0, 1, 2, 3), (-1, -2, -3), sizes or (5,), divisors or (1,)]
    return chance.choice(chance.choice(pools))


def _symbolic(types: list[TensorType], chance: Random) -> int | SymbolicDim:
    dims = [dim for operand in types for dim in operand.shape if as_symbol(dim)]
    return chance.choice(dims) if dims else _integer(types, chance)


def _tuple(items: tuple[Any, ...], info: AttributeInfo, types: list[TensorType], chance: Random) -> tuple[Any, ...]:
    if len(items) != 2 or items[1] is not Ellipsis:
        return tuple(_draw(item, info, types, chance) for item in items)
    shape = types[0].shape if types else ()
    kind = chance.choice(("any", "axes", "order", "shape", "shape", "alike"))
    if kind == "axes" and shape:
        axes = chance.sample(range(len(shape)), chance.randint(1, len(shape)))
        return tuple(axis - len(shape) if chance.random() < 0.3 else axis for axis in axes)
    if kind == "order":
        return tuple(chance.sample(range(len(shape)), len(shape)))
    if kind == "shape" and (SymbolicDim in items or SymbolicDim in get_args(items[0])):
        return _shape(shape, chance)
    length = chance.choice((1, 2, 2, 3, 4, len(shape), max(len(shape) - 2, 1)))
    if kind == "alike":
        return (_draw(items[0], info, types, chance),) * length
    return tuple(_draw(items[0], info, types, chance) for _ in range(length))


def _shape(shape: tuple[int | SymbolicDim, ...], chance: Random) -> tuple[int | SymbolicDim, ...]:
    """Random edit of a shape."""
    dims = list(shape)
    for _ in range(chance.randint(0, 3)):
        place = chance.randrange(len(dims) + 1)
        kind = chance.choice(("merge", "split", "one", "rest", "swap", "drop"))
        if kind == "merge" and place + 1 < len(dims):
            dims[place : place + 2] = [product(dims[place : place + 2])]
        elif kind == "split" and place < len(dims) and isinstance(dims[place], int):
            part = chance.choice((2, 3, 4))
            if dims[place] % part == 0:
                dims[place : place + 1] = [part, dims[place] // part]
        elif kind == "one":
            dims.insert(place, 1)
        elif kind == "rest" and place < len(dims) and -1 not in dims:
            dims[place] = -1
        elif kind == "swap" and place + 1 < len(dims):
            dims[place], dims[place + 1] = dims[place + 1], dims[place]
        elif kind == "drop" and place < len(dims) and dims[place] == 1:
            del dims[place]
    return tuple(dims)


def draw_pattern(operand: TensorType | None, chance: Random) -> tuple[str, dict[str, int]]:
    """Random `rearrange` pattern for an operand, and the sizes of the axes that it splits.

    Raises:
        Undrawable: no operand is given.
    """
    if operand is None:
        raise Undrawable("pattern")
    names, left, sizes = [], [], {}
    for number, dim in enumerate(operand.shape):
        name = ascii_lowercase[number]
        if dim == 1 and chance.random() < 0.5:
            left.append("1")
            continue
        factors = [k for k in (2, 3, 4) if isinstance(dim, int) and dim % k == 0]
        if factors and chance.random() < 0.4:
            sizes[f"{name}0"] = chance.choice(factors)
            left.append(f"({name}0 {name}1)")
            names += [f"{name}0", f"{name}1"]
        else:
            left.append(name)
            names.append(name)
    if chance.random() < 0.7:
        chance.shuffle(names)
    right = []
    while names:
        count = min(chance.choice((1, 1, 1, 2, 3)), len(names))
        part, names = names[:count], names[count:]
        right.append(part[0] if count == 1 else f"({' '.join(part)})")
    if chance.random() < 0.2:
        right.insert(chance.randint(0, len(right)), "1")
    return f"{' '.join(left)} -> {' '.join(right)}", sizes
