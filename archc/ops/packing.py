"""Padded sequences of several lengths in PyTorch: packed, run through recurrent layers, and padded again.

Packed, a batch holds its sequences' steps and nothing else.  PyTorch wants the lengths on the CPU, which is where it
says how many sequences are left in each step.
"""

from __future__ import annotations

from archc.operator.spelling import TorchHelper

_IMPORTS = ("torch.nn.utils.rnn.pack_padded_sequence", "torch.nn.utils.rnn.pad_packed_sequence")

RUN_PACKED = TorchHelper(
    "_run_packed",
    _IMPORTS,
    '''\
def _run_packed(
    layer: nn.RNNBase, x: Tensor, lengths: Tensor, first: Any = None
) -> tuple[Tensor, Any]:
    """Run a recurrent layer over padded sequences, each up to its own end.

    x: [N, T, C], lengths: [N] -> [N, T, H], zero behind each end, and the last states.
    """
    if x.shape[0] == 0:
        return layer(x, first)  # PyTorch packs no empty batch
    lengths = lengths.cpu()
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    packed, last = layer(packed, first)
    y, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
    return y, last''',
)
"""For a module: what it makes is nested as what the module makes."""

CALL_PACKED = TorchHelper(
    "_call_packed",
    _IMPORTS,
    '''\
def _call_packed(
    function: Callable[..., Any],
    x: Tensor,
    lengths: Tensor,
    first: Sequence[Tensor],
    *options: Any,
) -> tuple[Tensor, ...]:
    """Call `torch.lstm` or the like on padded sequences, each up to its own end.

    x: [N, T, C], lengths: [N] -> [N, T, H], zero behind each end, and the last states.
    """
    if x.shape[0] == 0:  # PyTorch packs no empty batch
        state = first if len(first) > 1 else first[0]
        return function(x, state, *options, True)
    lengths = lengths.cpu()
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    # Packed sequences are sorted by length, and so must be the states.
    first = [state.index_select(1, packed.sorted_indices) for state in first]
    state = first if len(first) > 1 else first[0]
    data, *last = function(packed.data, packed.batch_sizes, state, *options)
    packed = packed._replace(data=data)
    y, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
    return y, *(state.index_select(1, packed.unsorted_indices) for state in last)''',
)
"""For a function of `torch` and its weights: states go in as a list, and come out beside what else it makes."""
