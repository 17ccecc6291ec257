"""The base class of operators, and its decorator."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "first", ["import archc", "import archc.declaration.base", "from archc.declaration import OPERATORS"]
)
def test_no_subpackage_hides_an_exported_name(first: str) -> None:
    """Python binds a subpackage to its name in the package when it is first imported."""
    program = f"""
{first}
import archc
archc.parse("model m {{ input x: f32[N, 8]  output y = x -> relu }}")
from archc.declaration.base import operator
import archc.declaration.spelling
assert archc.operator is operator, archc.operator
import sys
assert not [name for name in archc.__all__ if getattr(archc, name) is sys.modules.get(f"archc.{{name}}")]
"""
    subprocess.run([sys.executable, "-c", program], check=True)
