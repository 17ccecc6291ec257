"""Definitions of printed texts: number of definitions, and names as in the PyTorch module."""

from __future__ import annotations

import re

import pytest

import archc
from archc.language.printing.printer import print_graph

RESHAPE = """
block B(width, shortcut = false) {
    input x: f32[N, C]
    y = x -> a: linear(width) -> reshape((N, width, 1)) -> flatten
    if shortcut { x = x -> s: linear(width) }
    output y + x
}
model net { input x: f32[N, 8]  output y = x -> b0: B(8) -> b1: B(16, true) -> b2: B(32, true) }
"""
SQUEEZE_EXCITE = """
block SqueezeExcite(reduction = 4) {
    input x: f32[B, C, H, W]
    gate = x -> mean((2, 3)) -> down: linear(C // reduction) -> relu -> up: linear(C) -> sigmoid
    output x * (gate -> reshape((B, C, 1, 1)))
}
model net {
    input image: f32[N, 3, 8, 8]
    x = image -> a: conv2d(16, 1) -> first: SqueezeExcite -> b: conv2d(32, 1) -> second: SqueezeExcite
    output y = x -> c: conv2d(64, 1) -> third: SqueezeExcite
}
"""


def block(head: str, body: str, *uses: str) -> str:
    """Text of a model that applies a block several times, each time with other arguments."""
    chain = " -> ".join(f"l{number}: B({use})" for number, use in enumerate(uses))
    return f"block {head} {{ input x: f32[N, C]  {body} }}\nmodel net {{ input x: f32[N, 8]  output y = x -> {chain} }}"


SHARED = {
    "a size in a tuple": (SQUEEZE_EXCITE, ["reshape((B, C, 1, 1))"]),
    "an attribute in a tuple": (RESHAPE, ["reshape((N, width, 1))", "b0: BWithoutS -> b1: B(16) -> b2: B(32)"]),
    "a formula in a tuple": (
        block("B(w)", "output x -> linear(w) -> unflatten(1, (w // 2, 2)) -> flatten", "4", "6", "8"),
        ["unflatten(1, (w // 2, 2))"],
    ),
    "tuples of several lengths": (
        block("B(s)", "output x -> linear(12) -> mean(s, keepdim = true)", "(0, 1)", "(1,)"),
        ["mean(dim = s, keepdim = true)"],
    ),
    "the number of a formula": (
        block("B(s)", "output (x -> linear(8)) * s - 1", "2", "0.5", "-3"),
        ["(x -> linear(8)) * s - 1", "B(0.5)", "B(-3)"],
    ),
    "a truth value": (
        block(
            "B(causal)",
            "q = x -> reshape((N, 2, 4))  output (q, q, q) -> attention(2, causal = causal) -> flatten",
            "false",
            "true",
        ),
        ["attention(2, causal = causal)", "B(causal = false)", "B(causal = true)"],
    ),
    "numbers that vary in a loop of one use": (
        block(
            "B(w)",
            "for i in 0..2 { x = x -> fc[i]: linear(4 * w[i]) -> reshape((N, w[i], 4)) -> flatten }  output x",
            "[2, 2]",
            "[2, 3]",
        ),
        ["reshape((N, 2, 4))", "reshape((N, shape, 4))"],
    ),
}
"""Texts whose block has one definition for each structure, with parts of their printed texts."""

APART = {
    "sides of a formula": block(
        "B(s, left)", "y = x -> linear(8)  if left { y = s - y } else { y = y - s }  output y", "2, true", "3, false"
    ),
    "operators": block(
        "B(s)", "y = x -> linear(8)  if s > 2 { y = y -> tanh } else { y = y -> relu }  output y", "2", "3", "4"
    ),
    "limits": block(
        "B(s)",
        "y = x -> linear(8)  if s > 2 { y = y -> clamp(min = s) } else { y = y -> clamp(max = s) }  output y",
        "2",
        "3",
        "4",
    ),
    "layers": block(
        "B(s)", "y = x -> a: linear(s)  if s > 8 { y = y -> b: linear(8) }  output y", "4", "8", "16", "32", "64"
    ),
}
"""Texts whose block has several definitions."""


def printed(text: str) -> str:
    """Printed text of a model, after a check that it describes the same graph and is a fixpoint."""
    graph = archc.parse(text)
    found = print_graph(graph)
    again = archc.parse(found)
    assert again == graph
    assert print_graph(again) == found
    return found


def blocks(text: str) -> list[str]:
    return re.findall(r"^block (\w+)", text, re.MULTILINE)


def classes(text: str) -> list[str]:
    """Classes of blocks of the PyTorch module."""
    (module,) = (source for name, source in archc.compile(text).sources().items() if name == "net.py")
    return [name for name in re.findall(r"^class (\w+)", module, re.MULTILINE) if name != "Net"]


@pytest.mark.parametrize("case", SHARED)
def test_constants_are_attributes_of_one_definition(case: str) -> None:
    text, parts = SHARED[case]
    found = printed(text)
    for part in parts:
        assert part in found
    assert len(blocks(found)) == (2 if text == RESHAPE else 1)


@pytest.mark.parametrize("text", [*(text for text, _ in SHARED.values()), *APART.values()], ids=[*SHARED, *APART])
def test_definitions_have_the_names_of_the_classes(text: str) -> None:
    found = printed(text)
    assert sorted(blocks(found)) == sorted(classes(text)) == sorted(classes(found))


def test_the_most_frequent_structure_has_the_name_of_the_block() -> None:
    # Slices print as `x[:, :8]`, so each size needs its own definition of the text.  The module has one class for them.
    text = block(
        "B(w)",
        "y = x[:, :w]  if w < 8 { y = y -> s: linear(8) }  output y",
        "8",
        "4",
        "2",
    )
    assert blocks(printed(text)) == ["BWithoutS", "B", "B2"]
    assert classes(text) == ["BWithoutS", "B"]
