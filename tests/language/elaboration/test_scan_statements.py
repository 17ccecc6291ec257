"""`scan` statements: names inside and after them, and their printed text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archc
from archc.diagnostics import ArchcError
from archc.ir.scans import scan_end
from archc.language.printing.printer import print_graph
from archc.language.syntax.formatter import format as format_file
from tests.codegen.random_scans import random_text
from tests.codegen.scan_cases import TEXTS
from tests.language.syntax.trees import parsed

PRINTED = {
    "states and sequences side by side": """\
model m {
    input x: f32[B, T, 4]
    input mask: f32[B, T]

    scan x_t in x, mask_t in mask, h = zeros((B, 4)), total = zeros((B,)) {
        h = (x_t -> w: linear(4)) + (h -> u: linear(4, bias = false)) -> tanh
        total = total + mask_t
        yield y = h -> head: linear(3)
    }

    output y: f32[B, T, 3] = y
    output last: f32[B, 4] = h
    output count: f32[B] = total
}
""",
    "one statement on one line": """\
model m {
    input x: f32[B, T, 4]

    scan x_t in x, h = zeros((B, 4)) { h = h * 0.5 + x_t }
    output y: f32[B, 4] = h
}
""",
    "states that change places": """\
model m {
    input x: f32[B, T, 4]

    scan x_t in x, a = zeros((B, 4)), b = ones((B, 4)), c = x[:, 0] {
        yield y = a + b * c + x_t
        a, b, c = (b, c, a)
    }

    output y: f32[B, T, 4] = y
}
""",
    "blocks, loops and scans in one another": """\
block Cell {
    input x: f32[B, D]
    output x -> fc: linear(4) -> tanh
}

model m {
    input x: f32[B, T, 4]
    input z: f32[B, S, 4]

    for i in 0..2 {
        scan x_t in x, h = zeros((B, 4)) {
            scan z_s in z, g = h { g = g + z_s * x_t }
            h = g + x_t -> cell[i]: Cell
            yield y = h
        }
        x = x + y
    }

    output result: f32[B, T, 4] = x
}
""",
}


@pytest.mark.parametrize("case", PRINTED)
def test_prints_as_written(case: str) -> None:
    assert print_graph(archc.parse(PRINTED[case])) == PRINTED[case]


@pytest.mark.parametrize("case", TEXTS)
def test_reads_back_as_the_same_graph(case: str) -> None:
    graph = archc.parse(TEXTS[case])
    printed = print_graph(graph)
    assert archc.parse(printed) == graph
    assert format_file(parsed(printed)) == printed
    assert print_graph(archc.parse(printed)) == printed


@pytest.mark.parametrize("case", TEXTS)
def test_the_formatter_changes_no_meaning(case: str) -> None:
    formatted = format_file(parsed(TEXTS[case]))
    assert format_file(parsed(formatted)) == formatted
    assert archc.parse(formatted) == archc.parse(TEXTS[case])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_random_scans_read_back_as_the_same_graph(seed: int) -> None:
    graph = archc.parse(random_text(seed))
    assert archc.parse(print_graph(graph)) == graph


# Names --------------------------------------------------------------------------------------------------------


def codes(text: str) -> list[str]:
    """Codes of the mistakes in the statements of a model with an input x."""
    with pytest.raises(ArchcError) as raised:
        archc.parse(f"model m {{ input x: f32[B, T, 4]  {text} }}")
    return [found.code for found in raised.value.diagnostics]


def test_a_name_from_outside_means_the_same_again_after_the_steps() -> None:
    graph = archc.parse(TEXTS["a name of the text in two meanings"])
    (relu,) = (node for node in graph.nodes() if node.op.name == "relu")
    assert relu.operands == (graph.inputs[0],)
    assert graph.outputs["h"].producer is not None and scan_end(graph.outputs["h"].producer.op) == "exit"


def test_a_layer_of_a_step_can_be_used_after_it() -> None:
    text = """model m {
        input x: f32[B, T, 4]
        scan x_t in x {
            layer fc = linear(4)
            yield y = x_t -> fc
        }
        output y -> fc
    }"""
    assert list(archc.parse(text).weights) == ["fc.weight", "fc.bias"]


def test_each_mistake_in_a_step_is_told_once() -> None:
    assert codes("scan x_t in x, h = zeros((B, 4)) { h = x_t -> nothing  yield y = h -> no }  output y + h") == [
        "unknown-operator",
        "unknown-operator",
    ]


def test_a_sequence_that_is_wrong_leaves_its_results_unknown() -> None:
    assert codes("scan x_t in q, h = zeros((B, 4)) { h = h + x_t  yield y = h }  output y + h") == ["unknown-name"]
