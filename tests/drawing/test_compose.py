"""Scenes of models: nodes, edges, blocks, loops, scans, shared weights, stages and effects of passes."""

from __future__ import annotations

from pathlib import Path

import pytest

import archc
from archc.diagnostics import ArchcError
from archc.drawing.compose import compose
from archc.drawing.layout import make_page
from archc.drawing.scene import Edge
from tests.drawing.laws import violations
from tests.drawing.scenes import scene_of, wires, word, words

ROOT = Path(__file__).parents[2]

BLOCKS = """
block Layer(hidden, act = relu) {
    input x: f32[B, D]
    output x + (x -> up: linear(hidden) -> act -> down: linear(D))
}
model net(width = 16, depth = 3) {
    input x: f32[N, width]
    for i in 0..depth { x = x -> h[i]: Layer(4 * width) }
    output y = x -> last: Layer(8) -> head: linear(2)
}
"""


def test_a_box_has_a_layer_and_the_light_operators_after_it() -> None:
    scene = scene_of(
        "model m { input x: f32[N, 1, 28, 28]  output y = x -> c: conv2d(8, 3, padding = 1, bias = false)"
        " -> n: batch_norm(eps = 1e-3) -> relu -> max_pool2d(2) -> flatten -> fc: linear(10) }"
    )
    (panel,) = scene.panels
    assert words(panel) == [
        "input x: f32[N, 1, 28, 28]",
        "layer c: conv2d(8, 3, padding 1); n: batch_norm; relu; max_pool2d(2); flatten [N × 1568]",
        "layer fc: linear(10) [N × 10]",
        "output y: N × 10",
    ]
    assert wires(panel) == {("x", "c"), ("c", "fc"), ("fc", "y")}
    assert (scene.title, scene.note) == ("m", "15,778 parameters")


def test_a_sum_is_a_sign_and_the_skip_an_edge() -> None:
    scene = scene_of("model m { input x: f32[N, 8]  output y = x + (x -> fc: linear(8) -> relu) }")
    assert words(scene.panels[0])[1:3] == ["layer fc: linear(8); relu", "symbol +"]
    assert wires(scene.panels[0]) == {("x", "fc"), ("fc", "+"), ("x", "+"), ("+", "y")}


def test_a_second_use_of_a_value_keeps_a_light_operator_apart() -> None:
    scene = scene_of("model m { input x: f32[N, 8]  a = x -> fc: linear(8)  b = a -> tanh  output y = a * b }")
    assert words(scene.panels[0])[1:4] == ["layer fc: linear(8)", "layer tanh", "symbol ×"]


def test_tensors_side_by_side_are_a_bar() -> None:
    scene = scene_of("model m { input x: f32[N, 8]  a, b = x -> chunk(2, dim = 1)  output y = (b, a) -> concat(1) }")
    (panel,) = scene.panels
    assert words(panel)[1:3] == ["layer chunk(2, dim 1) [N × 4]", "bar concat(dim 1) [N × 8]"]
    assert panel.nodes[1].outlets == 2
    assert {edge.outlet for edge in panel.edges if edge.target == panel.nodes[2].key} == {0, 1}


@pytest.mark.parametrize(
    ("formula", "text"),
    [("x * 0.5", "× 0.5"), ("1 / x", "1 ÷ x"), ("-x", "− x"), ("x[:, 0]", "[:, 0]"), ("x ** 2", "^ 2")],
)
def test_formulas_are_written_as_formulas(formula: str, text: str) -> None:
    scene = scene_of(f"model m {{ input x: f32[N, 8]  output y = {formula} }}")
    assert scene.panels[0].nodes[1].rows[0].text == text


def test_a_loop_of_one_block_is_a_stack_and_the_block_has_a_panel() -> None:
    scene = scene_of(BLOCKS)
    model, layer = scene.panels
    assert words(model) == [
        "input x: f32[N, 16]",
        "layer h[0..3]: Layer(64) × 3",
        "layer last: Layer(8)",
        "layer head: linear(2) [N × 2]",
        "output y: N × 2",
    ]
    assert (layer.title, layer.note) == ("Layer", "4 uses")
    # `hidden` differs between the uses, so its name is drawn; `D` is 16 in all uses.
    assert words(layer) == [
        "input x: B × D",
        "layer up: linear(hidden); relu",
        "layer down: linear(16) [N × 16]",
        "symbol +",
        "output output",
    ]
    assert model.nodes[1].rows[0].block == layer.title


def test_levels_and_blocks_are_opened_where_they_are_used() -> None:
    for scene in (scene_of(BLOCKS, depth=1), scene_of(BLOCKS, opened=("Layer",))):
        (model,) = scene.panels
        stack, last = (node for node in model.nodes if node.kind == "frame")
        assert (stack.title, stack.repeat, last.repeat) == ("h[0..3]: Layer(64)", "3", "")
        assert stack.inner is not None and last.inner is not None
        assert words(stack.inner)[1] == "layer up: linear(64); relu [N × 64]"
        assert words(last.inner)[1] == "layer up: linear(8); relu [N × 8]"
        assert [stack.inner.node(key).kind for key in (*stack.entries, *stack.exits)] == ["input", "output"]


def test_an_unknown_block() -> None:
    with pytest.raises(ArchcError, match="`net` has no block `Lyer`") as problem:
        scene_of(BLOCKS, opened=("Lyer",))
    assert problem.value.diagnostics[0].code == "unknown-block"


def test_a_block_of_one_operator_is_drawn_as_the_operator() -> None:
    text = 'block Act { input x\n output x -> gelu(approximate = "tanh") }\n'
    scene = scene_of(text + "model m { input x: f32[N, 8]  output y = x -> fc: linear(8) -> a: Act }")
    assert words(scene.panels[0])[1] == 'layer fc: linear(8); a: gelu(approximate "tanh")'
    assert len(scene.panels) == 1


def test_a_loop_of_several_things_is_a_frame() -> None:
    scene = scene_of(
        "model m { input x: f32[N, 4]\n"
        " for i in 0..3 { x = (x, x -> h[i].a: linear(2) -> h[i].b: linear(3)) -> concat(1) }\n output y = x }"
    )
    (frame,) = (node for node in scene.panels[0].nodes if node.kind == "frame")
    assert frame.title == "h[i]: for i in 0..3" and frame.repeat == "3"
    assert frame.inner is not None
    assert [node.rows[0].label for node in frame.inner.nodes if node.kind == "layer"] == ["h[i].a", "h[i].b"]
    assert wires(frame.inner) >= {("h[i].a", "h[i].b"), ("h[i].b", "concat(dim 1)"), ("x", "concat(dim 1)")}


def test_the_state_of_a_scan_has_an_edge_that_leads_back() -> None:
    scene = scene_of(
        "model m { input x: f32[B, T, 8]\n scan x_t in x, h = zeros((B, 4)) {"
        " h = (x_t -> a: linear(4)) + (h -> b: linear(4)) -> tanh\n yield y = h }\n"
        " output y: f32[B, T, 4] = y\n output last: f32[B, 4] = h }"
    )
    (panel,) = scene.panels
    (frame,) = (node for node in panel.nodes if node.kind == "frame")
    assert frame.inner is not None
    inside = frame.inner
    assert [inside.node(key).rows[0].label for key in frame.entries] == ["x_t", "h"]
    assert [inside.node(key).rows[0].label for key in frame.exits] == ["h", "yield y"]
    (back,) = (edge for edge in inside.edges if edge.back)
    assert back == Edge(frame.exits[0], frame.entries[1], back=True)
    assert wires(inside) == {
        ("x_t", "a"),
        ("h", "b"),
        ("a", "+"),
        ("b", "+"),
        ("+", "tanh"),
        ("tanh", "h"),
        ("tanh", "yield y"),
    }
    outside = {(edge.source, edge.target): edge.entry for edge in panel.edges if edge.target == frame.key}
    assert sorted(outside.values()) == [0, 1]


def test_a_loop_may_read_the_initial_value_of_a_carried_tensor() -> None:
    scene = scene_of(
        "model m { input x: f32[N, 8]\n y = x\n for i in 0..5 { y = y + (x -> l[i]: linear(8)) }\n output y }"
    )
    assert violations(make_page(scene)) == []
    (frame,) = (node for node in scene.panels[0].nodes if node.kind == "frame")
    assert frame.inner is not None
    assert [frame.inner.node(key).rows[0].label for key in frame.entries] == ["y", "x"]
    assert wires(frame.inner) == {("x", "l[i]"), ("l[i]", "+"), ("y", "+"), ("+", "y")}
    assert sorted(edge.entry for edge in scene.panels[0].edges if edge.target == frame.key) == [0, 1]


def test_a_stack_may_read_the_initial_value_of_a_carried_tensor() -> None:
    scene = scene_of(
        "block B { input x: f32[N, D]\n input y: f32[N, D]\n output x + (y -> a: linear(D)) }\n"
        "model m { input x: f32[N, 8]\n y = x\n for i in 0..5 { y = (y, x) -> l[i]: B }\n output y }",
        depth=1,
    )
    assert violations(make_page(scene)) == []
    model = scene.panels[0]
    x, stack, _ = model.nodes
    assert word(stack) == "frame l[0..5]: B × 5"
    assert [(edge.source, edge.entry) for edge in model.edges if edge.target == stack.key] == [(x.key, 0), (x.key, 1)]


@pytest.mark.parametrize(
    ("body", "entries"),
    [
        ("h = h + x_t + (x -> mean(1))", ["x_t", "h", "x"]),
        ("h = h + x_t * h0", ["x_t", "h", "h0"]),
        ("h = h0", ["x_t", "h", "h0"]),
        ("h = h + x_t\n yield z = h0", ["x_t", "h", "h0"]),
    ],
)
def test_a_scan_may_read_its_sequence_and_its_initial_state(body: str, entries: list[str]) -> None:
    scene = scene_of(
        "model m { input x: f32[B, T, 8]\n input h0: f32[B, 8]\n"
        f" scan x_t in x, h = h0 {{ {body} }}\n output y = h{' + (z -> mean(1))' if 'yield' in body else ''} }}"
    )
    assert violations(make_page(scene)) == []
    (frame,) = (node for node in scene.panels[0].nodes if node.kind == "frame")
    assert frame.inner is not None
    assert [frame.inner.node(key).rows[0].label for key in frame.entries] == entries
    read = {edge.source for edge in frame.inner.edges}
    assert frame.entries[2] in read


def test_nested_scans_may_iterate_over_the_same_tensor() -> None:
    scene = scene_of(
        "model m { input x: f32[B, T, 8]\n scan a in x, h = zeros((B, 8)) {\n"
        " scan b in x, k = h { k = k + a * b }\n h = k }\n output y = h }"
    )
    assert violations(make_page(scene)) == []
    (outer,) = (node for node in scene.panels[0].nodes if node.kind == "frame")
    assert outer.inner is not None
    (inner,) = (node for node in outer.inner.nodes if node.kind == "frame")
    assert inner.inner is not None
    assert [outer.inner.node(key).rows[0].label for key in outer.entries] == ["a", "h", "x"]
    assert [inner.inner.node(key).rows[0].label for key in inner.entries] == ["b", "k", "a"]


def test_layers_that_share_weights_have_the_same_number() -> None:
    scene = scene_of(
        "model m { input t: i64[N, T]  layer w = embedding(50, 8)  layer f = linear(8)\n"
        " x = t -> w -> f -> relu -> f -> own: linear(8)\n"
        " output y = x -> head: linear(50, bias = false, weight = w.weight) }"
    )
    marks: dict[str, list[tuple[int, ...]]] = {}
    for node in scene.panels[0].nodes:
        marks.setdefault(node.rows[0].label, []).append(node.marks)
    assert marks["w"] == marks["head"] and len(marks["w"][0]) == 1
    assert len(marks["f"]) == 2 and len(set(marks["f"])) == 1 and len(marks["f"][0]) == 1
    assert marks["own"] == [()] and marks["w"] != marks["f"][:1]


def test_results_of_passes_are_drawn() -> None:
    cnn = (ROOT / "specs" / "cnn.arch").read_text(encoding="utf-8")
    (panel,) = scene_of(cnn, passes="lowrank(on = 'fc1'), quant(keep = 'fc2')").panels
    rows = [row for node in panel.nodes for row in node.rows]
    stored = {row.label: row.storage for row in rows if row.family in ("conv", "linear")}
    assert stored == {"conv1": "int8", "conv2": "int8", "fc1.a": "int8", "fc1.b": "int8", "fc2": ""}
    (quantized,) = (row for row in rows if row.label == "conv1_in")
    assert quantized.text == "quantize(u8) → dequantize" and quantized.light


def test_stages_are_bands_of_the_model() -> None:
    text = "model m { input x: f32[N, 8]  output y = x -> a: linear(8) -> to_stage(1, device = 'cpu') -> b: linear(2) }"
    scene = scene_of(text)
    (panel,) = scene.panels
    assert panel.banded and scene.devices == (None, "cpu")
    stages = {node.rows[0].label: node.stage for node in panel.nodes}
    assert stages == {"x": (0, 0), "a": (0, 0), "b": (1, 1), "y": (1, 1)}
    assert wires(panel) == {("x", "a"), ("a", "b"), ("b", "y")}


def test_a_block_across_stages_shows_where_it_is_cut() -> None:
    block = "block B { input x: f32[N, D]\n output x -> a: linear(D) -> to_stage(1) -> b: linear(D) }\n"
    model, panel = scene_of(block + "model m { input x: f32[N, 8]  output y = x -> u: B }").panels
    assert model.nodes[1].stage == (0, 1)
    assert any("to_stage(1)" in node.title for node in panel.nodes)


def test_every_node_of_the_graph_is_drawn_once() -> None:
    """If all blocks are opened and there are no loops, a picture has a row for each operator."""
    graph = archc.parse(
        "block R { input x: f32[N, D]\n output x + (x -> a: linear(D) -> relu) }\n"
        "model m { input x: f32[N, 8]  output y = x -> p: R -> q: linear(8) -> tanh -> r: R }"
    )
    (panel,) = compose(graph, depth=9).panels
    drawn = [
        row.text.partition("(")[0]
        for inner in panel.within()
        for node in inner.nodes
        if node.kind in ("layer", "symbol", "bar")
        for row in node.rows
    ]
    signs = {"+": "add"}
    assert sorted(signs.get(name, name) for name in drawn) == sorted(node.op.name for node in graph.nodes())


def test_uses_with_other_sizes_have_one_panel_with_the_names_of_the_sizes() -> None:
    scene = scene_of("""
        block Gate(reduction = 4) {
            input x: f32[B, C, H, W]
            gate = x -> mean((2, 3)) -> down: linear(C // reduction) -> up: linear(C) -> sigmoid
            output x * (gate -> reshape((B, C, 1, 1)))
        }
        model net {
            input x: f32[N, 8, 4, 4]
            output y = x -> a: Gate -> conv: conv2d(16, 1) -> b: Gate -> reshape((N, 64, 2, 2)) -> c: Gate
        }
    """)
    assert [panel.title for panel in scene.panels] == ["net", "Gate"]
    texts = [row.text for node in scene.panels[1].nodes for row in node.rows]
    assert "linear(2…16)" in texts and "linear(C)" in texts and "reshape((N, C, 1, 1))" in texts
