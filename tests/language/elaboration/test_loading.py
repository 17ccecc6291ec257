"""Files that cannot be loaded, and their diagnostics."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from archc.diagnostics import ArchcError, Diagnostic
from archc.language.elaboration import loading
from archc.language.elaboration.loading import load


def failure(path: Path) -> Diagnostic:
    with pytest.raises(ArchcError) as raised:
        load(path)
    (diagnostic,) = raised.value.diagnostics
    return diagnostic


def test_a_text_is_read_without_its_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.arch").write_bytes(b"\xef\xbb\xbfmodel \xc3\xa9")
    source = load(tmp_path / "a.arch")
    assert (source.text, source.name) == ("model é", str(tmp_path / "a.arch"))
    assert load(tmp_path / "a.arch", "short.arch").name == "short.arch"


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "resnet18.arch").touch()
    diagnostic = failure(tmp_path / "resnet8.arch")
    assert (diagnostic.code, diagnostic.help) == ("file-not-found", "did you mean `resnet18.arch`?")


def test_a_missing_folder(tmp_path: Path) -> None:
    assert failure(tmp_path / "none" / "a.arch").code == "file-not-found"


def test_a_folder_is_not_a_file_and_its_content_is_named(tmp_path: Path) -> None:
    (tmp_path / "cnn.arch").touch()
    diagnostic = failure(tmp_path)
    assert diagnostic.code == "not-a-file"
    assert diagnostic.help is not None and "cnn.arch" in diagnostic.help


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert failure(tmp_path / "pipe").code == "not-a-file"


def test_a_name_with_a_nul() -> None:
    assert failure(Path("a\0b")).code == "file-not-found"


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.arch").touch()

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    diagnostic = failure(tmp_path / "a.arch")
    assert diagnostic.code == "unreadable-file"
    assert "Permission denied" in diagnostic.message


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LARGEST_FILE", 3)
    (tmp_path / "a.arch").write_text("four")
    assert failure(tmp_path / "a.arch").code == "file-too-large"


def test_invalid_utf8_is_shown_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.arch").write_bytes("model é {\n  # naïve ".encode() + b"\xff }\n")
    diagnostic = failure(tmp_path / "a.arch")
    assert diagnostic.code == "invalid-utf8"
    assert diagnostic.message == "the byte 0xff at offset 22 is not UTF-8"
    assert diagnostic.span is not None
    assert (diagnostic.span.line, diagnostic.span.column) == (2, 11)
