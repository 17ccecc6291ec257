"""Declared tensor types: inputs of models, and sizes that inputs of blocks bind."""

from __future__ import annotations

import pytest

import archc
from archc.diagnostics import ArchcError
from archc.interpreter.evaluate import bind_sizes
from archc.language.printing.printer import print_graph
from archc.types import dim_bounds, dims


def codes(text: str) -> list[str]:
    with pytest.raises(ArchcError) as failure:
        archc.parse(text)
    return [found.code for found in failure.value.diagnostics if found.severity == "error"]


def block(declared: str, received: str, attributes: str = "") -> str:
    """Text of a block that binds D to a size of its input, and of a model that calls the block."""
    return (
        f"block B({attributes}) {{ input x: f32[{declared}]  output x -> fc: linear(D) }}\n"
        f"model m {{ input x: f32[{received}]  output y = x -> b: B }}"
    )


@pytest.mark.parametrize(
    ("declared", "received", "width"),
    [
        ("N, D", "N, 12", 12),
        ("N, 2*D", "N, 12", 6),
        ("N, D + 3", "N, 12", 9),
        ("N, 3 - -D", "N, 12", 9),
        ("N, 20 - D", "N, 12", 8),
        ("D, 2*D", "5, 10", 5),
        ("2*D, D", "10, 5", 5),
        ("N, D <= 16", "N, 12", 12),
    ],
)
def test_a_size_is_solved_for(declared: str, received: str, width: int) -> None:
    graph = archc.parse(block(declared, received))
    assert graph.weights["b.fc.weight"].shape[0] == width


@pytest.mark.parametrize(
    ("declared", "received", "code"),
    [
        ("N, 5*D", "N, 12", "shape-mismatch"),
        ("N, D + 12", "N, 12", "shape-mismatch"),
        ("N, D % 3", "N, 7", "shape-mismatch"),
        ("N, D % 8", "N, 7", "shape-mismatch"),
        ("N, D // 2", "N, 7", "shape-mismatch"),
        ("N, D * D", "N, 9", "shape-mismatch"),
        ("D, 2*D", "5, 11", "shape-mismatch"),
        ("D, N, T", "5, 11", "rank-mismatch"),
        ("N, D <= 11", "N, 12", "bound-exceeded"),
        ("T <= 4, D", "N, 12", "bound-unknown"),
        ("T <= 4, D", "N <= 5, 12", "bound-exceeded"),
    ],
)
def test_inputs_that_do_not_match(declared: str, received: str, code: str) -> None:
    assert codes(block(declared, received)) == [code]


@pytest.mark.parametrize(
    ("type_text", "code"),
    [
        ("f33[N]", "unknown-dtype"),
        ("f32[0]", "bad-size"),
        ("f32[-1]", "bad-size"),
        ("f32[2**31]", "size-too-large"),
        ("f32[T <= 0]", "bad-size"),
        ("f32[T <= 2.5]", "wrong-type"),
        ("f32[8 <= 5]", "bound-exceeded"),
        ("f32[T, T <= 5]", "bound-unknown"),
        ("f32[T <= 9, T <= 5]", "bound-unknown"),
    ],
)
def test_invalid_types(type_text: str, code: str) -> None:
    assert codes(f"model m {{ input x: {type_text}  output y = x + 1 }}") == [code]


def test_a_bound_may_be_repeated() -> None:
    graph = archc.parse("model m { input x: f32[T <= 5]  input z: f32[T <= 5, T <= 9]  output y = x + z }")
    assert str(graph.outputs["y"].type) == "f32[T, T]"


def test_bounds_are_those_of_the_model() -> None:
    """Bounds are checked in each model, although the cache of inferred types ignores them."""
    other = "block B { input x: f32[T <= 16]  output x -> relu }\n"
    other += "model m { input x: f32[T%s]  output y = x -> relu -> b: B }"
    for _ in range(2):
        assert codes(other % "") == ["bound-unknown"]
        archc.parse(other % " <= 16")
        assert codes(other % " <= 17") == ["bound-exceeded"]


@pytest.mark.parametrize("chain", ["full((N, 3), 2.0)", "x -> reshape((N, 2, 2))", "(x -> unsqueeze(0))[:, :N]"])
def test_bounds_in_attributes_are_those_of_the_model(chain: str) -> None:
    """Inferred sizes have the bounds of their model, although equality of operators ignores bounds."""
    for declared, bound in (("N <= 16", 16), ("N", None), ("N <= 8", 8)):
        graph = archc.parse(f"model m {{ input x: f32[{declared}, 4]  output y = {chain} }}")
        (size,) = (dim for dim in graph.outputs["y"].type.shape if not isinstance(dim, int) and dim == dims.symbol("N"))
        assert {own.maximum for own in dims.symbols(size).values()} == {bound}


def test_declared_outputs_are_checked() -> None:
    archc.parse("model m { input x: f32[N, 4]  output y: f32[N, 8] = (x, x) -> concat(1) }")
    for declared, code in (("f32[N, 9]", "shape-mismatch"), ("f16[N, 8]", "dtype-mismatch")):
        text = f"model m {{ input x: f32[N, 4]  output y: {declared} = (x, x) -> concat(1) }}"
        assert codes(text) == [code]


def test_an_input_may_have_a_multiple_of_a_new_size() -> None:
    graph = archc.parse(
        "model m { input x: f32[N, 3, 16 * H, 2 * W + 1]  output y = (x -> max_pool2d(2)) + (arange(W) -> cast(f32)) }"
    )
    assert str(graph.outputs["y"].type) == "f32[N, 3, 8*H, W]"
    assert archc.parse(print_graph(graph)) == graph
    sizes = bind_sizes(graph, {"x": (3, 3, 32, 9)})
    assert sizes == {"N": 3, "H": 2, "W": 4}
    with pytest.raises(ValueError, match="must be 32, got 33"):
        bind_sizes(graph, {"x": (3, 3, 33, 9)})


@pytest.mark.parametrize(
    ("type_text", "code"),
    [
        ("f32[H * W]", "unknown-name"),
        ("f32[H, H * W * K]", "unknown-name"),
        ("f32[H // 2]", "bad-size"),
        ("f32[H * H]", "bad-size"),
        ("f32[4 - H]", "bad-size"),
        ("f32[16 * H - 16]", "bad-size"),
        ("f32[0 * H]", "bad-size"),
        ("f32[2 * H + 1 <= 2]", "bound-exceeded"),
        ("f32[2 * H <= 8, 2 * H <= 6]", "bound-unknown"),
    ],
)
def test_arithmetic_on_a_new_size_can_be_undone(type_text: str, code: str) -> None:
    assert codes(f"model m {{ input x: {type_text}  output y = x + 1 }}") == [code]


def test_a_multiple_of_a_new_size_may_have_a_bound() -> None:
    text = "model m { input x: f32[2 * H + 1 <= %s, 4]  input z: f32[H, 4]  output y = z + 1  output w = x + 1 }"
    for bound in (9, 10):
        graph = archc.parse(text % bound)
        assert dim_bounds.largest(graph.inputs[1].type.shape[0]) == 4
        assert "f32[2 * H + 1 <= 9, 4]" in print_graph(graph)
        assert dim_bounds.largest(archc.parse(print_graph(graph)).inputs[1].type.shape[0]) == 4
    block = "block B { input x: f32[T <= %s, 4]  output x -> relu }\n"
    use = "model m { input x: f32[2 * H + 1 <= 9, 4]  output y = x -> b: B }"
    archc.parse(block % 9 + use)
    assert codes(block % 8 + use) == ["bound-exceeded"]


@pytest.mark.parametrize("symbol", ["+", "*"])
def test_long_sums_and_products(symbol: str) -> None:
    """Trees of depth 3000, from sums and products of 3000 terms, do not exceed the recursion limit."""
    new = f" {symbol} ".join(f"A{k}" for k in range(3000))
    assert codes(f"model m {{ input x: f32[{new}]  output x -> relu }}") == ["unknown-name"]
