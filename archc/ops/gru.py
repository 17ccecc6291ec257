"""Operator `gru`."""

from __future__ import annotations

from typing import Any

from archc.declaration.base import operator
from archc.declaration.spelling import OnnxSpelling
from archc.ops.recurrent import Recurrent


@operator
class Gru(Recurrent):
    """Gated recurrent units: y_t = h_t = (1 - z) ⊙ n + z ⊙ h_{t-1}.

    The gates are r, z = σ(W x_t + b + U h_{t-1} + b') and n = tanh(W x_t + b + r ⊙ (U h_{t-1} + b')), each with its own
    W, U, b and b'.  A weight has the rows of the gates in the order r, z, n.
    (Cho et al. 2014, with the reset gate r applied after the product with U, as in PyTorch and cuDNN.)

    Shapes: x[b, t, i], h0[layers, b, h] -> y[b, t, h], h[layers, b, h].  With two directions, the first axis of h0 and
    h and the last axis of y are twice as large.  The last operand may be lengths, as in `rnn`: `(x, lengths)`,
    `(x, h0, lengths)`.

    The layers named by `dynamic` quantize their operands in each run, as in `lstm`.  With int8 weights, ONNX programs
    compute them in integers, by a `Scan` of standard operators, and PyTorch programs as in `lstm`.
    """

    gates = 3
    onnx_gates = (1, 0, 2)
    adds_products = False  # in the gate n, r multiplies U h
    torch_int8 = "Int8GRU"
    onnx_lengths = True
    example = "x -> gru(64, 2) -> head: linear(10)"

    def _onnx_options(self) -> dict[str, Any]:
        return {"linear_before_reset": 1}

    def _onnx_cell(self, spell: OnnxSpelling, entering: str, inside: str, h: str) -> str:
        sizes = spell.constant([self.hidden_size] * self.gates)
        (r, z, n), (r_inside, z_inside, n_inside) = (
            spell.add("Split", gates, sizes, outputs=self.gates, axis=1) for gates in (entering, inside)
        )
        reset = spell.add("Sigmoid", spell.add("Add", r, r_inside))
        update = spell.add("Sigmoid", spell.add("Add", z, z_inside))
        new = spell.add("Tanh", spell.add("Add", n, spell.add("Mul", reset, n_inside)))
        return spell.add("Add", new, spell.add("Mul", update, spell.add("Sub", h, new)))
