"""`archc compile`."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from archc.driver import emission
from archc.targets.registry import BUILT_IN
from tests.cli.conftest import SPECS, Run

CNN = SPECS / "cnn.arch"
FILES = sorted([*(f"cnn{target.suffix}" for target in BUILT_IN), "cnn.safetensors", "report.json"])


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_it_writes_and_lists_every_file(run: Run, tmp_path: Path) -> None:
    result = run("compile", CNN, "-o", tmp_path / "new" / "out", "--check")
    assert (result.status, result.err) == (0, "")
    folder = tmp_path / "new" / "out"
    assert list(content(folder)) == FILES
    assert "weights: initialized as PyTorch initializes them, from the seed 0; no file was given\n" in result.out
    assert "cnn: 10 operators, 225,034 parameters, 900,136 bytes, 2,631,040 multiply-adds; no passes\n" in result.out
    assert "checked: relative error against the graph: PyTorch " in result.out
    for name in FILES:
        (line,) = (line for line in result.out.splitlines() if line.startswith(f"  {folder / name} "))
        assert line.endswith(f" {(folder / name).stat().st_size:,} bytes")


DEEP = """model deep {
    input x: f32[N, 64]
    for i in 0..16 { x = x -> fc[i]: linear(64) -> relu }
    output a = x -> first: linear(3)
    output b = x -> second: linear(3)
}"""


def test_outputs_that_hardly_depend_on_inputs_are_reported(run: Run, tmp_path: Path) -> None:
    """Fresh layers attenuate the input so much that the outputs hardly depend on it."""
    (tmp_path / "deep.arch").write_text(DEEP)
    result = run("compile", tmp_path / "deep.arch", "-o", tmp_path / "out", "--check")
    assert result.status == 0
    first, second, third = result.out[result.out.index("checked: ") :].splitlines()[:3]
    assert first.startswith("checked: relative error against the graph: PyTorch 0, ONNX Runtime ")
    assert second.startswith("note: `a` and `b` hardly depend on the inputs (relative spread ")
    assert third.startswith("      with each layer's weights scaled (relative spread ")
    report = json.loads((tmp_path / "out" / "report.json").read_text())["check"]
    assert report["faint"] == ["a", "b"] and report["scaled"]["faint"] == []
    quantized = run("compile", tmp_path / "deep.arch", "-o", tmp_path / "out", "--check", "--passes", "quant")
    assert "      give trained weights with `--weights`\n" in quantized.out and "scaled" not in quantized.out


def test_the_note_is_about_faint_outputs_alone(run: Run, tmp_path: Path) -> None:
    """The spread in the note is that of `a` and `b`: the constant output `still` does not count."""
    text = DEEP.replace("output b =", "output still = arange(3)\n    output b =")
    (tmp_path / "deep.arch").write_text(text)
    result = run("compile", tmp_path / "deep.arch", "-o", tmp_path / "out", "--check")
    report = json.loads((tmp_path / "out" / "report.json").read_text())["check"]
    assert report["faint"] == ["a", "b"] and report["scaled"]["spread"]["still"] == 0
    assert "with each layer's weights scaled (relative spread 0)" not in result.out and "give trained" not in result.out


def test_amplified_rounding_and_unscaled_models_are_reported(run: Run, tmp_path: Path) -> None:
    text = "model m { input x: f32[N, 64]  LAYERS  output y = x }"
    own, shared = (
        text.replace("LAYERS", f"{layer}  for i in 0..100 {{ x = x -> {use} -> tanh }}")
        for layer, use in (("", "l[i]: linear(64)"), ("layer l = linear(64)", "l"))
    )
    (tmp_path / "own.arch").write_text(own)
    (tmp_path / "shared.arch").write_text(shared)
    magnified = run("compile", tmp_path / "own.arch", "-o", tmp_path / "out", "--check").out
    assert ", 2 × the measured effect of rounding)\n" in magnified and "give trained" not in magnified
    nothing = run("compile", tmp_path / "shared.arch", "-o", tmp_path / "out", "--check").out
    assert "\n      no layer could be scaled; give trained weights with `--weights`\n" in nothing
    assert "weights scaled" not in nothing


def test_the_report(run: Run, tmp_path: Path) -> None:
    result = run("compile", CNN, "-o", tmp_path, "--json", "--seed", "7", "--check")
    report = result.json
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert (report["model"], report["source"], report["seed"]) == ("cnn", "cnn.arch", 7)
    assert report["inputs"] == {"image": "f32[N, 1, 28, 28]"}
    assert (report["parameters"], report["bytes"]) == (225034, 900136)
    assert max(report["check"]["errors"].values()) <= report["check"]["tolerance"] == 1e-4
    assert set(report["check"]["errors"]) == {"torch", "onnxruntime"}
    assert set(report["files"]) == set(FILES) - {"report.json"}
    for name, file in report["files"].items():
        data = (tmp_path / name).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_the_same_input_gives_the_same_bytes_in_another_folder_and_process(run: Run, tmp_path: Path) -> None:
    passes = "lowrank(rank=16, on='fc1'), quant"
    assert run("compile", CNN, "-o", tmp_path / "one", "--passes", passes, "--check").status == 0
    command = [sys.executable, "-m", "archc", "compile", str(CNN), "-o", "two", "--passes", passes, "--check"]
    # Two threads, since this process has one.
    more = {"PYTHONHASHSEED": "4711", "PYTHONPATH": str(SPECS.parent), "OMP_NUM_THREADS": "2"}
    environment = {**os.environ, **more}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=120)
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert list(one) == ["archc_int8.py", *FILES]
    assert [name for name in one if one[name] != two[name]] == []
    assert run("compile", CNN, "-o", tmp_path / "one", "--seed", "1", "--passes", passes).status == 0
    assert content(tmp_path / "one")["cnn.safetensors"] != two["cnn.safetensors"]


def test_warnings_in_the_report_name_the_file_without_its_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "m.arch"
    path.write_text("model m {\n    input x: f32[N, 8]\n    z = x -> relu\n    output y = x -> tanh\n}\n")
    result = run("compile", path, "-o", tmp_path, "--emit", "arch")
    assert result.status == 0 and result.err.startswith("warning[")
    text = (tmp_path / "report.json").read_text()
    assert str(tmp_path) not in text
    (warning,) = json.loads(text)["warnings"]
    assert (warning["file"], warning["line"], warning["column"]) == ("m.arch", 3, 5)


def test_the_name_of_a_file_need_not_be_utf_8(run: Run, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/m\xff.arch"
    try:
        Path(os.fsdecode(path)).write_text("model m { input x: f32[N, 8]  output y = x -> tanh }\n")
    except OSError:
        pytest.skip("this file system wants UTF-8")
    result = run("compile", os.fsdecode(path), "-o", tmp_path, "--emit", "torch,arch", "--json")
    assert (result.status, result.json["source"]) == (0, "m\ufffd.arch")


def test_the_table_of_passes_and_the_explanation(run: Run, tmp_path: Path) -> None:
    result = run(
        "compile", CNN, "-o", tmp_path, "--emit", "arch", "--explain", "--passes", "lowrank(rank=16, on='fc*'), quant"
    )
    assert (result.status, result.err) == (0, "")
    assert "calibration: seeded random inputs (seed 0); no data was given\n" in result.out
    table = result.out[result.out.index("pass  ") :].splitlines()
    assert table[0].split() == ["pass", "nodes", "parameters", "bytes", "multiply-adds", "error"]
    assert table[2].startswith('lowrank(rank = 16, on = "fc*")') and "225,034 → 47,882" in table[2]
    assert table[2].endswith("%") and table[3].startswith("quant") and table[5].startswith("all ")
    explanation = result.out[: result.out.index("pass  ")]
    assert "rewrote fc1" in explanation and "left    fc2" in explanation and "left    conv1" in explanation
    assert "parameters after 27,648" in explanation


def test_weights_and_calibration_are_read_and_named(run: Run, tmp_path: Path) -> None:
    run("compile", CNN, "-o", tmp_path / "first", "--emit", "torch", "--seed", "3")
    weights = tmp_path / "first" / "cnn.safetensors"
    np.savez(tmp_path / "digits.npz", image=np.random.default_rng(0).random((40, 1, 28, 28), np.float32))
    result = run(
        "compile", CNN, "-o", tmp_path / "out", "--emit", "torch", "--weights", weights,
        "--calib", tmp_path / "digits.npz", "--passes", "quant(keep=['conv1', 'fc2'])",
    )  # fmt: skip
    assert (result.status, result.err) == (0, "")
    assert "weights: read from cnn.safetensors\n" in result.out
    assert "calibration: the given data\n" in result.out
    before, after = load_file(weights), load_file(tmp_path / "out" / "cnn.safetensors")
    assert after["fc1.weight"].dtype == np.int8
    np.testing.assert_array_equal(after["fc2.weight"], before["fc2.weight"])


def test_a_pipeline_of_the_file(run: Run, tmp_path: Path) -> None:
    report = run("compile", CNN, "-o", tmp_path, "--emit", "arch", "--passes", "edge", "--json").json
    assert [step["pass"].partition("(")[0] for step in report["passes"]] == ["lowrank", "quant"]


def test_emit_chooses(run: Run, tmp_path: Path) -> None:
    assert run("compile", CNN, "-o", tmp_path, "--emit", "arch").status == 0
    assert list(content(tmp_path)) == ["cnn.arch", "cnn.safetensors", "report.json"]


def test_the_output_compiles_again_to_the_same_model(run: Run, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run("compile", CNN, "-o", one, "--emit", "torch,arch", "--passes", "lowrank(rank=16, on='fc1')")
    result = run("compile", one / "cnn.arch", "-o", two, "--emit", "torch,arch", "--weights", one / "cnn.safetensors")
    assert (result.status, result.err) == (0, "")
    for name in ("cnn.arch", "cnn.py"):
        assert (two / name).read_bytes() == (one / name).read_bytes(), name
    before, after = load_file(one / "cnn.safetensors"), load_file(two / "cnn.safetensors")
    assert set(before) == set(after)
    for name, tensor in before.items():
        np.testing.assert_array_equal(after[name], tensor)


@pytest.fixture
def earlier(run: Run, tmp_path: Path) -> Path:
    """An output folder with an earlier output and a file of the user."""
    folder = tmp_path / "out"
    assert run("compile", CNN, "-o", folder, "--emit", "torch").status == 0
    (folder / "notes.txt").write_text("mine")
    return folder


def truncated_weights(folder: Path) -> list[str]:
    path = folder / "weights.safetensors"
    save_file({"conv1.weight": np.zeros((32, 1, 3, 3), np.float32)}, path)
    path.write_bytes(path.read_bytes()[:-8])
    return ["--weights", str(path)]


def missing_tensors(folder: Path) -> list[str]:
    save_file({"conv1.weight": np.zeros((32, 1, 3, 3), np.float32)}, folder / "weights.safetensors")
    return ["--weights", str(folder / "weights.safetensors")]


def wrong_calibration(folder: Path) -> list[str]:
    np.savez(folder / "digits.npz", image=np.zeros((4, 1, 27, 27), np.float32))
    return ["--calib", str(folder / "digits.npz"), "--passes", "quant"]


@pytest.mark.parametrize(
    ("mistake", "code"),
    [
        (truncated_weights, "weights-truncated"),
        (missing_tensors, "weights-missing"),
        (wrong_calibration, "calibration-shape"),
        (lambda _: ["--passes", "lowrank(on='nowhere')"], "selector-matches-nothing"),
        (lambda _: ["--passes", "lowrank(rank='a lot')"], "wrong-type"),
        (lambda _: ["--passes", "lowrank, nothing"], "unknown-pass"),
        (lambda _: ["--set", "classes='ten'"], "wrong-type"),
    ],
)
def test_a_mistake_leaves_the_folder_as_it_was(
    run: Run, tmp_path: Path, earlier: Path, mistake: object, code: str
) -> None:
    before = content(earlier)
    result = run("compile", CNN, "-o", earlier, *mistake(tmp_path))  # type: ignore[operator]
    assert (result.status, result.out) == (1, "")
    assert f"error[{code}]" in result.err and "Traceback" not in result.err
    assert content(earlier) == before


def test_an_interrupt_in_the_middle_of_writing_leaves_the_folder_as_it_was(
    run: Run, earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(earlier)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(emission, "make_report", interrupted)  # called just before the report is written
    result = run("compile", CNN, "-o", earlier, "--set", "classes=3")
    assert result.status == 130
    assert content(earlier) == before


def test_a_folder_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    result = run("compile", CNN, "-o", tmp_path / "file", "--emit", "arch")
    assert result.status == 1
    assert "error[output-not-a-folder]" in result.err
    assert (tmp_path / "file").read_text() == "here"


def test_a_pass_from_a_plugin(run: Run, tmp_path: Path, plugins: None) -> None:
    plugin = tmp_path / "my_passes.py"
    plugin.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from archc import Context, Graph, Pass, attribute\n\n"
        "@dataclass(frozen=True)\n"
        "class Count(Pass):\n"
        "    '''Count layers, and change nothing.'''\n\n"
        "    least: int = attribute(0, doc='how many there must be')\n\n"
        "    def run(self, graph: Graph, context: Context) -> None:\n"
        "        context.note(graph.name, f'{len(graph.layers())} of at least {self.least}')\n"
    )
    result = run(
        "compile", CNN, "-o", tmp_path / "out", "--emit", "arch", "--load", plugin, "--passes", "count(2)", "--explain"
    )
    assert result.status == 0 and "warning[pass-without-effect]" in result.err  # the pass rewrites nothing
    assert "help: the remarks of the pass give the reason for each layer\n" in result.err
    assert "count(least = 2)  (exact)\n  note    cnn  4 of at least 2\n" in result.out
    assert "least: an integer = 0" in run("passes", "count", "--load", plugin).out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--single-file --emit torch", "`--single-file` has no effect: no program of `cnn` imports a file"),
        ("--single-file --emit arch --passes quant", "`--single-file` has no effect"),
        ("--check --emit arch", "`--check` has no effect: no emitted file can be run"),
        ("--explain --emit arch", "`--explain` has no effect without `--passes`"),
        ("--explain --emit arch --passes fold", "`--explain` has no effect with `--json`"),
        ("--allow-pickle --emit arch", "`--allow-pickle` has no effect without `--weights`"),
        ("--weights none --seed 3", "`--seed` has no effect with `--weights none`"),
        ("--calib digits.npz --emit arch", "`--calib` has no effect without `--passes`"),
    ],
)
def test_an_option_without_effect_is_reported(
    given: str, message: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("digits.npz", image=np.random.default_rng(0).random((8, 1, 28, 28), np.float32))
    warnings = run("compile", CNN, *given.split(), "--json").json["warnings"]
    found = [one["message"] for one in warnings if one["code"] == "option-without-effect"]
    assert any(text.startswith(message) for text in found), found


def test_options_with_an_effect_are_not_reported(run: Run, tmp_path: Path) -> None:
    """The data gives the size `T`, at which costs are counted, also without passes."""
    path = tmp_path / "in.arch"
    path.write_text("model m { input x: f32[N, T, 8]  output y = x -> linear(8) }")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).random((4, 12, 8), np.float32))
    data = ["--calib", tmp_path / "data.npz"]
    for given in (data, ["--single-file", "--passes", "quant(least = 0)", *data], ["--seed", "3", "--sizes", "T=8"]):
        report = run("compile", path, "-o", tmp_path, "--check", "--json", *given).json
        assert [one["code"] for one in report["warnings"]] == [], given


def test_a_folder_of_plugins_is_refused_with_a_file_in_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "net.arch").write_text("")
    (tmp_path / "plugin.py").write_text("")
    refused = run("compile", CNN, "--load", tmp_path)
    assert refused.status == 1 and f"give a file in it, such as `{tmp_path / 'plugin.py'}`\n" in refused.err
