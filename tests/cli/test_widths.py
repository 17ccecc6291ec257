"""Table of layer widths before and after passes, by `archc show --passes`."""

from __future__ import annotations

import archc
from archc.cli.reports.width_table import Width, compare
from tests.cli.conftest import SPECS, Run

PRUNE = 'prune(0.5, scheme = "channel", scope = "layer", multiple = 1)'
RESIDUAL = """
model net {
    input image: f32[N, 3, 8, 8]
    x = image -> stem: conv2d(8, 3, padding = 1) -> bn: batch_norm -> relu
    x = x + (x -> conv: conv2d(8, 3, padding = 1, groups = 2))
    output y = x -> mean((2, 3)) -> fc: linear(10)
}
"""


def widths(text: str, passes: str) -> list[Width]:
    return compare(archc.parse(text), archc.compile(text, passes=passes).graph)


def test_all_layers_with_the_removed_channels_are_listed() -> None:
    found = widths(RESIDUAL, PRUNE)
    assert found == [Width("stem", 8, 4), Width("bn", 8, 4), Width("conv", 8, 4), Width("fc", 10, 10)]


def test_new_layers_follow_the_layer_that_they_replace() -> None:
    found = widths(RESIDUAL, "lowrank(rank = 2, on = 'fc')")
    assert [(width.layer, width.before, width.after) for width in found[3:]] == [
        ("fc", 10, None),
        ("fc.a", None, 2),
        ("fc.b", None, 10),
    ]


def test_table(run: Run) -> None:
    shown = run("show", SPECS / "cnn.arch", "--passes", PRUNE).out
    rows = [line.split() for line in shown.partition("width before")[2].splitlines()[2:]]
    assert rows == [["conv1", "32", "16"], ["conv2", "64", "32"], ["fc1", "128", "64"], ["fc2", "10", "10"]]


def test_unchanged_widths_are_reported(run: Run) -> None:
    assert "all layers are as wide as before" in run("show", SPECS / "cnn.arch", "--passes", "prune(0.5)").out
    assert "wide" not in run("show", SPECS / "cnn.arch").out


def test_json(run: Run) -> None:
    report = run(
        "show", SPECS / "cnn.arch", "--passes", 'prune(0.5, scheme = "channel", scope = "layer")', "--json"
    ).json
    assert report["widths"][0] == {"layer": "conv1", "before": 32, "after": 16}
    assert run("show", SPECS / "cnn.arch", "--json").json["widths"] == []
