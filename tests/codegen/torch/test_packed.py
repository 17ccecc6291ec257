"""Layers of `archc.runtime.packed`: their calls in emitted modules, their values, and their cache."""

from __future__ import annotations

import importlib
import itertools
import pickle
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import archc
from archc.codegen.torch import library_file
from archc.codegen.torch.load import load_module
from archc.runtime import packed
from archc.types.storage import F8E4M3, F8E5M2, NarrowFloat, PackedIntegers, Storage
from archc.types.tensor_type import DType
from archc.weights.dtype_conversion import to_torch
from tests.codegen.torch.test_source import assert_well_formed
from tests.codegen.torch_modules import assert_agrees, graph_of, imported, inputs_of, source_of
from tests.storages import random_packed

LAYERS = {
    "f32[N, 8]": {
        "linear(6, weight = int4(group = 3))": "PackedLinear(8, 6, bits=4, group=3)",
        "linear(6, bias = false, weight = int2(1))": "PackedLinear(8, 6, bias=False, bits=2, axis=1)",
        "linear(6, weight = f16)": "NarrowLinear(8, 6, dtype=torch.float16)",
        "linear(6, weight = sparse(20))": 'self.add_sparse("weight", (6, 8), 20)',
        "linear(6, weight = sparse(20), bias = sparse(0))": "class SparseWeightLinear(SparseWeights):",
        "linear(6, weight = sparse(48), bias = int4)": "class SparseWeightLinear(SparseWeights):",
        "linear(6, weight = bf16, bias = int4)": "class Bf16WeightLinear(PackedWeights):",
    },
    "f32[N, 4, 9]": {
        "conv1d(6, 3, weight = int3(group = 5))": "PackedConv1d(4, 6, 3, bits=3, group=5)",
        "conv_transpose1d(6, 3, weight = int5(1))": "PackedConvTranspose1d(4, 6, 3, bits=5, axis=1)",
        "layer_norm(weight = f16)": "class F16WeightLayerNorm(EncodedWeights):",
        "lstm(5, weight_ih_l0 = int6(group = 2), weight_hh_l0 = bf16)": "class Int6WeightLstm(PackedWeights):",
        "gru(5, weight_hh_l0 = int2(symmetric = true))": "class Int2WeightGru(PackedWeights):",
        "gru(5, weight_hh_l0 = sparse(11))": "class SparseWeightGru(SparseWeights):",
        "rnn(5, weight_ih_l0 = int4(scale = f32))": "class Int4WeightRnn(PackedWeights):",
    },
    "f32[N, 4, 7, 8]": {
        "conv2d(6, 3, groups = 2, weight = int6)": "PackedConv2d(4, 6, 3, groups=2, bits=6)",
        'conv2d(6, 3, padding = "same", weight = bf16)': 'NarrowConv2d(4, 6, 3, padding="same", dtype=torch.bfloat16)',
        "conv2d(6, 3, weight = sparse(99))": 'self.add_sparse("weight", (6, 4, 3, 3), 99)',
        "conv_transpose2d(6, 3, weight = int4)": "PackedConvTranspose2d(4, 6, 3, bits=4)",
    },
    "f32[N, 4, 5, 6, 7]": {
        "conv3d(6, 2, weight = int4(scale = f32))": "PackedConv3d(4, 6, 2, bits=4, scale=torch.float32)",
        "conv_transpose3d(3, 2, weight = f16)": "NarrowConvTranspose3d(4, 3, 2, dtype=torch.float16)",
    },
    "i64[N, T]": {
        "embedding(11, 6, weight = int4(group = 4))": "PackedEmbedding(11, 6, bits=4, group=4)",
        "embedding(11, 6, weight = int3(axis = 1))": "PackedEmbedding(11, 6, bits=3, axis=1)",
        "embedding(11, 6, weight = sparse(30))": "class SparseWeightEmbedding(SparseWeights):",
        "embedding(11, 6, weight = bf16)": "NarrowEmbedding(11, 6, dtype=torch.bfloat16)",
    },
}  # fmt: skip
CASES = [(type, *case) for type, cases in LAYERS.items() for case in cases.items()]


@pytest.mark.parametrize(("type", "layer", "expected"), CASES)
def test_a_layer_computes_what_the_interpreter_does(type: str, layer: str, expected: str, tmp_path: Path) -> None:
    graph = graph_of(f"model net {{ input x: {type}  output y = x -> fc: {layer} }}")
    assert expected in source_of(graph)
    assert_agrees(graph, tmp_path)


# Values ------------------------------------------------------------------------------------------------------


def packing(storage: PackedIntegers, shape: tuple[int, ...]) -> packed.PackedWeights:
    """A module with one weight of the storage, and with random values in its stored tensors."""
    values = np.random.default_rng(0).standard_normal(shape, np.float32)
    module = packed.PackedWeights()
    options = {"group": storage.group, "axis": storage.axis, "symmetric": storage.symmetric}
    module.add_packed("w", shape, bits=storage.bits, scale=getattr(torch, storage.scale.torch), **options)
    stored = storage.encode("w", values)
    module.load_state_dict({path: to_torch(array) for path, array in stored.items()})
    return module


@pytest.mark.parametrize("seed", range(60))
def test_weights_and_rows_are_decoded_as_the_storage_does(seed: int) -> None:
    chance = Random(seed)
    shape = tuple(chance.randint(1, 9) for _ in range(chance.randint(1, 4)))
    storage = random_packed(chance, len(shape))
    module = packing(storage, shape)
    stored = {path: tensor.numpy() for path, tensor in module.state_dict().items()}
    expected = torch.from_numpy(storage.decode("w", stored, shape, DType.f32))
    assert torch.equal(module.floats("w"), expected)
    if len(shape) == 2:
        indices = torch.tensor([[0, shape[0] - 1], [0, 0]])
        assert torch.equal(module.floats_at("w", indices), expected[indices])


def test_an_embedding_decodes_only_the_selected_rows() -> None:
    layers = packed.PackedEmbedding(7, 5, bits=4), packed.NarrowEmbedding(7, 5, dtype=torch.float16)
    for layer in layers:
        assert layer(torch.tensor([[0, 6]])).shape == (1, 2, 5)
        assert layer._forms == {}


# Cache -------------------------------------------------------------------------------------------------------


def test_a_decoded_weight_is_kept_until_a_stored_tensor_changes() -> None:
    layer = packed.PackedLinear(8, 6, bits=4, group=4)
    before = layer.floats("weight")
    assert layer.floats("weight") is before
    for stored in (layer.weight, layer.weight_scale, layer.weight_zero_point):
        stored.add_(1)
        changed = layer.floats("weight")
        assert not torch.equal(changed, before) and layer.floats("weight") is changed
        before = changed


def test_a_layer_need_not_keep_its_decoded_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [packed.PackedLinear(8, 6, bits=3), packed.NarrowLinear(8, 6, dtype=torch.bfloat16)]
    expected = [layer(torch.ones(1, 8)) for layer in layers]
    layers[0].cached = False
    assert layers[0].floats("weight") is not layers[0].floats("weight")
    assert layers[1].floats("weight") is layers[1].floats("weight")
    monkeypatch.setattr(packed.EncodedWeights, "cached", False)
    fresh = [pickle.loads(pickle.dumps(layer)) for layer in layers]
    for layer, y in zip(fresh, expected, strict=True):
        assert torch.equal(layer(torch.ones(1, 8)), y)
        assert layer._forms == {}


# Models ------------------------------------------------------------------------------------------------------

MIXED = """
block Layer(heads) {
    input x: f32[N, T, D]
    q = x -> query: linear(D, weight = int4(group = 16))
    k = x -> key: linear(D, weight = int3(axis = 1))
    v = x -> value: linear(D, weight = f16)
    h = (q, k, v) -> attention(heads) -> proj: linear(D, weight = int2(group = 5, symmetric = true), bias = int6)
    x = x + h -> norm1: layer_norm(weight = bf16)
    h = x -> up: linear(2 * D, weight = int4(group = 32, scale = f32)) -> gelu
    output x + (h -> down: linear(D, weight = int8(axis = 0), bias = f16)) -> norm2: layer_norm
}
model mixed {
    input tokens: i64[N, 5]
    layer wte = embedding(50, 32, weight = int4(group = 8))
    x = (tokens -> wte) + (arange(5) -> wpe: embedding(12, 32, weight = f16))
    for i in 0..2 { x = x -> h[i]: Layer(4) }
    STAGE
    x = x -> tall: linear(40, weight = int6) -> relu
    x = x -> wide: linear(32, weight = tall.weight.T)
    output logits = x -> head: linear(50, bias = false, weight = wte.weight)
}
"""
NUMBERS = itertools.count()


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A model with all kinds of encoded weights, from a package that Dynamo can import."""
    package = f"packed{next(NUMBERS)}"
    archc.compile(MIXED.replace("STAGE", "")).write(tmp_path / package, emit="torch", check=False)
    monkeypatch.syspath_prepend(tmp_path)
    torch.compiler.reset()
    loaded: nn.Module = importlib.import_module(f"{package}.mixed").load()
    return loaded


def tokens(rows: int) -> torch.Tensor:
    return torch.randint(50, (rows, 5), generator=torch.manual_seed(rows))


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_program_computes_what_the_module_does(model: nn.Module, strict: bool) -> None:
    expected = [model(tokens(rows)) for rows in (3, 2)]
    sizes = [{0: torch.export.Dim("N")}]
    program = torch.export.export(model, (tokens(3),), dynamic_shapes=sizes, strict=strict)
    for rows, y in zip((3, 2), expected, strict=True):
        torch.testing.assert_close(program.module()(tokens(rows)), y)
    assert program.state_dict.keys() == model.state_dict().keys()
    assert all(constant.numel() <= 8 for constant in program.constants.values()), "a decoded weight is in the program"


def test_a_compiled_module_is_one_graph(model: nn.Module) -> None:
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.inference_mode():
        for rows in (2, 3):
            torch.testing.assert_close(compiled(tokens(rows)), model(tokens(rows)))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_traced_module_computes_what_the_module_does(model: nn.Module) -> None:
    with torch.no_grad():
        model(tokens(2))
        traced = torch.jit.trace(model, (tokens(2),))
        for rows in (2, 3):
            torch.testing.assert_close(traced(tokens(rows)), model(tokens(rows)))


def test_a_single_file_computes_what_the_module_does(model: nn.Module, tmp_path: Path) -> None:
    compiled = archc.compile(MIXED.replace("STAGE", ""))
    report = compiled.write(tmp_path, emit="torch", single_file=True, check=True)
    assert not [name for name in report["files"] if name.startswith("archc_")]
    path = tmp_path / "mixed.py"
    assert path.read_text().count("class Keeping(") == 1
    assert torch.equal(load_module(path).load()(tokens(2)), model(tokens(2)))


QUANT = 'quant(scheme = "dynamic", least = 0, on = "fc")'


def test_files_are_as_the_formatter_and_the_linter_want_them(tmp_path: Path) -> None:
    archc.compile(MIXED.replace("STAGE", "")).write(tmp_path, emit="torch", check=False)
    for name in ("mixed.py", "archc_packed.py", "archc_weight_only.py"):
        assert_well_formed((tmp_path / name).read_text(), tmp_path)


@pytest.mark.parametrize(
    ("layers", "passes", "files"),
    [
        ("lstm(4, weight_ih_l0 = int8(0))", "", {"weight_only"}),
        ("lstm(4, weight_ih_l0 = int8(0), weight_hh_l0 = f16)", "", {"weight_only"}),
        ("lstm(4, weight_hh_l0 = f16) -> fc: linear(4, weight = int8(0))", "", {"weight_only"}),
        ("linear(4, weight = int8(0)) -> fc: linear(4, weight = bf16)", "", {"weight_only"}),
        ("linear(4, weight = int4) -> fc: linear(4, weight = f16)", "", {"packed"}),
        ("lstm(4, weight_hh_l0 = int4) -> fc: linear(4, weight = int8(0))", "", {"weight_only", "packed"}),
        ("linear(4, weight = int8(0)) -> fc: linear(4)", QUANT, {"int8"}),
        ("lstm(4, weight_hh_l0 = f16) -> fc: linear(4)", QUANT, {"int8"}),
    ],
)
def test_a_module_needs_the_smallest_files(layers: str, passes: str, files: set[str], tmp_path: Path) -> None:
    compiled = archc.compile(f"model net {{ input x: f32[N, 3, 4]  output y = x -> first: {layers} }}", passes=passes)
    report = compiled.write(tmp_path, emit="torch", check=True)
    assert {name for name in report["files"] if name.startswith("archc_")} == {*map(library_file, files)}


def test_stages_share_encoded_weights(tmp_path: Path) -> None:
    compiled = archc.compile(MIXED.replace("STAGE", "x = x -> to_stage(1)"))
    report = compiled.write(tmp_path, check=True)
    assert {"torch", "torch stages", "onnxruntime stages"} <= report["check"]["errors"].keys()
    text = (tmp_path / "mixed_stage1.py").read_text()
    assert "self.wte = PackedWeights()" in text
    assert 'self.wte.add_packed("weight", (50, 32), bits=4, group=8)' in text
    assert "SHARED: dict[str, tuple[int, ...]] = {}" in (tmp_path / "mixed_pipeline.py").read_text()


@pytest.mark.parametrize("storage", [NarrowFloat(DType.f16), NarrowFloat(DType.bf16), F8E4M3(), F8E5M2(1)], ids=str)
def test_encoded_weights_are_no_parameters(storage: Storage, tmp_path: Path) -> None:
    text = f"model net {{ input x: f32[N, 4]  output y = x -> fc: linear(3, weight = {storage}) }}"
    loaded = imported(graph_of(text), tmp_path).load()
    assert [name for name, _ in loaded.named_parameters()] == ["fc.bias"]
    loaded(inputs_of(graph_of(text))["x"]).sum().backward()
    assert loaded.fc.bias.grad is not None


def test_floats_of_8_bits_are_read_by_pytorch_and_have_scales(tmp_path: Path) -> None:
    text = "model net { input x: f32[N, 4]  output y = x -> fc: linear(3, weight = f8e4m3) }"
    compiled = archc.compile(text)
    compiled.write(tmp_path, emit="torch", check=True)
    stored = load_file(tmp_path / "net.safetensors")
    assert stored["fc.weight"].dtype is torch.float8_e4m3fn and stored["fc.weight_scale"].shape == (3,)
    decoded = stored["fc.weight"].float() * stored["fc.weight_scale"][:, None]
    assert np.array_equal(decoded.numpy(), compiled.graph.weight_values("fc.weight"))
