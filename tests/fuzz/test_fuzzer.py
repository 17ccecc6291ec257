"""Tests of the fuzzer: coverage of operators, planted faults, shrinking, and crashes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archc
from archc.declaration.base import OPERATORS
from archc.declaration.traits import IDEMPOTENT
from archc.interpreter.evaluate import NodeFailure
from archc.ops.activation import Tanh
from archc.ops.scan import ScanEnter
from archc.passmanager import Pass
from archc.types.dims import evaluate as number_of
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from archc.weights.tensor import ArrayTensor
from tests.fuzz import campaign, checks, programs
from tests.fuzz.checks import check
from tests.fuzz.data import bind_scaled_weights, random_inputs, random_sizes
from tests.fuzz.minimize import minimized
from tests.fuzz.models import LARGE, MOST_STEPS, random_model
from tests.fuzz.operators import STRUCTURAL
from tests.fuzz.rounding import Reference, reference, without_small_weights
from tests.fuzz.tensors import CannotRun, Unsuitable, applied

TEXT = """\
block B {
    input x
    output x -> fc: linear(4) -> tanh
}
model m {
    input x: f32[N, 4]
    input z: f32[N, 4]
    a = x -> first: B
    b = z -> relu
    c = a + b
    for i in 0..2 { c = c -> h[i]: B }
    output y = c * 2
    output w = b -> sigmoid
}
"""


def test_models_are_valid_and_made_by_their_seeds() -> None:
    for seed in range(12):
        one, again = random_model(seed), random_model(seed)
        assert one == again
        graph = archc.parse(one.text)
        assert len(graph) >= 1 and len(one.operators) >= 5


def test_every_operator_is_reached() -> None:
    """All operators except `STRUCTURAL` occur in valid texts or in texts that PyTorch cannot run."""
    found: set[str] = set(STRUCTURAL)
    for seed in range(1000):
        model = random_model(seed)
        found.update(model.operators)
        if found >= set(OPERATORS):
            return
    raise AssertionError(f"no text has {sorted(set(OPERATORS) - found)}")


def test_sizes_include_0_and_1_if_these_are_valid() -> None:
    graph = archc.parse("model m { input x: f32[N, 2*T + 1]  output y = x -> tanh }")
    found = [sizes for seed in range(20) for sizes in random_sizes(graph, seed)]
    assert {0, 1} < {size for sizes in found for size in sizes.values()}
    for sizes in found:
        inputs = random_inputs(graph, sizes, 0)
        assert inputs is not None
        assert inputs["x"].shape == (sizes["N"], number_of(graph.inputs[0].type.shape[1], sizes=sizes))
    strict = archc.parse("model m { input x: f32[N, T]  y, places = x -> topk(3)  output y }")
    assert all(sizes["T"] >= 3 for seed in range(20) for sizes in random_sizes(strict, seed))


def test_a_correct_text_has_no_failures_and_many_comparisons() -> None:
    outcome = check(TEXT, 0)
    assert outcome.failures == []
    assert outcome.counts["comparisons"] >= 20


FAULTS = {
    "PyTorch": ("torch", lambda self, spell: f"torch.tanh({spell.operands[0]}) * 1.001"),
    "ONNX": ("onnx", lambda self, spell: spell.add("Softsign", spell.operands[0])),
    "types": ("torch", lambda self, spell: f"torch.tanh({spell.operands[0]}).unsqueeze(0)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found_and_shrunk(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The faults are a wrong spelling in one program or in all of them, and a wrong type."""
    name, wrong = FAULTS[fault]
    if fault == "PyTorch":  # the interpreter uses the same spelling, so only the emitted program is changed
        monkeypatch.setattr(programs, "emit", lambda graph, **names: _wrong_source(graph, **names))
    else:
        monkeypatch.setattr(Tanh, name, wrong)
    found = check(TEXT, 0).failures
    assert found
    signature = found[0].signature

    def fails(text: str) -> bool:
        return any(one.signature == signature for one in check(text, 0, only=found[0].stage).failures)

    small = minimized(TEXT, fails, seconds=20)
    assert fails(small)
    assert len(small.splitlines()) <= 5 and "tanh" in small


def _wrong_source(graph: archc.Graph, **names: Any) -> str:
    from archc.codegen.torch import emit

    source = emit(graph, **names)  # with a function or with a module, which depends on the seed
    return source.replace("torch.tanh(", "1.001 * torch.tanh(").replace("nn.Tanh()", "nn.Hardtanh()")


def test_a_pass_that_changes_the_function_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Tanh._traits_by_key, IDEMPOTENT, IDEMPOTENT)
    outcome = check("model m { input x: f32[N, 4]  output y = x -> tanh -> tanh -> tanh }", 0)
    assert [one.stage for one in outcome.failures][:1] == ["simplify"]


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "bf16"])
def test_rounding_is_allowed_and_no_more(dtype: str) -> None:
    """A sum in another order passes; an error of some hundred units in the last place fails."""
    text = f"model m {{ input x: {dtype}[N, 64]  output y = x -> sum(1)  output z = x -> argmax(1) }}"
    graph = archc.parse(text)
    bind_scaled_weights(graph, 0)
    inputs = random_inputs(graph, {"N": 5}, 0)
    assert inputs is not None
    found = reference(graph, inputs)
    columns = inputs["x"][:, torch.randperm(64, generator=torch.Generator().manual_seed(0))]
    assert found.difference("y", columns.sum(1)) is None
    unit = torch.finfo(columns.dtype).eps
    wrong = found.expected["y"] + 300 * unit * found.expected["y"].abs().max()
    assert "differ" in (found.difference("y", wrong) or "")
    assert found.difference("z", found.expected["z"] + 1) is not None


def test_a_long_sum_may_lose_more_digits() -> None:
    """A sequential sum of n numbers has an error of about √n units in the last place."""
    graph = archc.parse("model m { input x: f32[1, T]  output y = x -> mean(1) }")
    x = torch.rand(1, 2**18, generator=torch.Generator().manual_seed(0))
    found = reference(graph, {"x": x})
    unit = torch.finfo(torch.float32).eps
    assert found.difference("y", found.expected["y"] * (1 + 300 * unit)) is None
    assert "differ" in (found.difference("y", found.expected["y"] * (1 + 5000 * unit)) or "")


def test_an_index_that_depends_on_the_last_digit_may_be_either() -> None:
    graph = archc.parse("model m { input x: f32[N, 3]  output z = x * 0.1 -> argmax(1) }")
    bind_scaled_weights(graph, 0)
    next_to_one = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0)).item()
    found = reference(graph, {"x": torch.tensor([[1.0, next_to_one, -1.0], [1.0, 2.0, 0.0]])})
    assert found.difference("z", torch.tensor([0, 1])) is None
    assert found.difference("z", torch.tensor([0, 0])) is not None
    assert found.difference("z", torch.tensor([2, 1])) is not None


def test_numbers_that_are_almost_equal_may_be_equal() -> None:
    """A mean of equal numbers may differ from the number in the last place in another program."""
    graph = archc.parse("model m { input x: f32[N]  output z = (x -> relu) == 1.5 }")
    almost = torch.nextafter(torch.tensor(1.5), torch.tensor(2.0)).item()
    found = reference(graph, {"x": torch.tensor([almost, 1.6, 1.5])})
    assert found.expected["z"].tolist() == [False, False, True]
    assert found.difference("z", torch.tensor([True, False, True])) is None
    assert found.difference("z", torch.tensor([False, False, False])) is None
    assert found.difference("z", torch.tensor([False, True, True])) is not None


def test_a_model_may_divide_by_a_weight_that_is_rounded_to_0() -> None:
    graph = archc.parse("model m { input x: f32[N, 3]  output y = x / (parameter((3,))) }")
    x = {"x": torch.ones(2, 3)}
    for weight, finite in (([1.0, -2.0, 0.001], False), ([1.0, -2.0, 0.1], True)):
        bind_scaled_weights(graph, 0)
        assert graph.tensors is not None
        graph.tensors.set(next(iter(graph.weights)), ArrayTensor(np.array(weight, np.float32)))
        assert bool(without_small_weights(graph, x)["y"].isfinite().all()) is finite


def test_the_largest_of_nan_is_not_decided() -> None:
    graph = archc.parse("model m { input x: f32[N, 3]  v, p = x -> topk(1)  output v  output p }")
    for numbers, undecided in (([1.0, 2.0, 3.0], False), ([1.0, float("nan"), 3.0], True), ([1.0, 3.0, 3.0], True)):
        assert reference(graph, {"x": torch.tensor([numbers])}).undecided is undecided


def test_a_scan_has_a_limited_number_of_steps() -> None:
    """Seed 9278 chose an axis of 16 * (4*H + 3)^2 elements, which took minutes."""
    for seed in (9278, *range(40)):
        for node in archc.parse(random_model(seed).text).nodes():
            if isinstance(node.op, ScanEnter):
                assert number_of(node.operands[0].type.shape[1], LARGE) <= MOST_STEPS


def test_simplify_may_change_the_strides_that_choose_a_kernel() -> None:
    text = """model m {
        input x: f64[4, 1, 1]
        y = x -> a: gru(2) -> unflatten(2, (2,))
        output z = y -> b: lstm(3, bias = false)
    }"""
    assert check(text, 3040).failures == []


def test_the_index_of_the_minimum_of_equal_numbers_may_be_any() -> None:
    graph = archc.parse("model m { input x: f32[40, 6]  output z = x -> softmax -> sum(1) -> argmin }")
    inputs = random_inputs(graph, {}, 0)
    assert inputs is not None
    found = reference(graph, inputs)
    differences = [found.difference("z", torch.tensor(place)) for place in range(40)]
    assert differences.count(None) >= 38
    assert found.difference("z", torch.tensor(1000)) is not None


def test_a_process_that_dies_is_one_failure_and_later_seeds_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed 1 dies by SIGSEGV, and seed 3 before its text exists; finished seeds do not run again."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, os, signal, sys\n"
        "for seed in range(int(sys.argv[2]), int(sys.argv[3])):\n"
        "    print(json.dumps({'begin': seed}), flush=True)\n"
        "    if seed != 3: print(json.dumps({'text': f'text of {seed}'}), flush=True)\n"
        "    if seed in (1, 3): os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    print(json.dumps({'seed': seed, 'counts': {'comparisons': 1}, 'failures': []}), flush=True)\n"
    )
    monkeypatch.setattr(campaign, "WORKER", (str(worker),))
    monkeypatch.setattr(campaign, "shrunk", lambda path, failure: failure["text"])
    said: list[str] = []
    first = campaign.Campaign(0, 5, tmp_path / "state", said.append)
    assert not first.run(jobs=1)
    (block,) = first.done()
    assert block["counts"] == {"comparisons": 3}
    assert [one["seed"] for one in block["failures"]] == [1, 3]
    reason = f"killed by signal {signal.SIGSEGV.value}"
    assert [one["signature"] for one in block["failures"]] == [f"plain: dies: {reason}", f"generator: {reason}"]
    generator, plain = sorted((tmp_path / "state" / "failures").iterdir())
    assert "text of 1" in plain.read_text() and "text of" not in generator.read_text()
    again = campaign.Campaign(0, 5, tmp_path / "state", said.append)
    assert not again.run(jobs=1)
    assert again.done() == [block]


def test_a_worker_reports_its_results() -> None:
    tally = campaign.run_seeds(0, 1)
    assert tally.seeds == 1 and tally.counts["comparisons"] > 0
    json.dumps(tally.failures)
    assert programs.survives(lambda: None) and not programs.survives(lambda: os.abort())


def test_a_fault_of_archc_at_one_size_is_no_refusal_by_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(graph: archc.Graph, inputs: dict[str, torch.Tensor]) -> Reference:
        if len(inputs["x"]) == 1:
            raise KeyError("a fault of archc")
        return reference(graph, inputs)

    monkeypatch.setattr(checks, "reference", faulty)
    text = "model m { input x: f32[N, 4]  output y = x -> tanh }"
    seed = next(seed for seed in range(20) if {"N": 1} in random_sizes(archc.parse(text), seed))
    assert [one.kind for one in check(text, seed).failures] == ["KeyError"]


@pytest.mark.parametrize(("operator", "found"), [("tanh", ["pass-not-finite"]), ("log", [])])
def test_a_pass_may_make_infinities_only_of_infinities(
    operator: str, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(step: Pass, graph: archc.Graph, context: archc.Context) -> None:
        context.rewriter.set_weight("fc.bias", graph.weight_values("fc.bias") + np.float32(np.inf))

    monkeypatch.setattr(checks._Check, "pipeline", lambda self: "prune(0.4)")
    monkeypatch.setattr(type(checks._passes("prune(0.4)")[0]), "run", spoil)
    text = f"model m {{ input x: f32[N, 4]  output y = x -> fc: linear(8)  output z = x -> {operator} }}"
    assert [one.kind for one in check(text, 0, only="pipeline").failures] == found


def test_a_pass_after_which_a_model_does_not_run_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(step: Pass, graph: archc.Graph, context: archc.Context) -> None:
        raise NodeFailure(next(iter(graph.nodes())), [], {}, "a fault of the pass")

    monkeypatch.setattr(checks._Check, "pipeline", lambda self: "prune(0.4)")
    monkeypatch.setattr(type(checks._passes("prune(0.4)")[0]), "run", spoil)
    text = "model m { input x: f32[N, 4]  output y = x -> fc: linear(8) }"
    assert [one.kind for one in check(text, 0, only="pipeline").failures] == ["calibration-failed"]


def test_an_operator_that_pytorch_refuses_is_reported_at_symbolic_sizes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    type = TensorType(DType.f32, (symbol("N"), 4))
    operands = [(type, torch.ones(3, 4))]
    monkeypatch.setattr(Tanh, "torch", lambda self, spell: f"{spell.operands[0]}.reshape(7)")
    with pytest.raises(CannotRun):
        applied(Tanh(), operands, {"N": 3})
    with pytest.raises(Unsuitable):
        applied(OPERATORS["slice"]((symbol("N") * 2,)), operands, {"N": 3})
