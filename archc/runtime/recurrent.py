"""Recurrent layers with int8 weights, which can quantize their operands in each run.

Kernels of torch for CPUs quantize the operand of a layer, and its state in each step,
and multiply the integers.  Layers compute in floats where such a kernel is not exact
or slower, in training, if the operands need gradients, and in a program that
`torch.compile`, `torch.export` or `torch.jit.trace` records.

archc writes this file beside programs with such layers, as `archc_recurrent.py`.
"""

import warnings
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archc.runtime.keeping import Keeping, recorded

__all__ = ["Int8GRU", "Int8LSTM", "Int8RNN", "Keeping"]


class Int8Recurrent(Keeping):
    """Base of recurrent layers with int8 weights.

    The layers `dynamic` quantize their operands.  A call has the operands and results
    of `nn.LSTM` with `batch_first`.  The weights in `dtypes` are floats.  Integer and
    float kernels need different forms of the weights; only those in use are cached.
    """

    gates: int
    states = 1  # number of states
    least: int  # minimum MACs in a step of a layer for an integer kernel

    if TYPE_CHECKING:

        def in_floats(self, *operands: Any) -> tuple[Tensor, ...]:
            """The result and the last states, with weights in floats."""

        def in_integers(self, *operands: Any) -> tuple[Tensor, ...]:
            """The result and the last states, with packed weights."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dynamic: tuple[int, ...] = (),
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        per_channel: bool = True,
        dtypes: tuple[tuple[str, torch.dtype], ...] = (),
    ):
        super().__init__()
        self.hidden_size, self.bias, self.dropout = hidden_size, bias, dropout
        self.ends = ("", "_reverse") if bidirectional else ("",)
        # Consecutive layers of one kind share a call: pairs (in integers, layers).
        self.groups: list[tuple[bool, list[int]]] = []
        rows, others = self.gates * hidden_size, dict(dtypes)
        for layer in range(num_layers):
            fast = layer in dynamic and rows * (input_size + hidden_size) >= self.least
            for end in self.ends:
                for kind, columns in ("ih", input_size), ("hh", hidden_size):
                    part = f"{kind}_l{layer}{end}"
                    dtype = others.get(f"weight_{part}", torch.int8)
                    weight = torch.zeros(rows, columns, dtype=dtype)
                    self.register_buffer(f"weight_{part}", weight)
                    if dtype is torch.int8:
                        scales = torch.ones(rows if per_channel else ())
                        self.register_buffer(f"weight_{part}_scale", scales)
                    else:
                        fast = False
                    if bias:
                        self.register_buffer(f"bias_{part}", torch.zeros(rows))
            if not self.groups or self.groups[-1][0] != fast:
                self.groups.append((fast, []))
            self.groups[-1][1].append(layer)
            input_size = len(self.ends) * hidden_size

    def forward(self, x: Any, first: Any = None) -> tuple[Any, Any]:
        """The result in the form of `x`, and the last states of all layers."""
        packed = isinstance(x, nn.utils.rnn.PackedSequence)
        data, sizes, order, back = x if packed else (x, None, None, None)
        states = self.first_states(data, sizes, order, first)
        ends = []
        for fast, layers in self.groups:
            if layers[0]:
                data = F.dropout(data, self.dropout, self.training)
            start, count = (len(self.ends) * n for n in (layers[0], len(layers)))
            enter = [state[start : start + count] for state in states]
            exact = fast and self.fits(data, *enter)  # autocast can change the dtype
            data, *end = self.run(exact, layers, data, sizes, enter)
            ends.append(end)
        last = [torch.cat(each) for each in zip(*ends)]
        if back is not None:
            last = [state.index_select(1, back) for state in last]
        y = x._replace(data=data) if packed else data
        return y, tuple(last) if self.states > 1 else last[0]

    def first_states(
        self, data: Tensor, sizes: Tensor | None, order: Tensor | None, given: Any
    ) -> list[Tensor]:
        """The initial states of all layers, in the order of packed sequences."""
        if given is None:
            batch: Any = data.shape[0] if sizes is None else sizes[0]
            if order is not None:
                batch = order.shape[0]  # also a size in recorded programs
            rows = len(self.ends) * sum(len(layers) for _, layers in self.groups)
            return [data.new_zeros(rows, batch, self.hidden_size)] * self.states
        states = list(given) if self.states > 1 else [given]
        return states if order is None else [s.index_select(1, order) for s in states]

    def fits(self, *operands: Tensor) -> bool:
        """Return whether an integer kernel is exact for these operands."""
        if self.training or not EXACT_RECURRENT or recorded():
            return False
        if torch.is_grad_enabled() and any(each.requires_grad for each in operands):
            return False
        kinds = {(each.is_cpu, each.dtype) for each in operands}
        return kinds == {(True, torch.float32)} and operands[0].numel() > 0

    def run(
        self,
        fast: bool,
        layers: list[int],
        data: Tensor,
        sizes: Tensor | None,
        states: list[Tensor],
    ) -> tuple[Tensor, ...]:
        """The result of consecutive layers, and their last states."""
        make = self.packed if fast else self.decoded
        parts = [f"l{layer}{end}" for layer in layers for end in self.ends]
        form = (fast, layers[0])
        weights = self.kept(form, lambda: [w for part in parts for w in make(part)])
        enter = states[0] if self.states == 1 else tuple(states)
        # The integer kernels need biases; `packed` has zeros for a layer without.
        drops = (self.dropout, self.training)
        options = (self.bias or fast, len(layers), *drops, len(self.ends) > 1)
        function = self.in_integers if fast else self.in_floats
        if sizes is None:
            return function(data, enter, weights, *options, True)
        return function(data, sizes, enter, weights, *options)

    def decoded(self, part: str) -> list[Tensor]:
        """Weights and biases of one direction of a layer, in floats."""
        buffers = self._buffers
        names = (f"weight_{kind}_{part}" for kind in ("ih", "hh"))
        weights = [
            buffers[name] * buffers[f"{name}_scale"].view(-1, 1)
            if f"{name}_scale" in buffers
            else buffers[name].float()
            for name in names
        ]
        return [*weights, *self.biases(part)] if self.bias else weights

    def biases(self, part: str) -> list[Tensor]:
        """The biases of one direction of a layer; zeros if it has none."""
        if self.bias:
            return [self._buffers[f"bias_{kind}_{part}"] for kind in ("ih", "hh")]
        return [torch.zeros(self.gates * self.hidden_size)] * 2

    def packed(self, part: str) -> list[Any]:
        """Weights and biases of one direction of a layer, for an integer kernel."""
        make = torch.ops.quantized.make_quantized_cell_params_dynamic
        return [make(*self.products(part), *self.biases(part), False)]

    def products(self, part: str) -> list[Any]:
        """The packed weights of the operand and of the state."""
        sides = []
        for kind, bias in zip(("ih", "hh"), self.biases(part)):
            name = f"weight_{kind}_{part}"
            scale = self._buffers[f"{name}_scale"]
            sides.append(packed_product(self._buffers[name], scale, bias))
        return sides


class Int8LSTM(Int8Recurrent):
    """`nn.LSTM` with int8 weights."""

    gates, states, least = 4, 2, 300_000

    def in_floats(self, *operands: Any) -> tuple[Tensor, ...]:
        return torch.lstm(*operands)

    def in_integers(self, *operands: Any) -> tuple[Tensor, ...]:
        return torch.quantized_lstm(*operands, dtype=torch.qint8, use_dynamic=True)


class Int8GRU(Int8Recurrent):
    """`nn.GRU` with int8 weights."""

    gates, least = 3, 90_000

    def in_floats(self, *operands: Any) -> tuple[Tensor, ...]:
        return torch.gru(*operands)

    def in_integers(self, *operands: Any) -> tuple[Tensor, ...]:
        return torch.quantized_gru(*operands)


class Int8RNN(Int8Recurrent):
    """`nn.RNN` with int8 weights; torch has a kernel for its products, not for its steps."""

    gates, least = 1, 600_000

    def __init__(self, *sizes: Any, nonlinearity: str = "tanh", **options: Any):
        super().__init__(*sizes, **options)
        self.nonlinearity = nonlinearity

    def in_floats(self, *operands: Any) -> tuple[Tensor, ...]:
        tanh = self.nonlinearity == "tanh"
        return (torch.rnn_tanh if tanh else torch.rnn_relu)(*operands)

    def run(
        self,
        fast: bool,
        layers: list[int],
        data: Tensor,
        sizes: Tensor | None,
        states: list[Tensor],
    ) -> tuple[Tensor, ...]:
        if not fast:
            return super().run(fast, layers, data, sizes, states)
        last: list[Tensor] = []
        for layer in layers:
            ends = []
            for end in self.ends:
                state = states[0][len(last)]
                y, state = self.scan(f"l{layer}{end}", data, sizes, state)
                ends.append(y)
                last.append(state)
            data = torch.cat(ends, -1)
        return data, torch.stack(last)

    def scan(
        self, part: str, data: Tensor, sizes: Tensor | None, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The result of one direction of a layer, and its last state, in integers."""
        enter, inside = self.kept(part, lambda: self.products(part))
        linear = torch.ops.quantized.linear_dynamic.default
        activation = torch.tanh if self.nonlinearity == "tanh" else torch.relu
        entering = linear(data, enter)
        steps = entering.unbind(1) if sizes is None else entering.split(sizes.tolist())
        back = part.endswith("_reverse")
        made = []
        for step in reversed(steps) if back else steps:
            if sizes is None:
                state = new = activation(step + linear(state, inside))
            else:
                running = len(step)  # the longest sequences are the first ones
                new = activation(step + linear(state[:running], inside))
                state = torch.cat([new, state[running:]])
            made.append(new)
        if back:
            made.reverse()
        return torch.stack(made, 1) if sizes is None else torch.cat(made), state


def packed_product(weight: Tensor, scale: Tensor, bias: Tensor) -> Any:
    """A weight and a bias in the layout of the kernels that quantize their operand."""
    scales = scale.expand(len(weight)).double()
    zeros = torch.zeros(len(weight), dtype=torch.int64, device="cpu")
    with warnings.catch_warnings():  # quantized tensors are deprecated
        warnings.simplefilter("ignore")
        q = torch._make_per_channel_quantized_tensor(weight, scales, zeros, 0)
    return torch.ops.quantized.linear_prepack(q, bias)


def has_exact_recurrent_kernels() -> bool:
    """Return whether torch has the kernels, and they add products without saturation.

    CPUs without VNNI add pairs of products in 16 bits, and the sums saturate.
    """
    if not (hasattr(torch, "quantized_lstm") and hasattr(torch, "quantized_gru")):
        return False
    ones, operators = torch.ones(64, 64, device="cpu"), torch.ops.quantized
    try:
        layer = packed_product((127 * ones).to(torch.int8), ones[0], 0 * ones[0])
        operators.make_quantized_cell_params_dynamic(layer, layer, *ones[:2], False)
        sums = operators.linear_dynamic(ones, layer, False)
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(sums, 127 * 64 * ones)


EXACT_RECURRENT = has_exact_recurrent_kernels()
