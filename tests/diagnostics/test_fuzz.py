"""Random texts give a graph or diagnostics, and no other exception."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archc.diagnostics import ArchcError, Diagnostics, Source, render
from archc.driver.parsing import build, open_module
from archc.driver.pipelines import check_pipelines
from archc.language.elaboration.loading import decode

SPECS = [path.read_text(encoding="utf-8") for path in sorted((Path(__file__).parents[2] / "specs").glob("*.arch"))]
# This text uses all constructs of the language, so that mutations reach all of them.
GARDEN = """\
import "std/none.arch" as std
model garden(width = 8, deep = true, name = "x", sizes = [4, 8], p = 0.1) {
    input image: f32[N, 3, H, 16]
    input tokens: i64[N, T <= 32]
    layer wte = embedding(100, width, weight = int8(axis = 0))
    let half = width // 2
    assert half * 2 == width and not (p > 1), "even"
    words = tokens -> wte
    a, b = words -> split(half, dim = 2)
    c = (a, b) -> concat(2) -> layer_norm -> dropout(p)
    for i in 0..2 { c = c -> h[i]: Mlp(width, ratio = 2) }
    if deep { c = c + 1.5 } else { c = -c }
    q = c -> rearrange("n t (h e) -> n h t e", h = 2)
    attended = (q, q, q) -> scaled_dot_product_attention -> rearrange("n h t e -> n t (h e)")
    features = image -> conv1: conv2d(8, 3, stride = (1, 2), padding = 1, groups = 1) -> bn1: batch_norm -> relu
        -> max_pool2d(2) -> adaptive_avg_pool2d((1, 1)) -> flatten
    output scores = (attended[:, 0, ...] + features) ** 2 / width -> softmax(-1)
    output more: f32[N, T, 100] = attended -> head: linear(100, bias = false, weight = wte.weight)
}
block Mlp(width, ratio = 4) {
    input x: f32[B, S, D]
    output x + (x -> up: linear(ratio * D) -> gelu -> down: linear(width)) * (arange(D) -> cast(f32))
}
pipeline small = lowrank(rank = 2, on = "h.*") -> quant(int8, keep = ("head", "h.0.up"))
"""
SEEDS = [*SPECS, GARDEN]
TOKEN = re.compile(r"\s+|[A-Za-z_][A-Za-z0-9_]*|[0-9.]+|->|\*\*|//|\.\.|==|!=|<=|>=|\"[^\"\n]*\"|.", re.DOTALL)
STRANGE = (
    *"()[]{},:.=<>+-*/%#\"'\\\0é",
    *("0", "1", "2", "3", "-1", "-100", "2.5", "0.0", "1e308", "inf", "-inf", "1000000000000", "9223372036854775807"),
    *("true", "false", "N", "T", "x", "self", "None", "__init__", "class", "f16", "i64", "bool", "..", "->", "not"),
    *("for", "if", "else", "let", "layer", "input", "output", "block", "model", "import", "pipeline", "assert"),
    *("linear", "conv2d", "embedding", "split", "concat", "stack", "arange", "full", "cast", "pad", "upsample"),
    *("sum", "mean", "norm", "argmax", "permute", "reshape", "unflatten", "expand", "where", "matmul", "max_pool2d"),
    *("conv_transpose2d", "group_norm", "instance_norm", "rms_norm", "batch_norm", "quantize", "dequantize", "gather"),
    *('""', '"a b -> b a"', '"(a b) ... -> a"', "(1, 2)", "[]", "()", "x[0]", "x[::0]", "x[-1:5]", "(0, 0)", "(x, x)"),
)
words = st.sampled_from(STRANGE)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A valid text with one to six random changes: words removed, doubled, swapped, inserted or replaced."""
    tokens = TOKEN.findall(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(tokens) - 1))
        match draw(st.integers(0, 5)):
            case 0:
                tokens[at] = ""
            case 1:
                tokens.insert(at, tokens[at])
            case 2:
                other = draw(st.integers(0, len(tokens) - 1))
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case 3:
                tokens.insert(at, draw(words))
            case 4:
                tokens[at] = draw(words)
            case _:
                # Numbers have a case of their own, since unusual numbers are the likeliest cause of errors.
                numbers = [place for place, token in enumerate(tokens) if token[:1].isdigit()]
                if numbers:
                    tokens[draw(st.sampled_from(numbers))] = draw(words)
    return "".join(tokens)


def check(source: Source) -> None:
    """Check that parsing and elaboration raise only diagnostics, and that all of them can be rendered."""
    found = Diagnostics()
    try:
        module = open_module(source, found)
        check_pipelines(module, found)
        for name in module.models:
            try:
                graph = build(module, name, {}, Diagnostics())
            except ArchcError as failure:
                found.extend(failure.diagnostics)
            else:
                assert graph.outputs
    except ArchcError as failure:
        found.extend(failure.diagnostics)
    for diagnostic in found:
        assert render(diagnostic)
        assert diagnostic.to_json()["message"]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(mutated())
def test_mutated_texts(text: str) -> None:
    check(Source(text))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(words, max_size=40))
def test_heaps_of_words(heap: list[str]) -> None:
    check(Source("model m {\n    input x: f32[N, 4]\n    y = " + " ".join(heap) + "\n    output y\n}\n"))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=200))
def test_random_bytes(content: bytes) -> None:
    try:
        source = decode(content, "random.arch")
    except ArchcError:
        return
    check(source)
