"""`archc show --sweep`: the costs of a model for several values of one attribute."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from archc.cli import main
from archc.cli.sweep import MOST_POINTS, bar, sweep

TEXT = """model mlp(depth = 2, width = 8) {
    input x: f32[N, 8]
    assert width > 1
    for i in 0..depth { x = x -> fc[i]: linear(width, in_features = 8) }
    output x
}"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mlp.arch"
    path.write_text(TEXT)
    return path


def test_a_range_includes_its_ends() -> None:
    assert sweep("depth=2..5").values == (2, 3, 4, 5)
    assert sweep("width=64..256..64").values == (64, 128, 192, 256)
    assert sweep("ratio=0.5,1,2").values == (0.5, 1, 2)


def test_a_wide_range_has_a_limited_number_of_points() -> None:
    values = sweep("width=1..100000").values
    assert len(values) <= MOST_POINTS and values[0] == 1


@pytest.mark.parametrize(
    "text", ["depth", "=1..2", "depth=2..1", "depth=1..9..0", "depth=a,b", "depth=1..2..3..4", "depth="]
)
def test_texts_that_are_no_sweep_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        sweep(text)


def test_the_figures_are_those_of_each_model(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(file), "--sweep", "depth=1..3", "--sizes", "N=4", "--json"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    layer = 8 * 8 + 8
    assert [point["parameters"] for point in points] == [layer, 2 * layer, 3 * layer]
    assert [point["multiply_adds"] for point in points] == [4 * 64 * depth for depth in (1, 2, 3)]
    assert [point["activation_bytes"] for point in points] == [4 * 8 * 4 * depth for depth in (1, 2, 3)]


def test_the_table_has_bars(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(file), "--sweep", "depth=1,2"]) == 0
    first, second = capsys.readouterr().out.splitlines()[2:]
    assert second.count("█") == 2 * first.count("█") > 0


def test_a_bar_is_as_long_as_its_share() -> None:
    assert bar(0) == "" and len(bar(1)) == 2 * len(bar(0.5)) and bar(0.51) != bar(0.5)


def test_a_figure_is_drawn(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main(["show", str(file), "--sweep", "depth=1..3", "--plot", str(tmp_path / "depth.svg")]) == 0
    assert "<svg" in (tmp_path / "depth.svg").read_text()
    assert f"written:\n  {tmp_path / 'depth.svg'}  " in capsys.readouterr().out


def test_a_value_that_the_model_refuses_is_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(file), "--sweep", "width=8,1"]) == 1
    shown = capsys.readouterr().err
    assert "assertion-failed" in shown and "with width = 1" in shown


@pytest.mark.parametrize(
    "more",
    [
        ["--plot", "x.svg"],
        ["--sweep", "depth=1..2", "--passes", "quant"],
        ["--sweep", "depth=1..2", "--calib", "x.npz"],
    ],
)
def test_options_that_do_not_go_together(file: Path, more: list[str]) -> None:
    assert main(["show", str(file), *more]) == 2


def test_a_setting_of_the_swept_attribute_is_reported(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(file), "--sweep", "width=8", "--set", "depth=1"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["show", str(file), "--sweep", "width=8", "--set", "width = 4"]) == 0
    assert "`--set width = 4` has no effect with `--sweep` of `width`\n" in capsys.readouterr().err


def test_an_attribute_is_set_once(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(file), "--set", "width=8", "--set", "depth=1", "--set", " width=9"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error[bad-setting]: `--set` gives `width` twice\n")
    assert "`--set width=8`, `--set  width=9`\n" in shown
