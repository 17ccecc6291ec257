"""External weights: large ONNX models refer to the .safetensors file or to a data file of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from archc.codegen.onnx import InvalidModel, as_text, check, emit
from archc.diagnostics import ArchcError
from archc.ir.graph import Graph
from archc.ops.linear import Linear
from archc.types.storage import Int8
from archc.types.tensor_type import DType
from archc.weights import safetensors
from archc.weights.tensor import FileTensor, Weights

from .cases import Formless, Model, N, Rectify, agree, floats


def network(width: int = 64) -> Graph:
    model = Model("net")
    x = model.input("x", N, width)
    x = model.add(Rectify(), model.add(Linear(width), x, name="fc1"))
    return model.done(y=model.add(Linear(width), x, name="fc2", storages={"weight": Int8(0)}))


def written(graph: Graph, folder: Path, large: int) -> Path:
    assert graph.tensors is not None
    offsets = safetensors.write(folder / "net.safetensors", graph.tensors)
    emit(graph, folder / "net.onnx", weights_file=folder / "net.safetensors", offsets=offsets, large=large)
    return folder / "net.onnx"


def external(path: Path) -> list[str]:
    proto = onnx.load(path, load_external_data=False)
    return [tensor.name for tensor in proto.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]


def test_large_models_point_into_the_weights_file(tmp_path: Path) -> None:
    graph = network()
    path = written(graph, tmp_path, large=1000)
    assert external(path) == ["fc1.weight", "fc2.weight"]
    assert path.stat().st_size < 4096
    agree(graph, {"x": floats(3, 64)}, path)


def test_small_models_contain_their_weights(tmp_path: Path) -> None:
    graph = network()
    path = written(graph, tmp_path, large=1_000_000)
    (tmp_path / "net.safetensors").unlink()
    assert external(path) == []
    agree(graph, {"x": floats(3, 64)}, path)


def test_a_model_can_be_moved_with_its_weights(tmp_path: Path) -> None:
    graph = network()
    written(graph, tmp_path, large=1000)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in ("net.onnx", "net.safetensors"):
        (tmp_path / file).rename(moved / file)
    agree(graph, {"x": floats(1, 64)}, moved / "net.onnx")


def test_a_tensor_must_have_its_length_in_the_file(tmp_path: Path) -> None:
    """A tensor of another length in the file is refused: the file is from another compile than the graph."""
    graph = network()
    assert graph.tensors is not None
    file = tmp_path / "net.safetensors"
    offsets = safetensors.write(file, graph.tensors)
    begin, length = offsets["fc1.weight"]
    offsets["fc1.weight"] = begin, length - 4
    with pytest.raises(ValueError, match=f"`fc1.weight` has {length} bytes, but the file has {length - 4}"):
        emit(graph, tmp_path / "net.onnx", weights_file=file, offsets=offsets, large=1000)


def test_the_check_reports_a_missing_weights_file(tmp_path: Path) -> None:
    path = written(network(), tmp_path, large=1000)
    (tmp_path / "net.safetensors").unlink()
    with pytest.raises(InvalidModel, match="safetensors"):
        check(path)


def test_large_weights_without_a_file_are_in_a_data_file(tmp_path: Path) -> None:
    graph = network()
    path = tmp_path / "net.onnx"
    emit(graph, path, large=1000)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    assert external(path) == ["fc1.weight", "fc2.weight"]
    assert graph.tensors is not None
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    for name, tensor in graph.tensors.items():
        np.testing.assert_array_equal(stored[name], tensor.numpy())
    agree(graph, {"x": floats(3, 64)}, path)


def test_tensors_of_a_data_file_can_be_mapped(tmp_path: Path) -> None:
    emit(network(width=33), tmp_path / "net.onnx", large=1000)
    size = (tmp_path / "net.onnx.data").stat().st_size
    places = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in onnx.load(tmp_path / "net.onnx", load_external_data=False).graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    ]
    assert [place["offset"] for place in places] == ["0", "8192"]
    assert size == 8192 + int(places[1]["length"]) == 8192 + 33 * 33


def test_a_refused_model_leaves_no_data_file(tmp_path: Path) -> None:
    model = Model("net")
    x = model.add(Linear(64), model.input("x", N, 64), name="fc")
    with pytest.raises(ArchcError):
        emit(model.done(y=model.add(Formless(), x)), tmp_path / "net.onnx", large=1000)
    assert not list(tmp_path.iterdir())


def test_the_same_graph_makes_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(network(), tmp_path / name, large=1000)
    assert (tmp_path / "a/net.onnx").read_bytes() == (tmp_path / "b/net.onnx").read_bytes()


def test_models_above_2_gb_are_emitted_and_checked(tmp_path: Path) -> None:
    """The weight of 2.4 GB is a hole in a sparse file: emission and check do not read its elements."""
    model = Model("net")
    graph = model.done(y=model.add(Linear(8, bias=False), model.input("x", N, 4), name="fc"))
    model = Model("net")
    x = model.input("x", N, 20_000)
    node = model.rewriter.add(Linear(30_000, bias=False), [x], name="fc")
    model.rewriter.output("y", node.result)
    graph = model.graph
    size = 20_000 * 30_000 * 4
    weights = tmp_path / "net.safetensors"
    with weights.open("wb") as stream:
        stream.truncate(64 + size)
    graph.tensors = Weights({"fc.weight": FileTensor(weights, 64, (30_000, 20_000), DType.f32.value)})
    emit(graph, tmp_path / "net.onnx", weights_file=weights, offsets={"fc.weight": (64, size)})
    check(tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").stat().st_size < 1000
    assert "weight fc.weight: f32[30000, 20000] (external)" in as_text(
        onnx.load(tmp_path / "net.onnx", load_external_data=False)
    )


def test_offsets_in_the_file_may_exceed_2_gb(tmp_path: Path) -> None:
    graph = network()
    assert graph.tensors is not None
    weights = tmp_path / "net.safetensors"
    offsets = {}
    with weights.open("wb") as stream:
        place = 2**31 + 64
        for name, tensor in graph.tensors.items():
            stream.seek(place)
            stream.write(np.ascontiguousarray(tensor.numpy()).tobytes())
            offsets[name] = (place, tensor.nbytes)
            place += tensor.nbytes
    emit(graph, tmp_path / "net.onnx", weights_file=weights, offsets=offsets, large=1000)
    agree(graph, {"x": floats(2, 64)}, tmp_path / "net.onnx")
