"""Storage formats in a text, and the reports of wrong ones."""

from __future__ import annotations

import pytest

import archc
from archc.diagnostics import ArchcError
from archc.types.storage import FakeQuantized, Int4, Int8, Storage

NET = "model net {{ input x: f32[N, 8]  layer fc = linear(4, weight = {})  output x -> fc }}"


@pytest.mark.parametrize(
    ("text", "storage"),
    [
        ("int8", Int8()),
        ("fake_quantized(int8)", FakeQuantized(Int8())),
        ("fake_quantized(int4(group = 4))", FakeQuantized(Int4(group=4))),
        ("fake_quantized(format = int4)", FakeQuantized(Int4())),
    ],
)
def test_a_format_is_parsed_and_printed(text: str, storage: Storage) -> None:
    graph = archc.parse(NET.format(text))
    assert graph.weights["fc.weight"].storage == storage
    assert archc.parse(archc.print_graph(graph)) == graph


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("low_rank", "missing-attribute", "`low_rank` needs `rank`"),
        ("fake_quantized", "missing-attribute", "`fake_quantized` needs `format`"),
        ("fake_quantized(low_rank)", "missing-attribute", "`low_rank` needs `rank`"),
        (
            "fake_quantized(f16)",
            "wrong-type",
            "`format` of `fake_quantized` must be a format of integers, such as `int8(axis = 0)`, got `f16`",
        ),
        (
            "fake_quantized(int4(axis = 3))",
            "bad-storage",
            "a `weight` of f32[4, 8] cannot be stored as `fake_quantized(int4(axis = 3))`: its axes are 0 to 1",
        ),
    ],
)
def test_a_wrong_format_is_reported(text: str, code: str, message: str) -> None:
    with pytest.raises(ArchcError) as problem:
        archc.parse(NET.format(text))
    first = problem.value.diagnostics[0]
    assert (first.code, first.message) == (code, message)
    assert first.span is not None and first.span.text in NET.format(text)
