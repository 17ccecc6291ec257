"""Operator `lstm`, which can quantize the operands of its layers."""

from __future__ import annotations

from collections.abc import Sequence

from archc.declaration.base import OperatorError, operator
from archc.declaration.dtypes import FLOATS
from archc.declaration.spelling import OnnxSpelling, TorchSpelling, call, method
from archc.declaration.traits import ROUNDS_OPERANDS
from archc.ops.quantized_lstm import QUANTIZED_LSTM, has_integer_rows, integer_weights
from archc.ops.recurrent import LENGTHS, Recurrent, nested, split_operands
from archc.types.attributes import attribute
from archc.types.tensor_type import DType, TensorType


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
    zero point that span the range of x, and of all h_{t-1} of the batch in each step.  In ONNX Runtime these layers
    compute in integers if their weights are `int8(axis = 0)`.  PyTorch programs compute them in floats, which is more
    accurate: the integer LSTM of PyTorch has 7 bits for operands, and a single scale for a weight.
    """

    gates = 4
    states = ("h", "c")
    dtypes = {"x": FLOATS, "h0": "x", "c0": "x", "lengths": LENGTHS}
    onnx_gates = (0, 3, 1, 2)
    traits = (ROUNDS_OPERANDS.when("dynamic"),)
    torch_helpers = (*Recurrent.torch_helpers, QUANTIZED_LSTM)
    example = "y, h, c = x -> encoder: lstm(128, bidirectional = true, return_state = true)"

    dynamic: tuple[int, ...] = attribute((), keyword=True, doc="layers whose operands are quantized in each run")

    def check(self, types: Sequence[TensorType]) -> None:
        super().check(types)
        if any(not 0 <= layer < self.num_layers for layer in self.dynamic):
            raise OperatorError(
                "bad-attribute",
                f"`dynamic` of `lstm` names layers from 0 to {self.num_layers - 1}, got {self.dynamic}",
                attribute="dynamic",
            )
        if self.dynamic and types[0].dtype is not DType.f32:
            raise OperatorError("dtype-mismatch", f"a dynamic `lstm` expects f32, got {types[0]}", operand=0)

    def torch(self, spell: TorchSpelling) -> str:
        if not (self.dynamic and spell.rounds):
            return super().torch(spell)
        x, states, lengths = split_operands(spell.operands, spell.types)
        if not states:
            rows = (1 + self.bidirectional) * self.num_layers
            states = [method(x, "new_zeros", rows, spell.size(spell.types[0].shape[0]), self.hidden_size)] * 2
        weights = f"[{', '.join(spell.weights.values())}]"
        options = (self.bias, self.num_layers, self.bidirectional, self.dynamic, *([lengths] if lengths else []))
        result = call(QUANTIZED_LSTM.name, x, nested(states), weights, *options)
        return result if self.return_state else f"{result}[0]"

    def _onnx_layer(self, spell: OnnxSpelling, x: str, layer: int, lengths: str, states: Sequence[str]) -> list[str]:
        kinds = [self._of_layer(kind, layer) for kind in ("weight_ih", "weight_hh")]
        in_integers = layer in self.dynamic and all(has_integer_rows(spell.storages, names) for names in kinds)
        if not (in_integers and spell.contributed):
            return super()._onnx_layer(spell, x, layer, lengths, states)
        (w, *w_scales), (r, *r_scales) = (
            integer_weights(spell, names, self.onnx_gates, self.hidden_size) for names in kinds
        )
        given = [*states, "", ""][:2]
        inputs = [x, w, r, self._onnx_bias(spell, layer), lengths, *given, "", *w_scales, *r_scales]
        return self._onnx_node(spell, "DynamicQuantizeLSTM", inputs, domain="com.microsoft")
