"""Latency of graphs and programs, and `Context.measure`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import archc
from archc.diagnostics import ArchcError
from archc.driver.latency import LEAST_RUNS, measure_graphs, measure_programs
from archc.ir.copying import copied
from archc.passmanager import Context
from archc.passmanager.base import REGISTERED
from archc.passmanager.calibration import Calibration
from archc.passmanager.latency import Latency
from archc.targets.onnx import ONNX
from archc.targets.torch import TORCH

TEXT = "model net { input x: f32[N, SIZE]  output y = x -> fc1: linear(HIDDEN) -> relu -> fc2: linear(4) }"
SMALL, LARGE = (TEXT.replace("SIZE", "64").replace("HIDDEN", width) for width in ("8", "20000"))


@dataclass(frozen=True)
class Measuring(archc.Pass):
    """Pass that notes the latency of the graph, and of a smaller copy."""

    name = "test_measuring"

    target: str = archc.attribute("onnx")

    def run(self, graph: archc.Graph, context: Context) -> None:
        alone = context.measure(graph, self.target)
        pair = context.latencies([graph, copied(graph)], self.target)
        for latency in (alone, *pair):
            context.note(graph.name, "measured", runs=latency.runs, seconds=latency.seconds)


del REGISTERED[Measuring.name]  # other tests list all registered passes


@pytest.mark.parametrize("target", ["onnx", "torch"])
def test_a_pass_measures_graphs(target: str) -> None:
    (report,) = archc.compile(SMALL, passes=Measuring(target)).passes
    assert len(report.remarks) == 3 and not report.changed
    assert all(remark.figures["runs"] >= LEAST_RUNS and remark.figures["seconds"] > 0 for remark in report.remarks)


@pytest.mark.parametrize("target", ["arch", "tensorrt"])
def test_only_targets_with_a_runtime_are_measured(target: str) -> None:
    with pytest.raises(ArchcError, match=f'for the targets "torch", "onnx", not \'{target}\''):
        archc.compile(SMALL, passes=Measuring(target))


def test_a_context_without_runtimes_says_so() -> None:
    graph = archc.compile(SMALL).graph
    context = Context(archc.ir.rewriter.Rewriter(graph), Calibration(graph))
    with pytest.raises(RuntimeError, match="cannot measure"):
        context.measure(graph, "onnx")


@pytest.mark.parametrize("target", [ONNX, TORCH], ids=["onnx", "torch"])
def test_a_larger_model_takes_longer(target: archc.Target) -> None:
    """The larger model has 2,500 times as many multiply-adds."""
    graphs = [archc.compile(text).graph for text in (LARGE, SMALL)]
    large, small = measure_graphs(graphs, target, {"x": torch.ones(1, 64)})
    assert large.seconds > 2 * small.seconds
    assert small.low <= small.seconds <= small.high


def test_programs_run_in_turns_on_one_thread(tmp_path: Path) -> None:
    """The programs write their names, so the order of the runs is in the file."""
    log = tmp_path / "log"

    def prepare(path: Path, inputs: Sequence[torch.Tensor]) -> Callable[[], object]:
        def run() -> None:
            with log.open("a") as stream:
                print(path.name, torch.get_num_threads(), os.getpid(), file=stream)

        return run

    assert TORCH.runtime is not None
    target = replace(TORCH, runtime=replace(TORCH.runtime, prepare=prepare))
    latencies = measure_programs(target, [Path("a"), Path("b")], [(), ()], 60)
    runs = [line.split() for line in log.read_text().splitlines()]
    assert [name for name, _, _ in runs] == ["a", "b"] * (len(runs) // 2)
    assert len(runs) // 2 > latencies[0].runs == latencies[1].runs >= LEAST_RUNS
    assert {threads for _, threads, _ in runs} == {"1"}
    assert str(os.getpid()) not in {process for _, _, process in runs}


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (lambda: os.abort(), "was ended by the signal SIGABRT"),
        (lambda: 1 // 0, "ZeroDivisionError: integer division or modulo by zero"),
    ],
    ids=["crash", "exception"],
)
def test_a_program_that_fails_is_reported(failure: Callable[[], object], reason: str) -> None:
    assert ONNX.runtime is not None
    target = replace(ONNX, runtime=replace(ONNX.runtime, prepare=lambda path, inputs: failure))
    with pytest.raises(ArchcError) as found:
        measure_programs(target, [Path("a")], [()], 60)
    (diagnostic,) = found.value.diagnostics
    assert diagnostic.code == "measurement-failed" and reason in diagnostic.message
    assert diagnostic.help is not None and "leave `onnx` out of `--emit`" in diagnostic.help


def test_the_summary_has_the_median_and_the_quartiles() -> None:
    times = np.random.default_rng(0).exponential(size=101)
    latency = Latency.of(times.tolist())
    expected = np.quantile(times, [0.25, 0.5, 0.75])
    np.testing.assert_allclose([latency.low, latency.seconds, latency.high], expected)
    assert latency.runs == 101


def test_the_sample_is_the_first_one() -> None:
    graph = archc.parse("model m { input x: f32[N, 2]  input s: f32[]  output y = x * s }")
    arrays = {"x": np.arange(80, dtype=np.float32).reshape(40, 2), "s": np.array(3, np.float32)}
    sample = Calibration(graph, arrays).sample()
    assert sample["x"].tolist() == [[0, 1]] and sample["s"] == 3


def test_samples_that_cannot_be_divided_stay_together() -> None:
    graph = archc.parse("model m { input x: f32[N, 2]  input z: f32[N, N]  output y = (z, x) -> matmul }")
    assert Calibration(graph).sample()["x"].shape[0] > 1
