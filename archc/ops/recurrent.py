"""Recurrent layers: `rnn`, `lstm` and `gru`, several of them on top of one another, in one direction or in both."""

from __future__ import annotations

from typing import Any, Literal

from archc.operator.base import operator
from archc.operator.dtypes import FLOATS
from archc.ops.recurring import LENGTHS, Recurrent
from archc.types.attributes import attribute


@operator
class Rnn(Recurrent):
    """A plain recurrent layer: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), and y_t = h_t.

    (Elman 1990, "Finding Structure in Time".)  Shapes: x[b, t, i], h0[n, b, h] -> y[b, t, h], h[n, b, h], with n the
    number of layers; reading in both directions doubles n, and the last axis of y.

    Sequences of several lengths lie padded in one tensor, and an i64[b] behind all other operands says how long each
    is: `(x, lengths)`, `(x, h0, lengths)`.  Then the last state is the one at a sequence's own end, the reverse
    direction begins there, and results behind it are 0.  A length is at least 1: PyTorch refuses others when it runs.
    """

    example = "x -> rnn(128) -> head: linear(10)"

    nonlinearity: Literal["tanh", "relu"] = attribute("tanh", keyword=True, doc="what the sum goes through")

    @property
    def _torch_function(self) -> str:
        return f"rnn_{self.nonlinearity}"

    def _torch_options(self) -> dict[str, tuple[Any, Any]]:
        return {"nonlinearity": (self.nonlinearity, "tanh")}

    def _onnx_options(self) -> dict[str, Any]:
        name = self.nonlinearity.capitalize()
        return {"activations": [name] * (1 + self.bidirectional)}


@operator
class Lstm(Recurrent):
    """Long short-term memory: c_t = f ⊙ c_{t-1} + i ⊙ g and y_t = h_t = o ⊙ tanh(c_t).

    The gates i, f, o = σ(W x_t + b + U h_{t-1} + b') and g = tanh(…) have their rows in the order i, f, g, o.
    (Hochreiter and Schmidhuber 1997; Gers et al. 2000 for f.)  Shapes: x[b, t, i], h0[n, b, h], c0[n, b, h] ->
    y[b, t, h], h[n, b, h], c[n, b, h], with n the number of layers; reading in both directions doubles n, and the
    last axis of y.  Lengths, the last operand, are as in `rnn`: `(x, lengths)`, `(x, h0, c0, lengths)`.
    """

    gates = 4
    states = ("h", "c")
    dtypes = {"x": FLOATS, "h0": "x", "c0": "x", "lengths": LENGTHS}
    onnx_gates = (0, 3, 1, 2)
    example = "y, h, c = x -> encoder: lstm(128, bidirectional = true, return_state = true)"


@operator
class Gru(Recurrent):
    """Gated recurrent units: y_t = h_t = (1 - z) ⊙ n + z ⊙ h_{t-1} with n = tanh(W x_t + b + r ⊙ (U h_{t-1} + b')).

    The gates r, z = σ(…) and n have their rows in the order r, z, n.  (Cho et al. 2014, with the reset gate behind the
    product, as PyTorch and cuDNN have it.)  Shapes: x[b, t, i], h0[n, b, h] -> y[b, t, h], h[n, b, h], with n the
    number of layers; reading in both directions doubles n, and the last axis of y.  Lengths, the last operand, are as
    in `rnn`: `(x, lengths)`, `(x, h0, lengths)`.
    """

    gates = 3
    onnx_gates = (1, 0, 2)
    onnx_lengths = True
    example = "x -> gru(64, 2) -> head: linear(10)"

    def _onnx_options(self) -> dict[str, Any]:
        return {"linear_before_reset": 1}
