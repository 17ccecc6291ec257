"""Number of function calls in a compilation: it is proportional to the size of the model."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import archc
from benchmarks.scaling import SHAPES

SMALL, LARGE = 200, 1000
MOST = (LARGE / SMALL) ** 1.05


def calls(text: str, folder: Path) -> int:
    """The number of function calls in the compilation of a text."""
    count = 0

    def called(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(called)
    try:
        archc.compile(text).write(folder, emit=("torch", "onnx", "arch"))
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("shape", SHAPES)
def test_the_steps_of_a_compilation_grow_as_the_model_does(shape: str, tmp_path: Path) -> None:
    calls(SHAPES[shape](10), tmp_path / "0")  # imports all modules
    start, small, large = (
        calls(SHAPES[shape](operators), tmp_path / str(operators)) for operators in (10, SMALL, LARGE)
    )
    assert (large - start) / (small - start) < MOST
