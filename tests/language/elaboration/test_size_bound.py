"""Lower bound on the size of a model, computed before the model is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archc.diagnostics import ArchcError, Diagnostics
from archc.driver.parsing import choose_model, open_module
from archc.language.elaboration.elaborate import build_graph
from archc.language.elaboration.size_bound import MOST_ITERATIONS, MOST_PARTS, ModelSize, size_bound

SPECS = sorted((Path(__file__).parents[3] / "specs").glob("*.arch"))
LAYERS = "block A(n) { input x  for i in 0..n { x = x -> a[i]: linear(8) }  output x }\n"
MODEL = "model m(n = 3, ns = [1, 2]) { input x: f32[N, 8]  %s  output x -> relu }"


def bound(text: str | Path, **values: Any) -> ModelSize:
    module = open_module(text, Diagnostics())
    return size_bound(module, choose_model(module, None), values).size


def true_size(text: str | Path, name: str | None = None) -> tuple[ModelSize, ModelSize]:
    """Lower bound on the size of a model, and its size after elaboration."""
    diagnostics = Diagnostics()
    module = open_module(text, diagnostics)
    model = module.definitions[name] if name is not None else choose_model(module, None)
    elaboration = build_graph(module, model, {}, diagnostics)
    diagnostics.check()
    true = ModelSize(elaboration.parts, elaboration.iterations)
    return size_bound(module, model, {}).size, true


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_never_above_the_true_size_of_a_spec(path: Path) -> None:
    for name in open_module(path, Diagnostics()).models:
        least, true = true_size(path, name)
        assert 0 < least.parts <= true.parts and least.iterations <= true.iterations


@pytest.mark.parametrize(
    ("body", "parts", "iterations"),
    [
        ("x = x -> relu -> relu", 3, 0),
        ("x = x -> A(4)", 6, 4),
        ("for i in 0..n { x = x -> A(2) }", 10, 9),
        ("for i in ns { x = x -> A(n) }", 9, 8),
        ("for i in ns { x = x -> A(i) }", 3, 2),  # i changes, so the layers in A(i) are not counted
        ("let k = n * 2 - 1  for i in 0..k { x = x -> relu }", 6, 5),
        ("layer a = A(n)  x = x -> a", 5, 3),
        ("if n > 2 { x = x -> A(1) } else { x = x -> A(5) }", 3, 1),
        ("x = x -> A(5 if n == 3 else 1)", 7, 5),
        ("for i in 0..3 { if i == 0 { x = x -> A(5) } else { x = x -> relu } }", 4, 3),
        ("x = x -> A(len(ns)) -> A(max(n, 4)) -> A(ns[1])", 12, 8),
        ("for i in 0..0 { x = x -> A(n) }", 1, 0),
        ("for n in 5..6 { x = x -> A(1) }  for i in 0..n { x = x -> relu }", 6, 5),  # after the first loop, `n` is 3
    ],
)
def test_counts(body: str, parts: int, iterations: int) -> None:
    assert bound(LAYERS + MODEL % body) == ModelSize(parts, iterations)


@pytest.mark.parametrize(
    "body",
    [
        "let k = 1  for i in 0..3 { x = x -> A(k)  let k = k + 1 }",
        "for i in 0..5 { if i == 0 { let k = 4 } else { let k = 1 }  x = x -> A(k) }",
        "let k = 2  for i in ns { let k = 1 }  x = x -> A(k)",
        "for n in 0..4 { x = x -> A(n) }",
        "for i in 0..x -> linear(2) { }",
    ],
)
def test_never_above_the_true_size_if_names_change(body: str) -> None:
    text = LAYERS + MODEL % body
    try:
        least, true = true_size(text)
    except ArchcError:
        return
    assert least.parts <= true.parts and least.iterations <= true.iterations


def test_attributes_given_count() -> None:
    assert bound(LAYERS + MODEL % "x = x -> A(n)", n=20).parts == 22


def test_derived_models_have_their_defaults() -> None:
    text = LAYERS + MODEL % "x = x -> A(n)" + "\nmodel large = m(n = 100)"
    assert true_size(text, "large")[0].parts == 102


def doubling(levels: int, use: str) -> str:
    blocks = "".join(f"block B{k} {{ input x  {use.replace('$', f'B{k - 1}')} }}\n" for k in range(1, levels))
    return f"block B0 {{ input x  output x -> relu }}\n{blocks}model m {{ input x: f32[4]  output x -> B{levels - 1} }}"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (doubling(60, "output x -> a: $ -> b: $"), "model-too-large"),
        (doubling(60, "for i in 0..2 { x = x -> a[i]: $ } output x"), "too-many-iterations"),
        (doubling(60, "layer b = $  output x -> b -> b"), "model-too-large"),
        (doubling(60, "output (x -> a: $) + (x -> b: $)"), "model-too-large"),
        (MODEL % "for i in 0..10000 { for j in 0..10000 { x = x -> relu } }", "too-many-iterations"),
        (MODEL % "for i in 0..10000 { for j in 0..10000 { let k = i + j } }", "too-many-iterations"),
        (LAYERS + MODEL % "for i in 0..1000 { x = x -> A(1000) }", "too-many-iterations"),
    ],
)
def test_refused_before_anything_is_built(text: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archc.ir.rewriter.Rewriter.add", None)
    diagnostics = Diagnostics()
    module = open_module(text, diagnostics)
    try:
        build_graph(module, choose_model(module, None), {}, diagnostics)
    except ArchcError as problem:
        diagnostics.extend(problem.diagnostics)
    assert [one.code for one in diagnostics.errors] == [code]
    assert diagnostics.errors[0].span is not None


def test_a_long_text_may_make_a_large_model() -> None:
    text = MODEL % "".join("x = x -> relu\n" for _ in range(100))
    module = open_module(text, Diagnostics())
    assert MOST_PARTS < 10**6 and MOST_ITERATIONS < 10**6
    assert size_bound(module, choose_model(module, None), {}).parts_span is None
