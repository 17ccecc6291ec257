"""Attributes that select axes by number, declared with `attribute(axis=...)`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Mapping
from dataclasses import Field
from types import NoneType, UnionType
from typing import Union, get_args, get_origin

from archc.declaration.errors import OperatorError
from archc.declaration.notation import Notation
from archc.types.attributes import AttributeInfo, attributes
from archc.types.signature import Signature, parse_signature, rank_of


def axis_numbers(op: Notation, attribute: str, signature: Signature, ranks: Mapping[str, int]) -> tuple[int, ...]:
    """Numbers of the axes that an attribute selects, counted from 0; see `Operator.axis_numbers`.

    Args:
        signature: the signature of the operator's class.
        ranks: the rank of each data operand, by its name in the signature.

    Raises:
        OperatorError: an axis does not exist, or is given twice (`bad-attribute`).
    """
    info = next((info for info in attributes(type(op)) if info.name == attribute), None)
    assert info is not None and info.axis is not None, f"`{op.name}` declares no attribute `{attribute}` with `axis=`"
    rank = rank_of(signature, info.axis, ranks)
    assert rank is not None, f"`{op.name}` has no operand from which the rank of `{info.axis}` follows"
    value = getattr(op, attribute)
    dims = () if value is None else (value,) if isinstance(value, int) else value
    numbers = tuple(_axis_number(op, info, dim, rank) for dim in dims)
    for position, number in enumerate(numbers):
        if number in numbers[:position]:
            raise OperatorError(
                "bad-attribute",
                f"`{op.name}` expects different axes, got axis {number} twice",
                attribute=attribute,
                help="write each axis once",
            )
    return numbers


def _axis_number(op: Notation, info: AttributeInfo, dim: int, rank: int) -> int:
    """Number of an axis, counted from 0, for a `dim` that may count from the end (-1 is the last axis)."""
    if -rank <= dim < rank:
        return dim % rank
    if rank:
        wrong = f"an axis from {-rank} to {rank - 1}, got axis {dim}"
        help = "axes are counted from 0; the last one is `-1`"
    else:
        wrong = "a tensor with axes, got a scalar"
        help = f"omit `{info.name}`" if info.default is None else "add an axis with `unsqueeze(0)`"
    raise OperatorError("bad-attribute", f"`{op.name}` expects {wrong}", attribute=info.name, help=help)


def check_axis_declarations(cls: type[Notation], signature: str, parameters: Collection[str]) -> None:
    """Check that each `axis=` of a class is an operand or a result of known rank.

    The class is new: the decorator `operator` has not made it a dataclass yet.

    Args:
        signature: the signature of the class.
        parameters: names of the operands that are parameters.

    Raises:
        ValueError: the signature has no such operand or result, or the operands do not determine its rank.
    """
    for attribute, axis in declared_axes(cls).items():
        kind = _type_of(cls, attribute)
        members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        if any(member not in (int, tuple[int, ...], NoneType) for member in members):
            given = kind.__name__ if isinstance(kind, type) and not get_args(kind) else kind
            raise ValueError(
                f"`{attribute}` of the operator `{cls.name}` is declared with axis={axis!r}, so its type must be `int`"
                f" or `tuple[int, ...]`, with or without None; it is `{given}`"
            )
        parsed = parse_signature(signature) if signature else Signature((), ())
        required = [one for one in parsed.operands if one.name not in parameters and not one.optional]
        ranks = {pattern.name: len(pattern.axes) for pattern in required}
        names = [pattern.name for pattern in (*parsed.operands, *parsed.results)]
        valid = [name for name in dict.fromkeys(names) if rank_of(parsed, name, ranks) is not None]
        if axis not in valid:
            reason = (
                f"`{axis}` is neither a required operand nor a result whose number of axes the operands determine"
                if axis in names
                else f"there is no operand or result `{axis}`"
            )
            raise ValueError(
                f"`{attribute}` of the operator `{cls.name}` is declared with axis={axis!r}, but in the signature"
                f" {signature!r}, {reason}; write {' or '.join(f'axis={name!r}' for name in valid) or 'a signature'}"
            )


def _type_of(cls: type, attribute: str) -> object:
    """The annotation of an attribute, evaluated in the module of the class that declares it."""
    base = next(base for base in cls.__mro__ if attribute in inspect.get_annotations(base))
    annotation = inspect.get_annotations(base)[attribute]
    if not isinstance(annotation, str):
        return annotation
    return eval(annotation, vars(sys.modules[base.__module__]))


def declared_axes(cls: type) -> dict[str, str]:
    """The `axis=` of each attribute that has one, including inherited attributes."""
    fields: dict[str, object] = {}
    for base in reversed(cls.__mro__[1:]):
        fields |= vars(base).get("__dataclass_fields__", {})
    fields |= {name: vars(cls).get(name) for name in inspect.get_annotations(cls)}
    declared = {name: field.metadata.get("axis") for name, field in fields.items() if isinstance(field, Field)}
    return {name: axis for name, axis in declared.items() if axis is not None}
