"""Files that emitted files import from their folder, such as `archc_int8.py`."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from archc.driver.output_folder import OutputFolder


class ImportedFiles:
    """Writer of the files that the emitted files of one compilation import.

    Other files in the output folder may import a file of the same name, which another version of archc wrote.  Then the
    earlier file stays, and the name of the new file contains a hash of its text: `archc_int8_5f0c1e2a.py`.

    Args:
        own: names of the files that this compilation replaces.

    Attributes:
        paths: paths of the written files.
    """

    def __init__(self, out: OutputFolder, own: Collection[str]):
        self._out, self._own = out, own
        self.paths: set[Path] = set()

    def write(self, name: str, text: str) -> str:
        """Write a file, and return its name; see `ModelToEmit.write_beside`."""
        if name in self._own or self._is_used_in_another_form(name, text):
            digest = hashlib.sha256(text.encode()).hexdigest()[:8]
            name = f"{Path(name).stem}_{digest}{Path(name).suffix}"
        self._out.write_text(name, text)
        self.paths.add(self._out.file(name))
        return name

    def _is_used_in_another_form(self, name: str, text: str) -> bool:
        """Return whether another file imports an earlier file of this name that has another text."""
        earlier = self._out.path / name
        if not earlier.is_file() or earlier.read_bytes() == text.encode():
            return False
        others = (path for path in self._out.path.glob(f"*{earlier.suffix}") if path.name not in {name, *self._own})
        return any(f'"{name}"'.encode() in path.read_bytes() for path in others if path.is_file())
