"""Recurrent layers against `torch.nn`, and against the formula."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import archc
from archc.analysis.coupling import Coupling
from archc.codegen import onnx
from archc.codegen.torch.load import load_module
from archc.declaration.base import OperatorError
from archc.diagnostics import ArchcError
from archc.interpreter.evaluate import evaluate
from archc.ops.gru import Gru
from archc.ops.lstm import Lstm
from archc.ops.rnn import Rnn
from archc.types.tensor_type import DType, TensorType
from tests.codegen.torch_modules import graph_of
from tests.ops.harness import Case, case, random
from tests.ops.runtimes import at_every_level


class Flat:
    """Mixin of PyTorch's modules that returns a flat tuple of results, or only the first result."""

    state = False

    def forward(self, x: Tensor, *states: Tensor) -> Tensor | tuple[Tensor, ...]:
        given = states if len(states) < 2 else (states,)
        y, last = super().forward(x, *given)  # type: ignore[misc]  # of the module that it is mixed into
        if not self.state:
            return y  # type: ignore[no-any-return]
        return (y, *(last if isinstance(last, tuple) else (last,)))


class RNN(Flat, nn.RNN): ...


class LSTM(Flat, nn.LSTM): ...


class GRU(Flat, nn.GRU): ...


class Alone:
    """Mixin of PyTorch's modules that runs one sequence at a time, without packing."""

    def forward(self, x: Tensor, *operands: Tensor) -> Tensor | tuple[Tensor, ...]:
        *states, lengths = operands
        rows, ended = [], []
        for place, length in enumerate(lengths.tolist()):
            first = [state[:, place : place + 1].contiguous() for state in states]
            given = first if len(first) < 2 else [tuple(first)]
            y, last = super().forward(x[place : place + 1, :length], *given)  # type: ignore[misc]
            rows.append(nn.functional.pad(y, (0, 0, 0, x.shape[1] - length)))
            ended.append(last if isinstance(last, tuple) else (last,))
        if not self.state:  # type: ignore[attr-defined]  # `reference` sets it
            return torch.cat(rows)
        return (torch.cat(rows), *(torch.cat(one, 1) for one in zip(*ended, strict=True)))


class AloneRNN(Alone, nn.RNN): ...


class AloneLSTM(Alone, nn.LSTM): ...


class AloneGRU(Alone, nn.GRU): ...


def reference(make: Callable[..., nn.Module], layers: int = 1, state: bool = False, **options: object) -> nn.Module:
    module = make(5, 6, num_layers=layers, batch_first=True, **options)
    module.state = state  # type: ignore[assignment]
    return module


X = random(3, 7, 5)
H, C = random(4, 3, 6, seed=1), random(4, 3, 6, seed=2)
SYMBOLIC = [{0: "B", 1: "T"}]
WITH_STATE = [*SYMBOLIC, {1: "B"}]

CASES = [
    case(Rnn(6), X, reference(RNN), symbolic=SYMBOLIC),
    case(Rnn(6, bias=False, return_state=True), X, reference(RNN, bias=False, state=True)),
    case(
        Rnn(6, 2, nonlinearity="relu", bidirectional=True),
        X,
        reference(RNN, 2, nonlinearity="relu", bidirectional=True),
        onnx_reference=False,  # has no ReLU in `RNN`
    ),
    case(Lstm(6), X, reference(LSTM), symbolic=SYMBOLIC),
    case(Lstm(6, 3), X, reference(LSTM, 3)),
    case(Lstm(6, bias=False, return_state=True), X, reference(LSTM, bias=False, state=True)),
    case(Lstm(6, 2, bidirectional=True), X, reference(LSTM, 2, bidirectional=True)),
    case(
        Lstm(6, 2, bidirectional=True, return_state=True),
        (X, H, C),
        reference(LSTM, 2, bidirectional=True, state=True),
        symbolic=[*WITH_STATE, {1: "B"}],
    ),
    case(Gru(6), X, reference(GRU), symbolic=SYMBOLIC),
    case(Gru(6, 4, return_state=True), (X, H), reference(GRU, 4, state=True), symbolic=WITH_STATE),
    case(
        Gru(6, 2, bidirectional=True, bias=False),
        (X, H),
        reference(GRU, 2, bidirectional=True, bias=False),
        symbolic=WITH_STATE,
    ),
]

LENGTHS = torch.tensor([4, 7, 1])  # unsorted, with different lengths
PACKED = {"onnx_reference": False}  # `onnx.reference` ignores the lengths

CASES += [
    case(Rnn(6), (X, LENGTHS), reference(AloneRNN), symbolic=[*SYMBOLIC, {0: "B"}], **PACKED),
    case(
        Rnn(6, 2, nonlinearity="relu", bidirectional=True, return_state=True),
        (X, H, LENGTHS),
        reference(AloneRNN, 2, nonlinearity="relu", bidirectional=True, state=True),
        symbolic=[*WITH_STATE, {0: "B"}],
        **PACKED,
    ),
    case(Lstm(6, return_state=True), (X, LENGTHS), reference(AloneLSTM, state=True), symbolic=(), **PACKED),
    case(
        Lstm(6, 2, bidirectional=True, return_state=True),
        (X, H, C, LENGTHS),
        reference(AloneLSTM, 2, bidirectional=True, state=True),
        symbolic=[*WITH_STATE, {1: "B"}, {0: "B"}],
        **PACKED,
    ),
    case(
        Gru(6, 2, bidirectional=True),
        (X, LENGTHS),
        reference(AloneGRU, 2, bidirectional=True),
        symbolic=[{0: "B"}, {0: "B"}],
        **PACKED,
    ),
    case(
        Gru(6, 4, return_state=True, bias=False),
        (X, H, LENGTHS),
        reference(AloneGRU, 4, bias=False, state=True),
        symbolic=[*WITH_STATE, {0: "B"}],
        **PACKED,
    ),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


@pytest.mark.parametrize(
    ("op", "shapes", "dtypes", "code"),
    [
        (Lstm(6), [(3, 7, 5), (3,)], "f32 i32", "dtype-mismatch"),
        (Lstm(6), [(3, 7, 5), (3,)], "f32 f32", "operand-count"),
        (Lstm(6), [(3, 7, 5), (1, 3, 6), (3,)], "f32 f32 i64", "operand-count"),
        (Lstm(6), [(3, 7, 5), (1, 3, 6), (1, 3, 6), (3,), (3,)], "f32 f32 f32 i64 i64", "operand-count"),
        (Gru(6), [(3, 7, 5), (3,), (1, 3, 6)], "f32 i64 f32", "operand-order"),
        (Gru(6), [(3, 7, 5), (3,), (3,)], "f32 i64 i64", "operand-order"),
        (Gru(6), [(3,), (3, 7, 5)], "i64 f32", "operand-order"),
        (Gru(6), [(3,), (3, 7, 5), (1, 3, 6)], "i32 f32 f32", "operand-order"),
        (Gru(6), [(3, 7), (3,)], "i64 i64", "dtype-mismatch"),  # ids without an embedding
        (Gru(6), [(3,)], "i64", "dtype-mismatch"),
        (Gru(6), [(3, 7, 5), (4,)], "f32 i64", "shape-mismatch"),
        (Gru(6), [(3, 7, 5), (3, 1)], "f32 i64", "rank-mismatch"),
    ],
)
def test_lengths_that_do_not_fit(op: Lstm | Gru, shapes: list[tuple[int, ...]], dtypes: str, code: str) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType(dtype), shape) for dtype, shape in zip(dtypes.split(), shapes, strict=True)])
    assert caught.value.code == code


def test_a_sequence_of_no_steps_is_refused() -> None:
    text = "model m { input x: f32[B, T, 4]  input lengths: i64[B]  output y = (x, lengths) -> rnn(8) }"
    graph = archc.compile(text).graph
    with pytest.raises(RuntimeError, match="greater than 0"):
        evaluate(graph, {"x": random(2, 3, 4), "lengths": torch.tensor([3, 0])})
    data = {"x": random(2, 3, 4).numpy(), "lengths": torch.tensor([3, 0]).numpy()}
    with pytest.raises(ArchcError, match="accepts integers from 1 to 3"):
        archc.compile(text, calibration=data)


def test_a_second_operand_of_lstm_needs_a_third() -> None:
    with pytest.raises(ArchcError) as raised:
        archc.parse("model m { input x: f32[B, T, 4]  input h: f32[1, B, 8]  output y = (x, h) -> lstm(8) }")
    assert [found.code for found in raised.value.diagnostics] == ["operand-count"]


def test_all_gates_and_directions_of_a_hidden_feature_go_together() -> None:
    text = """model m {
        input x: f32[B, T, 4]
        output y = x -> encoder: lstm(6, 2, bidirectional = true) -> head: linear(3)
    }"""
    group = next(group for group in Coupling(archc.parse(text)).groups if group.reason is None)
    rows = {path: len(elements) for (path, axis), elements in group.slices.items() if axis == 0}
    assert rows["encoder.weight_ih_l0"] == rows["encoder.weight_hh_l1_reverse"] == rows["encoder.bias_hh_l0"] == 4
    columns = {path: len(elements) for (path, axis), elements in group.slices.items() if axis == 1}
    assert columns["encoder.weight_hh_l0"] == 1
    assert columns["encoder.weight_ih_l1"] == columns["head.weight"] == 2


TAGGER = """model tagger(hidden = 8) {
    input x: f32[B, T, 4]
    y, h, c = x -> encoder: lstm(hidden, 2, bidirectional = true, return_state = true)
    output tags = y -> head: linear(3)
    output last = h + c
}"""


def test_the_emitted_module_reads_as_one_would_write_it() -> None:
    source = archc.compile(TAGGER).sources()["tagger.py"]
    assert "self.encoder = nn.LSTM(4, 8, num_layers=2, batch_first=True, bidirectional=True)" in source
    assert "y, (h, c) = self.encoder(x)" in source


def test_an_unused_last_state_is_not_unpacked() -> None:
    source = archc.compile("model m { input x: f32[B, T, 4]  output x -> gru(8) -> linear(2) }").sources()["m.py"]
    assert "self.gru(x)[0]" in source


PACKED_TAGGER = """model tagger(hidden = 8) {
    input x: f32[B, T, 4]
    input lengths: i64[B]
    y, h, c = (x, lengths) -> encoder: lstm(hidden, bidirectional = true, return_state = true)
    again = (y, h, c, lengths) -> further: lstm(hidden, bidirectional = true)
    shared = (y, lengths) -> twin: lstm(hidden, bidirectional = true, weight_ih_l0 = further.weight_ih_l0)
    output tags = again + shared -> head: linear(3)
    output last = h + c
}"""


def test_lengths_are_packed_in_the_emitted_module() -> None:
    source = archc.compile(PACKED_TAGGER).sources()["tagger.py"]
    assert "from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence" in source
    assert "y, (h, c) = _run_packed(self.encoder, x, lengths)" in source
    assert "_run_packed(self.further, y, lengths, (h, c))[0]" in source
    assert source.count("def _run_packed(") == source.count("def _call_packed(") == 1
    plain = archc.compile(TAGGER).sources()["tagger.py"]
    assert "packed" not in plain


@pytest.mark.parametrize("lengths", [[7, 7, 7], [1, 6, 3], []])
def test_programs_with_lengths_agree(lengths: list[int], tmp_path: Path) -> None:
    """The emitted module, with and without shared weights, and the ONNX model agree with the graph."""
    made = archc.compile(PACKED_TAGGER)
    made.write(tmp_path, emit=("torch", "onnx"))
    feeds = {"x": random(len(lengths), 7, 4), "lengths": torch.tensor(lengths, dtype=torch.int64)}
    expected = evaluate(made.graph, feeds)
    with torch.no_grad():
        tags, last = load_module(tmp_path / "tagger.py").load()(*feeds.values())
    arrays = onnx.run(tmp_path / "tagger.onnx", {name: tensor.numpy() for name, tensor in feeds.items()})
    for name, found in (("tags", tags), ("last", last)):
        torch.testing.assert_close(found, expected[name])
        torch.testing.assert_close(torch.from_numpy(arrays[name]), expected[name], rtol=1e-4, atol=1e-5)
    without = evaluate(made.graph, {**feeds, "lengths": torch.full((len(lengths),), 7)})["last"]
    assert torch.equal(without, expected["last"]) == all(length == 7 for length in lengths)


def test_padding_has_no_effect_and_no_gradient(tmp_path: Path) -> None:
    made = archc.compile(PACKED_TAGGER)
    made.write(tmp_path, emit=("torch",))
    model = load_module(tmp_path / "tagger.py").load()
    x, lengths = random(3, 7, 4).requires_grad_(), torch.tensor([4, 7, 1])
    inside = torch.arange(7) < lengths[:, None]
    tags, last = model(x, lengths)
    (tags[inside].sum() + last.sum()).backward()
    assert torch.equal(x.grad.abs().sum(2) > 0, inside)
    noisy = torch.where(inside[..., None], x, 1e6)
    torch.testing.assert_close(model(noisy, lengths)[1], last)


WITHOUT_STEPS = {
    op: f"""model m {{
        input x: f32[N, T, 4]
        input lengths: i64[N]
        {" ".join(f"input {state}: f32[4, N, 6]" for state in states)}
        plain = x -> {op}(6)
        y, {", ".join(f"a_{state}" for state in states)} = x -> {op}(6, return_state = true)
        z, {", ".join(states)} = (x, {", ".join(states)}) -> {op}(6, 2, bidirectional = true, return_state = true)
        packed = (x, lengths) -> {op}(6)
        output plain
        output y
        output z
        output packed
        {" ".join(f"output new_{state} = a_{state}" for state in states)}
        {" ".join(f"output last_{state} = {state}" for state in states)}
    }}"""
    for op, states in {"rnn": ["h"], "lstm": ["h", "c"], "gru": ["h"]}.items()
}


@pytest.mark.parametrize("op", WITHOUT_STEPS)
@pytest.mark.parametrize("batch", [0, 2])
def test_without_steps_the_last_states_are_the_first_ones(op: str, batch: int) -> None:
    """The ONNX model supports sequences without steps, which PyTorch rejects."""
    graph = graph_of(WITHOUT_STEPS[op])
    model = onnx.to_model(graph)
    arrays = {"x": np.zeros((batch, 0, 4), "f"), "lengths": np.zeros(batch, "i8")}
    arrays |= {name: np.random.rand(4, batch, 6).astype("f") for name in ("h", "c")[: 1 + (op == "lstm")]}
    for level, found in at_every_level(model, arrays):
        results = dict(zip(graph.outputs, found, strict=True))
        shapes = [results[name].shape for name in ("plain", "y", "z", "packed")]
        assert shapes == [(batch, 0, 6), (batch, 0, 6), (batch, 0, 12), (batch, 0, 6)], level
        for name in arrays.keys() - {"x", "lengths"}:
            np.testing.assert_array_equal(results[f"last_{name}"], arrays[name], level)
            np.testing.assert_array_equal(results[f"new_{name}"], np.zeros((1, batch, 6)), level)


def test_pruning_follows_states_beside_lengths() -> None:
    """The lengths share only the batch axis with other tensors, and the batch axis is never pruned."""
    inside = PACKED_TAGGER.replace("h + c", "h[-1] + c[-1] -> linear(2)")
    plain, packed = (
        sorted((group.reason or "", sorted(group.slices)) for group in Coupling(archc.parse(text)).groups)
        for text in (inside.replace(", lengths)", ")"), inside)
    )
    assert any(not reason for reason, _ in packed)
    assert packed == plain
