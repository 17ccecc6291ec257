"""Symbolic sizes that a user gives, as text such as `N=32` or as a dict."""

from __future__ import annotations

import numpy as np
import pytest

import archc
from archc.diagnostics import ArchcError
from archc.ir.given_sizes import check_sizes, read_sizes, size_names, sizes_from

GRAPH = archc.parse(
    "model m {\n    input x: f32[B, T <= 16]\n    input y: f32[2 * B, 3]\n    output x\n    output y\n}\n"
)


def test_names_with_numbers() -> None:
    assert read_sizes("N=32") == {"N": 32}
    assert read_sizes(" N = 32, T=128 ") == {"N": 32, "T": 128}


def test_integers_of_numpy() -> None:
    found = sizes_from({"H": np.int64(9)})
    assert found == {"H": 9} and type(found["H"]) is int
    with pytest.raises(TypeError, match="expects integers by name"):
        sizes_from({"H": np.float64(9)})


@pytest.mark.parametrize("text", ["", "N", "N=", "N=x", "3=3", "N=1,", "N=1e3", "N=4 T=3"])
def test_invalid_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as N=32"):
        read_sizes(text)


@pytest.mark.parametrize("text", ["N=0", "N=-1", "N=" + "9" * 30])
def test_sizes_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match="`N` must be at least 1 and below 10\\^18"):
        read_sizes(text)


def test_only_sizes_of_the_model_within_their_bounds() -> None:
    assert list(size_names(GRAPH)) == ["B", "T"]
    check_sizes(GRAPH, {"B": 10**6, "T": 16})
    for given, code in (({"T": 17}, "size-above-bound"), ({"N": 1}, "unknown-size")):
        with pytest.raises(ArchcError) as caught:
            check_sizes(GRAPH, given)
        assert [found.code for found in caught.value.diagnostics] == [code]
