"""Hooks for pre-commit: each runs an existing command on `.arch` files.

The manifest is a list of flat mappings, so the tests need no YAML library.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from archc.cli import main, make_parser

ROOT = Path(__file__).parents[1]

GOOD = "model good {\n    input x: f32[N, 4]\n    output x -> relu\n}\n"
UNTIDY = "model untidy {\n  input x:f32[N,4]\n  output x->relu\n}\n"
WRONG = "model wrong {\n    input x: f32[N, 4]\n    output x -> reluu\n}\n"


def hooks() -> dict[str, dict[str, str]]:
    """The hooks of the manifest by id."""
    found: list[dict[str, str]] = []
    for line in (ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8").splitlines():
        entry = re.fullmatch(r"(- |  )(\w+): (.+)", line)
        assert entry is not None, f"not of the form `key: value`: {line}"
        if entry[1] == "- ":
            found.append({})
        found[-1][entry[2]] = entry[3]
    return {hook["id"]: hook for hook in found}


HOOKS = hooks()


def test_there_is_a_hook_for_check_and_one_for_fmt() -> None:
    assert list(HOOKS) == ["archc-check", "archc-fmt"]
    for hook in HOOKS.values():
        assert set(hook) == {"id", "name", "description", "entry", "language", "files"}
        assert hook["language"] == "python"
        program, *arguments = shlex.split(hook["entry"])
        assert f'\n{program} = "archc.cli:main"\n' in (ROOT / "pyproject.toml").read_text("utf-8")
        make_parser().parse_args([*arguments, "a.arch", "nets/b.arch"])  # exits if it does not accept them


@pytest.mark.parametrize("name", ["net.arch", "nets/net.arch"])
def test_hooks_take_the_texts_of_the_language_alone(name: str) -> None:
    for hook in HOOKS.values():
        assert re.search(hook["files"], name)
        assert not any(re.search(hook["files"], other) for other in (name + ".md", "arch", "net_arch", "net.archive"))


def test_check_fails_for_a_wrong_file_among_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.arch").write_text(GOOD)
    (tmp_path / "wrong.arch").write_text(WRONG)
    command = shlex.split(HOOKS["archc-check"]["entry"])[1:]
    assert main([*command, str(tmp_path / "good.arch")]) == 0
    assert main([*command, str(tmp_path / "wrong.arch"), str(tmp_path / "good.arch")]) == 1
    assert "error[unknown-operator]" in capsys.readouterr().err


def test_fmt_rewrites_the_files_that_need_it(tmp_path: Path) -> None:
    """pre-commit fails a hook that modifies files, whatever its exit status."""
    for name, text in (("good.arch", GOOD), ("untidy.arch", UNTIDY), ("open.arch", "model open {\n")):
        (tmp_path / name).write_text(text)
    command = shlex.split(HOOKS["archc-fmt"]["entry"])[1:]
    assert main([*command, str(tmp_path / "untidy.arch"), str(tmp_path / "good.arch")]) == 0
    assert (tmp_path / "untidy.arch").read_text() == GOOD.replace("good", "untidy")
    assert (tmp_path / "good.arch").read_text() == GOOD
    assert main([*command, str(tmp_path / "open.arch"), str(tmp_path / "good.arch")]) == 1
    assert (tmp_path / "open.arch").read_text() == "model open {\n"
