"""The whole search on a small network, its record, its verdict and its recipe."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archc
from archc.shrinking import search as module
from archc.shrinking.agreement import cosine, measure_of, top1
from archc.shrinking.choice import is_worse
from archc.shrinking.samples import divide

NETWORK = """
model net {
    input x: f32[N, 64]
    output y = x -> a: linear(96) -> relu -> b: linear(96) -> relu -> c: linear(8)
}
"""


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray[Any, Any]]:
    mixture = np.random.default_rng(0).normal(size=(8, 64))
    return {"x": (np.random.default_rng(1).normal(size=(60, 8)) @ mixture).astype(np.float32)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.arch"
    path.write_text(NETWORK)
    return path


def test_the_parts_of_the_data_are_disjoint_and_complete() -> None:
    rows = np.arange(37, dtype=np.float32)[:, None]
    samples = divide({"x": rows, "scalar": np.float32(2.0).reshape(())}, seed=3)
    parts = [part["x"][:, 0].tolist() for part in (samples.calibration, samples.choice, samples.verdict)]
    assert sorted(itertools.chain(*parts)) == rows[:, 0].tolist()
    assert [len(part) for part in parts] == [22, 8, 7]
    assert samples.verdict["scalar"] == 2.0
    assert divide({"x": rows}, seed=4).verdict["x"].tolist() != samples.verdict["x"].tolist()


def test_a_search_keeps_its_goal_and_its_recipe_gives_the_same_programs(
    file: Path, data: dict[str, np.ndarray[Any, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "small"
    found = archc.shrink(file, calib=data, under=40_000, keep=0.9, output=folder, timed=False, emit=["onnx", "arch"])
    assert found.meets and found.complete and found.chosen is not None and found.chosen.figures is not None
    found.write()
    written = (folder / "net.onnx").read_bytes()
    assert len(written) <= 40_000
    assert found.verdict is not None and 0.9 <= found.verdict < 1
    within = [each for each in found.trials if each.figures is not None and each.figures.bytes <= 40_000]
    assert not is_worse(found.chosen.agreement, max(each.agreement for each in within))
    again = archc.compile(
        folder / "recipe.arch", passes="recipe", calib=folder / "calibration.npz", emit=["onnx", "arch"]
    )
    again.write(tmp_path / "again")
    assert (tmp_path / "again" / "net.onnx").read_bytes() == written


def test_the_verdict_is_on_samples_that_chose_nothing(file: Path, data: dict[str, np.ndarray[Any, Any]]) -> None:
    found = archc.shrink(file, calib=data, keep=0.9, timed=False, emit="onnx", seed=5)
    assert found.compiled is not None
    verdict = divide(data, seed=5).verdict
    graphs = found.compiled.graph, archc.compile(file, seed=5).graph
    one, other = (archc.interpreter.evaluate.evaluate(graph, {"x": torch.from_numpy(verdict["x"])}) for graph in graphs)
    assert found.verdict == pytest.approx(cosine(one, other, verdict), abs=1e-12)
    assert not {tuple(row) for row in verdict["x"].tolist()} & {tuple(row) for row in found.calibration["x"].tolist()}
    assert len(found.calibration["x"]) == len(data["x"]) - len(verdict["x"])  # also those for the choice


def test_an_interrupted_search_goes_on(
    file: Path, data: dict[str, np.ndarray[Any, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"calib": data, "keep": 0.9, "timed": False, "emit": "onnx", "output": tmp_path / "out"}
    stopped = archc.shrink(file, time=0, **options)
    assert not stopped.complete and 1 < len(stopped.trials) < 4
    done = {each.passes for each in stopped.trials}
    tried: list[str] = []
    original = module.Search._trial

    def spy(search: module.Search, passes: str, least: float | None) -> module.Trial:
        tried.append(passes)
        return original(search, passes, least)

    monkeypatch.setattr(module.Search, "_trial", spy)
    whole = archc.shrink(file, **options)
    assert whole.complete and tried and not done & set(tried)
    tried.clear()
    (tmp_path / "out" / "trials.json").write_text("{ damaged")
    archc.shrink(file, **{**options, "seed": 1}, time=0)
    assert len(tried) == 2  # another seed: nothing is taken over


def test_a_goal_that_no_pipeline_meets(file: Path, data: dict[str, np.ndarray[Any, Any]], tmp_path: Path) -> None:
    found = archc.shrink(file, calib=data, under=3_000, timed=False, emit="onnx", output=tmp_path / "out")
    assert not found.meets and found.chosen is not None
    assert not (tmp_path / "out" / "net.onnx").exists()
    recorded = json.loads((tmp_path / "out" / "trials.json").read_text())["trials"]
    assert [each["passes"] for each in recorded] == [each.passes for each in found.trials]


@pytest.mark.parametrize("name", ["net.arch", "recipe.arch", "calibration.npz"])
def test_an_output_that_would_replace_an_input_is_refused_before_the_search(
    name: str, file: Path, data: dict[str, np.ndarray[Any, Any]], tmp_path: Path
) -> None:
    text, calib = (tmp_path / name, data) if name.endswith("arch") else (file, tmp_path / name)
    if name.endswith("arch"):
        (tmp_path / name).write_text(NETWORK)
    else:
        np.savez(tmp_path / name, **data)  # type: ignore[arg-type]
    emit = ["onnx"] if name != "net.arch" else ["arch"]
    with pytest.raises(archc.ArchcError, match="is an input of the search"):
        archc.shrink(text, calib=calib, keep=0.9, timed=False, emit=emit, output=tmp_path)
    assert not (tmp_path / "trials.json").exists()


def test_measures() -> None:
    one = {"y": torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])}
    other = {"y": torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 0.0]])}
    assert cosine(one, other, {}) == pytest.approx(2 / 3)
    assert top1(one, other, {}) == pytest.approx(2 / 3)
    assert measure_of("tests.shrinking.test_search:half")(one, other, {}) == 0.5
    with pytest.raises(archc.ArchcError, match="did you mean `cosine`"):
        measure_of("cosin")
    with pytest.raises(archc.ArchcError, match="cannot be imported"):
        measure_of("no.such:thing")
    with pytest.raises(archc.ArchcError, match="failed: TypeError"):
        measure_of("statistics:mean")(one, other, {})


@pytest.mark.parametrize(("name", "words"), [("nan", "it returned nan"), ("leave", "SystemExit: 3")])
def test_a_measure_that_returns_no_number_is_refused(name: str, words: str) -> None:
    with pytest.raises(archc.ArchcError, match=words):
        measure_of(f"tests.shrinking.test_search:{name}")({}, {}, {})


def nan(found: object, expected: object, inputs: object) -> float:
    return float("nan")


def leave(found: object, expected: object, inputs: object) -> float:
    raise SystemExit(3)


@pytest.mark.parametrize(
    "goal",
    [{"keep": 2.0}, {"under": -5}, {"macs": 0}, {"latency": 2.0}, {"latency": "5 apples"}, {"keep": float("nan")}],
)
def test_impossible_goals_are_refused_before_the_model_is_read(goal: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"write for example|must be above 0|does not begin"):
        archc.shrink("missing.arch", calib={}, **goal)


def test_the_passes_cannot_be_given(file: Path, data: dict[str, np.ndarray[Any, Any]]) -> None:
    with pytest.raises(TypeError, match="the search chooses the passes"):
        archc.shrink(file, calib=data, keep=0.9, passes="quant")


def test_warnings_are_errors_before_the_search(file: Path, tmp_path: Path) -> None:
    constant = {"x": np.ones((20, 64), np.float32)}
    with pytest.raises(archc.ArchcError, match="constant-calibration"):
        archc.shrink(file, calib=constant, keep=0.9, strict=True, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def half(found: object, expected: object, inputs: object) -> float:
    return 0.5


def test_a_pass_that_changes_nothing_makes_no_pipeline_of_its_own(
    file: Path, data: dict[str, np.ndarray[Any, Any]], tmp_path: Path
) -> None:
    """The network has no block that one layer could replace."""
    found = archc.shrink(file, calib=data, macs=0.6, output=tmp_path / "small", timed=False, emit=["onnx"])
    shorter = [trial for trial in found.trials if 'scheme = "depth"' in trial.passes]
    assert shorter and all(trial.figures is None and "changes nothing" in trial.failure for trial in shorter)
    assert found.front and not any("depth" in trial.passes for trial in found.front)
