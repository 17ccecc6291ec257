"""Output folders: all files or none are written, and no temporary files remain."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from archc.diagnostics import ArchcError
from archc.driver.output_folder import OutputFolder
from tests.signals import restore_signals


def content(folder: Path) -> dict[str, str]:
    """The texts of all files in a folder, also of hidden ones, by path."""
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A folder with the output of an earlier run and a file of the user."""
    folder = tmp_path / "build"
    folder.mkdir()
    for name in ("cnn.py", "cnn.onnx", "notes.txt"):
        (folder / name).write_text(f"old {name}")
    return folder


OLD = {name: f"old {name}" for name in ("cnn.onnx", "cnn.py", "notes.txt")}


def write_all(folder: OutputFolder) -> None:
    folder.write_text("cnn.py", "new")
    folder.write_bytes("report.json", b"{}")
    with folder.file("cnn.onnx").open("w") as stream:
        stream.write("new")


def refusal_code(path: Path) -> str:
    with pytest.raises(ArchcError) as caught, OutputFolder(path) as folder:
        write_all(folder)
    (diagnostic,) = caught.value.diagnostics
    return diagnostic.code


def test_new_files_replace_old_ones_and_others_stay(build: Path) -> None:
    with OutputFolder(build) as folder:
        write_all(folder)
        assert {name: (build / name).read_text() for name in OLD} == OLD
    assert content(build) == {"cnn.onnx": "new", "cnn.py": "new", "notes.txt": "old notes.txt", "report.json": "{}"}
    assert list(build.parent.iterdir()) == [build]


def test_a_missing_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "a" / "b") as folder:
        write_all(folder)
    assert content(tmp_path) == {"a/b/cnn.onnx": "new", "a/b/cnn.py": "new", "a/b/report.json": "{}"}
    assert not list(tmp_path.rglob(".*"))


def test_a_relative_path_and_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (".", "out"):
        with OutputFolder(path) as folder:
            folder.write_text("a", path)
    assert content(tmp_path) == {"a": ".", "out/a": "out"}


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt, SystemExit, OSError])
def test_an_exception_in_the_block_changes_nothing(build: Path, exception: type[BaseException]) -> None:
    with pytest.raises(exception), OutputFolder(build) as folder:
        write_all(folder)
        raise exception
    assert content(build.parent) == {f"build/{name}": text for name, text in OLD.items()}


@pytest.mark.parametrize("after", range(1, 4))
@pytest.mark.parametrize("exception", [KeyboardInterrupt, PermissionError(errno.EACCES, "Permission denied")])
def test_a_failure_between_the_renames_is_rolled_back(
    build: Path, monkeypatch: pytest.MonkeyPatch, after: int, exception: type[BaseException] | BaseException
) -> None:
    """The rename with the number `after` fails, or is interrupted at its end."""
    replace = os.replace
    calls = 0

    def interrupted(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == after and exception is not KeyboardInterrupt:
            raise exception
        replace(source, target)
        if calls == after:
            raise exception

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises((KeyboardInterrupt, ArchcError)), OutputFolder(build) as folder:
        write_all(folder)
    assert calls >= after
    assert content(build.parent) == {f"build/{name}": text for name, text in OLD.items()}


def test_a_new_folder_is_removed_if_its_files_cannot_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(KeyboardInterrupt), OutputFolder(tmp_path / "a" / "b") as folder:
        write_all(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_hard_links(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    test_a_failure_between_the_renames_is_rolled_back(build, monkeypatch, 2, KeyboardInterrupt)


def test_an_interrupt_by_signal_leaves_the_old_files(build: Path) -> None:
    program = (
        "import sys, time\n"
        "from archc.driver.output_folder import OutputFolder\n"
        "with OutputFolder(sys.argv[1]) as folder:\n"
        "    folder.write_text('cnn.py', 'new')\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(build)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=restore_signals,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    assert content(build.parent) == {f"build/{name}": text for name, text in OLD.items()}


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert refusal_code(tmp_path / "file") == "output-not-a-folder"
    assert refusal_code(tmp_path / "file" / "below") == "output-not-a-folder"
    assert content(tmp_path) == {"file": "mine"}


def test_a_folder_where_a_file_should_be(build: Path) -> None:
    (build / "report.json").mkdir()
    assert refusal_code(build) == "output-not-writable"
    assert content(build.parent) == {f"build/{name}": text for name, text in OLD.items()}


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    assert refusal_code(tmp_path / "nul\0") == "output-not-writable"
    assert refusal_code(tmp_path / ("n" * 300)) == "output-not-writable"
    if Path("/proc/self").is_dir():
        assert refusal_code(Path("/proc/self/build")) == "output-not-writable"
    if os.geteuid() != 0:  # root can write everywhere
        tmp_path.chmod(0o500)
        assert refusal_code(tmp_path / "build") == "output-not-writable"


def test_a_full_disk_has_its_own_diagnostic(build: Path) -> None:
    with pytest.raises(ArchcError) as caught, OutputFolder(build) as folder:
        folder.write_text("cnn.py", "new")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [diagnostic.code for diagnostic in caught.value.diagnostics] == ["output-disk-full"]
    assert content(build) == OLD


def test_errors_name_the_final_path_of_a_file(build: Path) -> None:
    name = "n" * 300
    with pytest.raises(ArchcError) as caught, OutputFolder(build) as folder:
        folder.write_text(name, "new")
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.code, diagnostic.notes[0].text.split(":")[0]) == ("output-not-writable", f"`{build / name}`")
    assert content(build) == OLD
    with pytest.raises(FileNotFoundError), OutputFolder(build) as folder:
        (build / "no such file").read_text()  # this error has no relation to the output


def test_files_to_keep_are_not_replaced(build: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(build / "cnn.onnx")
    (tmp_path / "elsewhere").symlink_to(build)
    for kept in (build / "cnn.onnx", tmp_path / "link", build / ".." / "build" / "cnn.onnx"):
        for place in (build, tmp_path / "elsewhere"):
            with pytest.raises(ArchcError, match="take its place") as caught, OutputFolder(place, [kept]) as folder:
                write_all(folder)
            assert [diagnostic.code for diagnostic in caught.value.diagnostics] == ["output-replaces-input"]
            assert content(build) == OLD
    with OutputFolder(build, [build / "notes.txt", tmp_path / "cnn.py"]) as folder:
        write_all(folder)


@pytest.mark.parametrize("name", ["", ".", "..", "../escape", "a/b", "/etc/passwd"])
def test_only_names_without_folders_are_written(build: Path, name: str) -> None:
    with pytest.raises(ValueError, match="file name without folders"), OutputFolder(build) as folder:
        folder.file(name)
    assert content(build) == OLD


def test_files_are_available_only_while_the_folder_is_open(build: Path) -> None:
    folder = OutputFolder(build)
    with pytest.raises(ValueError, match="not open"):
        folder.file("a")


# Remains of killed processes ---------------------------------------------------------------------------------

HOLD = """
import sys, time
from archc.driver.output_folder import OutputFolder
with OutputFolder(sys.argv[1]) as folder:
    folder.write_text("cnn.py", "new")
    print("writing", flush=True)
    time.sleep(60)
"""


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".archc-")]


def test_the_next_output_removes_only_the_remains_of_a_killed_process(build: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(build)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"writing\n"
    (build / ".archc-mine").mkdir()
    (build / ".archc-mycache_").mkdir()
    (build / ".archc-mycache_" / "notes.txt").write_text("mine")
    os.utime(build / ".archc-mycache_", (0, 0))
    own = {".archc-mine", ".archc-mycache_"}
    with OutputFolder(build) as folder:
        write_all(folder)
    (held,) = set(hidden(build)) - own  # its process lives
    process.kill()
    process.communicate()
    assert (build / held / "new" / "cnn.py").read_text() == "new"
    with OutputFolder(build) as folder:
        write_all(folder)
    assert set(hidden(build)) == own
    assert (build / "cnn.py").read_text() == "new"


def test_a_folder_that_was_never_locked_is_removed_when_it_is_old(build: Path) -> None:
    for name, age in (("young000", 0), ("old00000", 3600)):
        (build / f".archc-{name}" / "new").mkdir(parents=True)
        then = (build / "notes.txt").stat().st_mtime - age
        os.utime(build / f".archc-{name}", (then, then))
    with OutputFolder(build) as folder:
        write_all(folder)
    assert hidden(build) == [".archc-young000"]
