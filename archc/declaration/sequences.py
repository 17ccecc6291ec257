"""Batches of sequences for recurrent layers: packing in PyTorch, and empty batches in ONNX.

PyTorch packs padded sequences of different lengths: a packed batch holds only their valid steps.  PyTorch needs the
lengths on the CPU, to compute the number of sequences in each step.

ONNX Runtime crashes on `LSTM` and `GRU` with a batch of 0, and on `GRU` with 0 steps if no lengths are given.  So an
empty batch is reshaped to a batch of one sequence with 0 steps.  Both have no elements, so the `Reshape` is valid.
"""

from __future__ import annotations

from collections.abc import Sequence

from archc.declaration.spelling import OnnxSpelling, TorchHelper
from archc.frozen_dataclass import frozen_dataclass
from archc.types.dims import maximum
from archc.types.extent_solver import Extent
from archc.types.tensor_type import DType

_IMPORTS = ("torch.nn.utils.rnn.pack_padded_sequence", "torch.nn.utils.rnn.pad_packed_sequence")
_CLASS = "torch.nn.utils.rnn.PackedSequence"

RUN_PACKED = TorchHelper(
    "_run_packed",
    _IMPORTS,
    '''\
def _run_packed(
    layer: nn.Module, x: Tensor, lengths: Tensor, first: Any = None
) -> tuple[Tensor, Any]:
    """Run a recurrent layer over padded sequences, each up to its own length.

    x: [N, T, C], lengths: [N] -> y: [N, T, H] and the last states.
    y is zero after the end of each sequence.
    """
    if x.shape[0] == 0:
        return layer(x, first)  # PyTorch cannot pack an empty batch
    lengths = lengths.cpu()
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    packed, last = layer(packed, first)
    y, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
    return y, last''',
)
"""Helper for a module such as `nn.LSTM`; its results are nested like those of the module."""

CALL_PACKED = TorchHelper(
    "_call_packed",
    (*_IMPORTS, _CLASS),
    '''\
def _call_packed(
    function: Callable[..., Any],
    x: Tensor,
    lengths: Tensor,
    first: Sequence[Tensor],
    *options: Any,
) -> tuple[Tensor, ...]:
    """Call `torch.lstm` or a similar function on padded sequences, each up to its own length.

    x: [N, T, C], lengths: [N] -> y: [N, T, H] and the last states.
    y is zero after the end of each sequence.
    """
    if x.shape[0] == 0:  # PyTorch cannot pack an empty batch
        state = first if len(first) > 1 else first[0]
        return function(x, state, *options, True)
    lengths = lengths.cpu()
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    # Packed sequences are sorted by length; the states must have the same order.
    first = [state.index_select(1, packed.sorted_indices) for state in first]
    state = first if len(first) > 1 else first[0]
    data, *last = function(packed.data, packed.batch_sizes, state, *options)
    # `torch.compile` cannot rebuild the result of `packed._replace`.
    packed = PackedSequence(data, *packed[1:])
    y, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
    return y, *(state.index_select(1, packed.unsorted_indices) for state in last)''',
)
"""Helper for a function such as `torch.lstm`.

It takes a list of initial states, and returns y and the last states.
"""


@frozen_dataclass
class OnnxSequences:
    """Workarounds for empty batches and empty sequences in a recurrent operator of ONNX.

    They add no nodes if `batch` and `steps` are known to be at least 1.

    Attributes:
        batch: the number of sequences.
        steps: the length of the padded sequences.
    """

    spell: OnnxSpelling
    batch: Extent
    steps: Extent

    @property
    def batch_may_be_empty(self) -> bool:
        """Return whether the batch may be empty."""
        return _may_be_empty(self.batch)

    @property
    def steps_may_be_empty(self) -> bool:
        """Return whether the sequences may have no steps."""
        return _may_be_empty(self.steps)

    def non_empty(self, x: str) -> str:
        """Reshape an empty batch of sequences [t, b, i], so that the operator gets at least one sequence."""
        if not self.batch_may_be_empty:
            return x
        width = self.spell.types[0].shape[2]
        return self.spell.add("Reshape", x, self.spell.shape((-1, maximum(self.batch, 1), width)))

    def initial_states(self, states: Sequence[str]) -> list[str]:
        """Pad the initial states [n, b, h] of an empty batch, so that the operator gets at least one sequence."""
        return [self._padded(state, axis=1, rank=3) for state in states]

    def lengths(self, given: str) -> str:
        """Pad the lengths [b] of an empty batch, so that the operator gets at least one sequence."""
        return self._padded(given, axis=0, rank=1)

    def without_padding(self, x: str, lengths: str) -> str:
        """Sequences [t, b, i] with zeros after the ends; from the results of `non_empty` and `lengths`."""
        spell = self.spell
        steps = spell.add("Squeeze", spell.add("Shape", x, start=0, end=1))
        time = spell.add("Range", spell.constant(0), steps, spell.constant(1))
        ends = spell.add("Unsqueeze", spell.add("Cast", lengths, to=DType.i64), spell.constant([0, 2]))
        counted = spell.add("Less", spell.add("Unsqueeze", time, spell.constant([1, 2])), ends)
        return spell.add("Where", counted, x, spell.constant(0.0))

    def full_lengths(self, x: str) -> str:
        """Lengths [b] of sequences without padding, from the result of `non_empty`."""
        steps = self.spell.add("Cast", self.spell.add("Shape", x, start=0, end=1), to=DType.i32)
        return self.spell.add("Expand", steps, self.spell.shape((maximum(self.batch, 1),)))

    def final_states(self, states: Sequence[str], first: Sequence[str]) -> list[str]:
        """Last states [n, b, h] for the actual batch; they equal the initial states if there are no steps.

        Args:
            states: the last states that the ONNX operator returns.
            first: the initial states before padding; empty if they are zeros.
        """
        spell = self.spell
        if self.batch_may_be_empty:
            bounds = (spell.constant([0]), spell.shape((self.batch,)), spell.constant([1]))
            states = [spell.add("Slice", state, *bounds) for state in states]
        if first and self.steps_may_be_empty:
            empty = spell.add("Equal", spell.shape((self.steps,)), spell.constant([0]))
            states = [spell.add("Where", empty, *both) for both in zip(first, states, strict=True)]
        return list(states)

    def _padded(self, tensor: str, axis: int, rank: int) -> str:
        """Append zeros along the batch axis, number `axis`, so that an empty batch becomes one sequence."""
        if not self.batch_may_be_empty:
            return tensor
        added = maximum(self.batch, 1) - self.batch
        ends = [added if number == axis else 0 for number in range(rank)]
        return self.spell.add("Pad", tensor, self.spell.shape((*([0] * rank), *ends)))


def _may_be_empty(size: Extent) -> bool:
    return not isinstance(size, int) or size == 0
