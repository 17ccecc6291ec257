"""Work, transfers and memory of stages, compared with formulas for the given sizes."""

from __future__ import annotations

import pytest

import archc
from archc.analysis.devices import Cpu, StageDevice
from archc.analysis.stage_costs import DeviceNodeCosts, StageCost, duration, stage_costs
from archc.ir.stages import Stages

DEVICE = Cpu(speed=1e6, bandwidth=1e3)
TEXT = """
model m {
    input x: f32[N, 8]
    input z: f32[N, 8]
    layer fc = linear(8, bias = false)
    a = x -> fc -> relu
    b = a -> to_stage(1) -> wide: linear(32)
    output y = (a -> to_stage(2)) + (b -> to_stage(2) -> back: linear(8)) + (z -> to_stage(2)) -> fc
}
"""


def costs(text: str = TEXT, **sizes: int) -> list[StageCost]:
    graph = archc.parse(text)
    stages = Stages(graph)
    return stage_costs(graph, stages, [StageDevice("p", DEVICE, link=100.0)] * stages.count, sizes)


def test_an_operator_takes_the_longer_of_arithmetic_and_movement() -> None:
    graph = archc.parse(
        "model m {\n    input x: f32[N, 8]\n    output x -> fc: linear(4) -> relu -> to_stage(1) -> relu\n}\n"
    )
    fc, relu, entry, _ = graph.nodes()
    moved = 4 * (8 + 32 + 4 + 4)  # operand, weight, bias, result
    slow_memory, slow_arithmetic = Cpu(speed=1e9, bandwidth=1e3), Cpu(speed=1e3, bandwidth=1e9)
    node_costs = DeviceNodeCosts(graph, {})
    assert node_costs.seconds(fc, slow_memory) == pytest.approx(moved / 1e3)
    assert node_costs.seconds(fc, slow_arithmetic) == pytest.approx(8 * 4 / 1e3)
    assert node_costs.seconds(relu, slow_arithmetic) == pytest.approx(4 * (4 + 4) / 1e9)
    assert node_costs.seconds(entry, slow_memory) == 0
    assert DeviceNodeCosts(graph, {"N": 10}).seconds(fc, slow_arithmetic) == pytest.approx(10 * 8 * 4 / 1e3)


def test_a_tensor_passes_through_the_stages_that_it_skips() -> None:
    received = [cost.received for cost in costs()]
    sent = [cost.sent for cost in costs()]
    x = z = a = y = 4 * 8
    b = 4 * 32
    assert received == [x + z, a + z, b + a + z]
    assert sent == [a + z, b + a + z, y]
    assert [cost.transfer for cost in costs()] == [(r + s) / 100 for r, s in zip(received, sent, strict=True)]


def test_outputs_leave_from_the_last_stage() -> None:
    early = TEXT.replace("output y", "output made = a -> early: linear(2)\n    output y")
    made = 4 * 2
    without, found = costs(), costs(early)
    assert [one.sent - other.sent for one, other in zip(found, without, strict=True)] == [made] * 3
    assert [one.received - other.received for one, other in zip(found, without, strict=True)] == [0, made, made]


def test_an_input_that_defines_a_size_is_sent_too() -> None:
    text = """
    model m {
        input x: f32[B, T, 8]
        output x -> reshape((B * T, 8)) -> to_stage(1) -> fc: linear(8) -> to_stage(2) -> reshape((B, T, 8)) -> relu
    }
    """
    x = 4 * 6 * 8
    assert [cost.received for cost in costs(text, B=2, T=3)] == [x, x + x, x + x]
    assert [cost.sent for cost in costs(text, B=2, T=3)] == [x + x, x + x, x]


def test_memory_counts_weights_once_per_stage_and_all_results() -> None:
    first, second, third = costs(N=2)
    shared = 4 * 8 * 8
    assert (first.weights, first.activations) == (shared, 2 * 4 * (8 + 8))
    assert (second.weights, second.activations) == (4 * (32 * 8 + 32), 2 * 4 * 32)
    assert (third.weights, third.activations) == (4 * (8 * 32 + 8) + shared, 2 * 4 * 8 * 4)
    assert third.memory == third.weights + third.activations
    assert (first.layers, second.layers, third.layers) == (("fc",), ("wide",), ("back", "fc"))


def test_all_work_is_in_some_stage() -> None:
    graph = archc.parse(TEXT)
    everything = DeviceNodeCosts(graph, {})
    assert sum(cost.work for cost in costs()) == pytest.approx(
        sum(everything.seconds(node, DEVICE) for node in graph.nodes())
    )
    assert sum(cost.operators for cost in costs()) == len(graph) - 4  # `to_stage` is not counted
    for cost in costs():
        assert cost.load == cost.work + cost.transfer == cost.to_json()["load_seconds"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.5, "1.5 s"), (1.234e-3, "1.23 ms"), (45.4e-6, "45.4 us"), (3e-9, "3 ns"), (0, "0 ns")]
)
def test_durations_have_readable_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
