"""Symbolic sizes that the PyTorch code of an operator computes at run time."""

from __future__ import annotations

import pytest

import archc
from archc.ir.torch_spelling import required_sizes


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        ("x -> relu", ()),
        ("x -> linear(4)", ()),
        ("x -> flatten", ()),
        ("x -> reshape((B * T, 8))", ()),  # `reshape(-1, 8)` needs no size
        ("x -> reshape((B * T, 2, 4)) -> reshape((B, T, 8))", ("B", "T")),
        ("(x, arange(T) -> cast(f32) -> reshape((T, 1))) -> mul", ("T",)),
        ("(x, ones((B, T, 8))) -> mul", ("B", "T")),
    ],
)
def test_symbols_in_the_spelling(use: str, expected: tuple[str, ...]) -> None:
    graph = archc.parse(f"model m {{\n    input x: f32[B, T, 8]\n    output y = {use}\n}}\n")
    asked = {str(dim) for node in graph.nodes() for dim in required_sizes(node)}
    assert asked == set(expected)
