"""Recurrent layers that quantize their operands in each run, in PyTorch.

A layer quantizes its whole operand x once, and the state h[t-1] of the whole batch in each step, each with a single
scale, as `DynamicQuantizeLSTM` of ONNX Runtime does.  The operand is zero after the end of each sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archc.declaration.spelling import TorchHelper
from archc.ops.integer_scan import is_int8
from archc.types.storage import Dense, Int8, NarrowFloat, Storage
from archc.types.tensor_type import DType

QUANTIZED_RECURRENT = TorchHelper(
    "_quantized_recurrent",
    ("collections.abc.Sequence", "torch.Tensor"),
    '''\
def _quantized_recurrent(
    cell: str,
    x: Tensor,
    first: Sequence[Tensor],
    weights: Sequence[Tensor],
    bias: bool,
    num_layers: int,
    bidirectional: bool,
    dynamic: Sequence[int],
    lengths: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Run recurrent layers, of which the layers `dynamic` round their operands to 8 bits.

    cell: "rnn_tanh", "rnn_relu", "gru" or "lstm".
    x: [N, T, C], lengths: [N] -> y: [N, T, H], and the last states.
    """

    def rounded(v: Tensor) -> Tensor:
        if not v.numel():
            return v
        low = v.amin().clamp(max=0)
        step = (v.amax().clamp(min=0) - low) / 255
        scale = step + (step == 0)
        zero_point = (-low / scale).round()
        return (((v / scale).round() + zero_point).clamp(0, 255) - zero_point) * scale

    def next_states(
        entering: Tensor, inside: Tensor, states: list[Tensor]
    ) -> list[Tensor]:
        if cell == "lstm":
            i, f, g, o = (entering + inside).chunk(4, 1)
            c = f.sigmoid() * states[1] + i.sigmoid() * g.tanh()
            return [o.sigmoid() * c.tanh(), c]
        if cell == "gru":
            (r, z, n), (r_in, z_in, n_in) = entering.chunk(3, 1), inside.chunk(3, 1)
            new = (n + (r + r_in).sigmoid() * n_in).tanh()
            return [new + (z + z_in).sigmoid() * (states[0] - new)]
        total = entering + inside
        return [total.tanh() if cell == "rnn_tanh" else total.relu()]

    batch, steps = x.shape[:2]
    lengths = torch.full((batch,), steps) if lengths is None else lengths
    ends, time = lengths[:, None], torch.arange(steps).expand(batch, steps)
    x = torch.where((time < ends)[:, :, None], x, 0)  # padding has no part in the range
    size, directions = 4 if bias else 2, 2 if bidirectional else 1
    last = []
    for layer in range(num_layers):
        enter = rounded if layer in dynamic else torch.Tensor.clone
        results = []
        for reverse in range(directions):
            part = layer * directions + reverse
            w, u, *biases = weights[part * size : (part + 1) * size]
            b, b_inside = biases if bias else (0, 0)
            order = torch.where(time < ends, ends - 1 - time, time) if reverse else time
            operand = x.gather(1, order[:, :, None].expand_as(x))
            entering = enter(operand) @ w.t() + b
            states = [state[part] for state in first]
            made = []
            for step in range(steps):
                running = ends > step
                # After the end of a sequence, the state is its last one for one step, and then zero.
                inside = enter(states[0] * (ends >= step)) @ u.t() + b_inside
                found = next_states(entering[:, step], inside, states)
                made.append(found[0] * running)
                states = [torch.where(running, *each) for each in zip(found, states)]
            y = torch.stack(made, 1)
            results.append(y.gather(1, order[:, :, None].expand_as(y)))
            last.append(states)
        x = torch.cat(results, 2)
    return x, *(torch.stack(states) for states in zip(*last))''',
)
"""Helper for the interpreter.

Emitted programs have a class of `archc.runtime.recurrent`, or compute in floats.
"""


def stored_dtypes(storages: Mapping[str, Storage]) -> dict[str, tuple[Any, Any]] | None:
    """The arguments of a class of `archc.runtime.recurrent` for stored parameters, each with its default.

    None if the class has no such storage.
    """
    weights = {name: storage for name, storage in storages.items() if name.startswith("weight")}
    integers = {storage for storage in weights.values() if isinstance(storage, Int8)}
    floats = {name: storage for name, storage in weights.items() if not isinstance(storage, Int8)}
    others = [*floats.values(), *(storage for name, storage in storages.items() if name not in weights)]
    if len(integers) != 1 or not all(map(is_int8, integers)):
        return None
    if not all(isinstance(storage, NarrowFloat | Dense) for storage in others):
        return None
    dtypes = {
        name: storage.dtype if isinstance(storage, NarrowFloat) else DType.f32 for name, storage in floats.items()
    }
    return {"per_channel": (integers == {Int8(0)}, True), "dtypes": (tuple(dtypes.items()), ())}
