"""Compilations that write nothing: interrupted, or with operators that a target cannot express."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.diagnostics.cases import check_built, run
from tests.signals import restore_signals

NET = "model net {\n    input x: f32[N, 4]\n    output x -> linear(4) -> pause -> also_pause\n}\n"
OPERATORS = '''\
"""Operators whose ONNX form takes a minute to emit."""
from __future__ import annotations

import time
from pathlib import Path

from archc.declaration.base import Operator, operator


@operator
class Pause(Operator):
    """Return the operand."""

    signature = "x[*s] -> y[*s]"

    def torch(self, spell):
        return spell.operands[0]

    def onnx(self, spell):
        Path("begun").touch()
        time.sleep(60)
        return spell.operands[0]


@operator
class AlsoPause(Pause):
    """Return the operand, too."""
'''
TARGET = '''\
"""A target that takes a minute to write."""
from __future__ import annotations

import time
from pathlib import Path

import archc


def write(model, path):
    Path("begun").touch()
    time.sleep(60)


archc.register_target(archc.Target(name="slow", suffix=".slow", title="a slow file", write=write))
'''
TORCH_ONLY = '''\
"""Operators with a PyTorch form and without an ONNX form."""
from __future__ import annotations

from archc.declaration.base import Operator, operator


@operator
class Spin(Operator):
    """Return a copy of the operand."""

    signature = "x[*s] -> y[*s]"
    torch_name = "torch.clone"


@operator
class Whirl(Spin):
    """Return a copy of the operand, too."""
'''


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
@pytest.mark.parametrize(("slow", "net"), [(OPERATORS, NET), (TARGET, NET.replace(" -> pause -> also_pause", ""))])
@pytest.mark.parametrize(
    ("number", "status", "message"),
    [
        (signal.SIGINT, 130, "archc: interrupted; nothing was written\n"),
        (signal.SIGTERM, 143, ""),
        (signal.SIGHUP, 129, ""),
    ],
)
def test_an_interrupt_while_files_are_written_keeps_the_earlier_files(
    number: signal.Signals, status: int, message: str, slow: str, net: str, tmp_path: Path
) -> None:
    (tmp_path / "net.arch").write_text(net)
    (tmp_path / "slow.py").write_text(slow)
    out = tmp_path / "out"
    out.mkdir()
    for name in ("net.py", "net.arch", "report.json", "notes.txt"):
        (out / name).write_text(f"the {name} of an earlier compile")
    before = contents(out)
    emit = ["--emit", "slow,arch"] if slow == TARGET else []
    process = subprocess.Popen(
        [sys.executable, "-m", "archc", "compile", "net.arch", "--load", "slow.py", "-o", "out", *emit],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,  # the signal is for this process alone
        preexec_fn=restore_signals,
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "begun").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "writing never began"
            time.sleep(0.02)
        assert any(path.name.startswith(".archc-") for path in out.iterdir()), "nothing was being written"
        process.send_signal(number)
        printed, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == status
    assert printed == ""
    assert told == message
    assert contents(out) == before
    assert not any(path.name.startswith(".archc-") for path in out.iterdir())


def test_operators_without_an_onnx_form_are_listed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], update_golden: bool
) -> None:
    from archc.declaration.base import OPERATORS as KNOWN

    monkeypatch.chdir(tmp_path)
    Path("net.arch").write_text(
        "model net {\n    input x: f32[N, 4]\n    y = x -> linear(4) -> spin\n    output y -> whirl -> spin\n}\n"
    )
    Path("operators.py").write_text(TORCH_ONLY)
    try:
        status, output = run(("compile", "net.arch", "--load", "operators.py", "-o", "out"), capsys)
        assert status == 1
        assert not Path("out").exists()
        check_built("no-onnx-form", output, update_golden)
        status, output = run(("compile", "net.arch", "--load", "operators.py", "-o", "out", "--emit", "torch"), capsys)
        assert status == 0, output
    finally:
        for name in ("spin", "whirl"):
            KNOWN.pop(name, None)
