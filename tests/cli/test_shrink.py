"""`archc shrink`: table, choice, JSON, figure, and exit status."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from archc.cli import main
from archc.shrinking.search import Search
from archc.shrinking.trial import Trial

NETWORK = "model net { input x: f32[N, 64]  output y = x -> a: linear(96) -> relu -> b: linear(8) }"


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The beginning of a command line, with a file and data in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("net.arch").write_text(NETWORK)
    np.savez("data.npz", x=np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32))
    return ["shrink", "net.arch", "--calib", "data.npz", "--emit", "onnx", "--no-latency"]


def test_the_choice_is_printed_and_written(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*line, "--keep", "99%", "--measure", "cosine", "-o", "small", "--plot", "front.svg"]) == 0
    printed = capsys.readouterr().out
    assert "goal: agreement at least 0.99" in printed
    assert "\n* " in printed and "written to small" in printed
    names = {path.name for path in Path("small").iterdir()}
    assert names >= {"net.onnx", "report.html", "recipe.arch", "calibration.npz", "trials.json"}
    assert "<svg" in Path("front.svg").read_text()


def test_latencies_are_shares_of_those_of_the_original(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    timed = [word for word in line if word != "--no-latency"]
    assert main([*timed, "--latency", "1%", "--json", "--time", "0s"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert all(0 < each["figures"]["latency"]["onnx"] < 100 for each in found["trials"] if each["figures"])
    assert found["figures"]["latency"]["onnx"] > found["latency"] == 0.01 and not found["meets"]


def test_a_goal_that_is_not_met_has_status_1_and_says_how_near_it_came(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*line, "--under", "2kB", "-o", "small"]) == 1
    printed = capsys.readouterr().out
    assert "no pipeline meets the goal; this one comes nearest: " in printed and " bytes of 2,000" in printed
    assert {path.name for path in Path("small").iterdir()} == {"trials.json"}


def test_a_dry_run_tries_nothing(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*line, "--macs", "0.5", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "planned pipelines" in printed and "(50%)" in printed and "lowrank(macs = " in printed
    assert not Path("out").exists()


def test_an_interrupted_search_says_what_is_kept(
    line: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def interrupted(search: Search, passes: str, least: float | None) -> Trial:
        tried.append(passes)
        if len(tried) == 3:
            raise KeyboardInterrupt
        return Trial(passes, None, 0.0, 0.0, "not tried")

    monkeypatch.setattr(Search, "_trial", interrupted)
    assert main([*line, "--keep", "0.9", "-o", "small"]) == 130
    assert "interrupted; trials.json has the finished trials" in capsys.readouterr().err
    assert len(json.loads(Path("small/trials.json").read_text())["trials"]) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "give a goal"),
        (["--keep", "99"], "`99` is no share"),
        (["--under", "15Mb"], "`15Mb` is no amount"),
        (["--latency", "5"], "`5` is no latency"),
        (["--latency", "5ms"], "`--no-latency` measures nothing"),
        (["--keep", "0.9", "--time", "soon"], "does not begin with a number"),
        (["--keep", "0.9", "--emit", "onx"], "`onx` is no choice"),
    ],
)
def test_wrong_usage_has_status_2(
    line: list[str], options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*line, *options]) == 2
    assert words in capsys.readouterr().err


def test_data_are_required(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shrink", "net.arch", "--keep", "0.9"]) == 2
    assert "give data with `--calib FILE.npz`" in capsys.readouterr().err
