"""`archc completion`."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_a_script_knows_commands_options_and_files(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert (result.status, result.err) == (0, "")
    for word in ("compile", "explain", "weights", "shape-mismatch"):
        assert word in result.out


def test_bash_completes_commands_and_options(run: Run) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    script = run("completion", "bash").out
    ask = """
complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); $function "$1" "${@: -1}" "${@: -2:1}"
    echo "${COMPREPLY[*]}"; }
function=$(complete -p archc | sed 's/.*-F \\([^ ]*\\).*/\\1/')
complete_words archc ch
complete_words archc compile --ex
"""
    result = subprocess.run([bash, "-c", script + ask], capture_output=True, text=True, timeout=60)
    assert result.stdout.split("\n")[:2] == ["check", "--explain"], result.stderr
