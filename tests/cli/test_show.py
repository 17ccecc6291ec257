"""`archc show`."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from tests.cli.conftest import SPECS, Run

Write = Callable[[str, str], Path]

CNN = SPECS / "cnn.arch"


def test_the_table_of_a_model(run: Run, write: Write) -> None:
    path = write("m.arch", "model m {\n    input x: f32[N, 8]\n    output y = x -> fc: linear(2) -> relu\n}\n")
    expected = """\
model m
input  x: f32[N, 8]
output y: f32[N, 2]

layer  operator     output     parameters  multiply-adds  activation bytes
──────────────────────────────────────────────────────────────────────────
fc     linear(2)    f32[N, 2]          18             16                 8
       relu         f32[N, 2]                                            8
──────────────────────────────────────────────────────────────────────────
total  2 operators                     18             16                16

72 bytes of weights
multiply-adds and activation bytes at N = 1; --sizes gives others
"""
    assert run("show", path).out == expected


def test_json_agrees_with_pytorch(run: Run) -> None:
    report = run("show", CNN, "--json").json
    reference = nn.Sequential(nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.Linear(1600, 128), nn.Linear(128, 10))
    assert report["model"] == "cnn"
    assert report["inputs"] == {"image": "f32[N, 1, 28, 28]"}
    assert report["outputs"] == {"logits": "f32[N, 10]"}
    assert report["parameters"] == sum(parameter.numel() for parameter in reference.parameters())
    assert report["bytes"] == 4 * report["parameters"]
    assert report["multiply_adds"] == 26 * 26 * 32 * 9 + 11 * 11 * 64 * 32 * 9 + 1600 * 128 + 128 * 10
    assert [layer["layer"] for layer in report["layers"] if layer["layer"]] == ["conv1", "conv2", "fc1", "fc2"]
    assert report["layers"][0] == {
        "layer": "conv1",
        "operator": "conv2d(32, 3)",
        "outputs": ["f32[N, 32, 26, 26]"],
        "parameters": 320,
        "multiply_adds": 26 * 26 * 32 * 9,
        "activation_bytes": 4 * 32 * 26 * 26,
    }
    for figure in ("parameters", "multiply_adds", "activation_bytes"):
        assert report[figure] == sum(layer[figure] for layer in report["layers"])
    assert (report["passes"], report["warnings"], report["sizes"]) == ([], [], {"N": 1})


def test_sizes_and_settings(run: Run) -> None:
    one = run("show", CNN, "--json").json
    many = run("show", CNN, "--json", "--sizes", "N=32", "--set", "classes=100").json
    assert many["outputs"] == {"logits": "f32[N, 100]"}
    assert many["sizes"] == {"N": 32}
    assert many["multiply_adds"] == 32 * (one["multiply_adds"] + 90 * 128)
    assert "at N = 32\n" in run("show", CNN, "--sizes", "N=32").out


def test_a_shared_weight_counts_once(run: Run, write: Write) -> None:
    path = write(
        "m.arch", "model m {\n    input x: f32[N, 8]\n    layer fc = linear(8)\n    output y = x -> fc -> fc\n}\n"
    )
    report = run("show", path, "--json").json
    assert [layer["parameters"] for layer in report["layers"]] == [72, 0]
    assert [layer["multiply_adds"] for layer in report["layers"]] == [64, 64]
    assert report["parameters"] == 72


def test_sizes_that_the_model_lacks_or_forbids(run: Run, write: Write) -> None:
    path = write("m.arch", "model m {\n    input x: f32[B, T <= 16]\n    output y = x -> relu\n}\n")
    assert "error[unknown-size]: `m` has no size `N`" in run("show", path, "--sizes", "N=2").err
    assert "error[size-above-bound]: `T` must be at most 16, got 17" in run("show", path, "--sizes", "T=17").err
    assert run("show", path, "--sizes", "T=16,B=2").status == 0


def test_sizes_that_make_a_tensor_empty_are_refused(run: Run, write: Write) -> None:
    path = write("m.arch", "model m {\n    input x: f32[N, 1, H, H]\n    output y = x -> conv2d(4, 3)\n}\n")
    result = run("show", path, "--sizes", "H=2")
    assert result.status == 1
    assert "error[size-too-small]: with N = 1, H = 2 the result f32[N, 4, H - 2, H - 2] of conv2d" in result.err
    assert "--sizes" in result.err
    assert run("show", path, "--sizes", "H=8").err == ""


def test_without_passes_it_imports_no_torch() -> None:
    program = """
import sys
from archc.cli import main
status = main(["show", sys.argv[1]])
sys.exit(status or ", ".join(sorted({"torch", "onnx"} & set(sys.modules))) or 0)
"""
    result = subprocess.run([sys.executable, "-c", program, str(CNN)], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


def test_with_passes_it_shows_the_resulting_model(run: Run) -> None:
    result = run("show", SPECS / "mlp.arch", "--set", "width=256", "--passes", "lowrank(rank=8)")
    assert result.status == 0
    assert "linear(8, bias = false)" in result.out
    assert "weights: initialized as PyTorch initializes them, from the seed 0" in result.out
    assert "lowrank(rank = 8)" in result.out.rpartition("nodes")[2]
    report = run("show", SPECS / "mlp.arch", "--passes", "lowrank(rank=8)", "--json").json
    (step,) = report["passes"]
    assert step["after"]["parameters"] == report["parameters"] < step["before"]["parameters"]


DIVIDED = """\
devices box { a = cuda(0, speed = 1T, bandwidth = 1TB/s)  b = cuda(1)  link a <-> b = 50GB/s }
model m {
    input x: f32[N, 8]
    output y = x -> fc1: linear(64) -> to_stage(1) -> fc2: linear(8)
}
"""


def test_a_divided_model_shows_its_stages(run: Run, write: Write) -> None:
    result = run("show", write("m.arch", DIVIDED), "--sizes", "N=10")
    expected = """
stage  device  layers  operators    load  share    work  transfers  bytes received  bytes sent  memory
──────────────────────────────────────────────────────────────────────────────────────────────────────
0      cpu     fc1             1  374 ns    51%  259 ns     115 ns             320       2,560   4,864
1      cpu     fc2             1  363 ns    49%  248 ns     115 ns           2,560         320   2,400
"""
    assert expected in result.out


def test_stages_in_json_and_the_devices_that_the_text_names(run: Run, write: Write) -> None:
    text = DIVIDED.replace("x -> fc1", "x -> to_stage(0, device = 'cuda:0') -> fc1")
    text = text.replace("to_stage(1)", "to_stage(1, device = 'cuda:1')")
    first, second = run("show", write("m.arch", text), "--json").json["stages"]
    assert (first["device"], first["layers"], second["layers"]) == ("a", ["fc1"], ["fc2"])
    assert first["received_bytes"] == 4 * 8 and first["sent_bytes"] == second["received_bytes"] == 4 * 64
    assert first["work_seconds"] == (4 * (8 + 8 * 64 + 64 + 64)) / 1e12
    assert second["transfer_seconds"] == 4 * (64 + 8) / 50e9
    without = text.partition("\n")[2]
    assert run("show", write("n.arch", without), "--json").json["stages"][0]["device"] == "cuda:0"


def test_a_model_without_stages_shows_none(run: Run) -> None:
    assert run("show", CNN, "--json").json["stages"] == []
    assert "stage" not in run("show", CNN).out


def test_the_stages_of_partition_are_shown(run: Run) -> None:
    result = run("show", CNN, "--passes", "partition(stages=2)", "--json")
    (step,) = result.json["passes"]
    loads = [remark["figures"]["load"] for remark in step["remarks"] if remark["kind"] == "rewrote"]
    assert [stage["load_seconds"] for stage in result.json["stages"]] == loads
    assert "conv1 … conv2" in run("show", CNN, "--passes", "partition(stages=2)").out


def test_an_empty_stage_is_an_error(run: Run, write: Write) -> None:
    path = write("m.arch", DIVIDED.replace("to_stage(1)", "to_stage(2)"))
    for command in ("show", "check"):
        result = run(command, path)
        assert (result.status, "error[empty-stage]" in result.err) == (1, True)


def test_the_examples_of_its_help_run(run: Run, tmp_path: Path) -> None:
    """The examples that need no file but a spec; pictures are written into the folder of the test."""
    examples = [
        shlex.split(line) for line in run("show", "--help").out.splitlines() if line.startswith("  archc show ")
    ]
    ready = [words[2:] for words in examples if "--weights" not in words]
    assert len(ready) >= 4
    for words in ready:
        file, *options = words
        options = [str(tmp_path / word) if word.endswith(".svg") else word for word in options]
        result = run("show", SPECS.parent / file, *options)
        assert result.status == 0, result.err
    assert any(tmp_path.iterdir())


def test_data_sets_the_sizes_without_passes(run: Run, write: Write, tmp_path: Path) -> None:
    path = write("m.arch", "model m {\n    input x: f32[N, T, 8]\n    output y = x -> fc: linear(2)\n}\n")
    np.savez(tmp_path / "data.npz", x=np.ones((3, 5, 8), np.float32))
    result = run("show", path, "--calib", tmp_path / "data.npz", "--seed", "1")
    assert "T = 5" in result.out and "`--seed` has no effect without `--passes`" in result.err
    assert "file-not-found" in run("show", path, "--calib", tmp_path / "none.npz").err


def test_options_without_effect_are_reported_with_a_sweep(run: Run) -> None:
    result = run("show", SPECS / "cnn.arch", "--sweep", "classes=1,2", "--seed", "3", "--allow-pickle")
    assert result.status == 0 and result.err.count("warning[option-without-effect]") == 2
