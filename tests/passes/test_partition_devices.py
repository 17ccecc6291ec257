"""`partition` over devices: assignment of stages to devices, and models that do not fit."""

from __future__ import annotations

import pytest

import archc
from archc.driver.binding import bind_fresh
from archc.ir.stages import Stages, entered_stage, has_stages
from tests.passes.partitioned import GPT, entries, notes, refused

MACHINES = """
devices pair { a = cuda(0)  b = cuda(1) }
devices mixed { slow = cpu  fast = cuda(0) }
devices line { a = cuda(0)  b = cuda(1)  c = cuda(2)  link a <-> b = 300GB/s  link b <-> c = 300GB/s }
devices small { a = cpu(memory = 300kB)  b = cpu(memory = 1100kB) }
devices far { a = cuda(0, memory = 600kB)  b = cuda(1, memory = 1100kB)  link a <-> b = 1kB/s }
model m {
    input x: f32[N, 256]
    output x -> a: linear(256) -> relu -> b: linear(512) -> relu -> c: linear(256)
}
"""


def test_the_stages_name_their_devices() -> None:
    compiled = archc.compile(MACHINES, passes="partition(devices = pair)")
    assert Stages(compiled.graph).devices == ("cuda:0", "cuda:1")
    assert "c on `b`: " in compiled.passes[0].remarks[1].message
    first = entries(compiled.graph)[0]
    assert entered_stage(first.op) == 0 and first.operands[0] is compiled.graph.inputs[0]
    assert str(compiled.passes[0].text) == 'partition(devices = "pair")'


def test_without_devices_stages_have_no_device() -> None:
    graph = archc.compile(MACHINES, passes="partition(2)").graph
    assert Stages(graph).devices == (None, None)
    assert all(entered_stage(node.op) for node in entries(graph))


def test_a_slow_device_that_does_not_help_stays_idle() -> None:
    compiled = archc.compile(MACHINES, passes="partition(devices = mixed)")
    assert Stages(compiled.graph).devices == ("cuda:0",)
    assert "1 stage" in notes(compiled)[0]


def test_stages_fit_the_memory_of_their_devices() -> None:
    compiled = archc.compile(MACHINES, passes="partition(devices = small)")
    costs = [one.figures for one in compiled.passes[0].remarks if one.kind == "rewrote"]
    held = [int(figure["weight_bytes"]) + int(figure["activation_bytes"]) for figure in costs]
    assert sorted(figure["device"] for figure in costs) == ["a", "b"]
    for figure, memory in zip(costs, held, strict=True):
        assert memory <= {"a": 300_000, "b": 1_100_000}[str(figure["device"])]


def test_with_missing_links_stages_follow_the_order_of_the_devices() -> None:
    compiled = archc.compile(MACHINES, passes="partition(devices = line)")
    devices = Stages(compiled.graph).devices
    assert list(devices) == sorted(str(device) for device in devices) and len(devices) > 1


def test_an_operator_that_does_not_fit_is_named() -> None:
    error = refused(MACHINES, "partition(2, memory = 400kB)")
    assert error.code == "does-not-fit"
    assert "`b` needs" in error.message and "400,000 bytes" in error.message
    assert error.help == f"most of it is its weight `b.weight` with {4 * 512 * 256:,} bytes"
    assert error.span is not None and error.span.text == "b: linear"


def test_a_tied_weight_that_does_not_fit_is_named() -> None:
    error = refused(GPT, "partition(2, memory = 8kB)")
    assert error.code == "does-not-fit"
    assert "`wte.weight`" in error.message + str(error.help)


def test_where_everything_fits_alone_and_not_together_the_largest_is_named() -> None:
    error = refused(MACHINES, "partition(2, memory = 600kB)")
    assert error.code == "does-not-fit"
    assert "the largest operator is `b`" in str(error.help)


def test_slow_links_are_told_as_the_reason() -> None:
    compiled = archc.compile(MACHINES, passes="partition(devices = far)")
    assert any("of it for transfers" in note for note in notes(compiled))


def test_a_divided_model_is_not_divided_again() -> None:
    printed = archc.print_graph(archc.compile(MACHINES, passes="partition(2)").graph)
    assert refused(printed, "partition(2)").code == "already-divided"


def test_one_stage_leaves_the_model_alone() -> None:
    compiled = archc.compile(MACHINES, passes="partition(1)")
    assert not has_stages(compiled.graph)
    whole = archc.parse(MACHINES)
    bind_fresh(whole, 0)
    assert compiled.graph == whole


@pytest.mark.parametrize(
    ("passes", "code"),
    [
        ("partition", "missing-option"),
        ("partition(2, devices = pair)", "conflicting-options"),
        ("partition(0)", "bad-option"),
        ("partition(2, memory = 0)", "bad-option"),
        ("partition(2, sizes = 'N')", "bad-option"),
        ("partition(2, sizes = 'K=3')", "unknown-size"),
        ("partition(devices = par)", "unknown-devices"),
        ("partition(9)", "too-many-stages"),
    ],
)
def test_invalid_options(passes: str, code: str) -> None:
    assert refused(MACHINES, passes).code == code
