"""Table of the dtypes that an operator accepts, and of the dtypes in which ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Mapping

from archc.declaration.base import Operator
from archc.declaration.dtypes import Accepted, DTypes, wider
from archc.frozen_dataclass import frozen_dataclass
from archc.types.signature import parse_signature
from archc.types.tensor_type import DType


@frozen_dataclass
class DtypeRow:
    """The dtypes of one operand, or of all operands if they share one dtype.

    Attributes:
        operand: the name of the operand; empty if all operands share one dtype.
        like: the name of another operand whose dtype is also accepted; empty if there is none.
        onnx: maps each accepted dtype to the dtype in which ONNX Runtime computes, or to None if it has no kernel.
    """

    operand: str
    like: str
    onnx: Mapping[DType, DType | None]


def dtype_rows(cls: type[Operator]) -> list[DtypeRow]:
    """The rows of an operator: one row if all operands share a dtype, else one for each declared operand."""
    declared, known = cls.dtypes, cls.onnx_dtypes
    if isinstance(declared, DTypes):
        kernels = known if isinstance(known, frozenset) else frozenset(DType)
        return [DtypeRow("", "", _onnx(declared, kernels if _takes_data(cls) else frozenset(DType)))]
    first = next(iter(declared), "")
    rows = []
    for name, accepted in declared.items():
        like, own = _parts(accepted)
        named = known if isinstance(known, Mapping) else {first: known}
        rows.append(DtypeRow(name, like, {} if own is None else _onnx(own, named.get(name, frozenset(DType)))))
    return rows


def _parts(accepted: Accepted) -> tuple[str, DTypes | None]:
    if isinstance(accepted, tuple):
        return accepted
    return (accepted, None) if isinstance(accepted, str) else ("", accepted)


def _onnx(own: DTypes, known: frozenset[DType]) -> dict[DType, DType | None]:
    return {dtype: wider(dtype, known) for dtype in DType if dtype in own.members}


def _takes_data(cls: type[Operator]) -> bool:
    """Return whether an operator has operands other than parameters.

    The `dtypes` of an operator without such operands (`arange`) limit its attribute `dtype`.
    """
    operands = parse_signature(cls.signature).operands if cls.signature else ()
    return any(pattern.name not in cls.parameters for pattern in operands)


def row_text(row: DtypeRow) -> str:
    """Text of a row: `f64, f32, f16, bf16; ONNX Runtime: bf16 in f32, no f64`."""
    own = ", ".join(dtype.value for dtype in row.onnx) if len(row.onnx) < len(DType) else "any"
    texts = [own] if row.onnx else []
    accepted = " or ".join([f"that of {row.like}", *texts] if row.like else texts)
    wide: dict[DType | None, list[str]] = {}
    for dtype, computed in row.onnx.items():
        if computed is not dtype:
            wide.setdefault(computed, []).append(dtype.value)
    notes = [
        f"{' and '.join(names)} in {computed.value}" if computed else f"no {' or '.join(names)}"
        for computed, names in wide.items()
    ]
    return f"{accepted}; ONNX Runtime: {', '.join(notes)}" if notes else accepted
