"""A Swin Transformer: uses of a block that differ in numbers share one class."""

from __future__ import annotations

import re
from pathlib import Path

from tests.codegen.torch_modules import assert_agrees, graph_of, source_of

SWIN = """
# Swin Transformer (Liu et al. 2021), small: attention in windows, every other time in shifted ones.
model swin(classes = 5, height = 112, width = 112, dim = 8, depths = [2, 2, 2], heads = [2, 4, 8], window = 7) {
    input image: f32[N, 3, height, width]
    x = image -> patch: conv2d(dim, 4, stride = 4) -> permute((0, 2, 3, 1)) -> patch_norm: layer_norm
    for s in 0..len(depths) {
        for i in 0..depths[s] {
            x = x -> layers[s].blocks[i]: Layer(heads[s], window, window // 2 if i % 2 == 1 else 0)
        }
        if s < len(depths) - 1 { x = x -> layers[s].merge: Merge }
    }
    output logits: f32[N, classes] = x -> norm: layer_norm -> mean((1, 2)) -> head: linear(classes)
}

block Layer(heads, window, shift) {
    input x: f32[N, H, W, D]
    let s = (0 if min(H, W) <= window else shift)
    let a = min(window, H, W)
    assert H % a == 0 and W % a == 0, "windows must divide the image"

    y = x -> before: layer_norm
    if s > 0 { y = y -> Roll(s) }
    y = y -> attn: WindowAttention(heads, a, s)
    if s > 0 { y = y -> Roll(-s) }
    x = x + y
    output x + (x -> after: layer_norm -> fc1: linear(4 * D) -> gelu -> fc2: linear(D))
}

# What leaves at the top and left comes in again at the bottom and right.
block Roll(by) {
    input x: f32[N, H, W, D]
    x = (x[:, by:], x[:, :by]) -> concat(1)
    output (x[:, :, by:], x[:, :, :by]) -> concat(2)
}

block WindowAttention(heads, a, shift) {
    input x: f32[N, H, W, D]
    let pattern = "n (h a) (w b) (k e) -> n (h w) k (a b) e"
    q = x -> q: linear(D) -> rearrange(pattern, a = a, b = a, k = heads)
    k = x -> k: linear(D) -> rearrange(pattern, a = a, b = a, k = heads)
    v = x -> v: linear(D) -> rearrange(pattern, a = a, b = a, k = heads)

    row = arange(a) -> unsqueeze(1) -> expand((a, a)) -> flatten(0)
    col = arange(a) -> unsqueeze(0) -> expand((a, a)) -> flatten(0)
    down = (row -> unsqueeze(1)) - (row -> unsqueeze(0)) + (a - 1)
    right = (col -> unsqueeze(1)) - (col -> unsqueeze(0)) + (a - 1)
    mask = down * (2 * a - 1) + right -> table: embedding((2 * a - 1) ** 2, heads) -> permute((2, 0, 1))

    if shift > 0 {
        i = arange(H)
        j = arange(W)
        i = (i >= H - a -> cast(i64)) + (i >= H - shift -> cast(i64)) -> unsqueeze(1)
        j = (j >= W - a -> cast(i64)) + (j >= W - shift -> cast(i64)) -> unsqueeze(0)
        region = 3 * i + j -> rearrange("(h a) (w b) -> (h w) (a b)", a = a, b = a)
        apart = (region -> unsqueeze(1)) != (region -> unsqueeze(2)) -> unsqueeze(1)
        mask = mask + (apart -> cast(f32)) * -100.0
    }
    output (q, k, v, mask) -> scaled_dot_product_attention
        -> rearrange("n (h w) k (a b) e -> n (h a) (w b) (k e)", h = H // a, a = a) -> out: linear(D)
}

block Merge {
    input x: f32[N, H, W, D]
    output (x[:, ::2, ::2], x[:, 1::2, ::2], x[:, ::2, 1::2], x[:, 1::2, 1::2]) -> concat(3)
        -> norm: layer_norm -> reduction: linear(2 * D, bias = false)
}
"""


def test_there_is_one_class_for_each_structure_of_a_block(tmp_path: Path) -> None:
    """Only shifted windows have a mask; the other differences are constructor arguments."""
    graph = graph_of(SWIN)
    assert_agrees(graph, tmp_path)
    source = source_of(graph)
    classes = re.findall(r"^class (\w+)", source, re.MULTILINE)
    assert classes == ["WindowAttention", "Roll", "WindowAttention2", "Merge", "Layer", "LayerWithRoll", "Swin"]
    assert re.findall(r"def __init__\(self(.*)\):", source) == [
        ", H: int, D: int, heads: int",
        ", by: int",
        ", H: int, D: int, heads: int",
        ", D: int",
        ", H: int, D: int, heads: int",
        ", H: int, D: int, heads: int",
        "",
    ]


def test_numbers_have_the_names_of_the_block() -> None:
    source = source_of(graph_of(SWIN))
    assert "h.unflatten(3, (self.heads, -1))" in source
    assert ".unflatten(1, (self.H // 7, -1))" in source
    assert "x[:, :, self.by :], x[:, :, : self.by]" in source
    assert "self.roll = Roll(by=3)" in source and "self.roll_2 = Roll(by=-3)" in source
    assert "self.fc1 = nn.Linear(D, 4 * D)" in source
    assert "h = F.gelu(self.fc1(self.after(x)))  # [N, H, H, 4 * D]" in source
    assert "self.attn = WindowAttention2(H=H, D=D, heads=heads)" in source
    assert "LayerWithRoll(H=14, D=16, heads=4)" in source
