"""Dtypes of operands: the sets that operators declare, and the checks against them.

    dtypes = FLOATS                                                    # one floating-point dtype for all operands
    dtypes = {"condition": BOOL, "input": ANY, "other": "input"}       # `other` has the dtype of `input`
    dtypes = {"q": FLOATS, "k": "q", "v": "q", "mask": ("q", BOOL)}    # a mask may be bool as well

ONNX Runtime's CPU kernels support fewer dtypes than PyTorch's.  `onnx_dtypes` declares the dtypes that the kernels
of an operator support.  Operands of another dtype are cast to the nearest wider one of these dtypes, and results are
cast back.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from archc.declaration.errors import OperatorError
from archc.declaration.notation import Notation
from archc.frozen_dataclass import frozen_dataclass
from archc.types.tensor_type import DType, TensorType


@frozen_dataclass
class DTypes:
    """A set of dtypes.

    Attributes:
        noun: name of the set in diagnostics.
        help: help for an operand of another dtype.
    """

    noun: str
    members: frozenset[DType]
    help: str

    def without(self, *names: str) -> DTypes:
        """The set without some dtypes, such as those for which PyTorch has no kernel."""
        left = self.members - dtype_set(" ".join(names))
        return replace(self, noun=" or ".join(dtype.value for dtype in DType if dtype in left), members=left)


def dtype_set(names: str) -> frozenset[DType]:
    """The set of dtypes with these names, which are separated by spaces."""
    return frozenset(map(DType, names.split()))


ANY = DTypes("anything", frozenset(DType), "")
NUMBERS = DTypes("numbers", frozenset(DType) - {DType.bool}, "convert with `cast(f32)`")
FLOATS = DTypes("floating-point numbers", dtype_set("f64 f32 f16 bf16"), "convert with `cast(f32)`")
BOOL = DTypes("bool", dtype_set("bool"), "compare it: `x != 0`")
INDICES = DTypes("i64 or i32", dtype_set("i64 i32"), "convert with `cast(i64)`")
EIGHT_BIT = DTypes("u8 or i8", dtype_set("u8 i8"), "make them with `quantize(u8)`")

Accepted = DTypes | str | tuple[str, DTypes]
"""Accepted dtypes of one operand: a set, the dtype of the operand with a given name, or either."""
Declared = DTypes | Mapping[str, Accepted]
"""Accepted dtypes of all operands: a set for one common dtype, or dtypes by operand name."""
Kernels = frozenset[DType] | Mapping[str, frozenset[DType]]
"""Dtypes of ONNX Runtime's kernels: a set for the first operand, or sets for operands by name."""

ONNX_ALL = frozenset(DType)
"""All dtypes, for kernels that only move elements."""
ONNX_MOST = ONNX_ALL - {DType.bf16}
ONNX_FLOATS = dtype_set("f64 f32 f16")
ONNX_WIDE = dtype_set("f64 f32")
"""Dtypes for operators of several ONNX nodes: f16 would round or overflow between the nodes."""
ONNX_SINGLE = dtype_set("f32 f16")
ONNX_F32 = dtype_set("f32")

_WIDER = {
    DType.bf16: DType.f32,
    DType.f16: DType.f32,
    DType.f32: DType.f64,
    DType.bool: DType.u8,
    DType.u8: DType.i16,
    DType.i8: DType.i16,
    DType.i16: DType.i32,
    DType.i32: DType.i64,
}
"""The next wider dtype, which represents every element of the narrower one.

A cast of integers back to the narrower dtype wraps around, as arithmetic in the narrower dtype does.
"""


class Requirement(NamedTuple):
    """Accepted dtypes of an operand: those of the set `own`, and the dtype of operand number `like`."""

    own: DTypes | None
    like: int | None


def requirements(declared: Declared, names: Sequence[str]) -> list[Requirement]:
    """Dtypes of each data operand; operands without a declaration may be of any dtype.

    Args:
        names: names of the operands in the signature.
    """
    if isinstance(declared, DTypes):
        return [Requirement(None, 0) if number else Requirement(declared, None) for number in range(len(names))]
    found = []
    for name in names:
        accepted = declared.get(name, ANY)
        like, own = accepted if isinstance(accepted, tuple) else (accepted, None)
        if isinstance(like, DTypes):
            found.append(Requirement(like, None))
        else:
            found.append(Requirement(own, names.index(like)))
    return found


def check_dtypes(op: Notation, declared: Declared, names: Sequence[str], types: Sequence[TensorType]) -> None:
    """Check the dtypes of the operands.

    For operators without operands it checks the attribute `dtype`.

    Args:
        names: names of the operands in the signature.

    Raises:
        OperatorError: a dtype is not declared (`dtype-mismatch`; `bad-attribute` for the attribute).
    """
    made = getattr(op, "dtype", None)
    if not types and isinstance(made, DType) and isinstance(declared, DTypes) and made not in declared.members:
        raise OperatorError(
            "bad-attribute", f"`{op.name}` expects {declared.noun}, got {made.value}", attribute="dtype"
        )
    for position, (operand, need) in enumerate(zip(types, requirements(declared, names))):
        shared = need.like is not None and operand.dtype is types[need.like].dtype
        if shared or (need.own is not None and operand.dtype in need.own.members):
            continue
        if need.own is None and need.like is not None:
            first = types[need.like]
            raise OperatorError(
                "dtype-mismatch",
                f"`{op.name}` expects operands of one dtype, got {first} and {operand}",
                operand=position,
                help=f"convert one with `cast({first.dtype.value})`",
            )
        assert need.own is not None, "an operand without a declaration accepts any dtype"
        wanted = need.own.noun if need.like is None else f"{types[need.like].dtype.value} or {need.own.noun}"
        which = f" as `{names[position]}`" if len(types) > 1 and not isinstance(declared, DTypes) else ""
        raise OperatorError(
            "dtype-mismatch",
            f"`{op.name}` expects {wanted}{which}, got {operand}",
            operand=position,
            help=need.own.help,
        )


def onnx_types(
    name: str, declared: Declared, kernels: Kernels, names: Sequence[str], types: Sequence[TensorType]
) -> tuple[TensorType, ...]:
    """Types of the operands in ONNX, after casts to dtypes that ONNX Runtime's kernels support.

    Args:
        name: name of the operator.
        names: names of the operands in the signature.

    Raises:
        OperatorError: ONNX Runtime has no kernel for the dtype or a wider one (`no-onnx-form`).
    """
    found = list(types)
    needs = requirements(declared, names)
    for position, known in onnx_kernels(kernels, names).items():
        dtype = types[position].dtype
        wide = wider(dtype, known)
        if wide is None:
            raise OperatorError(
                "no-onnx-form",
                f"ONNX Runtime has no kernel for `{name}` in {dtype.value}",
                help=f"convert with `cast({'f32' if dtype.floating else 'i32'})`, or compile with `--emit torch`",
            )
        for number, operand in enumerate(types):
            if number == position or (needs[number].like == position and operand.dtype is dtype):
                found[number] = TensorType(wide, operand.shape)
    return tuple(found)


def onnx_kernels(kernels: Kernels, names: Sequence[str]) -> dict[int, frozenset[DType]]:
    """Dtypes that the kernels support, by operand position, for the operands that `kernels` limits."""
    if isinstance(kernels, Mapping):
        return {names.index(name): known for name, known in kernels.items() if name in names}
    return {0: kernels} if names else {}


def as_element(number: bool | int | float, dtype: DType) -> bool | int | float:
    """A number as a Python bool, float or int, depending on the dtype: 2 as f32 is 2.0."""
    return bool(number) if dtype is DType.bool else float(number) if dtype.floating else int(number)


def as_f32(number: float) -> float:
    """A number rounded to f32, the precision of ONNX attributes."""
    return float(struct.unpack("f", struct.pack("f", number))[0])


def wider(dtype: DType, known: frozenset[DType]) -> DType | None:
    """The dtype itself if it is in `known`; else the nearest wider dtype in `known`, or None."""
    found: DType | None = dtype
    while found is not None and found not in known:
        found = _WIDER.get(found)
    return found
