"""If the checking process crashes, hangs or is killed, archc gives a diagnostic and writes no files."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import archc
from archc.cli import main
from archc.diagnostics import ArchcError, error
from archc.driver import budget
from archc.driver.emitted_programs import without
from archc.driver.isolation import Ended, Tell, isolated
from archc.targets.registry import BUILT_IN, names_of
from tests.cli.conftest import Run, run  # noqa: F401  a fixture

pytestmark = pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="there the check runs in archc's process")

TEXT = "model net { input x: f32[N, 8]  output y = x -> fc: linear(4) }"
CRASHES = """
model m {
    input in0: f32[N, 1, 12]
    input in1: f32[N, 1, 4, 5, 6]
    v2, v3 = in0 -> l1: rnn(3, 2, bias = false, bidirectional = true, return_state = true)
    layer sh4 = linear(6, bias = false)
    v7 = v2 -> sh4 -> clamp(max = 0.4) -> sh4 -> sh4
    v9 = v2[:, :]
    v11 = v9 -> cast(f64)
    v13 = v7 -> enc.l5: instance_norm(affine = true)
    v14 = v13 + (v13 -> softshrink(0.3) -> l6: linear(6))
    v18 = v11 -> t7: linear(8) -> relu -> t7b: linear(6, weight = t7.weight.T)
    v29 = (v18, v18) -> stack(2)
    output o0 = v29
}
"""
"""A model that crashes ONNX Runtime 1.31: an optimization reads invalid memory."""


def test_results_and_exceptions_come_back() -> None:
    assert isolated(lambda tell: os.getpid(), 60) != os.getpid()
    assert isolated(lambda tell: "x" * 1_000_000, 60) == "x" * 1_000_000
    with pytest.raises(ZeroDivisionError):
        isolated(lambda tell: 1 // 0, 60)

    class Local(Exception):
        """Exception that cannot be pickled."""

    def fail(tell: Tell) -> None:
        raise Local("gone")

    with pytest.raises(RuntimeError, match="Local: gone"):
        isolated(fail, 60)

    def refuse(tell: Tell) -> None:
        raise error("some-code", "a message", help="a way out")

    with pytest.raises(ArchcError) as refused:
        isolated(refuse, 60)
    (diagnostic,) = refused.value.diagnostics
    assert (diagnostic.code, diagnostic.help) == ("some-code", "a way out")


def test_an_exit_within_the_process_does_not_end_the_caller() -> None:
    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        isolated(lambda tell: sys.exit(3), 60)


@pytest.mark.parametrize("fault", ["pipe", "fork"])
def test_no_pipe_stays_open_without_a_process(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = getattr(os, fault), []

    def failing() -> object:
        calls.append(fault)
        if fault == "pipe" and len(calls) == 1:
            return real()
        raise BlockingIOError

    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, fault, failing)
    with pytest.raises(BlockingIOError):
        isolated(lambda tell: None, 60)
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_end_of_a_process_is_reported() -> None:
    def crash(tell: Tell) -> None:
        tell("one")
        tell("two")
        os.write(2, b"terminate called\n")
        os.kill(os.getpid(), signal.SIGSEGV)

    with pytest.raises(Ended) as ended:
        isolated(crash, 60)
    assert (ended.value.signal, ended.value.steps) == (signal.SIGSEGV, ["one", "two"])
    assert ended.value.words == "terminate called" and not ended.value.killed
    with pytest.raises(Ended) as late:
        isolated(lambda tell: time.sleep(60), 0.2)
    assert late.value.how.startswith("did not end within ")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # no process is left


def others(name: str) -> str:
    """The option that emits all targets of archc but one."""
    return f"`--emit {names_of(target for target in BUILT_IN if target.name != name)}`"


def test_a_crash_of_onnx_runtime(run: Run, tmp_path: Path) -> None:  # noqa: F811  the fixture above
    (tmp_path / "m.arch").write_text(CRASHES)
    out = tmp_path / "out"
    out.mkdir()
    (out / "m.py").write_text("# of an earlier compile")
    result = run("compile", tmp_path / "m.arch", "-o", out, "--check")
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("error[check-crashed]: ONNX Runtime was ended by the signal SIGSEGV")
    assert others("onnx") in result.err and "`--no-check`" in result.err
    assert [path.name for path in out.iterdir()] == ["m.py"] and (out / "m.py").read_text() == "# of an earlier compile"
    assert run("compile", tmp_path / "m.arch", "-o", out, "--check", "--emit", "torch,arch").status == 0
    assert run("compile", tmp_path / "m.arch", "-o", out, "--no-check").status == 0


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hanging(*_: object) -> None:
    time.sleep(60)


@pytest.mark.parametrize(
    ("happens", "told"), [(killed, "was ended by the signal SIGKILL"), (hanging, "did not end within 1 seconds")]
)
def test_a_module_that_hangs_or_is_killed(
    happens: Callable[..., None], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archc.codegen.torch.load.load_model", happens)
    monkeypatch.setattr(budget, "time_limit", lambda graph: 1.0)
    with pytest.raises(ArchcError) as caught:
        archc.compile(TEXT).write(tmp_path / "out", check=True)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "check-crashed" and f"PyTorch {told}" in diagnostic.message
    assert diagnostic.help is not None and others("torch") in diagnostic.help
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archc.codegen.torch.emit", lambda graph, **_: "def load(): return undefined\n")
    with pytest.raises(ArchcError) as caught:
        archc.compile(TEXT).write(tmp_path / "out", check=True)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.message == "PyTorch cannot run the PyTorch module: NameError: name 'undefined' is not defined"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", ["torch", "onnxruntime", "torch stages", "onnxruntime stages"])
def test_the_help_leaves_out_the_program_that_fails(program: str) -> None:
    assert others("onnx" if "onnx" in program else "torch") in without(program)


@pytest.mark.parametrize("program", [".py", ".onnx"])
def test_too_little_memory_is_no_fault_of_a_program(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def scarce(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(
        "archc.codegen.torch.load.load_module" if program == ".py" else "archc.codegen.onnx.run_tensors", scarce
    )
    (tmp_path / "m.arch").write_text(TEXT)
    assert main(["compile", str(tmp_path / "m.arch"), "-o", str(tmp_path / "out"), "--check"]) == 1
    assert capsys.readouterr().err.startswith("error[system-error]: there is not enough memory\n")


@pytest.mark.parametrize(("name", "most"), [("MULTIPLY_ADDS", 255), ("BYTES", 271)])
def test_a_model_above_the_budget_is_checked_only_on_demand(
    name: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 samples take 8 · 8 · 4 = 256 multiply-adds; weights and results 4 · (36 + 32) = 272 bytes."""
    monkeypatch.undo()
    compiled = archc.compile(TEXT)
    assert "errors" in compiled.write(tmp_path)["check"]
    monkeypatch.setattr(budget, name, most)
    reason = compiled.write(tmp_path)["check"]["unchecked"]
    assert reason.endswith("; `--check` checks it nevertheless")
    assert f"{most:,}" in reason and "at N = 8" in reason
    assert "errors" in compiled.write(tmp_path, check=True)["check"]
    assert compiled.write(tmp_path, check=False)["check"] == {"unchecked": "`--no-check` was given"}


def test_outputs_that_cannot_be_run_are_unchecked(tmp_path: Path) -> None:
    assert archc.compile(TEXT, weights="none").write(tmp_path)["check"] == {"unchecked": "there are no weights"}
    arch = archc.compile(TEXT).write(tmp_path, emit=("arch",), check=True)["check"]
    assert arch == {"unchecked": "no emitted file can be run"}
