"""Elaboration of statements: names, layers, loops, blocks, and mistakes reported once."""

from __future__ import annotations

import pytest
import torch

import archc
from archc.diagnostics import ArchcError, Diagnostics
from archc.language.printing.printer import print_graph


def codes(text: str) -> list[str]:
    with pytest.raises(ArchcError) as failure:
        archc.parse(text)
    return [found.code for found in failure.value.diagnostics if found.severity == "error"]


def model(body: str) -> str:
    return f"model m {{ input x: f32[N, 8]  {body} }}"


def operators(text: str) -> list[str]:
    return [str(node.op) for node in archc.parse(text).nodes()]


def test_a_loop_runs_while_the_text_is_elaborated() -> None:
    graph = archc.parse(model("let w = 4 for i in 0..3 { x = x -> h[i]: linear(w * (i + 1)) } output y = x"))
    assert [graph.weights[f"h.{k}.weight"].shape for k in range(3)] == [(4, 8), (8, 4), (12, 8)]


def test_a_model_hides_no_operator_of_its_name() -> None:
    assert operators("model linear { input x: f32[N, 8]  output y = x -> linear(3) }") == ["linear(3)"]
    assert operators("model net { input x: f32[N, 8]  output y = x -> relu }  block relu { input x  output x }") == []


def test_a_block_that_hides_an_operator_is_told_so() -> None:
    with pytest.raises(ArchcError) as failure:
        archc.parse("block linear { input x  output x -> linear }" + model("output y = x -> linear"))
    (found,) = failure.value.diagnostics
    assert found.code == "recursive-block" and "hides the operator `linear`" in str(found.help)


def test_a_loop_over_a_list_and_one_that_never_runs() -> None:
    assert operators(model("for w in [3, 5] { x = x -> linear(w) } for i in 5..2 { x = x -> relu } output y = x")) == [
        "linear(3)",
        "linear(5)",
    ]


def test_conditions_choose() -> None:
    text = model("if %s { x = x -> relu } else if 1 == 1 { x = x -> tanh } else { x = x -> gelu } output y = x")
    assert operators(text % "2 > 1") == ["relu"] and operators(text % "not 2 > 1") == ["tanh"]


def test_a_declared_layer_is_shared_and_an_inline_one_is_fresh() -> None:
    shared = archc.parse(model("layer f = linear(8) output y = x -> f -> relu -> f"))
    assert list(shared.weights) == ["f.weight", "f.bias"] and len(shared) == 3
    fresh = archc.parse(model("output y = x -> linear(8) -> linear(8)"))
    assert list(fresh.weights) == ["linear.weight", "linear.bias", "linear_2.weight", "linear_2.bias"]


def test_a_weight_of_another_layer() -> None:
    graph = archc.parse(model("a = x -> f: linear(8) output y = a -> g: linear(8, bias = false, weight = f.weight)"))
    assert list(graph.weights) == ["f.weight", "f.bias"]
    assert graph.layers()["g"].weights == {"weight": "f.weight"}


INSIDE = "block B { input x: f32[N, D]  output x -> up: linear(D) -> wide: linear(8) }\n"


def test_a_weight_of_a_layer_within_a_block() -> None:
    loop = "for i in 0..2 { x = x -> h[i]: B }  output y = x -> g: linear(8, bias = false, weight = h[1].up.weight)"
    graph = archc.parse(INSIDE + model(loop))
    assert graph.layers()["g"].weights == {"weight": "h.1.up.weight"}
    assert "g.weight" not in graph.weights
    assert archc.parse(print_graph(graph)) == graph


@pytest.mark.parametrize(
    ("path", "code", "help"),
    [
        ("h[0].upp.weight", "unknown-layer", "did you mean `h[0].up`?"),
        ("h[1].up.weight", "unknown-layer", "did you mean `h[0].up`?"),
        ("h[0].weight", "unknown-parameter", "name a layer of the block before the parameter: `h[0].up`, `h[0].wide`"),
        ("h[0].up.scale", "unknown-parameter", "it has `weight`, `bias`"),
    ],
)
def test_no_such_weight_within_a_block(path: str, code: str, help: str) -> None:
    with pytest.raises(ArchcError) as failure:
        archc.parse(INSIDE + model(f"output y = x -> h[0]: B -> g: linear(8, weight = {path})"))
    (found,) = failure.value.diagnostics
    assert (found.code, found.help) == (code, help)


def test_blocks_within_blocks_have_paths() -> None:
    blocks = (
        "block A(w = 4) { input x: f32[N, D]  output x -> fc: linear(w) }\n"
        "block B { input x  output x -> one: A -> two: A(w = 6) }\n"
    )
    graph = archc.parse(blocks + model("output y = x -> b[0]: B -> b[1]: B"))
    assert {path: graph.weights[path].shape for path in graph.weights if path.endswith("weight")} == {
        "b.0.one.fc.weight": (4, 8),
        "b.0.two.fc.weight": (6, 4),
        "b.1.one.fc.weight": (4, 6),
        "b.1.two.fc.weight": (6, 4),
    }


def test_values_for_attributes() -> None:
    text = "model m(classes = 10, width = 2 * classes) { input x: f32[N, 8]  output y = x -> fc: linear(width) }"
    assert archc.parse(text).weights["fc.weight"].shape == (20, 8)
    assert archc.parse(text, values={"classes": 3}).weights["fc.weight"].shape == (6, 8)
    with pytest.raises(ArchcError) as failure:
        archc.parse(text, values={"clases": 3})
    assert failure.value.diagnostics[0].help == "did you mean `classes`?"


def test_output_names() -> None:
    assert list(archc.parse(model("output x -> relu")).outputs) == ["result"]
    assert list(archc.parse(model("h = x -> relu output h output x -> tanh")).outputs) == ["h", "result"]
    assert list(archc.parse(model("output (x -> relu, x -> tanh)")).outputs) == ["result_1", "result_2"]
    assert codes(model("output y = x -> relu output y = x -> tanh")) == ["duplicate-name"]


def test_dead_code_is_left_out_with_a_warning() -> None:
    diagnostics = Diagnostics()
    graph = archc.parse(model("h = x -> dead: linear(3) output y = x -> relu"), diagnostics=diagnostics)
    assert len(graph) == 1 and not graph.weights
    assert [warning.code for warning in diagnostics.warnings] == ["unused-value"]


def test_attributes_used_in_a_loop_without_iterations_give_no_warning() -> None:
    diagnostics = Diagnostics()
    text = """
    block Dense(hidden, act) {
        input x: f32[N, D]
        for width in hidden { x = x -> linear(width) -> act }
        output x
    }
    model m { input x: f32[N, 4]  output y = x -> Dense([], relu) }
    """
    assert len(archc.parse(text, diagnostics=diagnostics)) == 0
    assert not diagnostics.warnings


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("output y = x -> f: linear(8) -> f: linear(8)", ["duplicate-label"]),
        ("output y = x -> f[0]: linear(8) -> f: linear(8)", ["duplicate-label"]),
        ("output y = x -> f: linear(8) -> f.a: linear(8)", ["duplicate-label"]),
        ("output y = x -> f.a: linear(8) -> f.a.b: linear(8)", ["duplicate-label"]),
        ("output y = x -> f.a.b: linear(8) -> f.a: linear(8)", ["duplicate-label"]),
        ("for i in 0..2 { x = x -> f: linear(8) } output y = x", ["duplicate-label"]),
        ("output y = x -> f: linear(8, weight = int8(axis = 2))", ["bad-storage"]),
        ("output y = x -> f: linear(8, weight = int8(axis = -1))", ["bad-storage"]),
        ("output y = x -> b: batch_norm(num_batches_tracked = int8)", ["bad-storage"]),
        ("for i in 0..10**12 { x = x -> relu } output y = x", ["too-many-iterations"]),
        ('assert 1 > 2, "no" output y = x', ["assertion-failed"]),
        ("assert N > 2 output y = x -> relu", ["not-known-yet"]),
        ("let y = x output y = x", ["wrong-type"]),
        ("a, b = x -> relu output y = a + b", ["result-count"]),
        ("y = x -> rleu output z = y -> relu", ["unknown-operator"]),
        ("output y = x -> linaer(8)  output z = x -> conv2e(8)", ["unknown-operator", "unknown-operator"]),
        ("h = x -> rleu for i in 0..3 { h = h -> relu } output y = h -> relu", ["unknown-operator"]),
        ("for i in 0..2 { x = x -> rleu } i = x -> relu output y = i", ["unknown-operator"]),
        ('let s = "a" for i in 0..40 { let s = s + s } output y = x -> relu', ["number-too-large"]),
        ("", ["no-output"]),
    ],
)
def test_mistakes(body: str, expected: list[str]) -> None:
    assert codes(model(body)) == expected


@pytest.mark.parametrize("body", ["x -> relu -> relu", "x"])
def test_blocks_within_blocks_have_an_end(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archc.language.elaboration.size_bound.MOST_PARTS", 1000)
    text = f"block B0 {{ input x: f32[N, D]  output {body} }}\n"
    for level in range(1, 40):
        text += f"block B{level} {{ input x: f32[N, D]  y = x -> a: B{level - 1}  output y -> b: B{level - 1} }}\n"
    assert codes(text + model("output y = x -> B39")) == ["model-too-large"]


def test_a_mistake_in_a_block_is_told_once_with_its_way() -> None:
    text = "block B { input x: f32[N, D]  output x -> linear(D, 1, 2, 3) }\n" + model(
        "for i in 0..12 { x = x -> b[i]: B } output y = x"
    )
    with pytest.raises(ArchcError) as failure:
        archc.parse(text)
    (found,) = failure.value.diagnostics
    assert found.code == "too-many-attributes"
    assert [note.text for note in found.notes] == ["in the block `B`, used as `b.0`"]


def test_blocks_cannot_recur() -> None:
    block = "block B { input x: f32[N, D]  output x -> b: B }\n"
    assert codes(block + model("output y = x -> b: B")) == ["recursive-block"]
    assert codes(model("output y = x -> m")) == ["not-a-block"]


def test_elaboration_is_deterministic() -> None:
    text = model("a = x -> f: linear(4) b = x -> g: linear(4) output y = a + b -> relu")
    one, other = archc.parse(text), archc.parse(text)
    assert one == other and archc.print_graph(one) == archc.print_graph(other)
    assert [node.title for node in one.nodes()] == [node.title for node in other.nodes()]


GROWING = """
model m(n = 3) {
    input x: f32[N, 8]
    keys = ()
    none = keys
    for i in 0..n {
        k = x -> h[i]: linear(4)
        keys = keys + (k,)
    }
    output all = keys + none -> concat(1)
    output ends = keys[0] + keys[-1] * len(keys)
    output first = none + (x,) + () -> relu
}
"""


def test_a_tuple_of_tensors_grows_from_none() -> None:
    module = archc.compile(GROWING).module()
    x = torch.randn(2, 8)
    keys = [module.h[i](x) for i in range(3)]
    joined, ends, first = module(x)
    torch.testing.assert_close(joined, torch.cat(keys, 1))
    torch.testing.assert_close(ends, keys[0] + keys[2] * 3)
    torch.testing.assert_close(first, x.relu())
    graph = archc.parse(GROWING)
    assert archc.parse(print_graph(graph)) == graph
    assert print_graph(archc.parse(print_graph(graph))) == print_graph(graph)


def test_a_tuple_of_no_tensors_feeds_nothing() -> None:
    with pytest.raises(ArchcError) as failure:
        archc.parse(GROWING, set={"n": 0})
    assert [found.code for found in failure.value.diagnostics] == ["operand-count", "index-out-of-range"]
    assert codes(model("keys = ()  output y = keys")) == ["wrong-type"]
    assert codes(model("keys = ()  a, b = keys  output a")) == ["result-count"]


def test_mistaken_ways_to_collect_tensors_name_the_right_one() -> None:
    for body in ("keys = []  output x", "keys = ()  output y = keys + x"):
        with pytest.raises(ArchcError, match=r"keys = keys \+ \(x,\)"):
            archc.parse(model(body))
