"""Operator `lstm`, which can quantize the operands of its layers."""

from __future__ import annotations

from collections.abc import Sequence

from archc.declaration.base import operator
from archc.declaration.dtypes import FLOATS
from archc.declaration.spelling import OnnxSpelling
from archc.ops.dynamic_quantize_lstm import has_integer_rows, integer_weights
from archc.ops.recurrent import LENGTHS, Recurrent


@operator
class Lstm(Recurrent):
    """Long short-term memory: c_t = f ⊙ c_{t-1} + i ⊙ g and y_t = h_t = o ⊙ tanh(c_t).

    The gates are i, f, o = σ(W x_t + b + U h_{t-1} + b') and g = tanh(W x_t + b + U h_{t-1} + b'), each with its own W,
    U, b and b'.  A weight has the rows of the gates in the order i, f, g, o.
    (Hochreiter and Schmidhuber 1997; Gers et al. 2000 for the forget gate f.)

    Shapes: x[b, t, i], h0[layers, b, h], c0[layers, b, h] -> y[b, t, h], h[layers, b, h], c[layers, b, h].  With two
    directions, the first axis of the states and the last axis of y are twice as large.  The last operand may be
    lengths, as in `rnn`: `(x, lengths)`, `(x, h0, c0, lengths)`.

    The layers named by `dynamic` (`dynamic = (1, 2)`; the first is 0) round x and h_{t-1} to 8 bits, with a scale and a
    zero point that span the range of x up to the ends of the sequences, and of all h_{t-1} of the batch in each step.
    With int8 weights, ONNX Runtime computes these layers in integers, and so do PyTorch programs on a CPU with VNNI.
    In PyTorch, the range of h_{t-1} spans only the sequences that have not ended.
    """

    gates = 4
    states = ("h", "c")
    dtypes = {"x": FLOATS, "h0": "x", "c0": "x", "lengths": LENGTHS}
    onnx_gates = (0, 3, 1, 2)
    torch_int8 = "Int8LSTM"
    example = "y, h, c = x -> encoder: lstm(128, bidirectional = true, return_state = true)"

    def _in_integers(self, spell: OnnxSpelling, layer: int) -> bool:
        kinds = [self._of_layer(kind, layer) for kind in ("weight_ih", "weight_hh")]
        return spell.contributed and all(has_integer_rows(spell.storages, names) for names in kinds)

    def _onnx_integer_layer(
        self, spell: OnnxSpelling, x: str, layer: int, lengths: str, states: Sequence[str]
    ) -> list[str]:
        (w, *w_scales), (r, *r_scales) = (
            integer_weights(spell, self._of_layer(kind, layer), self.onnx_gates, self.hidden_size)
            for kind in ("weight_ih", "weight_hh")
        )
        given = [*states, "", ""][:2]
        inputs = [x, w, r, self._onnx_bias(spell, layer), lengths, *given, "", *w_scales, *r_scales]
        return self._onnx_node(spell, "DynamicQuantizeLSTM", inputs, domain="com.microsoft")
