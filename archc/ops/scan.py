"""Begin and end of a `scan`, a recurrence over a sequence with named states.

    scan x_t in x, h = h0 {
        h = (x_t -> w_xh: linear(64)) + (h -> w_hh: linear(64, bias = false)) -> tanh
        yield y = h -> w_hy: linear(10)
    }

The body is made of ordinary operators on the tensors of one step, between `ScanEnter` and `ScanExit`.  Passes therefore
treat the body like any other part of the graph.  `archc.ir.scans` finds the body; the interpreter and the emitters
repeat it for each step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from archc.declaration.base import Operator, operator
from archc.declaration.dtypes import Accepted
from archc.declaration.traits import IMPURE, Rigid, ScanEnd
from archc.types.attributes import attribute
from archc.types.dims import SymbolicDim
from archc.types.extent_solver import Extent
from archc.types.signature import Signature, parse_signature
from archc.types.tensor_type import DType, TensorType


@operator
class ScanEnter(Operator, abstract=True):
    """Begin of a step.

    Results: a mark, which is an operand of the `ScanExit` of the same scan; the element of each sequence in this step;
    each state before the step.
    Shapes: x[b, t, ...] -> x_t[b, ...] for each sequence, h0[...] -> h[...] for each state.
    """

    name: ClassVar[str] = "scan"
    signature = "x[b, t, *s], h0[*r] -> mark[], x_t[b, *s], h[*r]"
    dtypes: ClassVar[Mapping[str, Accepted]] = {}
    # Two scans over equal operands are different scans, so the operator is impure.
    traits = (IMPURE, ScanEnd("enter", count="sequences"), Rigid("t"))

    sequences: int = attribute(doc="number of sequences among the operands; the others are initial states")

    def arguments(self) -> list[str]:
        return []  # the language has no call for scan operators

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        operands, results = [], ["mark[]"]
        for number in range(len(types)):
            if number < self.sequences:
                operands.append(f"x{number}[b{number}, t, *s{number}]")
                results.append(f"item{number}[b{number}, *s{number}]")
            else:
                operands.append(f"first{number}[*r{number}]")
                results.append(f"state{number}[*r{number}]")
        return parse_signature(f"{', '.join(operands)} -> {', '.join(results)}")

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        return (DType.i64, *(operand.dtype for operand in types))


@operator
class ScanExit(Operator, abstract=True):
    """End of a step: the states for the next step, and the values that the step yields.

    Operands: the mark of the `ScanEnter`; for each state, its old and its new value; the yielded values.
    Results: the last states, and for each yielded value the sequence of its values in all steps.
    Shapes: h[...], next[...] -> last[...] for each state, y_t[b, ...] -> y[b, t, ...] for each yielded value.
    """

    name: ClassVar[str] = "scan_end"
    signature = "mark[], h[*r], next[*r], y_t[b, *s] -> last[*r], y[b, t, *s]"
    dtypes: ClassVar[Mapping[str, Accepted]] = {}
    traits = (IMPURE, ScanEnd("exit", count="states"), Rigid("t"))

    states: int = attribute(doc="number of states")
    length: int | SymbolicDim = attribute(doc="number of steps", index="t")

    def arguments(self) -> list[str]:
        return []

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        operands, results = ["mark[]"], []
        for number in range(self.states):
            operands += [f"state{number}[*r{number}]", f"next{number}[*r{number}]"]
            results.append(f"last{number}[*r{number}]")
        for number in range(len(types) - 1 - 2 * self.states):
            operands.append(f"kept{number}[b{number}, *s{number}]")
            results.append(f"all{number}[b{number}, t, *s{number}]")
        return parse_signature(f"{', '.join(operands)} -> {', '.join(results)}")

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        return {"t": self.length}

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        states = tuple(types[2 + 2 * number].dtype for number in range(self.states))
        return (*states, *(operand.dtype for operand in types[1 + 2 * self.states :]))
