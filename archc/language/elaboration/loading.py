"""A file to a text, or to a diagnostic that says why not."""

from __future__ import annotations

import codecs
import stat
from pathlib import Path

from archc.diagnostics import Source, Span, did_you_mean, error

LARGEST_FILE = 64 * 2**20  # bytes; the largest text that a person wrote is far smaller


def load(path: str | Path, name: str | None = None) -> Source:
    """The text of a file, a byte order mark left out.

    `name` is what diagnostics call it, if not by its path.

    Raises:
        ArchcError: `file-not-found`, `not-a-file`, `file-too-large`, `unreadable-file` or `invalid-utf8`.
    """
    path = Path(path)
    try:
        status = path.stat()
        # Whatever is not a regular file might never end.
        if not stat.S_ISREG(status.st_mode):
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise error("not-a-file", f"`{path}` is {what}", help=_content_of(path))
        if status.st_size > LARGEST_FILE:
            raise error(
                "file-too-large",
                f"`{path}` has {status.st_size:,} bytes; the limit is {LARGEST_FILE:,}",
                help="is this a description of a network?",
            )
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise error("file-not-found", f"there is no file `{path}`", help=_similar_to(path)) from None
    except OSError as failure:
        reason = failure.strerror or type(failure).__name__
        raise error("unreadable-file", f"`{path}` cannot be read: {reason}") from None
    except ValueError:  # a NUL character in the path
        raise error("file-not-found", f"no file can be named {str(path)!r}") from None
    return decoded(content, name or str(path), path)


def decoded(content: bytes, name: str, path: Path | None = None) -> Source:
    """The text that bytes hold, a byte order mark left out.

    Raises:
        ArchcError: `invalid-utf8`.
    """
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return Source(content.decode("utf-8"), name, path)
    except UnicodeDecodeError as failure:
        # What stands before the wrong byte is sound; the rest is only made showable.
        source = Source(content.decode("utf-8", "replace"), name, path)
        start = len(content[: failure.start].decode("utf-8"))
        raise error(
            "invalid-utf8",
            f"the byte {content[failure.start]:#04x} at offset {failure.start} is not UTF-8",
            Span(source, start, start + 1),
            help="is this a binary file?" if 0 in content else "save the file as UTF-8",
        ) from None


def _similar_to(path: Path) -> str | None:
    """Help that names the file most like a missing one."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder `{folder}` either"
    try:
        help_ = did_you_mean(path.name, sorted(entry.name for entry in folder.iterdir()))
    except OSError:
        return None
    return help_


def _content_of(path: Path) -> str | None:
    """Help that names a description in a folder, where there is one."""
    if not path.is_dir():
        return None
    try:
        texts = sorted(path.glob("*.arch"))
    except OSError:
        return None
    return f"give a file in it, such as `{texts[0]}`" if texts else None
