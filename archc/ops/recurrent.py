"""Base of the recurrent operators.

An operator has one or several layers, in one direction or both.

Weights have PyTorch's names (`weight_ih_l0`, `weight_hh_l1_reverse`) and PyTorch's layout: a weight has the rows of all
gates, concatenated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from archc.declaration.base import Inference, Operator, OperatorError, operator
from archc.declaration.checks import check_positive
from archc.declaration.dtypes import FLOATS, INDICES, ONNX_F32
from archc.declaration.parameter import Parameter, uniform_fan_in
from archc.declaration.sequences import CALL_PACKED, RUN_PACKED, OnnxSequences
from archc.declaration.spelling import OnnxSpelling, TorchHelper, TorchModule, TorchSpelling, call, method
from archc.declaration.traits import FACTORED_STORAGE, IMPURE, ROUNDS_OPERANDS, Quantizable, Rigid, Traits
from archc.ops.integer_scan import IntegerScan, is_int8
from archc.ops.quantized_recurrent import QUANTIZED_RECURRENT, stored_dtypes
from archc.types.attributes import attribute
from archc.types.extent_solver import Extent
from archc.types.signature import Signature, parse_signature
from archc.types.tensor_type import DType, TensorType

_DIRECTIONS = ("", "_reverse")


class LayerParameters(Mapping[str, Parameter]):
    """Parameters of any number of layers: `weight_ih_l0`, `weight_ih_l0_reverse`, `weight_ih_l1`, …

    Iteration lists only the parameters of the first layer.  As in PyTorch, the initial values of all parameters are
    uniform within ±1/√h, with h the size of the state.
    """

    _KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    _NAME = re.compile(rf"({'|'.join(_KINDS)})_l(0|[1-9]\d*)(_reverse)?")

    def __getitem__(self, name: str) -> Parameter:
        found = self._NAME.fullmatch(name)
        if found is None:
            raise KeyError(name)
        return Parameter(uniform_fan_in("h"), when="bias" if found[1].startswith("bias") else None)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._NAME.fullmatch(name) is not None

    def __iter__(self) -> Iterator[str]:
        return (f"{kind}_l0" for kind in self._KINDS)

    def __len__(self) -> int:
        return len(self._KINDS)


LENGTHS = INDICES.without("i32")


@operator
class Recurrent(Operator, abstract=True):
    """Base of recurrent layers; a subclass declares its gates and the names of its states.

    The operands are x, optionally the initial states, and optionally the lengths of the sequences.  If the last operand
    has an integer dtype, it holds the lengths; states are floating-point tensors.

    The layers named by `dynamic` (`dynamic = (1, 2)`; the first is 0) round x and h_{t-1} to 8 bits, with a scale and a
    zero point that span the range of x up to the ends of the sequences, and of all h_{t-1} of the batch in each step.
    """

    family = "recurrent"
    torch_helpers: ClassVar[tuple[TorchHelper, ...]] = (RUN_PACKED, CALL_PACKED, QUANTIZED_RECURRENT)
    signature = (
        "x[b, t, i], weight_ih_l0[g*h, i], weight_hh_l0[g*h, h], bias_ih_l0[g*h]?, bias_hh_l0[g*h]? -> y[b, t, h]"
    )
    parameters: ClassVar[Mapping[str, Parameter]] = LayerParameters()
    dtypes = {"x": FLOATS, "h0": "x", "lengths": LENGTHS}
    onnx_dtypes = ONNX_F32
    traits: ClassVar[Traits] = (
        *(IMPURE.when("drops"), ROUNDS_OPERANDS.when("dynamic")),
        *(FACTORED_STORAGE, Quantizable("weight"), Rigid("t")),
    )
    gates: ClassVar[int] = 1
    """Number of gates."""
    states: ClassVar[tuple[str, ...]] = ("h",)
    """Names of the states."""
    onnx_gates: ClassVar[tuple[int, ...]] = (0,)
    """For each gate in ONNX's order, its position in PyTorch's order."""
    torch_int8: ClassVar[str] = ""
    """The class of `archc.runtime.recurrent` for dynamic layers; empty if PyTorch computes them in floats."""
    adds_products: ClassVar[bool] = True
    """True if every gate depends on W x + U h only, so that a bias can absorb the mean error of both."""
    onnx_lengths: ClassVar[bool] = False
    """True if ONNX Runtime needs sequence lengths to run the operator on sequences of 0 steps."""

    hidden_size: int = attribute(index="h", phrase="hidden features", doc="size of the state")
    num_layers: int = attribute(1, doc="number of stacked layers")
    bias: bool = attribute(True, keyword=True, doc="add the biases `bias_ih` and `bias_hh`")
    bidirectional: bool = attribute(
        False, keyword=True, doc="add a reverse direction; the results of both directions are concatenated"
    )
    dynamic: tuple[int, ...] = attribute((), keyword=True, doc="layers whose operands are quantized in each run")
    dropout: float = attribute(0.0, keyword=True, doc="probability of dropout between the layers, in training")
    return_state: bool = attribute(False, keyword=True, doc="return the last state of each layer as well")

    def check(self, types: Sequence[TensorType]) -> None:
        numbers = types[:-1] if has_lengths(types) else types
        for position, operand in enumerate(numbers if len(types) > 1 else ()):
            if operand.dtype.integral and operand.rank == 1:
                raise OperatorError(
                    "operand-order",
                    f"`{self.name}` expects lengths as the last operand, got {operand} before others",
                    operand=position,
                )
        check_positive(self, "hidden_size", "num_layers")
        if not 0 <= self.dropout < 1:
            raise OperatorError(
                "bad-attribute",
                f"`dropout` of `{self.name}` must be from 0 to below 1, got {self.dropout}",
                attribute="dropout",
            )
        if len(numbers) not in (1, 1 + len(self.states)):
            states = "".join(f", {state}" for state in self.states)
            raise OperatorError(
                "operand-count",
                f"`{self.name}` expects x, optionally the initial {' and '.join(self.states)}, and optionally lengths,"
                f" got {len(types)} operands",
                help=f"write the operands as a tuple: `(x{states}) -> ...`, `(x, lengths) -> ...`",
            )

        if any(not 0 <= layer < self.num_layers for layer in self.dynamic):
            raise OperatorError(
                "bad-attribute",
                f"`dynamic` of `{self.name}` names layers from 0 to {self.num_layers - 1}, got {self.dynamic}",
                attribute="dynamic",
            )
        if self.dynamic and types[0].dtype is not DType.f32:
            raise OperatorError("dtype-mismatch", f"a dynamic `{self.name}` expects f32, got {types[0]}", operand=0)

    @property
    def drops(self) -> bool:
        """Return whether the layer has dropout between its layers."""
        return self.dropout > 0 and self.num_layers > 1

    # The signature ----------------------------------------------------------------------------------------

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        width = "2*h" if self.bidirectional else "h"
        rows = "2*n" if self.bidirectional else "n"
        states = [f"{state}[{rows}, b, h]" for state in self.states]
        first = [] if has_lengths(types) and len(types) == 2 else [f"{state[0]}0{state[1:]}?" for state in states]
        operands = ["x[b, t, i]", *first, "lengths[b]?"]
        for layer, suffix in self._parts():
            wide = width if layer else "i"
            operands += [f"weight_ih_l{layer}{suffix}[g*h, {wide}]", f"weight_hh_l{layer}{suffix}[g*h, h]"]
            operands += [f"{kind}_l{layer}{suffix}[g*h]?" for kind in ("bias_ih", "bias_hh")]
        results = [f"y[b, t, {width}]", *(states if self.return_state else [])]
        return parse_signature(f"{', '.join(operands)} -> {', '.join(results)}")

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        return {**super().extents(types), "g": self.gates, "n": self.num_layers}

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[Any, ...]:
        return super().result_dtypes(types) * (1 + len(self.states) * self.return_state)

    def operand_range(self, types: Sequence[TensorType], position: int) -> tuple[int, Extent] | None:
        # PyTorch rejects sequences of length 0.
        return (1, types[0].shape[1] + 1) if types[position].dtype.integral else None

    def multiply_adds(self, inference: Inference, types: Sequence[TensorType]) -> Extent:
        batch, steps, width = types[0].shape
        hidden, directions = self.hidden_size, 1 + self.bidirectional
        total: Extent = 0
        for layer in range(self.num_layers):
            entering = directions * hidden if layer else width
            total = total + batch * steps * (entering + hidden) * (directions * self.gates * hidden)
        return total

    def _parts(self) -> Iterator[tuple[int, str]]:
        """Pairs (index of a layer, suffix of a direction), such as (0, "_reverse")."""
        directions = _DIRECTIONS[: 1 + self.bidirectional]
        return ((layer, suffix) for layer in range(self.num_layers) for suffix in directions)

    # PyTorch ----------------------------------------------------------------------------------------------

    def torch(self, spell: TorchSpelling) -> str:
        x, states, lengths = split_operands(spell.operands, spell.types)
        if not states:
            rows = (1 + self.bidirectional) * self.num_layers
            batch = spell.size(spell.types[0].shape[0])
            states = [method(x, "new_zeros", rows, batch, self.hidden_size)] * len(self.states)
        weights = f"[{', '.join(spell.weights.values())}]"
        if self.dynamic and spell.rounds:
            options = (self.bias, self.num_layers, self.bidirectional, self.dynamic, *([lengths] if lengths else []))
            cell, first = f'"{self._torch_function}"', f"[{', '.join(states)}]"
            result = call(QUANTIZED_RECURRENT.name, cell, x, first, weights, *options)
            return result if self.return_state else f"{result}[0]"
        function = f"torch.{self._torch_function}"
        drops = spell.training is not None and self.drops
        training = (self.dropout, spell.training) if drops else (0.0, False)
        others = (self.bias, self.num_layers, *training, self.bidirectional)
        if lengths is None:
            result = call(function, x, nested(states), weights, *others, True)
        else:
            result = call(CALL_PACKED.name, function, x, lengths, f"[{', '.join(states)}]", weights, *others)
        return result if self.return_state else f"{result}[0]"

    @property
    def _torch_function(self) -> str:
        return self.name

    def torch_module(self, spell: TorchSpelling) -> TorchModule | None:
        function = f"nn.{self.name.upper()}"
        named: dict[str, tuple[Any, Any]] = {
            **self._torch_options(),
            "num_layers": (self.num_layers, 1),
            "bias": (self.bias, True),
            "batch_first": (True, False),
            "dropout": (self.dropout, 0.0),
            "bidirectional": (self.bidirectional, False),
        }
        stored = stored_dtypes(spell.storages) if self.dynamic and self.torch_int8 else None
        if stored is not None:
            function = self.torch_int8
            del named["batch_first"]  # the class has no other layout
            named |= {"dynamic": (self.dynamic, ()), **stored}
        return TorchModule(
            function,
            {"input_size": spell.types[0].shape[2], "hidden_size": self.hidden_size},
            named,
            use=self._torch_packed_call if has_lengths(spell.types) else self._torch_call,
            unpack=self._unpack if self.return_state else "",
            encoded=stored is not None,
        )

    def _torch_options(self) -> dict[str, tuple[Any, Any]]:
        return {}

    def _torch_call(self, module: str, operands: Sequence[str]) -> str:
        x, *states = operands
        result = call(module, x, *([nested(states)] if states else []))
        return result if self.return_state else f"{result}[0]"

    def _torch_packed_call(self, module: str, operands: Sequence[str]) -> str:
        x, *states, lengths = operands
        result = call(RUN_PACKED.name, module, x, lengths, *([nested(states)] if states else []))
        return result if self.return_state else f"{result}[0]"

    @property
    def _unpack(self) -> str:
        """Left side of an assignment that unpacks the nested results of PyTorch's module."""
        return "{}, {}" if len(self.states) == 1 else "{}, ({}, {})"

    # ONNX -------------------------------------------------------------------------------------------------

    def onnx(self, spell: OnnxSpelling) -> str | tuple[str, ...]:
        x, first, given = split_operands(spell.operands, spell.types)
        batch, steps, _ = spell.types[0].shape
        sequences = OnnxSequences(spell, batch, steps)
        y = sequences.non_empty(spell.add("Transpose", x, perm=[1, 0, 2]))
        lengths = ""
        if given is not None:
            lengths = sequences.lengths(spell.add("Cast", given, to=DType.i32))
            if 0 in self.dynamic and self._in_integers(spell, 0):
                y = sequences.without_padding(y, lengths)  # padding has no part in the range
        elif self._needs_lengths(sequences, first):
            lengths = sequences.full_lengths(y)
        entering = sequences.initial_states(first)
        last: list[list[str]] = []
        for layer in range(self.num_layers):
            states = [self._rows(spell, state, layer) for state in entering]
            made, *ended = self._onnx_layer(spell, y, layer, lengths, states)
            outermost = layer == self.num_layers - 1 and sequences.batch_may_be_empty
            y = self._concatenated(spell, made, (steps, batch) if outermost else None)
            last.append(ended)
        y = spell.add("Transpose", y, perm=[1, 0, 2])
        if not self.return_state:
            return y
        ends = last[0]
        if self.num_layers > 1:
            ends = [spell.add("Concat", *rows, axis=0) for rows in zip(*last, strict=True)]
        return (y, *sequences.final_states(ends, first))

    def _needs_lengths(self, sequences: OnnxSequences, first: Sequence[str]) -> bool:
        """Return whether the ONNX operator needs lengths, because it may run on sequences of 0 steps.

        `GRU` crashes on 0 steps without lengths.  An empty batch also becomes a sequence of 0 steps (`OnnxSequences`).
        The other operators run on 0 steps, but without lengths their last states are wrong.  These states only matter
        if `return_state` is true.  If the operands include initial states, no lengths are needed: for 0 steps,
        `OnnxSequences.final_states` returns the initial states.
        """
        if self.onnx_lengths:
            return sequences.batch_may_be_empty or sequences.steps_may_be_empty
        return sequences.steps_may_be_empty and self.return_state and not first

    def _rows(self, spell: OnnxSpelling, state: str, layer: int) -> str:
        """Initial state of one layer, sliced from the tensor with the states of all layers."""
        if self.num_layers == 1:
            return state
        directions = 1 + self.bidirectional
        bounds = (spell.constant([number]) for number in (layer * directions, (layer + 1) * directions, 0))
        return spell.add("Slice", state, *bounds)

    def _onnx_layer(self, spell: OnnxSpelling, x: str, layer: int, lengths: str, states: Sequence[str]) -> list[str]:
        """Add one layer and return its y and its last states: x[t, b, i] -> y[t, d, b, h], with d directions."""
        if layer in self.dynamic and self._in_integers(spell, layer):
            return self._onnx_integer_layer(spell, x, layer, lengths, states)
        bias = self._onnx_bias(spell, layer)
        weights = [self._stacked(spell, self._of_layer(kind, layer)) for kind in ("weight_ih", "weight_hh")]
        return self._onnx_node(spell, self._onnx_name, [x, *weights, bias, lengths, *states])

    def _in_integers(self, spell: OnnxSpelling, layer: int) -> bool:
        """Return whether a dynamic layer can compute in integers, by the storage of its weights.

        An operator without `_onnx_cell` computes in floats.
        """
        if type(self)._onnx_cell is Recurrent._onnx_cell:
            return False
        names = (name for kind in ("weight_ih", "weight_hh") for name in self._of_layer(kind, layer))
        return all(is_int8(spell.storages[name]) for name in names)

    def _onnx_integer_layer(
        self, spell: OnnxSpelling, x: str, layer: int, lengths: str, states: Sequence[str]
    ) -> list[str]:
        """Add one layer that computes in integers; see `_onnx_layer`."""
        kinds = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ()))
        suffixes = _DIRECTIONS[: 1 + self.bidirectional]
        directions = [{kind: f"{kind}_l{layer}{suffix}" for kind in kinds} for suffix in suffixes]
        scan = IntegerScan(spell, self._onnx_cell, self.gates, self.hidden_size)
        # The other lengths only avoid faults of the operators for floats.
        given = lengths if has_lengths(spell.types) else ""
        return scan.layer(x, directions, given, *states)

    def _onnx_cell(self, spell: OnnxSpelling, entering: str, inside: str, h: str) -> str:
        """Add the nodes of a cell, and return the next state; see `archc.ops.integer_scan.Cell`."""
        raise NotImplementedError

    def _onnx_node(self, spell: OnnxSpelling, name: str, inputs: list[str], domain: str = "") -> list[str]:
        """Add the node of one layer and return its results; absent inputs have empty names."""
        while not inputs[-1]:
            inputs.pop()
        results = spell.add(
            name,
            *inputs,
            outputs=1 + len(self.states),
            domain=domain,
            hidden_size=self.hidden_size,
            direction="bidirectional" if self.bidirectional else "forward",
            **self._onnx_options(),
        )
        return list(results)

    def _onnx_bias(self, spell: OnnxSpelling, layer: int) -> str:
        """Both biases of one layer, as ONNX's operators take them; empty without a bias."""
        biases = (self._stacked(spell, self._of_layer(kind, layer)) for kind in ("bias_ih", "bias_hh") if self.bias)
        return spell.add("Concat", *biases, axis=1) if self.bias else ""

    def _of_layer(self, kind: str, layer: int) -> list[str]:
        """The names of a parameter in all directions of one layer."""
        return [f"{kind}_l{layer}{suffix}" for number, suffix in self._parts() if number == layer]

    def _stacked(self, spell: OnnxSpelling, names: Sequence[str]) -> str:
        """The parameters of all directions, with reordered gates, in one tensor."""
        parts = [self._reordered_gates(spell, spell.weights[name]) for name in names]
        axis = spell.constant([0])
        parts = [spell.add("Unsqueeze", part, axis) for part in parts]
        return parts[0] if len(parts) == 1 else spell.add("Concat", *parts, axis=0)

    def _concatenated(self, spell: OnnxSpelling, y: str, sizes: tuple[Extent, Extent] | None) -> str:
        """Concatenate the directions: y[t, d, b, h] -> y[t, b, d*h].

        Args:
            sizes: t and b of the result, needed if the batch may be empty; None for t and b of `y`.
        """
        width = (1 + self.bidirectional) * self.hidden_size
        if self.bidirectional:
            y = spell.add("Transpose", y, perm=[0, 2, 1, 3])
        if sizes is not None:
            return spell.reshape(y, (*sizes, width))
        if self.bidirectional:
            return spell.add("Reshape", y, spell.constant([0, 0, width]))
        return spell.add("Squeeze", y, spell.constant([1]))

    @property
    def _onnx_name(self) -> str:
        return self.name.upper()

    def _onnx_options(self) -> dict[str, Any]:
        return {}

    def _reordered_gates(self, spell: OnnxSpelling, weight: str) -> str:
        """The weight with its gates in ONNX's order; runtimes execute the added nodes once, at load time."""
        if self.onnx_gates == tuple(range(self.gates)):
            return weight
        gates = spell.add("Split", weight, spell.constant([self.hidden_size] * self.gates), outputs=self.gates, axis=0)
        return spell.add("Concat", *(gates[gate] for gate in self.onnx_gates), axis=0)


def has_lengths(types: Sequence[TensorType]) -> bool:
    """Return whether the last operand has the lengths of the sequences."""
    return len(types) > 1 and types[-1].dtype.integral


def split_operands(operands: Sequence[str], types: Sequence[TensorType]) -> tuple[str, list[str], str | None]:
    """Return three values: the sequences, the initial states, and the lengths.

    Without initial states, the second value is empty.  Without lengths, the third value is None.
    """
    x, *rest = operands
    return (x, rest[:-1], rest[-1]) if has_lengths(types) else (x, rest, None)


def nested(states: Sequence[str]) -> str:
    """PyTorch text of the states: a tuple if there are several, else the state itself."""
    return states[0] if len(states) == 1 else f"({', '.join(states)})"
