"""`archc fmt`."""

from __future__ import annotations

import io
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import SPECS, Run

Write = Callable[[str, str], Path]

UGLY = "# why\nmodel m{input x:f32[N,8] # eight\noutput y=x->fc:linear( 2 )}\n"
PRETTY = """\
# why
model m {
    input x: f32[N, 8]  # eight
    output y = x -> fc: linear(2)
}
"""


def test_it_rewrites_in_place_and_keeps_comments_and_permissions(run: Run, write: Write) -> None:
    path = write("m.arch", UGLY)
    path.chmod(0o640)
    result = run("fmt", path)
    assert (result.status, result.out, result.err) == (0, "", f"archc: {path} was reformatted\n")
    assert path.read_text() == PRETTY
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(path.parent.iterdir()) == [path]


def test_a_formatted_file_is_not_touched(run: Run, write: Write) -> None:
    path = write("m.arch", PRETTY)
    before = path.stat()
    result = run("fmt", path)
    assert (result.status, result.out, result.err) == (0, "", "")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_shipped_files_are_formatted(run: Run) -> None:
    library = SPECS.parent / "archc" / "language" / "std"
    files = [*sorted(SPECS.rglob("*.arch")), *sorted(library.glob("*.arch"))]
    assert len({file.parent for file in files}) == 2
    result = run("fmt", "--check", *files)
    assert (result.status, result.out) == (0, "")


def test_check_shows_the_difference_and_writes_nothing(run: Run, write: Write) -> None:
    path = write("m.arch", UGLY)
    result = run("fmt", "--check", path)
    assert result.status == 1
    assert path.read_text() == UGLY
    assert result.out.startswith(f"--- {path}\n+++ {path} (formatted)\n@@ ")
    assert "\n+    input x: f32[N, 8]  # eight\n" in result.out
    assert result.err == f"archc: {path} would be reformatted\n"


def test_a_file_with_mistakes_is_kept_and_the_others_are_formatted(run: Run, write: Write) -> None:
    bad = write("bad.arch", "model m { input }\n")
    good = write("good.arch", UGLY)
    result = run("fmt", bad, good)
    assert result.status == 1
    assert "error[" in result.err and f"{bad}:1:" in result.err
    assert bad.read_text() == "model m { input }\n"
    assert good.read_text() == PRETTY


def test_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(UGLY.encode())))
    assert run("fmt", "-").out == PRETTY
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"model \xff")))
    result = run("fmt", "-")
    assert (result.status, result.out) == (1, "")
    assert "error[invalid-utf8]" in result.err and "<stdin>:1:7" in result.err


def test_a_byte_order_mark_is_removed(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "m.arch"
    path.write_bytes(b"\xef\xbb\xbf" + PRETTY.encode())
    assert run("fmt", path).status == 0
    assert path.read_bytes() == PRETTY.encode()


def test_the_most_frequent_line_ending_is_kept(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.arch"
    windows = PRETTY.replace("\n", "\r\n").encode()
    path.write_bytes(UGLY.replace("\n", "\r\n").encode())
    assert run("fmt", path).status == 0
    assert path.read_bytes() == windows
    assert run("fmt", "--check", path).status == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(windows)))
    assert run("fmt", "-").out.encode() == windows
    for mixed, wanted in ((PRETTY.replace("\n", "\r\n", 1), PRETTY.encode()), (f"\n{windows.decode()}", windows)):
        path.write_bytes(mixed.encode())
        assert run("fmt", path).status == 0
        assert path.read_bytes() == wanted


def test_a_link_stays_a_link(run: Run, write: Write, tmp_path: Path) -> None:
    target = write("m.arch", UGLY)
    link = tmp_path / "link.arch"
    link.symlink_to(target)
    assert run("fmt", link).status == 0
    assert link.is_symlink() and target.read_text() == PRETTY


def test_json(run: Run, write: Write) -> None:
    ugly, pretty = write("ugly.arch", UGLY), write("pretty.arch", PRETTY)
    result = run("fmt", "--check", "--json", ugly, pretty)
    assert (result.status, result.err) == (1, "")
    assert result.json == {
        "files": [
            {"file": str(ugly), "changed": True, "diagnostics": []},
            {"file": str(pretty), "changed": False, "diagnostics": []},
        ]
    }
