"""Runtime files need no other file: as written beside a program, each runs in a new process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import archc.runtime
from archc.codegen.python_source import library

FILES = sorted(path for path in Path(archc.runtime.__file__).parent.glob("*.py") if path.name != "__init__.py")
RUN = """
import runpy, sys
names = runpy.run_path(sys.argv[1])
assert all(name in names for name in names["__all__"])
assert not [name for name in sys.modules if name.partition(".")[0] in ("archc", "onnx", "jinja2", "safetensors")]
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_needs_torch_alone(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_text(library(path.stem))
    subprocess.run([sys.executable, "-c", RUN, str(copy)], check=True)
