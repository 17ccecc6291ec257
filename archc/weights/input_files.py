"""Reading of files that the user names; wrong or unreadable files become diagnostics."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from archc.diagnostics import error

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error codes of the operating system for writes to a full disk."""

_LONGEST_NAME = 120  # maximum number of characters of a name in a message


def quoted(name: str) -> str:
    """Return a name from a file for a message: in backticks, truncated, with control characters escaped."""
    cut = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
    return "`" + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut) + "`"


def file_size(path: Path) -> int:
    """Return the size in bytes of a regular file that is not empty.

    Raises:
        ArchcError: `file-not-found`, `not-a-file`, `file-empty` or `file-unreadable`.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise error("file-not-found", f"the file {quoted(str(path))} does not exist") from None
    except (OSError, ValueError) as reason:  # ValueError: a NUL byte in the path
        raise error("file-unreadable", f"{quoted(str(path))} cannot be read: {reason}") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise error("not-a-file", f"{quoted(str(path))} is {kind}; a file is expected")
    if status.st_size == 0:
        raise error("file-empty", f"{quoted(str(path))} is empty")
    return status.st_size


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading; errors of the operating system in the context become `file-unreadable`."""
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as reason:
        raise error("file-unreadable", f"{quoted(str(path))} cannot be read: {reason.strerror or reason}") from None
