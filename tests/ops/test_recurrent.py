"""Recurrent layers against `torch.nn`, and a formula written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor, nn

import archc
from archc.diagnostics import ArchcError
from archc.ir.coupling import Coupling
from archc.ops.recurrent import Gru, Lstm, Rnn
from tests.ops.harness import Case, case, random


class Flat:
    """PyTorch's module with its results as a plain tuple, or the first of them alone."""

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
        onnx_reference=False,  # it knows no ReLU here
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


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


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


def test_the_last_state_may_be_left_alone() -> None:
    source = archc.compile("model m { input x: f32[B, T, 4]  output x -> gru(8) -> linear(2) }").sources()["m.py"]
    assert "self.gru(x)[0]" in source
