"""Runs in two parts give the outputs of whole runs."""

from __future__ import annotations

import pytest
import torch

import archc
from archc.interpreter.evaluate import evaluate
from archc.interpreter.partial_run import PartialRun
from archc.ir.scans import schedule

TEXT = """
model m {
    input x: f32[N, 3, 4]
    h = x -> a: linear(4) -> relu
    y, last = h -> r: gru(4, return_state = true)
    output both = y + h -> b: linear(2)
    output early = h
}
"""


@pytest.mark.parametrize("text", [TEXT])
def test_the_second_part_can_run_from_each_item(text: str) -> None:
    graph = archc.compile(text).graph
    inputs = {"x": torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))}
    expected = evaluate(graph, inputs)
    run = PartialRun(graph, inputs)
    for place in range(len(schedule(graph)) + 1):
        run.advance(place)
        for _ in range(2):
            found = run.finished(graph)
            assert all(torch.equal(found[name], expected[name]) for name in expected) and set(found) == set(expected)
