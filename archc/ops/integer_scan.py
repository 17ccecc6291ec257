"""Recurrent layers that compute in integers, as a `Scan` of standard ONNX operators.

ONNX has no `GRU` and no `RNN` for integers.  The product of all x with their weight is one `MatMulInteger` before the
`Scan`, and each step has one for the state h[t-1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from archc.declaration.sequences import OnnxSequences
from archc.declaration.spelling import OnnxSpelling
from archc.frozen_dataclass import frozen_dataclass
from archc.types.dims import maximum
from archc.types.storage import Int8, Storage
from archc.types.tensor_type import DType, TensorType

Cell = Callable[[OnnxSpelling, str, str, str], str]
"""Function that adds the nodes of a cell.

Its arguments are the spelling, W x + b of all gates, U h + b' of all gates, and h; the result is the next h.
"""


def is_int8(storage: Storage) -> bool:
    """Return whether `MatMulInteger` can read a stored weight: int8, with scales of rows or one scale."""
    return storage in (Int8(0), Int8(None))


@frozen_dataclass
class IntegerScan:
    """A recurrent layer in one or two directions, as one `Scan` for each direction.

    Attributes:
        cell: adds the nodes of the cell.
        gates: number of gates.
        hidden: size of the state.
    """

    spell: OnnxSpelling
    cell: Cell
    gates: int
    hidden: int

    def layer(self, x: str, directions: Sequence[Mapping[str, str]], lengths: str, state: str = "") -> list[str]:
        """Add a layer, and return its result and its last states: x[t, b, i] -> y[t, d, b, h], h[d, b, h].

        Args:
            directions: names of the parameters `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh` in each direction.
            lengths: name of the lengths of the sequences, i32[b]; empty if all steps count.
            state: name of the first states, [d, b, h]; empty for zeros.
        """
        spell = self.spell
        steps = self._steps(x)
        if steps:
            x = self._non_empty(x, steps)
        x_integers = spell.add("DynamicQuantizeLinear", x, outputs=3)
        long_lengths = spell.add("Cast", lengths, to=DType.i64) if lengths else ""
        results, ends = [], []
        for number, parameters in enumerate(directions):
            first = self._first(state, number)
            entering = self._product(x_integers, parameters, "weight_ih", "bias_ih")
            result, end = self._direction(entering, parameters, first, long_lengths, bool(number))
            if steps:
                result = spell.add("Slice", result, spell.constant([0]), steps, spell.constant([0]))
                end = spell.add("Where", spell.add("Equal", steps, spell.constant([0])), first, end)
            results.append(spell.add("Unsqueeze", result, spell.constant([1])))
            ends.append(spell.add("Unsqueeze", end, spell.constant([0])))
        if len(directions) == 1:
            return [*results, *ends]
        return [spell.add("Concat", *results, axis=1), spell.add("Concat", *ends, axis=0)]

    def _steps(self, x: str) -> str:
        """Number of steps of sequences that may be empty, i64[1]; empty if they have at least one step."""
        batch, steps, _ = self.spell.types[0].shape
        sequences = OnnxSequences(self.spell, batch, steps)
        may_be_empty = sequences.batch_may_be_empty or sequences.steps_may_be_empty
        return self.spell.add("Shape", x, start=0, end=1) if may_be_empty else ""

    def _non_empty(self, x: str, steps: str) -> str:
        """Append a step of zeros to sequences without steps: ONNX Runtime refuses to run a `Scan` on them."""
        spell = self.spell
        added = spell.add("Cast", spell.add("Equal", steps, spell.constant([0])), to=DType.i64)
        zeros = spell.constant([0, 0, 0]), spell.constant([0, 0])
        return spell.add("Pad", x, spell.add("Concat", zeros[0], added, zeros[1], axis=0))

    def _first(self, state: str, direction: int) -> str:
        """First state of a direction, [b, h]."""
        spell = self.spell
        if state:
            return spell.add("Gather", state, spell.constant(direction), axis=0)
        return spell.add("Expand", spell.constant(0.0), spell.shape(self._state.shape))

    @property
    def _state(self) -> TensorType:
        return self._type(self.hidden)

    def _type(self, width: int) -> TensorType:
        # An empty batch is padded to one sequence, see `OnnxSequences`.
        return TensorType(DType.f32, (maximum(self.spell.types[0].shape[0], 1), width))

    def _product(self, integers: Sequence[str], parameters: Mapping[str, str], weight: str, bias: str) -> str:
        """Product of a quantized operand and the transposed integers of a weight, in floats, and the bias."""
        spell = self.spell
        q, scale, zero_point = integers
        stored, weight_scale = spell.stored(parameters[weight])
        sums = spell.add("MatMulInteger", q, spell.add("Transpose", stored, perm=[1, 0]), zero_point)
        product = spell.add("Mul", spell.add("Cast", sums, to=DType.f32), spell.add("Mul", scale, weight_scale))
        return spell.add("Add", product, spell.weights[parameters[bias]]) if bias in parameters else product

    def _direction(
        self, entering: str, parameters: Mapping[str, str], first: str, lengths: str, reverse: bool
    ) -> tuple[str, str]:
        """Add the `Scan` of a direction, and return its results [t, b, h] and its last state [b, h]."""
        spell = self.spell
        sequences = [(entering, self._type(self.gates * self.hidden))]
        if lengths:
            if reverse:
                sequences[0] = self._reversed(entering, lengths), sequences[0][1]
            bounds = spell.constant(0), spell.add("Squeeze", spell.add("Shape", entering, start=0, end=1))
            sequences.append((spell.add("Range", *bounds, spell.constant(1)), TensorType(DType.i64, ())))
            ends = spell.add("Unsqueeze", lengths, spell.constant([1]))

        def step(states: Sequence[str], items: Sequence[str]) -> tuple[Sequence[str], Sequence[tuple[str, TensorType]]]:
            (h,) = states
            if not lengths:
                found = self.cell(spell, items[0], self._inside(h, parameters), h)
                return [found], [(found, self._state)]
            time = items[1]
            # After the end of a sequence, the state is its last one for one step, and then zero.
            counted = spell.add("Cast", spell.add("GreaterOrEqual", ends, time), to=DType.f32)
            found = self.cell(spell, items[0], self._inside(spell.add("Mul", h, counted), parameters), h)
            running = spell.add("Greater", ends, time)
            result = spell.add("Mul", found, spell.add("Cast", running, to=DType.f32))
            return [spell.add("Where", running, found, h)], [(result, self._state)]

        (end,), (result,) = spell.scan([(first, self._state)], sequences, step, reverse=reverse and not lengths)
        return self._reversed(result, lengths) if reverse and lengths else result, end

    def _inside(self, h: str, parameters: Mapping[str, str]) -> str:
        integers = self.spell.add("DynamicQuantizeLinear", h, outputs=3)
        return self._product(integers, parameters, "weight_hh", "bias_hh")

    def _reversed(self, sequences: str, lengths: str) -> str:
        """Reverse each sequence up to its own length."""
        return self.spell.add("ReverseSequence", sequences, lengths, time_axis=0, batch_axis=1)
