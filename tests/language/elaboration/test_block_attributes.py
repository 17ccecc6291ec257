"""Attributes that are operators or blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

import archc
from archc.cli import main
from archc.diagnostics import ArchcError
from archc.language.printing.printer import print_graph

TEXT = """\
block Twice {
    input x: f32[N, D]
    output x * 2
}

block Layer(norm = layer_norm, act = gelu) {
    input x: f32[N, D]
    output x -> ln: norm -> fc: linear(D) -> act
}

model net(norm = layer_norm, act = gelu) {
    input x: f32[N, 8]
    output y = x -> a: Layer(norm = norm) -> b: Layer(act = act)
}
"""


def operators(text: str, **values: object) -> list[str]:
    return [str(node.op) for node in archc.parse(text, "net", values).nodes()]


def test_the_default_is_used_where_nothing_is_given() -> None:
    assert operators(TEXT) == ["layer_norm", "linear(8)", "gelu"] * 2


@pytest.mark.parametrize(("word", "made"), [("rms_norm", ["rms_norm"]), ("Twice", ["mul(2)"])])
def test_an_operator_or_a_block_is_set_by_its_name(word: str, made: list[str]) -> None:
    found = operators(TEXT, norm=word, act="relu")
    assert [name.split("(")[0] for name in found] == [
        made[0].split("(")[0],
        "linear",
        "gelu",
        "layer_norm",
        "linear",
        "relu",
    ]


def test_a_block_of_an_import_is_set_by_its_dotted_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lib.arch").write_text("block Half { input x  output x * 0.5 }\n")
    (tmp_path / "net.arch").write_text('import "lib.arch" as lib\n' + TEXT)
    assert main(["check", str(tmp_path / "net.arch"), "--set", "norm=lib.Half"]) == 0
    assert main(["check", str(tmp_path / "net.arch"), "--set", "norm=lib.Halve"]) == 1
    assert "did you mean `lib.Half`?" in capsys.readouterr().err


def test_arguments_stand_where_it_is_used() -> None:
    text = "block B(act) { input x  output x -> act(0.5) }  model net { input x: f32[N, 8]  output y = x -> B(%s) }"
    assert operators(text % "leaky_relu") == ["leaky_relu(negative_slope = 0.5)"]
    with pytest.raises(ArchcError):
        operators(text % "relu")


def test_it_can_be_compared() -> None:
    text = TEXT + "model other { input x: f32[N, 8]  if %s { x = x -> relu }  output y = x -> tanh }"
    for condition, holds in [("Twice == Twice", True), ("Twice == Layer", False), ("relu != gelu", True)]:
        assert len(archc.parse(text % condition, "other")) == 1 + holds


def test_the_printed_text_has_the_operators_themselves() -> None:
    graph = archc.parse(TEXT, "net", {"norm": "rms_norm", "act": "relu"})
    printed = print_graph(graph)
    assert "-> ln: rms_norm" in printed and "norm = " not in printed
    assert archc.parse(printed) == graph
