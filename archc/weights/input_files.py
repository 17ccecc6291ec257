"""The first look at a file that the user named: does it exist, is it a file, may it be read."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from archc.diagnostics import error

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when there is no room for what is written."""

_LONGEST_NAME = 120  # characters of a name from a file that a message repeats


def quoted(name: str) -> str:
    """A name from a file, fit for a message: in backticks, cut, control characters escaped."""
    cut = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
    return "`" + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut) + "`"


def file_size(path: Path) -> int:
    """Bytes of a regular file that holds something.

    Raises `ArchcError`: `file-not-found`, `not-a-file`, `file-empty`, `file-unreadable`.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise error("file-not-found", f"there is no file {quoted(str(path))}") from None
    except (OSError, ValueError) as reason:  # ValueError: a NUL byte in the path
        raise error("file-unreadable", f"{quoted(str(path))} cannot be read: {reason}") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise error("not-a-file", f"{quoted(str(path))} is {kind}; a file is expected here")
    if status.st_size == 0:
        raise error("file-empty", f"{quoted(str(path))} is empty")
    return status.st_size


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, open for reading; whatever the system refuses while it is open is `file-unreadable`."""
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as reason:
        raise error("file-unreadable", f"{quoted(str(path))} cannot be read: {reason.strerror or reason}") from None
