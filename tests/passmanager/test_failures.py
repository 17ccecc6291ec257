"""Inputs on which a model cannot run: the diagnostic names the layer, and suggests larger samples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import archc
from archc.diagnostics import ArchcError, Diagnostic
from archc.interpreter.sample_inputs import sample_sizes

INPUT = "input x: f32[N, 2, T]"


def failure(text: str, passes: str, length: int) -> Diagnostic:
    """Return the diagnostic for samples of a length."""
    data = {"x": np.ones((3, 2, length), np.float32)}
    with pytest.raises(ArchcError) as caught:
        archc.compile(f"model net {{ {INPUT}  {text} }}", passes=passes, calibration=data)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "calibration-failed"
    return diagnostic


@pytest.mark.parametrize("passes", ["quant", "simplify", "fold", "lowrank(rank = 1)"])
@pytest.mark.parametrize(
    ("text", "length", "least", "layer"),
    [
        ("output y = x -> c: conv1d(2, 5)", 2, 5, "c"),
        ("output y = x -> max_pool1d(4) -> c: conv1d(2, 3)", 4, 12, "c"),
        ("output y = x -> avg_pool1d(4) -> c: conv1d(2, 1)", 3, 4, "avg_pool1d (line 1)"),
        ('output y = x -> pad((5, 5), mode = "reflect") -> c: conv1d(2, 3)', 3, 6, "pad (line 1)"),
        ('output y = x -> pad((5, 0), mode = "circular") -> c: conv1d(2, 3)', 3, 5, "pad (line 1)"),
        ("output y = x -> c: conv1d(2, 3) -> instance_norm", 3, 4, "instance_norm"),
        ("a, b = x -> c: conv1d(2, 3) -> topk(4)  output y = a", 4, 6, "topk (line 1)"),
    ],
)
def test_samples_that_are_too_small(text: str, passes: str, length: int, least: int, layer: str) -> None:
    diagnostic = failure(text, passes, length)
    assert diagnostic.message.startswith(f"{layer} cannot run on the calibration data: ")
    assert [note.text for note in diagnostic.notes][-1] == f"the inputs have N = 3, T = {length}"
    assert diagnostic.help == f"give larger samples with `--calib`: at least T = {least}"
    assert diagnostic.span is not None
    enough = {"x": np.ones((3, 2, least), np.float32)}
    archc.compile(f"model net {{ {INPUT}  {text} }}", passes=passes, calibration=enough)


GATHER = "model net { input x: f32[N, 8]  input i: i64[M, K]  output y = (x, i -> clamp(0, 0)) -> gather(0) }"


def test_random_inputs_fit_what_gathers_and_scatters(tmp_path: Path) -> None:
    assert sample_sizes(archc.parse(GATHER))["K"] == 8
    both = GATHER.replace("input i", "input z: f32[N, 1, T]  input i").replace(
        "gather(0)", "gather(0)  output u = z -> c: conv1d(2, 20)"
    )
    sizes = sample_sizes(archc.parse(both))
    assert sizes["K"] <= 8 and sizes["T"] >= 20
    for text in (GATHER, both):
        archc.compile(text, passes="quant").write(tmp_path, check=True)
    scatter = """model net { input x: f32[N, 8]  input i: i64[M, K]  input s: f32[M, K]
        output y = (x, i -> clamp(0, 0), s) -> scatter(0) }"""
    archc.compile(scatter, passes="quant").write(tmp_path, check=True)


def test_a_gather_that_can_never_run() -> None:
    with pytest.raises(ArchcError, match="no larger than f32\\[N, 8\\] along all axes except `dim`"):
        archc.parse("model m { input x: f32[N, 8]  input i: i64[N, 9]  output y = (x, i) -> gather(0) }")


def test_places_that_the_model_computes_itself(tmp_path: Path) -> None:
    text = "model m { input x: f32[N, 8]  i = (x * 0 + 9) -> cast(i64)  output y = (x, i) -> gather(1) }"
    compiled = archc.compile(text)
    for run in (lambda: archc.compile(text, passes="quant"), lambda: compiled.write(tmp_path, check=True)):
        with pytest.raises(ArchcError) as caught:
            run()
        (diagnostic,) = caught.value.diagnostics
        assert diagnostic.code == "calibration-failed"
        assert diagnostic.message.startswith("gather (line 1) cannot run on seeded random inputs: ")
        assert diagnostic.help is not None and "`--no-check`" in diagnostic.help and "`--calib`" in diagnostic.help
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_is_too_large_for_pytorch() -> None:
    text = f"output y = full(({' * '.join(['N'] * 24)},), value = 1.0) -> sum(0)  output z = x"
    diagnostic = failure(text, "quant", 4)  # N is 3, and 3**24 elements do not fit the memory
    assert diagnostic.message.startswith("full (line 1) cannot run on the calibration data: ")
    diagnostic = failure(text.replace("N", "N * N"), "quant", 4)
    assert diagnostic.message.endswith(": the size 8.0e+22 is too large for PyTorch")


@pytest.mark.parametrize("bug", [KeyError("w"), AttributeError("no such"), TypeError("wrong"), MemoryError()])
def test_a_bug_of_an_operator_is_no_fault_of_the_inputs(bug: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(*_: object) -> None:
        raise bug

    monkeypatch.setattr("archc.interpreter.evaluate._function", lambda *_: buggy)
    with pytest.raises(type(bug)):
        archc.compile(f"model net {{ {INPUT}  output y = x -> tanh }}", passes="quant")


def test_selectors_of_the_first_pass_are_checked_before_the_model_runs() -> None:
    program = (
        "import sys\nfrom archc.cli import main\nassert main(sys.argv[1:]) == 1\nassert 'torch' not in sys.modules\n"
    )
    arguments = ["compile", "specs/cnn.arch", "--passes", 'lowrank(on = "nope")']
    result = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "error[selector-matches-nothing]: the selector `nope`" in result.stderr
