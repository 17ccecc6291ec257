"""The base class of operators and its decorator."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "first", ["import archc", "import archc.operator.base", "from archc.operator import OPERATORS"]
)
def test_the_exported_decorator_is_not_the_subpackage(first: str) -> None:
    """Python binds a subpackage to its name in the package when it is first imported."""
    program = f"""
{first}
import archc
archc.parse("model m {{ input x: f32[N, 8]  output y = x -> relu }}")
from archc.operator.base import operator
import archc.operator.spelling
assert archc.operator is operator, archc.operator
assert "operator" in dir(archc)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
