"""Hidden folders for unfinished output, and removal of the folders of killed processes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where abandoned folders are not removed
    fcntl = None  # type: ignore[assignment]  # a module on other systems

PREFIX = ".archc-"
_NAME = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8}")
"""Names that `tempfile` makes with the prefix; folders with other names are never removed."""
_PARTS = {"new", "old"}
_LOCK = "lock"
_UNLOCKED_AGE_LIMIT = 60.0
"""Age in seconds above which a folder without a lock file counts as abandoned."""


class Staging:
    """A hidden folder that belongs to this process until `discard`.

    The process holds a lock on a file in the folder.  The system releases the lock when the process ends, even if it is
    killed.  So a folder with a free lock was left by a process that has ended.
    """

    def __init__(self, parent: Path):
        _remove_abandoned(parent)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._lock = -1
        try:
            self._lock = _locked(self.path)
        except BaseException:  # any exception, also an interrupt: remove the folder
            self.discard()
            raise

    def discard(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _locked(folder: Path) -> int:
    """Lock a folder; return the file descriptor that holds the lock.

    The lock file gets its final name only after it is locked, so no other process can find it unlocked and remove
    the folder.
    """
    early = folder / f"{_LOCK}.new"
    descriptor = os.open(early, os.O_RDWR | os.O_CREAT, 0o600)
    if fcntl is not None:
        with contextlib.suppress(OSError):  # without locks in the file system, abandoned folders stay
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.rename(early, folder / _LOCK)
    return descriptor


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of processes that have ended; a folder that cannot be removed stays."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError):
        for folder in parent.glob(f"{PREFIX}*"):
            if _NAME.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink() and _free(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _free(folder: Path) -> bool:
    """Return whether no process holds the lock of a folder."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return _is_old(folder)
    except OSError:  # the folder belongs to another user
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is_old(folder: Path) -> bool:
    """Return whether a folder without a lock file is abandoned: it is old, and has only files of archc."""
    try:
        age = time.time() - folder.stat().st_mtime
        return age > _UNLOCKED_AGE_LIMIT and {path.name for path in folder.iterdir()} <= {*_PARTS, f"{_LOCK}.new"}
    except OSError:
        return False
