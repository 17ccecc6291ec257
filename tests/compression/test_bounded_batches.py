"""The batches of calibration data whose activations fit into memory."""

from __future__ import annotations

import pytest
import torch

import archc
from archc.compression.calibration import bounded_batches as module
from archc.compression.calibration.bounded_batches import bounded_batches
from archc.ir.graph import Graph


def graph() -> Graph:
    return archc.parse("model m { input x: f32[N, 4]  output y = x -> a: linear(100) -> relu -> b: linear(2) }")


def batches(count: int) -> list[dict[str, torch.Tensor]]:
    return [{"x": torch.full((5, 4), float(number))} for number in range(count)]


@pytest.mark.parametrize(("memory", "numbers"), [(0, [0]), (2000 * 8 * 3, [0, 3, 6]), (2000 * 8 * 100, [*range(10)])])
def test_batches_are_distributed_evenly(monkeypatch: pytest.MonkeyPatch, memory: int, numbers: list[int]) -> None:
    """The largest value has 5 · 100 elements of 4 bytes in each batch."""
    monkeypatch.setattr(module, "MEMORY", memory)
    assert [int(batch["x"][0, 0]) for batch in bounded_batches(graph(), batches(10))] == numbers


@pytest.mark.parametrize("passes", ["quant(int4)", "quant"])
def test_quant_reports_the_batches_that_it_leaves_out(monkeypatch: pytest.MonkeyPatch, passes: str) -> None:
    monkeypatch.setattr(module, "MEMORY", 2000 * 8 * 3)
    text = "model m { input x: f32[N, 64]  output y = x -> a: linear(1000) -> relu -> b: linear(200) }"
    made = archc.compile(text, passes=passes, calib={"x": torch.randn(100, 64).numpy()})
    notes = [remark.message for report in made.passes for remark in report.remarks]
    assert any(note.startswith("GPTQ uses 1 of ") for note in notes), notes
