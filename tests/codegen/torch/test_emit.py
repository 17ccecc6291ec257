"""Emitted PyTorch modules run, agree with the interpreter, and have the classes of the text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from archc.declaration import OPERATORS, Operator
from archc.declaration.base import operator
from archc.declaration.parameter import Parameter, normal, ones
from archc.declaration.spelling import TorchSpelling, infix
from archc.diagnostics import ArchcError
from archc.driver.binding import bind_fresh
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.codegen.torch_modules import (
    CONVOLUTIONS,
    GPT,
    SPECS,
    assert_agrees,
    fresh,
    graph_of,
    imported,
    source_of,
)


@pytest.mark.parametrize("spec", [path for path in SPECS if path.stem in ("cnn", "mlp")], ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "passes", ["lowrank", "quant(least = 0)", "lowrank, quant(least = 0)", "quant(int8, scheme = dynamic, least = 0)"]
)
def test_passes_leave_modules_that_compute_what_their_graphs_do(spec: Path, passes: str, tmp_path: Path) -> None:
    if "dynamic" in passes and spec.stem == "cnn":
        passes = passes.replace(")", ", on = 'fc*')")
    # Integer sums are exact, but a number at a tie may be rounded to either neighbour.
    assert_agrees(graph_of(spec, passes), tmp_path, atol=0.02 if "quant" in passes else 1e-4, N=3)


def test_blocks_are_classes_and_loops_are_module_lists(tmp_path: Path) -> None:
    graph = graph_of(GPT)
    source = source_of(graph)
    model = assert_agrees(graph, tmp_path, B=2, T=5)
    assert isinstance(model.h, torch.nn.ModuleList)
    assert len(model.h) == 3 and len({type(block) for block in model.h}) == 1
    assert "        self.h = nn.ModuleList(Block() for _ in range(3))\n" in source
    assert "        for block in self.h:\n            x = block(x)\n" in source
    assert "        x = x + self.dropout(self.attn(self.ln1(x)))\n" in source
    assert '    """A transformer block with normalization first.\n' in source


def test_a_tied_weight_is_one_tensor(tmp_path: Path) -> None:
    graph = graph_of(GPT)
    model = assert_agrees(graph, tmp_path, B=1, T=4)
    assert "head.weight" not in model.state_dict()
    model(torch.zeros(1, 2, dtype=torch.int64)).sum().backward()
    assert sum(parameter.numel() for parameter in model.parameters()) == sum(w.size for w in graph.weights.values())


def test_differences_between_instances_are_arguments(tmp_path: Path) -> None:
    graph = graph_of(GPT.replace("Block(heads)", "Block(heads, ff = 1 + i)"))
    source = source_of(graph)
    assert_agrees(graph, tmp_path, B=2, T=3)
    assert source.count("class Block") == 1
    assert "self.up = nn.Linear(8, 8 * ff)" in source
    assert "Block(ff=2)" in source


def test_arguments_are_called_as_the_block_calls_them(tmp_path: Path) -> None:
    text = """
    block Wide(channels) {
        input x: f32[N, C, H, W]
        output x -> conv: conv2d(channels, 3) -> bn: batch_norm -> relu
    }
    model net {
        input image: f32[N, 3, 9, 9]
        output y = image -> first: Wide(4) -> second: Wide(6)
    }
    """
    source = source_of(graph_of(text))
    assert_agrees(graph_of(text), tmp_path)
    assert "def __init__(self, C: int, channels: int):" in source
    assert "self.conv = nn.Conv2d(C, channels, 3)" in source
    assert "self.first = Wide(C=3, channels=4)" in source


def test_forms_of_a_block_that_no_argument_can_join_are_classes_of_their_own(tmp_path: Path) -> None:
    graph = graph_of(CONVOLUTIONS)
    model = assert_agrees(graph, tmp_path)
    assert type(model.a) is not type(model.b)


def test_a_layer_used_twice_is_one_module(tmp_path: Path) -> None:
    text = """
    model net {
        input x: f32[N, 6]
        layer shared = linear(6)
        output y = x -> shared -> relu -> shared
    }
    """
    graph = graph_of(text)
    model = assert_agrees(graph, tmp_path)
    assert [name for name, _ in model.named_children()] == ["shared"]


def test_a_block_used_twice_is_one_module(tmp_path: Path) -> None:
    text = """
    block Half { input x: f32[N, D]  output x -> up: linear(12) -> relu -> down: linear(D) }
    model net {
        input x: f32[N, 6]
        layer twice = Half
        output y = x -> twice -> twice
    }
    """
    model = assert_agrees(graph_of(text), tmp_path)
    assert [name for name, _ in model.named_children()] == ["twice"]


def test_a_chain_of_layers_below_one_name_is_a_sequence(tmp_path: Path) -> None:
    text = """
    model net {
        input x: f32[N, 6]
        y = x -> fc.a: linear(2, bias = false) -> fc.b: linear(5)
        output z = (y -> branch.left: linear(3)) + (y -> branch.right: linear(3))
    }
    """
    graph = graph_of(text)
    model = assert_agrees(graph, tmp_path)
    assert isinstance(model.fc, torch.nn.Sequential)
    assert "y = self.fc(x)" in source_of(graph)


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    text = """
    model net {
        input a: f32[N, 4]
        input b: f32[N, 4]
        both = (a, b) -> concat(dim = 1)
        output mean = both -> mu: linear(3)
        output spread = both -> sigma: linear(3) -> softplus
    }
    """
    graph = graph_of(text)
    assert_agrees(graph, tmp_path)
    assert "-> tuple[Tensor, Tensor]:" in source_of(graph)


def test_the_user_s_names_are_kept_and_no_value_is_lost(tmp_path: Path) -> None:
    text = """
    model net {
        input x: f32[N, 4]
        first = x -> a: linear(4)
        x = first -> relu -> b: linear(4)
        second = x -> c: linear(4)
        x = (x -> d: linear(4)) * second
        output y = x + first - second
    }
    """
    graph = graph_of(text)
    source = source_of(graph)
    assert_agrees(graph, tmp_path)
    assert "first = self.a(x)\n" in source and "second = self.c(x)\n" in source


def test_symbolic_sizes_are_read_from_the_inputs(tmp_path: Path) -> None:
    text = """
    block Positions(width) {
        input x: f32[B, T, width]
        output x + (arange(T) -> table: embedding(32, width))
    }
    model net {
        input x: f32[N, S, 4]
        output y = x -> positions: Positions(4) -> reshape((N * S, 4))
    }
    """
    graph = graph_of(text)
    assert_agrees(graph, tmp_path, N=2, S=5)
    assert "T = x.shape[1]" in source_of(graph)


def chain(depth: int) -> Graph:
    """Build a graph of activations and sums without names."""
    graph = Graph("deep")
    rewriter = Rewriter(graph)
    x = rewriter.input("x", TensorType(DType.f32, (symbol("N"), 4)))
    relu, plus = OPERATORS["relu"](), OPERATORS["add"]()
    for position in range(depth):
        x = rewriter.add(plus, [x, x]).result if position % 3 else rewriter.add(relu, [x]).result
    rewriter.output("y", x)
    return graph


def test_a_long_graph_is_no_deep_source(tmp_path: Path) -> None:
    module = imported(chain(3000), tmp_path)
    assert module.Deep()(torch.zeros(1, 4)).shape == (1, 4)


def test_a_shape_that_grows_in_a_loop_has_no_comment(tmp_path: Path) -> None:
    text = """
    block Layer { input x: f32[N, D]  output x -> fc: linear(4) -> relu }
    model net {
        input x: f32[N, 8]
        for i in 0..3 { x = (x, x -> dense[i]: Layer) -> concat(dim = 1) }
        for i in 0..3 { x = x -> narrow[i]: linear(5) -> relu }
        output y = x
    }
    """
    graph = graph_of(text)
    source = source_of(graph)
    assert_agrees(graph, tmp_path)
    assert "x = torch.cat((x, layer(x)), 1)\n" in source
    assert "x = F.relu(narrow(x))  # [N, 5]\n" in source


def test_one_class_for_a_block_at_several_depths(tmp_path: Path) -> None:
    text = """
    block Unit(width) { input x: f32[N, D]  output x -> fc: linear(width) -> relu }
    block Pair { input x: f32[N, D]  output x -> first: Unit(5) -> second: Unit(D) }
    model net { input x: f32[N, 4]  output y = x -> unit: Unit(6) -> pair: Pair -> other: Unit(7) }
    """
    graph = graph_of(text)
    model = assert_agrees(graph, tmp_path)
    assert source_of(graph).count("class Unit") == 1
    assert type(model.unit) is type(model.pair.first)


def test_a_layer_that_keeps_statistics_cannot_share_parameters() -> None:
    graph = Graph("net")
    rewriter = Rewriter(graph)
    x = rewriter.input("x", TensorType(DType.f32, (2, 4)))
    x = rewriter.add(OPERATORS["batch_norm"](), [x], name="a").result
    x = rewriter.add(OPERATORS["batch_norm"](), [x], name="b", weights={"weight": "a.weight"}).result
    rewriter.output("y", x)
    with pytest.raises(ArchcError, match="not-emittable"):
        source_of(graph)


def test_an_operator_of_the_user_s_with_parameters_gets_a_class(tmp_path: Path) -> None:
    @operator
    class Affine(Operator, abstract=True):
        """A scale and a shift for each feature: y = a x + b."""

        name = "affine"
        signature = "x[*b, d], scale[d], shift[d] -> y[*b, d]"
        parameters = {"scale": Parameter(ones), "shift": Parameter(normal(0.0, 0.5))}

        def torch(self, spell: TorchSpelling) -> str:
            return infix(infix(spell.operands[0], "*", spell.weights["scale"]), "+", spell.weights["shift"])

    graph = Graph("net")
    rewriter = Rewriter(graph)
    x = rewriter.input("x", TensorType(DType.f32, (symbol("N"), 4)))
    x = rewriter.add(Affine(), [x], name="first").result
    x = rewriter.add(OPERATORS["linear"](6), [x], name="fc").result
    rewriter.output("y", rewriter.add(Affine(), [x], name="second").result)
    bind_fresh(graph, 0)
    model = assert_agrees(graph, tmp_path)
    assert type(model.first) is type(model.second)
    trainable = {name for name, _ in model.named_parameters()}
    assert {"first.scale", "second.shift"} <= trainable
    made = fresh(graph, tmp_path)
    assert torch.equal(made.first.scale, torch.ones(4)) and made.second.shift.std() > 0
