"""`partition`: outputs of a divided model do not change, and the split is the best one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import archc
from archc.analysis.devices import DEFAULT_LINK, Cpu, StageDevice
from archc.analysis.stage_costs import stage_costs
from archc.declaration.traits import DECODES
from archc.ir.graph import Graph
from archc.ir.scans import scan_end
from archc.ir.stages import Stages, entered_stage
from archc.ops.scan import ScanEnter, ScanExit
from archc.passes.partition import Partition
from archc.passmanager.calibration import Calibration
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.passes.graphs import Build, outputs, run
from tests.passes.partitioned import GPT, entries, figures, notes, refused
from tests.passes.splits import best_bottleneck

SPECS = Path(__file__).parents[2] / "specs"

SKIPS = """
model m {
    input x: f32[N, 64]
    input z: f32[N, 64]
    a = x -> fc1: linear(64) -> relu
    c = a -> fc2: linear(64) -> relu -> fc3: linear(64)
    output early = a -> fc5: linear(8)
    output y = (a + c + z) -> fc4: linear(64)
}
"""


def stage_of(graph: Graph) -> dict[str, int]:
    """Return the stage of each layer by its path."""
    return {node.path: stage for node, stage in Stages(graph).of_node.items() if node.path is not None}


# Properties of every divided model ----------------------------------------------------------------------------

MODELS: dict[str, str | Path] = {
    "cnn": SPECS / "cnn.arch",
    "mlp": SPECS / "mlp.arch",
    "resnet18": SPECS / "resnet18.arch",
    "gpt": GPT,
    "skips": SKIPS,
}
BEFORE = {
    "cnn": "lowrank, prune(0.5, scheme = 'channel'), quant",
    "mlp": "lowrank, prune(0.5, scheme = 'channel'), quant",
    "resnet18": "fold, quant",
    "gpt": "quant(least = 0)",
    "skips": "prune(0.5)",
}


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("name", MODELS)
def test_the_divided_model_computes_the_same(name: str, compressed: bool, count: int) -> None:
    before = BEFORE[name] if compressed else ""
    values = {"width": 128} if name == "mlp" else None
    whole = archc.compile(MODELS[name], passes=before, values=values).graph
    compiled = archc.compile(MODELS[name], passes=f"{before}, partition({count})".lstrip(", "), values=values)
    graph = compiled.graph
    assert Stages(graph).count == count
    assert archc.parse(archc.print_graph(graph)) == graph
    calibration = Calibration(whole, seed=1)
    expected, actual = calibration.outputs(whole), calibration.outputs(graph)
    assert expected.keys() == actual.keys()
    for output in expected:
        assert torch.equal(expected[output], actual[output])
    assert figures(compiled)["bottleneck"] >= figures(compiled)["lower_bound"] > 0
    assert [one.layer for one in compiled.passes[-1].remarks if one.kind == "rewrote"] == [
        f"stage {number}" for number in range(count)
    ]


def test_a_tensor_enters_a_stage_once_for_all_consumers() -> None:
    text = """
    model m {
        input x: f32[N, 256]
        a = x -> fc1: linear(256)
        output y = (a -> fc2: linear(256)) + (a -> fc3: linear(256)) + x
    }
    """
    graph = archc.compile(text, passes="partition(2)").graph
    sent = [node.operands[0] for node in entries(graph)]
    assert len(sent) == len(set(sent)) > 1
    for node in graph.nodes():
        assert not (entered_stage(node.op) is not None and not graph.users(node))


def test_outputs_of_early_stages_are_not_sent_on() -> None:
    graph = archc.compile(SKIPS, passes="partition(2)").graph
    made = {name: value.producer for name, value in graph.outputs.items()}
    assert all(node is not None and entered_stage(node.op) is None for node in made.values())


def test_blocks_within_one_stage_keep_their_definition() -> None:
    printed = archc.print_graph(archc.compile(GPT, passes="partition(2, sizes = 'T=32')").graph)
    blocks = printed.partition("model gpt")[0]
    assert blocks.count("block Block ") == 1  # blocks that are in one stage share a definition


# The best split -----------------------------------------------------------------------------------------------

SMALL = {
    "chain": "output x -> a: linear(64) -> relu -> b: linear(128) -> tanh -> c: linear(16) -> d: linear(256)",
    "residual": "h = x -> a: linear(64) -> relu\n"
    " output h + (h -> b: linear(64)) -> c: linear(32) -> relu -> d: linear(8)",
    "branches": "a = x -> a: linear(32)\n b = x -> b: linear(128)\n c = x -> c: linear(16)\n"
    " output (a, b, c) -> concat(1) -> relu -> d: linear(8)",
    "tied": "layer e = linear(64)\n output x -> e -> relu -> b: linear(64) -> tanh -> e -> c: linear(64)",
    "constant": "b = ones((64,))\n output (x -> a: linear(64)) + b -> relu -> c: linear(64) + b",
}


def small(name: str) -> str:
    body = SMALL[name].replace("c: linear(64) + b", "c: linear(64)")
    return f"model m {{\n input x: f32[N, 64]\n {body}\n}}\n"


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", SMALL)
def test_no_split_is_faster(name: str, count: int) -> None:
    compiled = archc.compile(small(name), passes=f"partition({count}, sizes = 'N=4')")
    whole = archc.parse(small(name))
    best = best_bottleneck(whole, count, Cpu(), DEFAULT_LINK, {"N": 4})
    assert figures(compiled)["bottleneck"] == pytest.approx(best, rel=1e-9)
    assert figures(compiled)["lower_bound"] == pytest.approx(best, rel=1e-9)
    assert "no split is faster" in notes(compiled)[0]


@pytest.mark.parametrize("name", SMALL)
def test_no_split_that_fits_is_faster(name: str) -> None:
    whole = archc.parse(small(name))
    tried = set()
    for memory in (17_000, 20_000, 36_000, 40_000, 56_000):
        best = best_bottleneck(whole, 2, Cpu(), DEFAULT_LINK, {"N": 4}, memory)
        passes = f"partition(2, memory = {memory}B, sizes = 'N=4')"
        tried.add(math.isinf(best))
        if math.isinf(best):
            assert refused(small(name), passes).code == "does-not-fit"
            continue
        compiled = archc.compile(small(name), passes=passes)
        assert figures(compiled)["bottleneck"] == pytest.approx(best, rel=1e-9)
        graph = compiled.graph
        costs = stage_costs(graph, Stages(graph), [StageDevice("cpu", Cpu())] * 2, {"N": 4})
        assert max(cost.memory for cost in costs) <= memory
    assert True in tried


def test_of_equally_fast_splits_the_one_that_sends_least_is_chosen() -> None:
    """The last layer is the bottleneck, so the end of the first stage changes only the bytes sent."""
    text = """
    model m {
        input x: f32[N, 8]
        output x -> a: linear(64) -> relu -> b: linear(4) -> relu -> c: linear(4096) -> d: linear(4096)
    }
    """
    compiled = archc.compile(text, passes="partition(3)")
    costs = stage_costs(compiled.graph, Stages(compiled.graph), [StageDevice("cpu", Cpu())] * 3, {"N": 1})
    assert min(cost.sent for cost in costs[:2]) == 4 * 4
    assert stage_of(compiled.graph)["d"] == 2


def test_of_equally_cheap_cuts_one_between_blocks_is_chosen() -> None:
    text = """
    block B { input x  output x -> a: linear(8) -> b: linear(8) -> c: linear(8) }
    model m {
        input x: f32[N, 8]
        for i in 0..4 { x = x -> h[i]: B }
        output x -> wide: linear(4096) -> wider: linear(4096)
    }
    """
    graph = archc.compile(text, passes="partition(3)").graph
    small = [node for node in entries(graph) if node.operands[0].type.shape[1] == 8]
    assert small and all(node.scope is graph.scope for node in small)
    assert archc.print_graph(graph).count("block") == 1


def test_sizes_change_the_split() -> None:
    """A large batch moves `conv2` to the second stage: its time grows more than that of dense layers."""
    few, many = (archc.compile(SPECS / "cnn.arch", passes=f"partition(2, sizes = 'N={n}')").graph for n in (1, 256))
    assert stage_of(few)["fc1"] == 1 and stage_of(few)["conv2"] == 0
    assert stage_of(many)["conv2"] == 1


# Nodes that must be in one stage ------------------------------------------------------------------------------


def test_integers_are_sent_and_decoded_where_they_arrive() -> None:
    graph = archc.compile(SPECS / "mlp.arch", passes="quant, partition(3)").graph
    stages = Stages(graph)
    decoders = [node for node in graph.nodes() if node.op.has(DECODES)]
    assert decoders
    for node in decoders:
        assert all(stages.of_node[user] == stages.of_node[node] for user in graph.users(node))
    integers = [node for node in entries(graph) if node.operands[0].type.dtype.value == "u8"]
    assert integers and all(user.op.has(DECODES) for node in integers for user in graph.users(node))


def test_a_dequantize_with_uses_in_two_stages_is_in_both() -> None:
    text = """
    model m {
        input x: f32[N, 64]
        q, s, z = x -> q0: quantize(u8)
        d = (q, s, z) -> dequantize
        a = d -> fc1: linear(64) -> relu -> fc2: linear(64) -> relu
        output d + a -> fc3: linear(64)
    }
    """
    graph = archc.compile(text, passes="partition(2)").graph
    stages = Stages(graph)
    assert {stages.of_node[node] for node in graph.nodes() if node.op.has(DECODES)} == {0, 1}


def test_a_batch_norm_used_twice_is_in_one_stage() -> None:
    text = """
    model m {
        input x: f32[N, 16]
        layer bn = batch_norm
        output x -> fc1: linear(512) -> back: linear(16) -> bn -> fc2: linear(512) -> out: linear(16) -> bn -> tanh
    }
    """
    graph = archc.compile(text, passes="partition(2)").graph
    uses = [stage for node, stage in Stages(graph).of_node.items() if node.path == "bn"]
    assert len(uses) == 2 and len(set(uses)) == 1


def test_a_recurrence_is_in_one_stage() -> None:
    b = Build()
    x = b.rewriter.input("x", TensorType(DType.f32, (symbol("N"), symbol("T"), 16)))
    state = b.rewriter.input("state", TensorType(DType.f32, (symbol("N"), 16)))
    enter = b.rewriter.add(ScanEnter(1), [b.layer("linear", x, 16, name="fc1"), state])
    number, item, old = enter.results
    mixed = b.layer("add", b.layer("linear", item, 16, name="in"), b.layer("linear", old, 16, name="back"))
    new = b.layer("tanh", mixed)
    last, steps = b.rewriter.add(ScanExit(1, symbol("T")), [number, old, new, new]).results
    graph = b.done(b.layer("linear", b.layer("relu", steps), 16, name="fc2"), last)
    before = outputs(graph)
    run(graph, Partition(2, sizes="T=32"))
    stages = Stages(graph)
    assert stages.count == 2
    assert (
        len({stage for node, stage in stages.of_node.items() if scan_end(node.op) or node.path in ("in", "back")}) == 1
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in outputs(graph).items())


def test_a_stage_receives_an_input_to_read_a_size() -> None:
    text = """
    model m {
        input x: f32[B, T, 64]
        a = x -> fc1: linear(64) -> reshape((B * T, 64)) -> fc2: linear(64)
        output a -> fc3: linear(64) -> reshape((B, T, 64)) -> fc4: linear(64)
    }
    """
    compiled = archc.compile(text, passes="partition(2)")
    assert "stage 1 also receives `x`, to read the size B" in notes(compiled)
    costs = stage_costs(compiled.graph, Stages(compiled.graph), [StageDevice("cpu", Cpu())] * 2, {"B": 1, "T": 16})
    assert costs[1].received == 2 * 4 * 16 * 64
    assert figures(compiled)["bottleneck"] == max(cost.load for cost in costs)


def test_a_size_of_another_operand_needs_no_input() -> None:
    text = """
    model m {
        input x: f32[B, T, 64]
        a = x -> fc1: linear(64) -> reshape((B * T, 64)) -> fc2: linear(64)
        output x + (a -> fc3: linear(64) -> reshape((B, T, 64))) -> fc4: linear(64)
    }
    """
    compiled = archc.compile(text, passes="partition(2, sizes = 'T=64')")
    assert not any("to read the size" in note for note in notes(compiled))


# Diagnostics and remarks --------------------------------------------------------------------------------------


def test_little_gain_is_remarked_on() -> None:
    """A remark says that splitting gains little if one layer takes nearly all the time."""
    text = "model m {\n input x: f32[N, 2]\n output x -> a: linear(2) -> b: linear(4096) -> relu\n}\n"
    compiled = archc.compile(text, passes="partition(2, sizes = 'N=64')")
    gain = figures(compiled)["undivided"] / figures(compiled)["bottleneck"]
    assert gain < 1.1
    assert any(f"splitting gains little ({gain:.2f}x)" in note for note in notes(compiled))
    more = archc.compile(SPECS / "cnn.arch", passes="partition(2)")
    assert not any("splitting gains little" in note for note in notes(more))


def test_sizes_that_make_a_tensor_empty() -> None:
    text = "model m {\n input x: f32[N, 1, H, H]\n output x -> conv2d(4, 3) -> relu\n}\n"
    assert refused(text, "partition(2, sizes = 'H=2')").code == "size-too-small"
    assert Stages(archc.compile(text, passes="partition(2, sizes = 'H=3')").graph).count == 2


def test_a_model_without_operators_has_no_stages() -> None:
    text = "devices d { a = cpu }\nmodel m {\n input x: f32[N]\n output x\n}\n"
    for passes in ("partition(1)", "partition(devices = d)"):
        assert refused(text, passes).code == "too-many-stages"
