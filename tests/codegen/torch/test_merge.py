"""Merging of the uses of a block into one class, if they differ only in attributes."""

from __future__ import annotations

from pathlib import Path

import pytest

from archc.codegen.torch.merge import Mismatch, merge
from archc.compiler import parse
from archc.language.printing.printer import print_graph
from tests.codegen.torch_modules import assert_agrees, graph_of, source_of


def text_of(parameters: str, statement: str, uses: tuple[str, str]) -> str:
    """A model with two uses of a block, which computes `y` from `x`."""
    return f"""
    block B({parameters}) {{
        input x: f32[4, 4, 4, 4]
        {statement}
        output y
    }}
    model m {{
        input x: f32[4, 4, 4, 4]
        output first = x -> a: B({uses[0]})
        output second = x -> b: B({uses[1]})
    }}
    """


SIGNS = {
    "x * self.k": "y = x * k",
    "x + self.k": "y = x + k",
    "x - self.k": "y = x - k",
    "self.k - x": "y = k - x",
    "x > self.k": "y = (x > k, x, x * 2) -> where",
    "x**self.k": "y = x ** k",
    "x.clamp(self.k, 6)": "y = x -> clamp(k, 6)",
    "x.flatten(1, self.k)": "y = x -> flatten(1, k)",
    "x[:, :, self.k]": "y = x[:, :, k]",
    "x[:, :, self.k :]": "y = x[:, :, k:]",
    "x[..., self.k]": "y = x[..., k]",
    "x[self.k, ..., 0]": "y = x[k, ..., 0]",
    "x[1, self.k, 0]": "y = x[1, k, 0]",
    "torch.tanh(x) ** self.k": "y = (x -> tanh) ** k",
    "(x + 2) ** self.k": "y = (x + 2) ** k",
}
"""Statements with a number k, and their expressions in PyTorch."""


@pytest.mark.parametrize(("expression", "statement"), SIGNS.items(), ids=SIGNS)
def test_uses_that_differ_in_the_sign_of_a_number_share_a_class(
    expression: str, statement: str, tmp_path: Path
) -> None:
    graph = graph_of(text_of("k", statement, ("2", "-2")))
    source = source_of(graph)
    assert source.count("class B") == 1
    assert expression in source
    assert_agrees(graph, tmp_path)


DEFAULTS = [
    ("approximate=self.k", 'k = "none"', "y = x -> gelu(approximate = k)", '"tanh"'),
    ("alpha=self.k", "k = 1.0", "y = x -> elu(k)", "0.5"),
    ("min_val=self.k", "k = -1.0", "y = x -> hardtanh(k)", "-0.5"),
    ("dim=self.k", "k = -1", "y = x -> glu(k)", "1"),
    ("ceil_mode=self.k", "k = false", "y = x -> max_pool2d(3, ceil_mode = k)", "true"),
    ("padding=self.k", "k = 0", "y = x -> avg_pool2d(2, padding = k)", "1"),
    ("eps=self.k", "k = 0.00001", "y = x -> layer_norm(eps = k, elementwise_affine = false)", "0.5"),
    ("correction=self.k", "k = 1", "y = x -> var(1, correction = k)", "0"),
    ("keepdim=self.k", "k = false", "y = x -> sum(1, keepdim = k)", "true"),
    ("keepdim=self.k", "k = false", "y = x -> norm(dim = 1, keepdim = k)", "true"),
    ("largest=self.k", "k = true", "y, places = x -> topk(2, largest = k)", "false"),
    ("x.topk(2, self.k)", "k = -1", "y, places = x -> topk(2, dim = k)", "1"),
    ("value=self.k", "k = 0.0", "y = x -> pad((1, 1), value = k)", "2.0"),
    ("mode=self.k", 'k = "constant"', "y = x -> pad((1, 1, 1, 1), mode = k)", '"reflect"'),
    ("mode=self.k", 'k = "nearest"', "y = x -> upsample(8, mode = k)", '"bilinear"'),
    ("align_corners=self.k", "k = false", 'y = x -> upsample(8, mode = "bilinear", align_corners = k)', "true"),
    ("torch.stack((x, x), self.k)", "k = 0", "y = (x, x) -> stack(k)", "-1"),
    ("torch.cat((x, x), self.k)", "k = 0", "y = (x, x) -> concat(k)", "-1"),
    ("x.chunk(2, self.k)", "k = 0", "y, z = x -> chunk(2, dim = k)", "1"),
    ("x.split(2, self.k)", "k = 0", "y, z = x -> split(2, dim = k)", "1"),
    ("x.flatten(1, self.k)", "k = -1", "y = x -> flatten(1, k)", "2"),
    ("torch.arange(self.k, 4,", "k = 0", "y = x + arange(4, start = k, dtype = f32)[0:1]", "2"),
    ("x[:, self.k :]", "k = 0", "y = x[:, k:]", "1"),
    ("x[:, :: self.k]", "k = 1", "y = x[:, ::k]", "2"),
    ("is_causal=self.k", "k = false", "y = (x, x, x) -> scaled_dot_product_attention(is_causal = k)", "true"),
    ("is_causal=self.k", "k = false", "t = x[0]\ny = (t, t, t) -> attention(2, causal = k)", "true"),
    (
        "dropout_p=self.k if self.training else 0.0",
        "k = 0.0",
        "t = x[0]\ny = (t, t, t) -> attention(2, dropout = k)",
        "0.5",
    ),
]
"""Expression in PyTorch, parameter of the block with its default, statement, and another value."""


@pytest.mark.parametrize(("expression", "parameter", "statement", "value"), DEFAULTS)
def test_uses_share_a_class_if_one_has_the_default_of_an_attribute(
    expression: str, parameter: str, statement: str, value: str, tmp_path: Path
) -> None:
    graph = graph_of(text_of(parameter, statement, (value, "")))
    source = source_of(graph)
    assert source.count("class B") == 1
    assert expression in source
    assert_agrees(graph, tmp_path)


@pytest.mark.parametrize(("expression", "parameter", "statement", "value"), DEFAULTS)
def test_a_default_that_all_uses_have_is_not_written(
    expression: str, parameter: str, statement: str, value: str
) -> None:
    source = source_of(graph_of(text_of(parameter, statement, ("", ""))))
    assert source.count("class B") == 1
    keyword = expression.partition("=")[0]
    assert "self.k" not in source
    assert "=" not in expression or f"{keyword}=" not in source


PARAMETERS = [
    ("nn.Linear(4, 4, bias=k)", "y = x -> fc: linear(4, bias = k)"),
    ("nn.Conv2d(4, 4, 1, bias=k)", "y = x -> conv: conv2d(4, 1, bias = k)"),
    ("nn.BatchNorm2d(4, affine=k)", "y = x -> bn: batch_norm(affine = k)"),
    ("nn.LayerNorm(4, bias=k)", "y = x -> norm: layer_norm(bias = k)"),
]
"""Constructor call in PyTorch, and a statement in which k determines whether a layer has a parameter."""


@pytest.mark.parametrize(("call", "statement"), PARAMETERS)
def test_layers_with_and_without_a_parameter_share_a_class(call: str, statement: str, tmp_path: Path) -> None:
    graph = graph_of(text_of("k = true", statement, ("false", "")))
    source = source_of(graph)
    assert source.count("class B") == 1
    assert call in source
    assert_agrees(graph, tmp_path)
    printed = print_graph(graph)
    assert printed.count("block B") == 1
    assert parse(printed) == graph


@pytest.mark.parametrize(
    "statement",
    [
        "y = x -> norm: group_norm(2, affine = k)",
        "y = x -> norm: layer_norm(elementwise_affine = k)",
        "layer first = linear(4)\ny = x -> first -> fc: linear(4, weight = first.weight, bias = k)",
    ],
)
def test_layers_with_and_without_a_module_have_own_classes(statement: str, tmp_path: Path) -> None:
    graph = graph_of(text_of("k = true", statement, ("false", "")))
    assert source_of(graph).count("class B") == 2
    assert_agrees(graph, tmp_path)


def test_an_attribute_without_a_value_becomes_an_optional_argument(tmp_path: Path) -> None:
    statement = """
        y = x
        if k > 0 { y = (x, x, x) -> scaled_dot_product_attention(scale = 0.5) }
        else { y = (x, x, x) -> scaled_dot_product_attention }
    """
    graph = graph_of(text_of("k", statement, ("1", "0")))
    source = source_of(graph)
    assert source.count("class B") == 1
    assert "scale: float | None" in source
    assert_agrees(graph, tmp_path)


SHARED = {
    "one layer, called twice": "layer a = B(2)\nlayer b = B(-3)\noutput y = x -> a -> a -> b -> b",
    "a shared and a plain layer": "layer a = B(2)\noutput y = x -> a -> a -> b: B(3)",
}
"""Models with two layers of a block, of which at least one is shared."""


@pytest.mark.parametrize("body", SHARED.values(), ids=SHARED)
@pytest.mark.parametrize("inner", ["x * k", "x -> inner: C(k)"])
def test_layers_that_differ_in_numbers_share_a_class_if_a_layer_is_shared(
    inner: str, body: str, tmp_path: Path
) -> None:
    graph = graph_of(f"""
    block C(k) {{
        input x: f32[N, 8]
        output x * k -> relu
    }}
    block B(k) {{
        input x: f32[N, 8]
        x = {inner}
        output x -> fc: linear(8)
    }}
    model m {{
        input x: f32[N, 8]
        {body}
    }}
    """)
    source = source_of(graph)
    assert source.count("class B") == 1
    assert source.count("class C") == source.count("self.inner") // 2
    assert_agrees(graph, tmp_path)


def test_a_shared_layer_whose_uses_differ_has_no_class(tmp_path: Path) -> None:
    graph = graph_of("""
    block B(k) {
        input x: f32[N, T, 8]
        output x[:, k:] + x[:, : T - k] * k -> fc: linear(8)
    }
    model m {
        input x: f32[N, 6, 8]
        layer a = B(1)
        layer b = B(2)
        output y = x -> a -> a -> b
    }
    """)
    source = source_of(graph)
    assert source.count("class B") == 1
    assert 'self.a["fc"]' in source
    assert_agrees(graph, tmp_path)


LISTS = [
    ("x.permute(*self.k)", "k", "y = x -> permute(k)", ("(0, 2, 3, 1)", "(0, 3, 1, 2)")),
    ("x.reshape(*self.k)", "k", "y = x -> reshape(k)", ("(4, 64)", "(4, 4, 16)")),
    ("x.reshape(4, self.k, -1)", "k", "y = x -> reshape((4, k, -1))", ("4", "8")),
    ("x[:, :1].expand(*self.k)", "k", "y = x[:, :1] -> expand(k)", ("(4, 3, 4, 4)", "(-1, 5, -1, -1)")),
]


@pytest.mark.parametrize(("expression", "parameter", "statement", "uses"), LISTS)
def test_a_list_of_numbers_is_one_argument(
    expression: str, parameter: str, statement: str, uses: tuple[str, str], tmp_path: Path
) -> None:
    graph = graph_of(text_of(parameter, statement, uses))
    source = source_of(graph)
    assert source.count("class B") == 1
    assert expression in source
    assert_agrees(graph, tmp_path)


@pytest.mark.parametrize(
    ("texts", "merged"),
    [
        (("x * (-2)", "x * 3"), "x * k"),
        (("x * (-2) + f(-1)", "x * (-2) + f(2)"), "x * (-2) + f(k)"),
        (("x**2", "x ** (-2)"), "x**k"),
        (("x[1:]", "x[:]"), "x[k:]"),
        (("x[:, :1]", "x[:, 2:1]"), "x[:, k:1]"),
        (("x[:, :]", "x[:, : y.shape[0]]"), None),
        (("f(*(1, 2))", "f(*(1, 3))"), "f(*k)"),
        (("f(*(n, 2))", "f(*(n, 3))"), "f(n, k)"),
    ],
)
def test_merged_texts(texts: tuple[str, str], merged: str | None) -> None:
    if merged is None:
        with pytest.raises(Mismatch):
            merge(texts, lambda values, keyword: "k")
    else:
        assert merge(texts, lambda values, keyword: "k") == merged
