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


def peak(text: str, passes: str, folder: Path, emit: str = "torch") -> int:
    """Peak memory of `archc compile` in bytes."""
    file = folder / "chain.arch"
    file.write_text(text)
    options = ["--passes", passes, "--emit", emit, "-o", str(folder / "out"), "--no-check"]
    return int(python("-c", PEAK, "compile", str(file), *options))


@pytest.mark.slow
@pytest.mark.parametrize("passes", ["", "lowrank(ratio=0.5), quant(scheme=weight)", "prune(0.3)"])
def test_more_layers_take_no_more_memory(passes: str, tmp_path: Path) -> None:
    """Even the smaller model has more weights than a `Scratch` holds in memory."""
    small, large = (peak(chain(megabytes), passes, tmp_path) for megabytes in (70, 210))
    assert large - small < 12 * LAYER_BYTES


@pytest.mark.slow
def test_the_data_file_of_an_onnx_model_is_written_layer_by_layer(tmp_path: Path) -> None:
    """Operands of rank 3 need transposed weights."""
    small, large = (
        peak(chain(megabytes).replace("f32[N, ", "f32[N, T, "), "", tmp_path, "onnx") for megabytes in (120, 260)
    )
    assert (tmp_path / "out" / "chain.onnx.data").stat().st_size > 250_000_000
    assert large - small < 12 * LAYER_BYTES
