"""Peak memory follows the largest layer, not the model."""

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
    """Bytes that `archc compile` held at most for a model of that size, measured from a small process."""
    file = folder / "chain.arch"
    file.write_text(chain(megabytes))
    options = ["--passes", passes, "--emit", "torch", "-o", str(folder / "out"), "--no-check"]
    return int(python("-c", PEAK, "compile", str(file), *options))


@pytest.mark.slow
@pytest.mark.parametrize("passes", ["", "lowrank(ratio=0.5), quant(scheme=weight)", "prune(0.3)"])
def test_more_layers_take_no_more_memory(passes: str, tmp_path: Path) -> None:
    """What a scratch keeps in memory is reached by the smaller model of the two."""
    small, large = (peak(megabytes, passes, tmp_path) for megabytes in (70, 210))
    assert large - small < 12 * LAYER_BYTES
