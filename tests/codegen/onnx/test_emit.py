"""ONNX models of graphs: they agree with PyTorch, keep names, and have the same bytes in each run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from archc.codegen.onnx import emit, to_model
from archc.diagnostics import ArchcError, Source, Span
from archc.ir.graph import Graph, Scope
from archc.ops.linear import Embedding, Linear
from archc.types.storage import Int8
from archc.types.tensor_type import DType

from .cases import Counted, Fold, Formless, Halves, Hand, Model, N, Rectify, T, Twins, agree, floats


def perceptron() -> Graph:
    model = Model("mlp")
    x = model.input("x", N, 12)
    hidden = model.add(Rectify(), model.add(Linear(8), x, name="fc1"))
    return model.done(logits=model.add(Linear(3, bias=False), hidden, name="fc2"))


def nodes(model: onnx.ModelProto) -> list[str]:
    return [f"{n.name}: {n.op_type}({', '.join(n.input)}) -> {', '.join(n.output)}" for n in model.graph.node]


@pytest.mark.parametrize("batch", [1, 5])
def test_a_perceptron_agrees_with_pytorch(batch: int) -> None:
    agree(perceptron(), {"x": floats(batch, 12)})


@pytest.mark.parametrize("sizes", [(1, 2), (3, 7)])
def test_operands_of_higher_rank_agree_with_pytorch(sizes: tuple[int, int]) -> None:
    model = Model()
    x = model.input("x", N, T, 12)
    y = model.add(Linear(8), x, name="up")
    agree(model.done(y=model.add(Linear(4, bias=False), y, name="down")), {"x": floats(*sizes, 12)})


def test_values_and_nodes_are_called_after_layers_and_outputs() -> None:
    assert nodes(to_model(perceptron())) == [
        "fc1: Gemm(x, fc1.weight, fc1.bias) -> fc1",
        "rectify: Relu(fc1) -> rectify",
        "fc2: Gemm(rectify, fc2.weight) -> logits",
    ]


def test_inner_nodes_are_called_after_their_layer() -> None:
    model = Model()
    y = model.add(Linear(2), model.input("x", N, T, 3), name="fc")
    assert nodes(to_model(model.done(y=y))) == [
        "fc/MatMul: MatMul(x, fc.weight/T) -> fc/MatMul",
        "fc/Add: Add(fc/MatMul, fc.bias) -> y",
    ]


def test_the_users_names_come_first_and_stay_apart() -> None:
    model = Model()
    x = model.input("x", N, 4)
    scope = Scope("h.0", "Block", model.graph.scope)
    first = model.add(Rectify(), x)
    first.name = "x"
    second = model.add(Rectify(), first)
    second.name = "x"
    third = model.add(Rectify(), second, scope=scope)
    third.name = "inner"
    fourth = model.add(Rectify(), third, scope=scope)
    last = model.add(Rectify(), fourth)
    names = [node.output[0] for node in to_model(model.done(out=last)).graph.node]
    assert names == ["x_1", "x_2", "h.0/inner", "h.0/rectify", "out"]


def test_a_value_does_not_take_the_name_of_a_weight() -> None:
    model = Model()
    fc = model.add(Linear(2), model.input("x", N, 3), name="fc")
    fc.name = "fc.weight"
    graph = model.done(y=model.add(Rectify(), fc))
    assert to_model(graph).graph.node[0].output[0] == "fc.weight_1"
    agree(graph, {"x": floats(2, 3)})


def test_a_layer_used_twice_is_two_nodes_and_one_weight() -> None:
    model = Model()
    x = model.input("x", N, 4)
    y = model.add(Linear(4), model.add(Linear(4), x, name="fc"), name="fc")
    graph = model.done(y=model.add(Rectify(), y))
    proto = to_model(graph).graph
    assert [tensor.name for tensor in proto.initializer] == ["fc.weight", "fc.bias"]
    assert [node.name for node in proto.node] == ["fc", "fc_1", "rectify"]
    agree(graph, {"x": floats(2, 4)})


def test_tied_weights_are_one_initializer() -> None:
    model = Model()
    tokens = model.input("tokens", N, T, dtype=DType.i64)
    x = model.add(Embedding(11, 4), tokens, name="wte")
    y = model.add(Linear(11, bias=False), x, name="head", weights={"weight": "wte.weight"})
    graph = model.done(y=y)
    assert [tensor.name for tensor in to_model(graph).graph.initializer] == ["wte.weight"]
    agree(graph, {"tokens": np.array([[0, 10, 3], [4, 4, 9]])})


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("rank", [2, 3])
def test_int8_weights_are_decoded_in_the_model(axis: int | None, rank: int) -> None:
    model = Model()
    x = model.input("x", *[N, T][: rank - 1], 6)
    y = model.add(Linear(5), x, name="fc", storages={"weight": Int8(axis)})
    graph = model.done(y=y)
    stored = {tensor.name: tensor.data_type for tensor in to_model(graph).graph.initializer}
    assert stored["fc.weight"] == onnx.TensorProto.INT8
    assert stored["fc.weight_scale"] == onnx.TensorProto.FLOAT
    agree(graph, {"x": floats(*[2, 3][: rank - 1], 6)})


def test_a_tied_int8_weight_is_decoded_once() -> None:
    model = Model()
    x = model.add(Linear(4, bias=False), model.input("x", N, 4), name="fc", storages={"weight": Int8(0)})
    graph = model.done(y=model.add(Linear(4, bias=False), x, name="tied", weights={"weight": "fc.weight"}))
    assert [node.op_type for node in to_model(graph).graph.node].count("Mul") == 1
    agree(graph, {"x": floats(2, 4)})


@pytest.mark.parametrize("axis", [0, 1, None])
def test_only_the_vectors_that_are_looked_up_are_decoded(axis: int | None) -> None:
    model = Model()
    tokens = model.input("tokens", N, T, dtype=DType.i64)
    graph = model.done(x=model.add(Embedding(11, 4), tokens, name="wte", storages={"weight": Int8(axis)}))
    assert to_model(graph).graph.node[0].input[0] == "wte.weight"
    assert to_model(graph).graph.node[0].op_type == "Gather"
    agree(graph, {"tokens": np.array([[0, 10, 3], [4, 4, 9]])})


def test_weights_that_inference_does_not_need_are_left_out() -> None:
    model = Model()
    graph = model.done(y=model.add(Counted(), model.input("x", N, 4), name="norm"))
    assert "norm.count" in graph.weights
    assert [tensor.name for tensor in to_model(graph).graph.initializer] == ["norm.scale"]
    agree(graph, {"x": floats(2, 4)})


def test_a_result_that_is_the_operand_needs_no_node_unless_it_is_an_output() -> None:
    model = Model()
    x = model.input("x", N, 4)
    passed = model.add(Hand(), model.add(Rectify(), x))
    graph = model.done(through=model.add(Linear(2), model.add(Hand(), passed), name="fc"), passed=passed)
    assert [node.op_type for node in to_model(graph).graph.node] == ["Relu", "Identity", "Gemm"]
    agree(graph, {"x": floats(3, 4)})


def test_one_value_may_be_several_outputs_and_an_input_may_be_an_output() -> None:
    model = Model()
    x = model.input("x", N, 4)
    y = model.add(Rectify(), x)
    agree(model.done(a=y, b=y, same=x, x=x), {"x": floats(3, 4)})


def test_an_input_and_an_output_of_one_name_are_refused() -> None:
    model = Model()
    x = model.input("x", N, 4)
    with pytest.raises(ArchcError) as caught:
        to_model(model.done(x=model.add(Rectify(), x)))
    assert [found.code for found in caught.value.diagnostics] == ["onnx-name"]


def test_several_results_are_numbered() -> None:
    model = Model()
    node = model.rewriter.add(Halves(3), [model.input("x", N, 6)], name="halves")
    a, b = node.results
    graph = model.done(a=model.add(Rectify(), a), b=model.add(Hand(), b))
    assert nodes(to_model(graph))[0] == "halves: Split(x) -> halves.0, halves.1"
    agree(graph, {"x": floats(2, 6)})


def test_one_node_may_give_several_results() -> None:
    model = Model()
    a, b = model.rewriter.add(Twins(), [model.input("x", N, 6)], name="twins").results
    graph = model.done(a=model.add(Rectify(), a), b=b)
    assert nodes(to_model(graph))[:2] == ["twins: Relu(x) -> twins.0", "b: Identity(twins.0) -> b"]
    agree(graph, {"x": floats(2, 6)})


def test_reshaping_keeps_the_batch_without_computing_it() -> None:
    model = Model()
    graph = model.done(y=model.add(Fold(), model.input("x", N, 3, 4)))
    assert [node.op_type for node in to_model(graph).graph.node] == ["Reshape"]
    for batch in (1, 6):
        agree(graph, {"x": floats(batch, 3, 4)})


def test_the_same_graph_makes_the_same_bytes() -> None:
    first, second = (to_model(perceptron()).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    other = Model("mlp")
    assert to_model(other.done(y=other.input("x", N, 3))).SerializeToString(deterministic=True) != first


def test_operators_without_a_form_are_all_reported_and_nothing_is_written(tmp_path: Path) -> None:
    model = Model()
    source = Source("x -> formless -> relu -> formless", "net.arch")
    x = model.add(Formless(), model.input("x", N, 4), span=Span(source, 5, 13))
    y = model.add(Formless(), model.add(Rectify(), x), span=Span(source, 25, 33))
    graph = model.done(y=y)
    with pytest.raises(ArchcError) as caught:
        emit(graph, tmp_path / "net.onnx")
    places = [(found.code, found.span.column) for found in caught.value.diagnostics if found.span is not None]
    assert places == [("no-onnx-form", 6), ("no-onnx-form", 26)]
    assert not list(tmp_path.iterdir())


def test_weights_must_be_bound() -> None:
    graph = perceptron()
    graph.tensors = None
    with pytest.raises(ValueError, match="bound"):
        to_model(graph)
