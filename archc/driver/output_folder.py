"""Write a folder of files: either all files or none.

The files are written to a hidden folder first.  When all files are on the disk, each file is moved into place by one
rename.  An error before or during the renames leaves the earlier files in place.  The hidden folder of a killed process
is removed by the next process that writes to the same folder; see `archc.driver.staging`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from archc.diagnostics import ArchcError, error
from archc.driver.staging import Staging
from archc.weights.input_files import DISK_FULL


class OutputFolder:
    """A folder that is written as a whole.

        with OutputFolder(Path("build")) as folder:
            folder.write_text("cnn.py", source)
            with folder.file("cnn.onnx").open("wb") as stream: ...

    `file` returns a path in a hidden folder.  When the `with` block ends without an exception, every written file moves
    into the output folder, which is created if necessary.  Earlier files with other names stay there.  On any
    exception, `KeyboardInterrupt` included, the output folder is left as it was.

    Args:
        keep: files that must not be replaced, such as the inputs of the compilation.
        way: help text of the error if one of these files would be replaced.

    Raises `ArchcError`: `output-not-a-folder`, `output-not-writable`, `output-disk-full`, `output-replaces-input`.
    """

    def __init__(self, path: Path | str, keep: Iterable[Path] = (), way: str = "write to another folder: `-o build`"):
        if not os.fspath(path):
            raise error("output-not-a-folder", "the output folder is an empty path", help="write `.` for this folder")
        self.path = Path(path)
        self._kept = {place for file in keep for place in (file.parent.resolve() / file.name, file.resolve())}
        self._way = way
        self._held: Staging | None = None

    def __enter__(self) -> Self:
        # A rename works only within one file system, and the output folder may be a mount point.  The hidden folder is
        # therefore inside the output folder or, if that does not exist, inside the nearest existing parent.
        root = self.path.absolute()
        try:
            if "\0" in str(root):
                raise ValueError("a path cannot hold a NUL character")
            while not os.path.lexists(root):
                root = root.parent
            if not root.is_dir():
                raise error("output-not-a-folder", f"`{root}` is a file; the output goes to a folder")
            self._held = Staging(root)
            (self._staging / "new").mkdir()
            (self._staging / "old").mkdir()
        except BaseException as reason:
            self._discard()
            if isinstance(reason, (OSError, ValueError)):
                raise self._not_writable(reason, root) from None
            raise
        return self

    @property
    def _staging(self) -> Path:
        if self._held is None:
            raise ValueError("the output folder is not open")
        return self._held.path

    def file(self, name: str) -> Path:
        """Path for writing the file `name`; the name has no folders."""
        if name in ("", ".", "..") or Path(name).name != name:
            raise ValueError(f"{name!r} is not a file name without folders")
        self._refuse_kept(name)
        return self._staging / "new" / name

    def written(self) -> list[Path]:
        """Paths of all files that were written so far, those of users' targets included.

        Raises:
            ArchcError: a file was written without `file`, and must not be replaced (`output-replaces-input`).
        """
        found = sorted(path for path in (self._staging / "new").iterdir() if path.is_file())
        for path in found:
            self._refuse_kept(path.name)
        return found

    def _refuse_kept(self, name: str) -> None:
        if self.path.resolve() / name in self._kept:
            raise error(
                "output-replaces-input",
                f"`{self.path / name}` was read, and the output would take its place",
                help=self._way,
            )

    def scratch(self) -> Path:
        """A new folder for temporary files, which is removed at the end of the `with` block."""
        return Path(tempfile.mkdtemp(dir=self._staging))

    def write_text(self, name: str, text: str) -> None:
        """Write a text file in UTF-8, with `\\n` line ends on every system."""
        self.write_bytes(name, text.encode("utf-8"))

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a binary file."""
        self.file(name).write_bytes(data)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if isinstance(value, OSError) and (value.errno in DISK_FULL or self._meant(value.filename) is not None):
                raise self._not_writable(value) from None
            if value is None:
                self._commit()
        except OSError as reason:
            raise self._not_writable(reason) from None
        finally:
            self._discard()

    def prepare(self) -> None:
        """Flush all files to the disk, and check that they can be moved into place.

        Raises:
            ArchcError: the disk is full, or a folder has the name of a file (`output-disk-full`,
                `output-not-writable`).
        """
        for name in sorted(os.listdir(self._staging / "new")):
            try:
                _flush(self._staging / "new" / name)
                if (self.path / name).is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self.path / name))
            except OSError as reason:
                raise self._not_writable(reason) from None

    def _commit(self) -> None:
        self.prepare()
        new, old = self._staging / "new", self._staging / "old"
        names = sorted(os.listdir(new))
        made: list[Path] = []
        begun: list[str] = []
        try:
            for folder in reversed([self.path, *self.path.parents]):
                if not folder.exists():
                    made.append(folder)
                    folder.mkdir()
            for name in names:
                if os.path.lexists(self.path / name):
                    _keep(self.path / name, old / name)
                begun.append(name)  # before the rename, since an interrupt may come right after the rename
                os.replace(new / name, self.path / name)
            _flush(self.path)
        except BaseException:  # any exception, also an interrupt: restore the earlier files
            for name in reversed(begun):
                if os.path.lexists(old / name):
                    os.replace(old / name, self.path / name)
                elif not os.path.lexists(new / name):
                    (self.path / name).unlink(missing_ok=True)
            for folder in reversed(made):
                with contextlib.suppress(OSError):  # the folder was not created, or has files of other programs
                    folder.rmdir()
            raise

    def _discard(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.discard()

    def _not_writable(self, reason: OSError | ValueError, place: Path | None = None) -> ArchcError:
        """The diagnostic for an exception; it names `place`, or by default the path in the exception."""
        if isinstance(reason, OSError) and reason.errno in DISK_FULL:
            return error("output-disk-full", f"there is no room left for the output in `{self.path}`")
        named = reason.filename if isinstance(reason, OSError) else None
        where = place or self._meant(named) or named or self.path
        why = (reason.strerror if isinstance(reason, OSError) else None) or str(reason)
        note = f"`{where}`: {why[0].lower()}{why[1:]}"
        return error("output-not-writable", f"the output cannot be written to `{self.path}`", notes=[note])

    def _meant(self, file: object) -> Path | None:
        """Final path of a file in the hidden folder, or None for any other file."""
        if self._held is None or not isinstance(file, str | Path) or not Path(file).is_relative_to(self._staging):
            return None
        return self.path.joinpath(*Path(file).relative_to(self._staging).parts[1:])


def _keep(existing: Path, backup: Path) -> None:
    """Back up a file before it is replaced: by a hard link if possible, otherwise by a copy."""
    try:
        os.link(existing, backup, follow_symlinks=False)
    except OSError:
        shutil.copy2(existing, backup, follow_symlinks=False)


def _flush(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
