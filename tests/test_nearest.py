"""Suggested names: edit distances, compared with the textbook algorithm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.diagnostics import _edit_distance, nearest

WORDS = st.text("abc", max_size=14)


def distance(left: str, right: str) -> int:
    """The optimal string alignment distance, computed with the full table."""
    table = [[i + j if 0 in (i, j) else 0 for j in range(len(right) + 1)] for i in range(len(left) + 1)]
    for i in range(1, len(left) + 1):
        for j in range(1, len(right) + 1):
            cost = table[i - 1][j - 1] + (left[i - 1] != right[j - 1])
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, cost)
            if i > 1 and j > 1 and left[i - 1] == right[j - 2] and left[i - 2] == right[j - 1]:
                table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
    return table[-1][-1]


@given(WORDS, WORDS, st.integers(0, 3))
def test_edit_distance(left: str, right: str, most: int) -> None:
    true = distance(left, right)
    assert _edit_distance(left, right, most) == (true if true <= most else None)


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("lineer", ["layer", "linear"], "linear"),
        ("Linear", ["linear"], "linear"),
        ("batchnorm", ["layer_norm", "batch_norm"], "batch_norm"),
        ("reul", ["relu", "gelu"], "relu"),
        ("conv", ["conv1d", "conv2d"], None),
        ("cumsum", ["sum"], None),
        ("x", ["y"], None),
        ("fc3", ["fc1", "fc2"], "fc1"),
        ("a" * 500 + "b", ["a" * 500 + "c", "b" * 501], "a" * 500 + "c"),
        ("anything", [], None),
    ],
)
def test_nearest(name: str, known: list[str], expected: str | None) -> None:
    assert nearest(name, known) == expected
