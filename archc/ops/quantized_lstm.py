"""LSTM layers that quantize their operands in each run, in PyTorch and in ONNX Runtime.

ONNX has no such operator.  ONNX Runtime has `DynamicQuantizeLSTM`, in its own domain `com.microsoft`.  The layer
quantizes its whole operand x once, and the state h[t-1] of the whole batch in each step, each with a single scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archc.declaration.spelling import OnnxSpelling, TorchHelper
from archc.types.storage import Int8, Storage
from archc.types.tensor_type import DType

QUANTIZED_LSTM = TorchHelper(
    "_quantized_lstm",
    ("collections.abc.Sequence", "torch.Tensor"),
    '''\
def _quantized_lstm(
    x: Tensor,
    first: tuple[Tensor, Tensor],
    weights: Sequence[Tensor],
    bias: bool,
    num_layers: int,
    bidirectional: bool,
    dynamic: Sequence[int],
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run an LSTM whose layers `dynamic` round their operands to 8 bits.

    x: [N, T, C], lengths: [N] -> y: [N, T, H], and the last states h and c.
    """

    def rounded(v: Tensor) -> Tensor:
        if not v.numel():
            return v
        low = v.amin().clamp(max=0)
        step = (v.amax().clamp(min=0) - low) / 255
        scale = step + (step == 0)
        zero_point = (-low / scale).round()
        return (((v / scale).round() + zero_point).clamp(0, 255) - zero_point) * scale

    batch, steps = x.shape[:2]
    lengths = torch.full((batch,), steps) if lengths is None else lengths
    ends, time = lengths[:, None], torch.arange(steps).expand(batch, steps)
    size, directions = 4 if bias else 2, 2 if bidirectional else 1
    last = []
    for layer in range(num_layers):
        enter = rounded if layer in dynamic else torch.Tensor.clone
        results = []
        for reverse in range(directions):
            part = layer * directions + reverse
            w, u, *biases = weights[part * size : (part + 1) * size]
            order = torch.where(time < ends, ends - 1 - time, time) if reverse else time
            operand = x.gather(1, order[:, :, None].expand_as(x))
            gates = enter(operand) @ w.t() + sum(biases)
            h, c = first[0][part], first[1][part]
            made = []
            for step in range(steps):
                running = ends > step
                # After the end of a sequence, the kernel has its last state for one step, and then zeros.
                inside = enter(h * (ends >= step)) @ u.t()
                i, f, g, o = (gates[:, step] + inside).chunk(4, 1)
                state = f.sigmoid() * c + i.sigmoid() * g.tanh()
                result = o.sigmoid() * state.tanh()
                c, h = torch.where(running, state, c), torch.where(running, result, h)
                made.append(result * running)
            y = torch.stack(made, 1)
            results.append(y.gather(1, order[:, :, None].expand_as(y)))
            last.append((h, c))
        x = torch.cat(results, 2)
    return x, torch.stack([h for h, _ in last]), torch.stack([c for _, c in last])''',
)
"""Helper for the interpreter.  Emitted PyTorch programs compute such layers in floats."""


def has_integer_rows(storages: Mapping[str, Storage], names: Sequence[str]) -> bool:
    """Return whether `DynamicQuantizeLSTM` can read stored weights: int8, one scale or one for each row.

    The kernel takes one tensor of scales for both directions, so the weights of both must have the same form.
    """
    forms = {storages[name] for name in names}
    return len(forms) == 1 and forms <= {Int8(0), Int8(None)}


def integer_weights(
    spell: OnnxSpelling, names: Sequence[str], gates: Sequence[int], hidden: int
) -> tuple[str, str, str]:
    """Names of integers [d, i, 4h], scales [d, 4h] or [d], and zero points, for d directions.

    ONNX Runtime runs the added nodes once, when it loads the model.

    Args:
        names: the weight of each direction.
        gates: for each gate in the kernel's order, its position in the weight.
    """
    axis = spell.constant([0])

    def reordered(tensor: str) -> str:
        parts = spell.add("Split", tensor, spell.constant([hidden] * len(gates)), outputs=len(gates), axis=0)
        return spell.add("Concat", *(parts[gate] for gate in gates), axis=0)

    def stacked(tensors: Sequence[str]) -> str:
        rows = [spell.add("Unsqueeze", tensor, axis) for tensor in tensors]
        return rows[0] if len(rows) == 1 else spell.add("Concat", *rows, axis=0)

    storage = spell.storages[names[0]]
    by_row = isinstance(storage, Int8) and storage.axis == 0
    integers, scales = zip(*(spell.stored(name) for name in names), strict=True)
    q = stacked([spell.add("Transpose", reordered(each), perm=[1, 0]) for each in integers])
    scale = stacked([reordered(each) if by_row else each for each in scales])
    zeros = [[0] * (len(gates) * hidden) for _ in names] if by_row else [0 for _ in names]
    return q, scale, spell.constant(zeros, DType.i8)
