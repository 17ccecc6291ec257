"""Emitted modules of models with unusual lists, loops, names and symbolic sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.codegen.torch.test_source import assert_well_formed
from tests.codegen.torch_modules import assert_agrees, graph_of, source_of

WRAPPED_SCAN = """
model m {
    input first: f32[N, T, 8]
    input second: f32[N, T, 8]
    input third: f32[N, T, 8]
    scan first_t in first, second_t in second, third_t in third, state = zeros((N, 8)) {
        state = state * first_t + second_t * third_t
        yield y = state
    }
    output y = y
}
"""

WRAPPED_TARGETS = """
model m {
    input sequence_of_measurements: f32[N, T, 8]
    input sequence_of_corrections: f32[N, T, 8]
    scan measurement_of_this_step in sequence_of_measurements, correction_of_this_step in sequence_of_corrections,
         state_of_the_first_compartment = zeros((N, 8)), state_of_the_second_compartment = zeros((N, 8)) {
        previous = state_of_the_first_compartment
        state_of_the_first_compartment = state_of_the_second_compartment * measurement_of_this_step
        state_of_the_second_compartment = previous + correction_of_this_step
        yield results_of_all_steps = previous * 2
    }
    output y = results_of_all_steps
    output z = state_of_the_first_compartment + state_of_the_second_compartment
}
"""

WRAPPED_SPLIT = """
model m {
    input x: f32[N, 8]
    the_first_of_features, the_second_of_features, the_third_of_features, the_last_ones = x -> split(2, dim = 1)
    output y = the_first_of_features * the_second_of_features
        + the_third_of_features * the_last_ones
        + the_first_of_features * the_third_of_features
        + the_second_of_features * the_last_ones
}
"""

WRAPPED_LISTS = """
model m {
    input x: f32[N, 8]
    for i in 0..3 {
        x = x -> the_first_of_several_lists[i]: linear(8) -> the_second_of_several_lists[i]: linear(8)
            -> relu -> the_third_of_several_lists[i]: linear(8)
    }
    output y = x
}
"""

NAMED_BESIDE_NUMBERED = """
model m {
    input x: f32[N, 8]
    for i in 0..4 { x = x -> enc[i].a: linear(8) -> relu -> enc[i].b: linear(8) }
    output y = x -> enc.norm: layer_norm
}
"""

NAMED_FIRST_AND_NESTED = """
block Layer(width) {
    input x: f32[N, D]
    for i in 0..3 { x = x -> part[i].up: linear(width) -> relu -> part[i].down: linear(D) }
    output x -> part.norm: layer_norm
}
model m {
    input x: f32[N, 8]
    x = x -> enc.norm: layer_norm
    for i in 0..4 { x = x -> enc[i]: Layer(4) }
    for i in 0..3 { x = x -> deep.er.list[i]: Layer(6) -> tanh }
    output y = x -> deep.er.list.last: linear(8) -> deep.er.other: linear(8)
}
"""

NAMES_OF_CONTAINERS = """
model m {
    input x: f32[N, 8]
    for i in 0..4 { x = x -> it[i]: linear(8) -> tanh }
    x = x -> it.items: linear(8) -> it.keys: linear(8)
    for i in 0..3 { x = x -> steps[i].a: linear(8) -> tanh -> steps[i].b: linear(8) }
    output y = x -> steps.append: linear(8)
}
"""

SHARED_AND_TIED = """
model m {
    input x: f32[N, 8]
    for i in 0..3 { layer q[i] = linear(8) }
    for i in 0..3 { x = x -> q[i] -> relu }
    for i in 0..3 { x = x -> q[i] -> tanh }
    for i in 0..3 { x = x -> r[i]: linear(8, weight = q[i].weight) -> tanh }
    output y = x -> q.last: linear(8, weight = q[1].weight) -> r.norm: layer_norm
}
"""

OTHER_LENGTHS = """
block Layer(depth) {
    input x: f32[N, D]
    for i in 0..depth { x = x -> part[i]: linear(D) -> relu }
    output x -> part.norm: layer_norm
}
model m {
    input x: f32[N, 8]
    output y = x -> a: Layer(2) -> b: Layer(3) -> c: Layer(5)
}
"""

SIZES_AT_TWO_WIDTHS = """
block Mix {
    input x: f32[N, C, H, W]
    output x -> rearrange("n c h w -> n (h w) c") -> fc: linear(C) -> rearrange("n (h w) c -> n c h w", h = H)
}
model m {
    input x: f32[N, 8, H, W]
    output y = x -> a: Mix -> up: conv2d(16, 1) -> b: Mix
}
"""

SIZES_IN_EVERY_ATTRIBUTE = """
block Both { input a: f32[N, C, H, W]  input b: f32[N, C, H, W]  output (a, b) -> concat(2) }
block Mix(k) {
    input x: f32[N, C, H, W]
    a = x -> rearrange("n c h w -> n (h w) c") -> fc: linear(C) -> r: rearrange("n (h w) c -> n c h w", h = H)
    b = a -> rs: reshape((N, C, H * W)) -> ex: reshape((-1, C, H, W))
    c = zeros((N, 1, H, 1)) -> wide: expand((N, C, H, W))
    d = c[:, :, 0:H, 0:1] + (arange(W) -> cast(f32)) * k
    p, q = (a, b) -> Both -> halves: split(H, dim = 2)
    r, s = (b, a) -> Both -> parts: split((H, H), dim = 2)
    u = x -> flatten(2) -> un: unflatten(2, (H, W))
    output a + b + d + full((N, C, H, W), 0.5) * k + p * q + r * s * W + u
}
block Position { input x: f32[N, T, D]  output x + (arange(T) -> table: embedding(64, D)) }
model m {
    input x: f32[N, 8, H, W]
    input s: f32[N, S <= 64, 8]
    input t: f32[N, T <= 64, 4]
    for i in 0..2 { x = x -> mixes[i]: Mix(i + 0.5) }
    output y = x -> a: Mix(1.0) -> up: conv2d(16, 1) -> b: Mix(2.0)
    output z = x -> max_pool2d(2) -> c: Mix(3.0)
    output p = s -> ps: Position
    output q = t -> pt: Position
}
"""

LONG_NAMES = f"""
model m {{
    input x: f32[N, 8]
    for i in 0..3 {{ x = x -> {"b" * 60}.{"a" * 30}[i]: linear(8) -> relu }}
    for i in 0..3 {{ x = x -> {"c" * 70}[i].{"d" * 40}: linear(8) -> relu }}
    for i in 0..3 {{ x = x -> {"e" * 90}[i]: linear(8) -> relu }}
    {"y" * 95} = x -> tanh
    output z = ({"y" * 95} -> linear(8)) + {"y" * 95}
}}
"""

TEXTS = {name.lower(): text for name, text in globals().items() if name.isupper() and isinstance(text, str)}


@pytest.mark.parametrize("name", TEXTS)
def test_an_awkward_text_runs_and_is_well_formed(name: str, tmp_path: Path) -> None:
    graph = graph_of(TEXTS[name])
    assert_agrees(graph, tmp_path, T=5, S=3, H=6, W=4)
    if name not in ("sizes_in_every_attribute", "long_names"):  # the formatter changes these
        assert_well_formed(source_of(graph), tmp_path)
