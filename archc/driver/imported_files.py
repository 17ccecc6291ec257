"""Files that emitted modules import from their folder, such as `archc_int8.py`."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from archc.driver.output_folder import OutputFolder


def write_imported_file(out: OutputFolder, name: str, text: str, own: Collection[str]) -> str:
    """Write a file that emitted modules import, and return its name.

    Other modules in the folder may import an earlier file of the same name, which another version of archc wrote.  Then
    the earlier file stays, and the new name contains a hash of the text: `archc_int8_5f0c1e2a.py`.

    Args:
        name: the name of the file, unless modules import another file of that name.
        own: the names of the modules that this compilation replaces.
    """
    earlier = out.path / name
    if _differs(earlier, text) and any(_imports(module, name) for module in _modules(out.path, own)):
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        name = f"{earlier.stem}_{digest}{earlier.suffix}"
    out.write_text(name, text)
    return name


def _differs(file: Path, text: str) -> bool:
    """Return whether a file exists and has another text."""
    try:
        return file.read_bytes() != text.encode()
    except OSError:
        return False


def _modules(folder: Path, own: Collection[str]) -> list[Path]:
    """The Python files of a folder that a compilation does not replace."""
    return sorted(path for path in folder.glob("*.py") if path.name not in own)


def _imports(module: Path, name: str) -> bool:
    """Return whether an emitted module imports a file of its folder."""
    try:
        return f'"{name}"' in module.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
