"""Runs of several pipelines on one model: results, shared measurements and shared beginnings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import archc
from archc.driver.arguments import targets_of
from archc.driver.compiled import Compiled
from archc.driver.pipeline_runs import PipelineRuns
from archc.passes.lowrank import LowRank
from archc.passmanager.base import Context

NETWORK = """
model net {
    input x: f32[N, 48]
    output y = x -> a: linear(224) -> relu -> b: linear(224) -> relu -> c: linear(8)
}
"""
CHANNELS = 'prune(params = 0.7, scheme = "channel")'
PIPELINES = (
    "lowrank(params = 0.8)",
    "lowrank(params = 0.6) -> quant(bytes = 50000)",
    "lowrank(params = 0.6) -> quant(bytes = 40000)",
    CHANNELS,
    f"{CHANNELS} -> lowrank(params = 0.5)",
    "lowrank(bytes = 180000) -> quant",
    'prune(0.5, scope = "global")',
)


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray[Any, Any]]:
    mixture = np.random.default_rng(0).normal(size=(12, 48))
    return {"x": (np.random.default_rng(1).normal(size=(40, 12)) @ mixture).astype(np.float32)}


def tensors(model: Compiled) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in (model.graph.tensors or {}).items()}


def last(runs: PipelineRuns, passes: str) -> Compiled:
    (*_, (model, following)) = runs.steps(passes)
    assert following == 0
    return model


def test_models_are_those_of_separate_compilations(data: dict[str, np.ndarray[Any, Any]]) -> None:
    """In any order: each result depends on its own pipeline only."""
    runs = PipelineRuns(archc.compile(NETWORK, calib=data, emit="onnx"), targets_of("onnx", with_weights=True))
    alone = {passes: archc.compile(NETWORK, calib=data, passes=passes, emit="onnx") for passes in PIPELINES}
    for passes in (*PIPELINES, *reversed(PIPELINES)):
        shared = last(runs, passes)
        assert tensors(shared) == tensors(alone[passes]), passes
        assert shared.sources() == alone[passes].sources(), passes


def test_common_beginnings_run_once(data: dict[str, np.ndarray[Any, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    runs = PipelineRuns(archc.compile(NETWORK, calib=data, emit="onnx"), targets_of("onnx", with_weights=True))
    ran: list[str] = []
    original = LowRank.run

    def run(step: LowRank, graph: archc.Graph, context: Context) -> None:
        ran.append(str(step))
        original(step, graph, context)

    monkeypatch.setattr(LowRank, "run", run)
    for passes in ("lowrank(params = 0.6) -> quant", "lowrank(params = 0.6) -> quant(int4)", "lowrank(params = 0.7)"):
        last(runs, passes)
    assert ran == ["lowrank(params = 0.6)", "lowrank(params = 0.7)"]
    ran.clear()
    for passes in ("lowrank(bytes = 250000) -> quant", "lowrank(bytes = 250000) -> quant(int4)"):
        last(runs, passes)
    assert len(ran) == 2  # the text of the second pass counts for the bytes
