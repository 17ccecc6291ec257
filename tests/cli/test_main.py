"""Exit statuses, and errors that end a command early."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import archc
from archc.cli import CLOSED_PIPE, INTERNAL_ERROR, INTERRUPTED, main, make_parser
from archc.cli.options import COMMANDS_ELSEWHERE
from archc.driver import parsing
from tests.cli.conftest import SPECS, Run

CNN = SPECS / "cnn.arch"


def archc_process(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "archc", *arguments], text=True, timeout=60, **options)  # type: ignore[call-overload, no-any-return]


def test_no_command_prints_the_help_and_is_wrong_usage(run: Run) -> None:
    result = run()
    assert (result.status, result.out) == (2, "")
    assert "commands:" in result.err and "archc compile" in result.err


@pytest.mark.parametrize(
    "command", ["compile", "check", "fmt", "show", "draw", "ops", "passes", "explain", "completion"]
)
def test_help_explains_every_option_with_examples(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.status == 0
    assert "examples:\n  archc " + command in result.out
    from archc.cli import make_parser

    commands = next(action for action in make_parser()._actions if action.dest == "command")
    assert all(action.help for action in commands.choices[command]._actions)  # type: ignore[index, union-attr]


def test_version(run: Run) -> None:
    assert run("--version").out == f"archc {archc.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chekc"], "there is no command `chekc`; did you mean `check`?"),
        (["net.arch"], "a command comes first: `archc check net.arch`"),
        (["run", "net.arch"], "write `archc compile`"),
        (
            ["show", "net.arch", "--size", "N=3"],
            "archc show: unrecognized arguments: --size N=3; did you mean `--sizes`?",
        ),
        (["compile", "net.arch", "--out=x"], "did you mean `--output`?"),
        (["check", "net.arch", "--strickt"], "did you mean `--strict`?"),
        (["compile", "net.arch", "--frobnicate"], "unrecognized arguments: --frobnicate\n"),
        (["compile"], "FILE"),
        (["compile", "x.arch", "--emit", "onxx"], "did you mean `onnx`?"),
        (["compile", "x.arch", "--seed", "-1"], "--seed"),
        (["compile", "x.arch", "--pass", "quant"], "--pass"),  # no abbreviations: they break when an option is added
        (["show", "x.arch", "--sizes", "N"], "`N` is not a size such as N=32"),
        (["show", "x.arch", "--sizes", "N=0"], "`N` must be at least 1"),
        (["show", "x.arch", "--sizes", "N=4 T=3"], "separate sizes by commas, `N=4,T=3`"),
        (["show", "x.arch", "--set", "classes", "10"], "`--set classes=10`"),
        (["completion", "bsh"], "did you mean `bash`?"),
        (["fmt", "-", "--json"], "standard output"),
    ],
)
def test_wrong_usage(run: Run, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert (result.status, result.out) == (2, "")
    assert message in result.err


def test_an_error_is_a_diagnostic_with_status_1(run: Run) -> None:
    result = run("show", SPECS / "cnn.arch", "--model", "cn")
    assert (result.status, result.out) == (1, "")
    assert "error[unknown-model]" in result.err and "did you mean `cnn`?" in result.err
    assert "\033" not in result.err


def test_with_json_an_error_is_an_object(run: Run) -> None:
    result = run("show", SPECS / "cnn.arch", "--model", "cn", "--json")
    assert (result.status, result.err) == (1, "")
    assert [diagnostic["code"] for diagnostic in result.json["diagnostics"]] == ["unknown-model"]


def test_an_interrupt_is_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(parsing, "build", interrupted)
    result = run("check", CNN)
    assert (result.status, result.out, result.err) == (INTERRUPTED, "", "archc: interrupted; nothing was written\n")


def test_a_bug_is_one_message_and_a_traceback_on_request(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by 0")

    monkeypatch.setattr(parsing, "build", broken)
    monkeypatch.delenv("ARCHC_DEBUG", raising=False)
    result = run("check", CNN)
    assert result.status == INTERNAL_ERROR
    assert "internal error: ZeroDivisionError: by 0" in result.err and "Traceback" not in result.err
    monkeypatch.setenv("ARCHC_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["check", str(CNN)])


BROKEN = {
    "module": ("torch.emit", "_class", ()),
    "stages": ("torch.emit", "_class", ("--passes", "partition(2)")),
    "pipeline program": ("pipeline.emit", "_constant", ("--passes", "partition(2)")),
}
"""For each emitted file: the emitter, its function for a part of the text, and the options."""


@pytest.mark.parametrize("file", BROKEN)
def test_emitted_python_that_does_not_compile_is_not_written(
    file: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitter, part, passes = BROKEN[file]
    command = ("compile", SPECS / "mlp.arch", "--no-check", "--emit", "torch", "-o", tmp_path / "out", *passes)
    assert run(*command).status == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    broken = "for in :" if part == "_constant" else ["for in :"]
    monkeypatch.setattr(importlib.import_module(f"archc.codegen.{emitter}"), part, lambda *_: broken)
    monkeypatch.delenv("ARCHC_DEBUG", raising=False)
    result = run(*command, "--seed", "1")
    assert result.status == INTERNAL_ERROR
    assert "does not compile" in result.err and "Traceback" not in result.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_error_of_the_system_is_no_bug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(parsing, "build", refused)
    result = run("check", CNN)
    assert result.status == 1
    assert "error[system-error]: [Errno 24] Too many open files" in result.err


def test_a_closed_pipe_is_quiet() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    result = archc_process("ops", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (result.returncode, result.stderr) == (CLOSED_PIPE, "")


def test_output_on_a_terminal_without_unicode() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = archc_process("show", str(CNN), capture_output=True, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert "225,034" in result.stdout


def test_standard_output_on_a_full_disk() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        result = archc_process("ops", stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 1
    assert "error[system-error]" in result.stderr and "Traceback" not in result.stderr


def test_a_report_that_cannot_be_printed_leaves_no_files(tmp_path: Path) -> None:
    (tmp_path / "net.arch").write_text("model net { input x: f32[N, 4]  output y = x -> linear(2) }")
    command = ("compile", str(tmp_path / "net.arch"), "--no-check", "-o", str(tmp_path / "out"))
    with Path("/dev/full").open("w") as full:
        for options in ((), ("--json",)):
            result = archc_process(*command, *options, stdout=full, stderr=subprocess.PIPE)
            assert result.returncode == 1
            assert result.stderr.startswith("error[report-not-printed]: the report cannot be printed: No space")
            assert not (tmp_path / "out").exists()


def test_files_are_written_despite_a_closed_pipe(tmp_path: Path) -> None:
    (tmp_path / "net.arch").write_text("model net { input x: f32[N, 4]  output y = x -> linear(2) }")
    reading, writing = os.pipe()
    os.close(reading)
    command = ("compile", str(tmp_path / "net.arch"), "--no-check", "-o", str(tmp_path / "out"))
    try:
        result = archc_process(*command, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "out" / "report.json").exists()


def test_commands_of_other_programs_are_answered_by_commands() -> None:
    commands = next(a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert set(COMMANDS_ELSEWHERE.values()) <= set(commands) and not set(COMMANDS_ELSEWHERE) & set(commands)


@pytest.mark.parametrize("command", ["check", "fmt"])
def test_standard_input_is_read_once(run: Run, command: str) -> None:
    result = run(command, "-", "-")
    assert result.status == 2 and "standard input, which can be read once" in result.err
