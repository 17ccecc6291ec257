"""Constructor arguments of blocks: names, defaults, and arguments that are multiples of others."""

from __future__ import annotations

from pathlib import Path

import pytest

import archc
from archc.codegen.torch.names import class_name
from archc.language.printing.printer import print_graph
from tests.codegen.torch_modules import assert_agrees, graph_of, source_of

UNITS = """
block Unit(channels, kernel, stride = 1, padding = "same") {
    input x: f32[N, C, H, W]
    output x -> conv: conv2d(channels, kernel, stride = stride, padding = padding) -> relu
}
model m {
    input x: f32[N, 3, 9, 9]
    output y = x -> a: Unit(4, 3, stride = 2, padding = 1) -> b: Unit(6, (1, 3)) -> c: Unit(5, 1)
}
"""


def test_an_argument_may_be_of_several_kinds(tmp_path: Path) -> None:
    graph = graph_of(UNITS)
    assert_agrees(graph, tmp_path)
    source = source_of(graph)
    assert source.count("class Unit") == 1
    assert "kernel: int | tuple[int, int]," in source and 'padding: int | str = "same",' in source
    assert "self.c = Unit(C=6, channels=5, kernel=1)" in source


def test_the_printed_block_has_the_defaults_of_the_text() -> None:
    graph = archc.parse(UNITS)
    printed = print_graph(graph)
    assert 'block Unit(channels, kernel, stride = 1, padding = "same") {' in printed
    assert "b: Unit(channels = 6, kernel = (1, 3))" in printed
    assert archc.parse(printed) == graph
    assert print_graph(archc.parse(printed)) == printed


def test_an_argument_alone_goes_by_position_only_if_it_is_the_first() -> None:
    text = """
    block B(width = 4, p = 0.5) {
        input x: f32[N, C]
        output x -> fc: linear(width) -> drop: dropout(p)
    }
    model m {
        input x: f32[N, 4]
        output y = x -> one: B(5) -> two: B(p = 0.25) -> three: B
    }
    """
    graph = archc.parse(text)
    printed = print_graph(graph)
    assert "x -> one: B(5) -> two: B(p = 0.25) -> three: B" in printed
    assert archc.parse(printed) == graph


def test_an_attribute_may_have_the_name_of_a_layer(tmp_path: Path) -> None:
    text = """
    block B(pooled) {
        input x: f32[N, C, H, W]
        output x -> max_pool2d(2) -> pooled: conv2d(pooled, 1)
    }
    model m {
        input x: f32[N, 3, 8, 8]
        output y = x -> a: B(4) -> b: B(6)
    }
    """
    graph = graph_of(text)
    assert_agrees(graph, tmp_path)
    source = source_of(graph)
    assert "self.pooled = nn.Conv2d(C, pooled, 1)" in source and "class Quantized" not in source
    assert "block B(pooled) {" in print_graph(graph)


@pytest.mark.parametrize(
    ("given", "wanted", "printed"),
    [
        ("3 * C", "3 * C", "3 * C"),
        ("C // 2", "C // 2", "C // 2"),
        ("width * 2", "2 * width", "2 * width"),
        ("C + 2", "C + 2", "C + 2"),
        ("width - 3", "width - 3", "width - 3"),
        ("C + width", "width + C", "width + C"),
        ("C ** 2 + 1", "up_out_features", "out_features"),
    ],
)
def test_a_formula_replaces_values_that_it_gives_in_all_uses(
    given: str, wanted: str, printed: str, tmp_path: Path
) -> None:
    text = f"""
    block B(width) {{
        input x: f32[N, C]
        output x -> up: linear({given}) -> relu -> down: linear(width)
    }}
    model m {{
        input x: f32[N, 8]
        output y = x -> a: B(14) -> b: B(20) -> c: B(12)
    }}
    """
    graph = graph_of(text)
    assert_agrees(graph, tmp_path)
    assert f"self.up = nn.Linear(C, {wanted})" in source_of(graph)
    text = print_graph(graph)
    assert f"up: linear({printed})" in text
    assert archc.parse(text) == graph


def test_two_uses_are_too_few_to_tell_a_multiple_from_a_coincidence() -> None:
    text = """
    block B(width) {
        input x: f32[N, C]
        output x -> up: linear(width) -> down: linear(C)
    }
    model m {
        input x: f32[N, 8]
        output y = x -> a: B(16) -> more: linear(10) -> b: B(20)
    }
    """
    source = source_of(graph_of(text))
    assert "self.up = nn.Linear(C, width)" in source


def test_a_chain_through_a_list_is_a_sequence(tmp_path: Path) -> None:
    """A `for` of the text becomes a loop, a chain becomes an `nn.Sequential`."""
    text = """
    model m {
        input x: f32[N, 8]
        a = x -> one: linear(4)
        b = x -> two[0]: linear(6) -> two[1]: linear(4)
        for i in 0..2 { x = x -> more[i]: linear(8) }
        output y = (a, b, x) -> concat(1)
    }
    """
    graph = graph_of(text)
    assert_agrees(graph, tmp_path)
    source = source_of(graph)
    assert "self.two = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))" in source
    assert "b = self.two(x)" in source
    assert "for more in self.more:" in source
    printed = print_graph(graph)
    assert "b = x -> two[0]: linear(6) -> two[1]: linear(4)" in printed
    assert "for i in 0..2 { x = x -> more[i]: linear(8) }" in printed
    assert archc.parse(printed) == graph


@pytest.mark.parametrize(
    ("name", "doc", "wanted"),
    [
        ("resnet18", "ResNet-18 for images (He et al. 2016)", "ResNet18"),
        ("unet", "A U-Net, which finds cells", "UNet"),
        ("mobilenet_v2", "MobileNetV2 for images on small machines", "MobileNetV2"),
        ("inception_v3", "Inception v3 for images", "InceptionV3"),
        ("vit", "The ViT of 2021", "ViT"),
        ("cnn", "A network of convolutions", "CNN"),
        ("cnn", "the cnn of the course", "CNN"),
        ("net", "", "Net"),
        ("resnet18", "Not the resnet18 of torchvision, nor ResNet-180", "Resnet18"),
    ],
)
def test_a_class_is_spelled_as_in_its_comment(name: str, doc: str, wanted: str) -> None:
    assert class_name(name, doc) == wanted


def test_numbers_in_forward_are_arguments_with_the_names_of_the_block(tmp_path: Path) -> None:
    text = """
    block Attention(heads, window) {
        input x: f32[N, T, D]
        q = x -> query: linear(D) -> rearrange("n (w a) (k e) -> (n w) k a e", a = window, k = heads)
        late = arange(T) >= T - window -> cast(f32) -> unsqueeze(0) -> unsqueeze(2)
        x = q -> rearrange("(n w) k a e -> n (w a) (k e)", w = T // window)
        output x * late -> out: linear(4 * D) -> relu -> narrow: linear(D)
    }
    model m {
        input x: f32[N, 24, 12]
        x = x -> a: Attention(3, 4) -> grow: linear(16) -> b: Attention(4, 6)
        y = x[:, ::2] -> shrink: linear(8) -> c: Attention(2, 3)
        output y
    }
    """
    graph = graph_of(text)
    assert_agrees(graph, tmp_path)
    source = source_of(graph)
    assert source.count("class Attention") == 1
    assert "def __init__(self, T: int, D: int, heads: int, window: int):" in source
    assert "self.heads = heads" in source and "self.window = window" in source
    assert ".unflatten(2, (self.heads, -1))" in source and ".unflatten(1, (-1, self.window))" in source
    assert ".unflatten(0, (-1, self.T // self.window))" in source
    assert "torch.arange(self.T, device=x.device) >= self.T - self.window" in source
    assert "self.out = nn.Linear(D, 4 * D)" in source
    assert "self.c = Attention(T=12, D=8, heads=2, window=3)" in source


def test_bounds_of_slices_and_strings_are_arguments(tmp_path: Path) -> None:
    text = """
    block Roll(by) {
        input x: f32[N, T, D]
        output (x[:, by:], x[:, :by]) -> concat(1)
    }
    block Padded(mode, width) {
        input x: f32[N, T, D]
        output x -> pad((width, 1), mode = mode)
    }
    model m {
        input x: f32[N, 5, 4]
        x = x -> a: Roll(2) -> b: Roll(-2)
        output y = x -> c: Padded("reflect", 2) -> d: Padded("circular", 3)
    }
    """
    graph = graph_of(text)
    assert_agrees(graph, tmp_path)
    source = source_of(graph)
    assert "torch.cat((x[:, self.by :], x[:, : self.by]), 1)" in source
    assert "Roll(by=2)" in source and "Roll(by=-2)" in source
    assert "F.pad(x, (self.width, 1), mode=self.mode)" in source
    assert 'Padded(mode="reflect", width=2)' in source and 'Padded(mode="circular", width=3)' in source


def test_a_number_without_a_name_in_the_block_has_the_name_of_its_layer(tmp_path: Path) -> None:
    text = """
    block Squeeze(kind) {
        input x: f32[N, C, H, W]
        s = x -> mean((2, 3), keepdim = true) -> reduce: conv2d(3 + kind ** 2, 1) -> relu -> expand: conv2d(C, 1)
        output x * s -> conv: conv2d(5 + kind ** 3, 1) -> relu -> back: conv2d(C, 1)
    }
    model m {
        input x: f32[N, 8, 6, 6]
        output y = x -> a: Squeeze(1) -> b: Squeeze(2)
    }
    """
    graph = graph_of(text)
    assert_agrees(graph, tmp_path)
    source = source_of(graph)
    assert "self.reduce = nn.Conv2d(8, reduce_out_channels, 1)" in source
    assert "self.conv = nn.Conv2d(8, conv_out_channels, 1)" in source
    assert "Squeeze(reduce_out_channels=4, conv_out_channels=6)" in source


def test_a_formula_is_in_parentheses_next_to_a_stronger_operator(tmp_path: Path) -> None:
    text = """
    block Scaled(width) {
        input x: f32[N, C]
        output (x -> cast(i64)) * (width - 3) -> cast(f32) -> fc: linear(width)
    }
    model m {
        input x: f32[N, 8]
        output y = x -> a: Scaled(5) -> b: Scaled(9) -> c: Scaled(4)
    }
    """
    graph = graph_of(text)
    assert_agrees(graph, tmp_path)
    assert "x.to(torch.int64) * (self.width - 3)" in source_of(graph)


def test_a_class_takes_arguments_for_iterations_of_a_loop(tmp_path: Path) -> None:
    """Iterations that differ in numbers of `forward` are unrolled; the numbers are arguments all the same."""
    text = """
    block Two(first, second) {
        input x: f32[N, T, D]
        x = x[:, first:] -> fc[0]: linear(D)
        x = x[:, second:] -> fc[1]: linear(D)
        output x
    }
    model m {
        input x: f32[N, 9, 4]
        output y = x -> a: Two(1, 1) -> b: Two(1, 2)
    }
    """
    graph = graph_of(text)
    assert_agrees(graph, tmp_path)
    source = source_of(graph)
    assert source.count("class Two") == 1
    assert "[:, self.second :]" in source


@pytest.mark.parametrize(
    "step",
    [
        "x = x -> q[i]: leaky_relu(0.1)  x = x * (i + 2)",
        "x = x -> q[i]: linear(4)  x = x * (i + 1)",
        "x = x -> q[i]: linear(4) -> dropout(0.1 * i)",
        "x = x -> q[i]: linear(4)  x = x -> leaky_relu(0.1 * i)",
    ],
)
def test_loops_of_different_length_with_numbers_of_their_iterations(step: str, tmp_path: Path) -> None:
    """The iterations form no loop, so each length has a class of its own."""
    text = f"""
    block B(k) {{
        input x: f32[B, C]
        for i in 0..k {{ {step} }}
        output x -> fc: linear(4)
    }}
    model m {{
        input x: f32[N, 4]
        output y = x -> a: B(1) -> b: B(2) -> c: B(3)
    }}
    """
    graph = graph_of(text)
    assert_agrees(graph, tmp_path)
    assert source_of(graph).count("class B") == 3
