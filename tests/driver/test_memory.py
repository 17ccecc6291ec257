"""Peak memory depends on the largest layer, not on the number of layers."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.memory import LAYER_BYTES, chain
from tests.docs.examples import python

PEAK = """
import sys
from benchmarks.processes import measure
print(measure(["-m", "archc", *sys.argv[1:]]).peak)
"""


def peak(megabytes: int, passes: str, folder: Path) -> int:
    """Peak memory of `archc compile` in bytes, for a model with so many megabytes of weights."""
    file = folder / "chain.arch"
    file.write_text(chain(megabytes))
    options = ["--passes", passes, "--emit", "torch", "-o", str(folder / "out"), "--no-check"]
    return int(python("-c", PEAK, "compile", str(file), *options))


@pytest.mark.slow
@pytest.mark.parametrize("passes", ["", "lowrank(ratio=0.5), quant(scheme=weight)", "prune(0.3)"])
def test_more_layers_take_no_more_memory(passes: str, tmp_path: Path) -> None:
    """Even the smaller model has more weights than a `Scratch` holds in memory."""
    small, large = (peak(megabytes, passes, tmp_path) for megabytes in (70, 210))
    assert large - small < 12 * LAYER_BYTES
