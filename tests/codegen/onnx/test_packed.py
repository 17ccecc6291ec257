"""Packed integers and narrow floats in ONNX models: values, and decoding at load time."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from archc.codegen.onnx import emit, run, to_model
from archc.declaration.base import Operator
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.ops.conv import Conv2d
from archc.ops.conv_transpose import ConvTranspose2d
from archc.ops.linear import Embedding, Linear
from archc.types.storage import F8E4M3, F8E5M2, Int2, Int3, Int4, NarrowFloat, PackedIntegers, Storage
from archc.types.tensor_type import DType
from archc.weights.safetensors import write
from tests.codegen.onnx.cases import Model, N, T, agree, floats
from tests.ops.runtimes import at_every_level
from tests.storages import PACKED, random_packed

NARROW = [NarrowFloat(DType.f16), NarrowFloat(DType.bf16)]
FLOAT8 = [F8E4M3(), F8E5M2(axis=1)]
DECODERS = {
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "Cast",
    "Sub",
    "Mul",
    "Reshape",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "Pad",
}
LAYERS: list[tuple[Operator, tuple[int, ...]]] = [
    (Linear(5), (6,)),
    (Linear(5, bias=False), (3, 6)),
    (Conv2d(4, 3, groups=2), (2, 5, 6)),
    (ConvTranspose2d(4, 3), (3, 5, 6)),
]


def layer(op: Operator, shape: tuple[int, ...], storage: Storage) -> Graph:
    model = Model()
    return model.done(y=model.add(op, model.input("x", N, *shape), name="fc", storages={"weight": storage}))


def every_storage() -> list[Storage]:
    chance = Random(0)
    return [*NARROW, *FLOAT8, *(random_packed(chance, 2) for _ in range(14)), *(kind(group=4) for kind in PACKED)]


@pytest.mark.parametrize("storage", every_storage(), ids=str)
@pytest.mark.parametrize(("op", "shape"), LAYERS, ids=lambda each: getattr(each, "name", None))
def test_results_are_equal_at_every_level(op: Operator, shape: tuple[int, ...], storage: Storage) -> None:
    graph, x = layer(op, shape, storage), floats(3, *shape)
    (expected,) = evaluate(graph, {"x": torch.from_numpy(x)}).values()
    for runtime, (found,) in at_every_level(to_model(graph), {"x": x}):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5, err_msg=runtime)
    agree(graph, {"x": x})


@pytest.mark.parametrize("storage", every_storage(), ids=str)
def test_a_weight_is_decoded_bit_for_bit(storage: Storage) -> None:
    """The product with a unit matrix is the decoded weight."""
    graph = layer(Linear(7, bias=False), (9,), storage)
    decoded = graph.weight_values("fc.weight").T
    for runtime, (found,) in at_every_level(to_model(graph), {"x": np.eye(9, dtype=np.float32)}):
        np.testing.assert_array_equal(found, decoded, err_msg=runtime)


@pytest.mark.parametrize("storage", every_storage(), ids=str)
@pytest.mark.parametrize("shape", [(3,), (2, 0), (2, 3, 2)])
def test_selected_rows_are_decoded_bit_for_bit(shape: tuple[int, ...], storage: Storage) -> None:
    model = Model()
    ids = model.input("ids", N, *[T, 2][: len(shape) - 1], dtype=DType.i64)
    graph = model.done(x=model.add(Embedding(11, 6), ids, name="wte", storages={"weight": storage}))
    chosen = np.random.default_rng(0).integers(11, size=shape)
    expected = graph.weight_values("wte.weight")[chosen]
    for runtime, (found,) in at_every_level(to_model(graph), {"ids": chosen}):
        np.testing.assert_array_equal(found, expected, err_msg=runtime)
    if isinstance(storage, NarrowFloat) or (isinstance(storage, PackedIntegers) and storage.axis == 0):
        first = to_model(graph).graph.node[0]
        assert (first.op_type, first.input[0]) == ("Gather", "wte.weight")


@pytest.mark.parametrize("storage", every_storage(), ids=str)
@pytest.mark.parametrize(("op", "shape"), LAYERS, ids=lambda each: getattr(each, "name", None))
def test_the_optimized_model_has_float_weights(
    op: Operator, shape: tuple[int, ...], storage: Storage, tmp_path: Path
) -> None:
    """ONNX Runtime runs the nodes that decode a weight once, at its default level of optimization."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    model = to_model(layer(op, shape, storage))
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert not {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node} & DECODERS


@pytest.mark.parametrize("storage", [*NARROW, *FLOAT8, Int4(group=4), Int3(0, 8, True)], ids=str)
def test_the_model_has_the_stored_tensors_and_no_floats(storage: Storage) -> None:
    graph = layer(Linear(16, bias=False), (32,), storage)
    model = to_model(graph)
    assert {each.domain for each in model.opset_import} == {""}
    expected = graph.weights["fc.weight"].tensors
    found = {each.name: each for each in model.graph.initializer}
    for path, (shape, dtype) in expected.items():
        assert (tuple(found[path].dims), found[path].data_type) == (shape, onnx.TensorProto.DataType.Value(dtype.onnx))
        assert found[path].raw_data == graph.stored_tensors()[path].numpy().tobytes()
    others = sum(len(each.raw_data) for name, each in found.items() if name not in expected)
    assert others < 300


def test_a_model_refers_to_the_packed_tensors_of_the_weights_file(tmp_path: Path) -> None:
    graph, x = layer(Linear(64), (64,), Int4(group=8)), floats(3, 64)
    offsets = write(tmp_path / "net.safetensors", graph.tensors)
    emit(graph, tmp_path / "net.onnx", tmp_path / "net.safetensors", offsets, {})
    agree(graph, {"x": x}, tmp_path / "net.onnx")


@pytest.mark.parametrize("storage", [*NARROW, *FLOAT8, Int4(group=4), Int3(1)], ids=str)
def test_shared_and_transposed_weights_are_decoded_once(storage: Storage) -> None:
    model = Model()
    x = model.add(Linear(4, bias=False), model.input("x", N, 6), name="fc", storages={"weight": storage})
    x = model.add(Linear(6, bias=False), x, name="up", weights={"weight": "fc.weight"}, transposed=("weight",))
    x = model.add(Linear(4, bias=False), x, name="again", weights={"weight": "fc.weight"})
    graph = model.done(y=x)
    kind = "Sub" if isinstance(storage, PackedIntegers) else "Cast"
    assert [node.op_type for node in to_model(graph).graph.node].count(kind) == 1
    agree(graph, {"x": floats(2, 6)})


def test_an_embedding_and_its_head_share_a_packed_table() -> None:
    model = Model()
    ids = model.input("ids", N, T, dtype=DType.i64)
    x = model.add(Embedding(11, 4), ids, name="wte", storages={"weight": Int4(group=2)})
    graph = model.done(y=model.add(Linear(11, bias=False), x, name="head", weights={"weight": "wte.weight"}))
    agree(graph, {"ids": np.array([[0, 10, 3], [4, 4, 9]])})
    assert run(to_model(graph), {"ids": np.zeros((1, 0), np.int64)})["y"].shape == (1, 0, 11)


BLOCKS: list[tuple[Storage, int]] = [
    (Int4(group=16), 6),
    (Int4(group=16, symmetric=True), 48),
    (Int4(group=32, scale=DType.f32), 96),
    (Int4(group=64), 101),
    (Int4(group=256, symmetric=True), 300),
    (Int4(), 128),
]
"""Storages and sizes for which ONNX Runtime has a kernel; the last group of a row may be shorter."""


@pytest.mark.parametrize(("storage", "features"), BLOCKS, ids=str)
@pytest.mark.parametrize("op", [Linear(7), Linear(7, bias=False)], ids=["bias", "no bias"])
@pytest.mark.parametrize("shape", [(), (3,)], ids=str)
def test_a_linear_layer_of_int4_is_one_kernel(
    op: Linear, shape: tuple[int, ...], storage: Storage, features: int, tmp_path: Path
) -> None:
    graph, x = layer(op, (*shape, features), storage), floats(3, *shape, features)
    (expected,) = evaluate(graph, {"x": torch.from_numpy(x)}).values()
    model = to_model(graph)
    for runtime, (found,) in at_every_level(model, {"x": x}):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5, err_msg=runtime)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(tmp_path / "optimized.onnx").graph
    assert [(node.op_type, node.domain) for node in optimized.node] == [("MatMulNBits", "com.microsoft")]
    # A standard model has the same integers, and decodes them.
    standard = to_model(graph, contributed=False)
    assert {node.domain for node in standard.graph.node} == {""}
    agree(graph, {"x": x}, standard)


@pytest.mark.parametrize(
    "storage", [Int4(group=8), Int4(group=24), Int4(axis=1, group=16), Int4(group=512), Int2(group=16)], ids=str
)
def test_other_groups_have_no_kernel(storage: Storage) -> None:
    graph = layer(Linear(16), (32,), storage)
    assert {node.domain for node in to_model(graph).graph.node} == {""}


def test_an_int4_weight_that_is_used_transposed_or_for_a_vector_is_decoded() -> None:
    model = Model()
    x = model.add(Linear(32, bias=False), model.input("x", 32), name="fc", storages={"weight": Int4(group=16)})
    x = model.add(Linear(32, bias=False), x, name="up", weights={"weight": "fc.weight"}, transposed=("weight",))
    agree(model.done(y=x), {"x": floats(32)})


def test_layers_share_the_blocks_of_an_int4_weight(tmp_path: Path) -> None:
    model = Model()
    x = model.add(Linear(64, bias=False), model.input("x", N, 64), name="fc", storages={"weight": Int4(group=16)})
    graph, x = model.done(y=model.add(Linear(64), x, name="again", weights={"weight": "fc.weight"})), floats(2, 64)
    assert [node.op_type for node in to_model(graph).graph.node].count("Reshape") == 1
    offsets = write(tmp_path / "net.safetensors", graph.tensors)
    emit(graph, tmp_path / "net.onnx", tmp_path / "net.safetensors", offsets, large=0)
    (expected,) = evaluate(graph, {"x": torch.from_numpy(x)}).values()
    np.testing.assert_allclose(run(tmp_path / "net.onnx", {"x": x})["y"], expected.numpy(), rtol=1e-4, atol=1e-5)
