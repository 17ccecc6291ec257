"""`archc compile --measure`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import archc
from archc.driver import latency
from archc.driver.figure_text import seconds_text
from tests.cli.conftest import SPECS, Run

LENET = SPECS / "lenet5.arch"


@pytest.fixture(autouse=True)
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "SECONDS", 0.0)


def test_the_latency_before_and_after_is_printed_and_reported(run: Run, tmp_path: Path) -> None:
    result = run("compile", LENET, "--passes", "quant", "--measure", "--no-check", "-o", tmp_path)
    assert result.status == 0
    for title in ("PyTorch", "ONNX Runtime"):
        time = r"[\d.]+ (µs|ms|s) \(.*? to .*?\)"
        assert re.search(rf"^{title} +{time} +{time} +\d+\.\d\d +9$", result.out, re.MULTILINE)
    assert "\nmedian and quartiles on one thread, for image [1, 1, 28, 28]\n" in result.out
    report = json.loads((tmp_path / "report.json").read_text())["latency"]
    assert set(report["programs"]) == {"torch", "onnxruntime"} and report["inputs"] == {"image": [1, 1, 28, 28]}
    for program in report["programs"].values():
        for each in program.values():
            assert 0 < each["low"] <= each["seconds"] <= each["high"] and each["runs"] == latency.LEAST_RUNS


def test_the_programs_of_the_baseline_are_not_written(run: Run, tmp_path: Path) -> None:
    run("compile", LENET, "--passes", "quant", "-o", tmp_path / "without")
    run("compile", LENET, "--passes", "quant", "--measure", "-o", tmp_path / "with")
    assert [path.name for path in sorted((tmp_path / "with").iterdir())] == [
        path.name for path in sorted((tmp_path / "without").iterdir())
    ]
    assert "latency" not in json.loads((tmp_path / "without" / "report.json").read_text())


@pytest.mark.parametrize("passes", ["", "quant"])
def test_without_passes_or_baseline_there_is_no_latency_before(passes: str, tmp_path: Path) -> None:
    compiled = archc.compile(LENET, passes=passes, baseline=not passes)
    report = compiled.write(tmp_path, emit="onnx", check=False, measure=True)
    (program,) = report["latency"]["programs"].values()
    assert program["before"] is None and program["after"]["seconds"] > 0


def test_the_baseline_is_the_model_before_the_passes() -> None:
    compiled = archc.compile(LENET, passes="lowrank(rank = 4), quant", baseline=True)
    assert compiled.baseline is not None
    assert compiled.baseline.graph == archc.compile(LENET).graph != compiled.graph
    assert archc.compile(LENET).baseline is None


@pytest.mark.parametrize(
    ("more", "reason"), [(["--weights", "none"], "there are no weights"), (["--emit", "arch"], "no emitted")]
)
def test_a_request_without_effect_is_reported(run: Run, tmp_path: Path, more: list[str], reason: str) -> None:
    result = run("compile", LENET, "--measure", "-o", tmp_path, *more)
    assert result.status == 0 and "latency" not in result.out
    assert f"warning[option-without-effect]: `--measure` has no effect: {reason}" in result.err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5, "2.50 s"), (0.0123, "12.3 ms"), (0.999, "999 ms"), (1e-6, "1.00 µs"), (5e-8, "0.05 µs"), (130.2, "130 s")],
)
def test_times_have_three_digits(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text
