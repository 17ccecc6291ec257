"""Files that emitted files import from their folder, such as `archc_int8.py`."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from archc.driver.output_folder import OutputFolder

PREFIX = "archc_"
"""Beginning of the names of imported files."""

_MARK = b"archc writes this file"
"""Text in imported files of all versions of archc, which tells them from files of the user."""


class ImportedFiles:
    """Writer of the files that the emitted files of one compilation import.

    The output folder may have another file of the same name: a file of the user, or a file that other emitted files
    import and that another version of archc wrote.  Then the earlier file stays, and the name of the new file contains
    a hash of its text: `archc_int8_5f0c1e2a.py`.

    Args:
        own: names of the files that this compilation replaces.
        single_file: write no file: the emitted files contain the code that they would import.

    Attributes:
        requested: True after the first call of `write`.
    """

    def __init__(self, out: OutputFolder, own: Collection[str], single_file: bool = False):
        self._out, self._own, self._single_file = out, own, single_file
        self.requested = False
        self._texts: dict[str, str] = {}

    def write(self, name: str, text: str) -> str | None:
        """Write a file, and return its name; see `WriteBeside`.

        Raises:
            ValueError: the name does not begin with `archc_`.
        """
        if not name.startswith(PREFIX):
            raise ValueError(f"the name of an imported file begins with `{PREFIX}`, unlike {name!r}")
        self.requested = True
        if self._single_file:
            return None
        if name in self._own or self._texts.get(name, text) != text or self._is_taken(name, text):
            digest = hashlib.sha256(text.encode()).hexdigest()[:8]
            name = f"{Path(name).stem}_{digest}{Path(name).suffix}"
        self._texts[name] = text
        self._out.write_text(name, text)
        return name

    def _is_taken(self, name: str, text: str) -> bool:
        """Return whether an earlier file of this name has another text and must stay."""
        earlier = self._out.path / name
        if not earlier.is_file():
            return False
        found = earlier.read_bytes()
        if found == text.encode():
            return False
        return _MARK not in found or self._is_imported(name)

    def _is_imported(self, name: str) -> bool:
        """Return whether a file of the folder that this compilation does not replace imports the file."""
        others = (path for path in self._out.path.glob(f"*{Path(name).suffix}") if path.name not in {name, *self._own})
        return any(f'"{name}"'.encode() in path.read_bytes() for path in others if path.is_file())
