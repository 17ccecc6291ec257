"""Replacement of a file as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from archc.diagnostics import error


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that replaces an earlier one when the block ends without an exception.

    Folders are created if necessary.

    Raises:
        ArchcError: the file cannot be written (`output-not-writable`).
    """
    beside = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as stream:
            yield stream
        os.replace(beside, path)
    except OSError as failure:
        reason = failure.strerror or str(failure)
        raise error(
            "output-not-writable",
            f"the output cannot be written to `{path}`",
            notes=[reason],
            help="free some space, or write to another folder: `-o build`",
        ) from None
    finally:
        beside.unlink(missing_ok=True)
