"""Names with a meaning in Python, PyTorch or the emitted module, at every place of a text.

A text is either refused with a diagnostic, or its module is imported, loads its weights and computes what the
interpreter computes.
"""

from __future__ import annotations

import ast
import builtins
import keyword
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
from torch import nn

from archc.codegen.torch import class_name
from archc.codegen.torch.names import CONTAINER_MEMBERS, MODULE_NAMES
from archc.compiler import parse
from archc.diagnostics import ArchcError
from archc.driver.binding import bind_fresh
from archc.ir.graph import Graph
from archc.language.printing.printer import print_graph
from tests.codegen.torch_modules import assert_agrees, graph_of, imported, inputs_of, source_of

PLACES = {
    "model": "model NAME { input x: f32[B, 4]  output y = x -> fc: linear(4) -> relu }",
    "block": """
        block NAME(k) { input x: f32[B, D]  output x -> act: leaky_relu(k) -> fc: linear(D) }
        model net { input x: f32[B, 4]  output y = x -> a: NAME(0.25) -> b: NAME(0.5) }
        """,
    "attributes": """
        block Inner(NAME) { input x: f32[B, D]  output x -> fc: linear(NAME) -> down: linear(D) }
        block Part(NAME) { input x: f32[B, D]  output x -> act: elu(NAME) -> dropout(0.1) -> sub: Inner(NAME * 4) }
        model net(NAME = 2) { input x: f32[B, 4]  output y = x -> a: Part(NAME) -> b: Part(2 * NAME) }
        """,
    "layers": """
        block Part(k) { input x: f32[B, D]  output x -> NAME: linear(k) -> relu -> down: linear(D) }
        model net {
            input x: f32[B, 4]
            layer NAME = linear(4)
            for i in 0..3 { x = x -> enc[i].NAME: linear(4) -> relu -> enc[i].other: Part(4 + i) }
            output y = x -> NAME -> relu -> enc.NAME: linear(4) -> NAME
        }
        """,
    "lists": """
        model net {
            input x: f32[B, 4]
            for i in 0..3 { x = x -> NAME[i].a: linear(4) -> relu -> NAME[i].b: linear(4) }
            for i in 0..3 { x = x -> deep.NAME[i]: linear(4) -> relu }
            output y = x
        }
        """,
    "tensors": """
        block Part { input NAME: f32[B, T, D]  y = NAME -> fc: linear(D)  output (NAME + y) * NAME }
        model net {
            input NAME: f32[B, T, 4]
            NAME = NAME -> a: Part -> relu
            scan NAME in NAME, state = zeros((B, 4)) { state = state + NAME -> fc: linear(4)  yield NAME = state }
            x, NAME = NAME * 2 -> chunk(2, dim = 2)
            scan item in x, NAME = zeros((B, 2)) { NAME = NAME * item + 1  yield z = NAME }
            for i in 0..3 { NAME = NAME -> h[i]: linear(2) -> relu }
            y = z[:, 0] * NAME
            output NAME = y
        }
        """,
    "sizes": """
        block Part { input x: f32[B, NAME, D]  output x + (arange(NAME) -> table: embedding(64, D)) }
        model net {
            input x: f32[B, NAME <= 9, 4]
            output y = (x -> a: Part -> fc: linear(6) -> b: Part) * zeros((NAME, 6))
        }
        """,
}  # fmt: skip
"""Places of a name; each text has all places of one kind."""

USED = sorted(
    MODULE_NAMES | CONTAINER_MEMBERS | {"self", "super", "range", "zip", "str", "float", "int", "i", "k", "x"}
)
FEW = sorted({
    *USED, "path", "tensor", "masked_linear", "any", "one", "cached", "int8_linear", "to_stage", "true", "none",
    "match", "forward", "train", "parameters", "weight", "bias", "to", "T", "type", "training", "_modules", "__init__",
    "__class__", "lambda", "class", "None", "list", "len", "outputs", "device", "axis", "sympy", "model", "block",
    "dropout", "stage",
})  # fmt: skip
ALL = sorted({*FEW, *keyword.kwlist, *keyword.softkwlist, *dir(builtins), *dir(nn.Module()), *dir(nn.ModuleDict())})


def agrees(name: str, place: str, folder: Path) -> bool:
    """Return whether the text is accepted; assert that the module of an accepted text is correct."""
    try:
        graph = parse(PLACES[place].replace("NAME", name))
    except ArchcError:
        return False
    bind_fresh(graph, 0)
    assert_agrees(graph, folder, **{name: 3, "T": 3, "B": 2})
    assert parse(print_graph(graph)) == graph
    return True


@pytest.mark.parametrize("place", PLACES)
def test_names_that_the_module_needs(place: str, tmp_path: Path) -> None:
    """Test each name at one or two places; the slow test has all places."""
    names = FEW[list(PLACES).index(place) % 6 :: 6]
    accepted = [name for name in names if agrees(name, place, tmp_path)]
    assert len(accepted) > len(names) / 2


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_names_of_python_and_pytorch(place: str, tmp_path: Path) -> None:
    accepted = [name for name in ALL if agrees(name, place, tmp_path)]
    assert accepted


QUANTIZED = """
{blocks}
model net {{
    input image: f32[B, 3, 8, 8]
    x = image -> conv1: conv2d(8, 3) -> relu -> conv2: conv2d(8, 3) -> relu -> flatten
    x = x -> {narrow} -> t: to_stage(1) -> {wide} -> tanh
    output y = x -> fc1: linear(32) -> relu -> fc2: linear(8)
}}
"""
BLOCK = "block {name}(k) {{ input x: f32[B, D]  output x -> up: linear(k) -> relu -> down: linear(D) }}"


@cache
def quantized(names: tuple[str, ...], passes: str) -> Graph:
    """The graph of a model with blocks of these names, each with two widths."""
    text = QUANTIZED.format(
        blocks="\n".join(BLOCK.format(name=name) for name in names),
        narrow=" -> relu -> ".join(f"a{number}: {name}(32)" for number, name in enumerate(names)),
        wide=" -> relu -> ".join(f"b{number}: {name}(48)" for number, name in enumerate(names)),
    )
    return graph_of(text, passes)


PASSES = (
    "quant(least = 0)",
    "quant(least = 0, scheme = dynamic)",
    "quant(least = 0, scheme = weight)",
    "prune(0.5)",
)


@cache
def defined() -> set[str]:
    """Names that emitted modules define or import, except the classes of the model."""
    sources = (source_of(quantized(("Part",), passes)) for passes in PASSES)
    return {name for source in sources for name in top_level(source) if name[0] != "_"}


def top_level(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
    for statement in ast.parse(source).body:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef)):
            yield statement.name
        elif isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))


def test_names_that_modules_define_are_known() -> None:
    assert len(defined()) > 20
    assert defined() - {"Net", "Part", "Part2", "Int8WeightLinear", "Int8WeightConv2d"} <= MODULE_NAMES


@pytest.mark.parametrize("passes", PASSES)
def test_a_class_takes_no_name_that_integers_masks_or_stages_need(passes: str, tmp_path: Path) -> None:
    needed = {name for name in top_level(source_of(quantized(("Part",), passes))) if name[:1].isupper()} - {"Net"}
    names = sorted(needed & MODULE_NAMES)
    graph = quantized(tuple(names), passes)
    imported(graph, tmp_path).load()(*inputs_of(graph, B=2).values())
    graph = deepcopy(quantized(("Part",), passes))
    for graph.name in names:
        assert class_name(graph.name) not in needed
        bound = Counter(top_level(source_of(graph)))
        assert max(bound.values()) == 1 and bound.keys() >= {*needed, class_name(graph.name)}
