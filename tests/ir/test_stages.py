"""Pipeline stages of operators, and mistakes in the use of `to_stage`."""

from __future__ import annotations

import pytest

import archc
from archc.diagnostics import ArchcError
from archc.ir.stages import Stages, has_stages


def stages(body: str) -> Stages:
    return Stages(archc.parse(f"model m {{\n    input x: f32[N, 8]\n    {body}\n}}\n"))


def test_a_model_without_to_stage_has_one_stage() -> None:
    graph = archc.parse("model m {\n    input x: f32[N, 8]\n    output x -> relu -> tanh\n}\n")
    assert not has_stages(graph)
    assert (Stages(graph).count, set(Stages(graph).of_node.values())) == (1, {0})


def test_an_operator_is_in_the_stage_of_its_operands() -> None:
    found = stages(
        "a = x -> fc1: linear(8) -> relu\n"
        "    b = a -> to_stage(1, device = 'cuda:1') -> fc2: linear(8)\n"
        "    output b + (a -> to_stage(1)) -> to_stage(2) -> fc3: linear(8)"
    )
    names = {node.path: stage for node, stage in found.of_node.items() if node.path is not None}
    assert names == {"fc1": 0, "fc2": 1, "fc3": 2}
    assert found.devices == (None, "cuda:1", None)
    assert {stage: len(nodes) for stage, nodes in found.by_stage().items()} == {0: 2, 1: 4, 2: 2}


def test_inputs_and_nodes_without_operands_are_in_the_first_stage() -> None:
    graph = archc.parse("model m {\n    input x: f32[N, 8]\n    output x + ones((8,)) -> to_stage(1) -> relu\n}\n")
    found = Stages(graph)
    assert found.of_value(graph.inputs[0]) == 0
    assert [stage for node, stage in found.of_node.items() if not node.operands] == [0]


@pytest.mark.parametrize(
    ("body", "code", "place"),
    [
        ("output x + (x -> to_stage(1))", "mixed-stages", "x + (x -> to_stage(1))"),
        ("output x -> to_stage(1) -> relu -> to_stage(0) -> relu", "stage-backwards", "to_stage"),
        ("output x -> to_stage(2) -> relu", "empty-stage", "to_stage"),
        (
            "output (x -> to_stage(1, device = 'cuda:0')) + (x -> to_stage(1, device = 'cuda:1'))",
            "two-devices",
            "to_stage",
        ),
    ],
)
def test_invalid_stages(body: str, code: str, place: str) -> None:
    with pytest.raises(ArchcError) as caught:
        stages(body)
    (found,) = caught.value.diagnostics
    assert (found.code, found.span.text if found.span else None) == (code, place)
