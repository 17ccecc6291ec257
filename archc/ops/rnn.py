"""Operator `rnn`."""

from __future__ import annotations

from typing import Any, Literal

from archc.declaration.base import operator
from archc.declaration.spelling import OnnxSpelling
from archc.ops.recurrent import Recurrent
from archc.types.attributes import attribute


@operator
class Rnn(Recurrent):
    """Elman recurrent layer: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), and y_t = h_t.

    (Elman 1990, "Finding Structure in Time".)  Shapes: x[b, t, i], h0[layers, b, h] -> y[b, t, h], h[layers, b, h].
    With two directions, the first axis of h0 and h and the last axis of y are twice as large.

    Sequences of different lengths are padded to one tensor, and the last operand, of type i64[b], holds their lengths:
    `(x, lengths)`, `(x, h0, lengths)`.  The last state is then the state at the end of each sequence, the reverse
    direction begins at that end, and results after that end are 0.  Lengths must be at least 1: PyTorch rejects smaller
    lengths at run time.

    The layers named by `dynamic` quantize their operands in each run, as in `lstm`.  With int8 weights, ONNX programs
    compute them in integers, by a `Scan` of standard operators, and PyTorch programs by a kernel for each step.
    """

    torch_int8 = "Int8RNN"
    example = "x -> rnn(128) -> head: linear(10)"

    nonlinearity: Literal["tanh", "relu"] = attribute("tanh", keyword=True, doc="activation function")

    @property
    def _torch_function(self) -> str:
        return f"rnn_{self.nonlinearity}"

    def _torch_options(self) -> dict[str, tuple[Any, Any]]:
        return {"nonlinearity": (self.nonlinearity, "tanh")}

    def _onnx_options(self) -> dict[str, Any]:
        name = self.nonlinearity.capitalize()
        return {"activations": [name] * (1 + self.bidirectional)}

    def _onnx_cell(self, spell: OnnxSpelling, entering: str, inside: str, h: str) -> str:
        return spell.add(self.nonlinearity.capitalize(), spell.add("Add", entering, inside))
