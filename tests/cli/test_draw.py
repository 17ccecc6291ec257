"""`archc draw`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import SPECS, Run

Write = Callable[[str, str], Path]
CNN = SPECS / "cnn.arch"


@pytest.mark.parametrize(
    ("name", "begin"), [("a.svg", '<svg xmlns="http'), ("a.mmd", "flowchart TD\n"), ("a.dot", 'digraph "cnn" {\n')]
)
def test_the_suffix_selects_the_format(run: Run, tmp_path: Path, name: str, begin: str) -> None:
    result = run("draw", CNN, "-o", tmp_path / "made" / name)
    text = (tmp_path / "made" / name).read_text(encoding="utf-8")
    assert (result.status, result.err) == (0, "")
    assert text.startswith(begin) and "conv1" in text and "fc2" in text
    assert result.out == f"{tmp_path / 'made' / name}: 1 panel, {len(text.encode()):,} bytes\n"
    assert [file.name for file in (tmp_path / "made").iterdir()] == [name]


def test_the_default_file_name_is_that_of_the_model(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("draw", SPECS / "gpt2.arch", "--model", "gpt2_medium").status == 0
    tree = ElementTree.parse(tmp_path / "gpt2_medium.svg")
    assert "h[0..24]" in {span.text for span in tree.iter("{http://www.w3.org/2000/svg}tspan")}


def test_json_describes_the_picture(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "r.svg"
    report = run("draw", SPECS / "resnet18.arch", "-o", path, "--json").json
    assert (report["model"], report["file"], report["bytes"]) == ("resnet18", str(path), path.stat().st_size)
    assert [panel["title"] for panel in report["panels"]] == ["resnet18", "BasicBlock", "BasicBlockWithDownsample"]
    open_ = run("draw", SPECS / "resnet18.arch", "-o", path, "--json", "--open", "BasicBlock").json
    (model,) = open_["panels"]  # both panels of the block are opened by its name in the text
    assert model["nodes"] > report["panels"][0]["nodes"]
    deep = run("draw", SPECS / "resnet18.arch", "-o", path, "--json", "--depth", "1").json
    assert deep["panels"] == open_["panels"]


def test_without_passes_it_imports_neither_torch_nor_onnx(tmp_path: Path) -> None:
    program = """
import sys
from archc.cli import main
status = main(["draw", sys.argv[1], "-o", sys.argv[2]])
sys.exit(status or ", ".join(sorted({"torch", "onnx", "onnxruntime", "rich"} & set(sys.modules))) or 0)
"""
    command = [sys.executable, "-c", program, str(CNN), str(tmp_path / "cnn.svg")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


def test_with_passes_it_draws_the_resulting_model(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "small.svg"
    assert run("draw", CNN, "-o", path, "--passes", "lowrank(on = 'fc1'), quant").status == 0
    text = path.read_text(encoding="utf-8")
    assert ">fc1.a<" in text and ">int8<" in text and "quantize(u8) → dequantize" in text
    assert run("draw", CNN, "-o", path, "--passes", "partition(2)").status == 0
    assert ">stage 1<" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "a.png"], "`a.png` does not end in .svg, .mmd or .dot"),
        (["-o", "a"], "`a` does not end in .svg, .mmd or .dot"),
        (["-o", "a.svgg"], "did you mean `.svg`?"),
        (["--depth", "-1"], "a depth is a number such as 0 or 2, and not `-1`"),
        (["--depth", "two"], "and not `two`"),
    ],
)
def test_wrong_usage(run: Run, arguments: list[str], message: str) -> None:
    result = run("draw", CNN, *arguments)
    assert (result.status, result.out) == (2, "")
    assert message in result.err


def test_a_path_that_cannot_be_written_gets_no_partial_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = run("draw", CNN, "-o", tmp_path / "file" / "a.svg")
    assert result.status == 1 and "error[output-not-a-folder]" in result.err
    (tmp_path / "a.svg").mkdir()
    result = run("draw", CNN, "-o", tmp_path / "a.svg")
    assert result.status == 1 and "error[output-not-writable]" in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "file"]


def test_a_mistake_writes_nothing(run: Run, write: Write, tmp_path: Path) -> None:
    path = write("m.arch", "model m { input x: f32[N, 8]  output y = x -> linear(2, in_features = 9) }")
    result = run("draw", path, "-o", tmp_path / "m.svg")
    assert result.status == 1 and "error[shape-mismatch]" in result.err
    result = run("draw", CNN, "-o", tmp_path / "m.svg", "--open", "Block", "--json")
    assert [diagnostic["code"] for diagnostic in result.json["diagnostics"]] == ["unknown-block"]
    assert not (tmp_path / "m.svg").exists()


def test_the_source_file_is_never_replaced(run: Run, write: Write, tmp_path: Path) -> None:
    path = write("m.svg", CNN.read_text(encoding="utf-8"))
    result = run("draw", path, "-o", path)
    assert result.status == 1 and "error[output-replaces-input]" in result.err
    assert path.read_text(encoding="utf-8") == CNN.read_text(encoding="utf-8")


def test_a_name_that_is_too_long_is_named_as_it_was_given(run: Run, tmp_path: Path) -> None:
    path = tmp_path / f"{'a' * 300}.svg"
    result = run("draw", CNN, "-o", path)
    assert result.status == 1 and "error[output-not-writable]" in result.err
    assert f"`{path}`: file name too long" in result.err and ".archc-" not in result.err
    assert list(tmp_path.iterdir()) == []


def test_options_of_passes_without_passes_are_reported(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "m.svg"
    report = run("draw", CNN, "-o", path, "--sizes", "N=4", "--seed", "3", "--json").json
    assert [warning["code"] for warning in report["warnings"]] == ["option-without-effect"] * 2
    assert run("draw", CNN, "-o", path, "--seed", "3", "--strict").status == 1
    assert run("draw", CNN, "-o", path, "--depth", "2").err.startswith(
        "warning[option-without-effect]: `--depth` has no effect on `cnn`, which has no blocks\n"
    )
    assert run("draw", SPECS / "gpt2.arch", "-o", path, "--depth", "2").err == ""
    assert "file-not-found" in run("draw", CNN, "-o", path, "--calib", tmp_path / "none.npz").err
    assert "rename-without-weights" in run("draw", CNN, "-o", path, "--rename", tmp_path / "none.txt").err
