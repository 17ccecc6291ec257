"""`archc sensitivity`: tables, JSON, the figure, and wrong options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archc.cli.reports import sensitivity_report
from archc.compression.quantization.layer_sensitivity import FormatEffect, LayerSensitivity
from archc.driver.sensitivity import Sensitivity, known_formats
from tests.cli.conftest import SPECS, Run

CNN = SPECS / "cnn.arch"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    (image,) = [np.random.default_rng(0).normal(size=(24, 1, 28, 28)).astype(np.float32)]
    np.savez(path, image=image)
    return path


def test_tables_and_figure(run: Run, data: Path, tmp_path: Path) -> None:
    figure = tmp_path / "layers.svg"
    result = run("sensitivity", CNN, "--data", data, "--formats", "int8,int2", "--measure", "1", "--plot", figure)
    assert (result.status, result.err) == (0, "")
    titles = [line for line in result.out.splitlines() if line.startswith(("predicted", "bytes", "measured"))]
    assert len(titles) == 4
    assert "only weights are rounded" in result.out
    assert "in int8, `" in result.out and "keep = '" in result.out
    assert result.out.endswith(f"\n\nwritten:\n  {figure}  {figure.stat().st_size:,} bytes\n")
    assert "conv1" in figure.read_text() or "<svg" in figure.read_text()


def test_the_help_lists_all_formats(run: Run) -> None:
    text = " ".join(run("sensitivity", "--help").out.split())
    listed = text.split("formats of weights, of ")[1].split(" (default")[0]
    assert tuple(listed.replace(" and ", ", ").split(", ")) == known_formats()


def test_order_of_the_layers(run: Run, data: Path) -> None:
    arguments = ("sensitivity", CNN, "--data", data, "--formats", "int8,int2", "--measure", "0", "--json")
    by_loss = run(*arguments).json
    assert by_loss["sort"] == "int8"
    losses = [layer["formats"]["int8"]["loss"] for layer in by_loss["layers"]]
    assert losses == sorted(losses, reverse=True) and len(losses) == 4
    in_order = run(*arguments, "--sort", "file").json["layers"]
    assert [layer["layer"] for layer in in_order] == ["conv1", "conv2", "fc1", "fc2"]
    assert in_order[0]["formats"]["int2"]["measured"] is None


def test_groups_and_passes(run: Run, data: Path) -> None:
    arguments = ("sensitivity", CNN, "--data", data, "--formats", "int4", "--measure", "0", "--json", "--sort", "file")
    small, large = (run(*arguments, "--group", size).json["layers"][2]["formats"]["int4"] for size in ("16", "128"))
    assert small["bytes"] > large["bytes"] and small["loss"] < large["loss"]
    ranks = run(*arguments, "--passes", "lowrank(rank = 8, on = 'fc1')").json["layers"]
    assert [layer["layer"] for layer in ranks][2:4] == ["fc1.a", "fc1.b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--formats", "int5,itn4"), "`itn4` is no choice; did you mean `int4`?"),
        (("--sort", "int7"), "`int7` is no choice"),
        (("--group", "0"), "the least number is 1, not 0"),
        (("--measure", "some"), "a number is expected, such as 3, not `some`"),
    ],
)
def test_wrong_options(run: Run, options: tuple[str, ...], message: str) -> None:
    result = run("sensitivity", CNN, *options)
    assert result.status == 2 and message in result.err


def test_warnings(run: Run) -> None:
    result = run("sensitivity", CNN, "--sizes", "N=2", "--formats", "int8", "--measure", "0")
    assert "`--sizes` has no effect without `--passes`" in result.err
    assert run("sensitivity", CNN, "--sizes", "N=2", "--formats", "int8", "--strict").status == 1


def test_a_layer_with_a_larger_measured_loss_is_named() -> None:
    effects = {"a": FormatEffect(1, 1e-3, 20.0, 1e-4), "b": FormatEffect(1, 1e-4, 20.0, 2e-3)}
    layers = tuple(LayerSensitivity(name, "linear", 1, None, {"int3": effect}) for name, effect in effects.items())
    text = sensitivity_report._advice(Sensitivity(("int3",), "int3", layers))
    assert "in int3, `a` hurts most: 1.0e-03" in text
    assert text.endswith("measured, `b` hurts more: 2.0e-03, and `a` 1.0e-04")
