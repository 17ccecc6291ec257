"""Files and graphs of a model's stages: run in order, they compute the results of the whole model."""

from __future__ import annotations

import ast
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open

import archc
from archc.codegen.pipeline import ModelStage, emit, shared, split
from archc.codegen.torch.load import load_module
from archc.driver.compiled import Compiled
from archc.interpreter.evaluate import evaluate
from archc.ir.rewriter import Rewriter
from archc.types.tensor_type import TensorType
from tests.codegen.pipeline import models
from tests.codegen.torch_modules import inputs_of

QUANTIZED = """
model m {
    input x: f32[N, 16]
    h = x -> fc1: linear(32) -> relu -> fc2: linear(32) -> relu
    output y = h -> fc3: linear(8)
}
"""

SIZES = """
model sizes {
    input x: f32[N, T, 8]
    layer twice = linear(8)
    h = x -> twice -> reshape((N * T, 8)) -> fc1: linear(8) -> to_stage(1)
    h = h -> fc2: linear(8) -> relu -> to_stage(2) -> reshape((N, T, 8)) -> twice
    output y = h -> fc3: linear(8)
    output z = h -> fc4: linear(8)
}
"""

EARLY = """
# Outputs that are made before the last stage, one of them an input, and one under two names.
model early {
    input x: f32[N, 8]
    h = x -> fc1: linear(8)
    output first = h -> relu
    output second = first
    output same = x
    output last = h -> to_stage(1) -> fc2: linear(8) -> to_stage(2) -> fc3: linear(8)
}
"""

BARE = """
model bare {
    input x: f32[N, 8]
    output y = x -> relu -> to_stage(1) -> fc: linear(5) -> to_stage(2) -> sigmoid
}
"""


def quantized() -> Compiled:
    compiled = archc.compile(QUANTIZED, passes="quant")
    models.divide(compiled.graph, "fc2")
    return compiled


MODELS: dict[str, Callable[[], Compiled]] = {
    "tied": models.tied,
    "resnet18 in blocks": partial(models.resnet18, "layer2.0.conv2", "layer3.1.conv2"),
    "mlp": partial(models.mlp, "hidden.1", "head"),
    "int8": quantized,
    "int8 with integers sent": lambda: archc.compile(models.SPECS / "cnn.arch", passes="quant, partition(2)"),
    "masks": lambda: archc.compile(models.SPECS / "cnn.arch", passes="prune(0.5), partition(2)"),
    "sizes": lambda: archc.compile(SIZES),
    "early outputs": lambda: archc.compile(EARLY),
    "stages without weights": lambda: archc.compile(BARE),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_files_of_stages_compute_the_whole_model(make: Callable[[], Compiled], tmp_path: Path) -> None:
    compiled = make()
    report = compiled.write(tmp_path, check=True)
    assert report["check"]["errors"].keys() == {"torch", "onnxruntime", "torch stages", "onnxruntime stages"}
    for kind in ("torch", "onnxruntime"):
        whole, chained = (report["check"]["errors"][name] for name in (kind, f"{kind} stages"))
        assert chained <= whole + 1e-5
    names = [file for stage in report["stages"] for file in stage["files"]]
    assert {*names, f"{compiled.name}_pipeline.py"} <= {path.name for path in tmp_path.iterdir()}
    assert json.loads((tmp_path / "report.json").read_text()) == report


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_each_stage_takes_what_the_one_before_it_sends(make: Callable[[], Compiled]) -> None:
    graph = make().graph
    stages = split(graph)
    for before, after in itertools.pairwise(stages):
        sent = [(name, known_sizes(value.type)) for name, value in before.graph.outputs.items()]
        assert sent == [(value.name, known_sizes(value.type)) for value in after.graph.inputs]
    assert list(stages[-1].graph.outputs) == list(graph.outputs)
    stored = [path for weight in graph.weights.values() for path in weight.tensors]
    assert {path for stage in stages for path in tensors(stage)} == set(stored)


def known_sizes(type: TensorType) -> tuple[object, ...]:
    """Dtype and shape, with None for symbolic sizes, since stages name these differently."""
    return type.dtype, *(dim if isinstance(dim, int) else None for dim in type.shape)


def tensors(stage: ModelStage) -> list[str]:
    assert stage.graph.tensors is not None
    return list(stage.graph.tensors)


@pytest.mark.parametrize("name", ["tied", "resnet18 in blocks", "sizes", "early outputs"])
def test_graphs_of_stages_compute_the_whole_model(name: str) -> None:
    graph = MODELS[name]().graph
    inputs = inputs_of(graph, H=32, W=32)
    values = inputs
    for stage in split(graph):
        values = evaluate(stage.graph, values)
    for output, expected in evaluate(graph, inputs).items():
        assert torch.equal(values[output], expected)


def test_a_skip_is_relayed_through_the_stages_between() -> None:
    first, middle, last = split(models.tied().graph)
    assert {"tokens", "early"} <= first.graph.outputs.keys()
    assert {"tokens", "early"} <= middle.graph.outputs.keys()
    relayed = {value.name: value for value in middle.graph.inputs}
    assert all(middle.graph.outputs[name] is relayed[name] for name in ("tokens", "early"))
    assert [value.name for value in last.graph.inputs] == list(middle.graph.outputs)


def test_a_size_that_a_stage_cannot_see_is_sent_in_an_input() -> None:
    first, middle, last = split(archc.compile(SIZES).graph)
    assert list(first.graph.outputs) == ["x", "fc1"]
    assert [value.name for value in last.graph.inputs] == ["x", "relu"]
    assert list(middle.graph.outputs) == ["x", "relu"]


def test_integers_are_sent_without_their_scale(tmp_path: Path) -> None:
    """The scale is a weight of the receiving stage, so the stage can use the same integer kernels."""
    compiled = MODELS["int8 with integers sent"]()
    compiled.write(tmp_path)
    first, second = split(compiled.graph)
    assert list(first.graph.outputs) == [value.name for value in second.graph.inputs] == ["conv2_in_q"]
    assert {"conv2_in.scale", "conv2_in.zero_point"} <= set(tensors(first)) & set(tensors(second))
    for name in ("cnn_stage1.py", "cnn.py"):
        assert "self.conv2 = Int8Conv2d(32, 64, 3)" in (tmp_path / name).read_text()
    model = onnx.load(tmp_path / "cnn_stage1.onnx", load_external_data=False)
    (decode,) = (node for node in model.graph.node if "conv2_in_q" in node.input)
    assert decode.op_type == "DequantizeLinear"
    assert set(decode.input[1:]) <= {tensor.name for tensor in model.graph.initializer}


def test_integers_pass_through_a_stage_between() -> None:
    compiled = archc.compile("""
    model m {
        input x: f32[N, 8]
        q, s, z = x -> q0: quantize(u8)
        d = q -> to_stage(1)
        here = (d, s -> to_stage(1), z -> to_stage(1)) -> dequantize -> fc1: linear(8)
        late = (q -> to_stage(3), s -> to_stage(3), z -> to_stage(3)) -> dequantize
        output y = (here -> to_stage(2) -> relu -> to_stage(3)) + late
        output scale = s
    }
    """)
    stages = split(compiled.graph)
    sent = [sorted(stage.graph.outputs) for stage in stages]
    assert [len(names) for names in sent] == [2, 3, 3, 2]  # the scale is sent only as an output of the model
    assert ["q0.zero_point" in tensors(stage) for stage in stages] == [True, True, False, True]
    x = {"x": torch.randn(4, 8)}
    values: dict[str, torch.Tensor] = x
    for stage in stages:
        values = evaluate(stage.graph, values)
    expected = evaluate(compiled.graph, x)
    assert all(torch.equal(values[name], expected[name]) for name in expected)


def test_a_layer_may_round_in_the_stage_that_receives_its_integers(tmp_path: Path) -> None:
    compiled = archc.compile("""
    model m {
        input x: f32[N, 16]
        layer q0 = quantize(u8)
        q, s, z = x -> fc1: linear(16) -> q0
        h = (q -> to_stage(1), s -> to_stage(1), z -> to_stage(1)) -> dequantize -> fc2: linear(16)
        output y = h -> q0 -> dequantize -> fc3: linear(4)
    }
    """)
    rewriter = Rewriter(compiled.graph)
    rewriter.set_weight("q0.scale", np.array(0.02, np.float32))
    rewriter.set_weight("q0.zero_point", np.array(100, np.uint8))
    report = compiled.write(tmp_path, emit=("torch",), check=True)
    assert report["check"]["errors"]["torch stages"] < 1e-6
    assert report["stages"][1]["receives"] == {"q": "u8[N, 16]"}


def test_shapes_alone_send_nothing() -> None:
    """A stage of a convolutional network does not need the size of the image."""
    _, second = split(models.resnet18("layer2.1.conv1").graph)
    assert len(second.graph.inputs) == 1


def test_copies_of_a_parameter_are_known() -> None:
    assert shared(split(models.tied().graph)) == {"wte.weight": (0, 2)}
    assert shared(split(models.mlp("head").graph)) == {}


def test_files_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        models.tied().write(tmp_path / name)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_stages_know_their_compile(tmp_path: Path) -> None:
    text = models.TIED
    for seed in (0, 1):
        archc.compile(text, seed=seed).write(tmp_path / str(seed), emit=("torch",))
    known = [load_module(tmp_path / seed / "tied_stage1.py").COMPILATION for seed in ("0", "1")]
    assert known[0] != known[1]
    for seed, compilation in zip(("0", "1"), known, strict=True):
        for name in ("tied_stage0.py", "tied_pipeline.py"):
            assert compilation == load_module(tmp_path / seed / name).COMPILATION
        with safe_open(tmp_path / seed / "tied_stage2.safetensors", framework="pt") as file:
            assert file.metadata()["compilation"] == compilation


@pytest.mark.parametrize(
    ("emit", "suffixes"),
    [
        (("torch",), {".py", ".safetensors"}),
        (("onnx",), {".onnx"}),
        (("onnx", "arch"), {".onnx"}),
        (("torch", "onnx"), {".py", ".onnx", ".safetensors"}),
        (("arch",), set()),
    ],
)
def test_targets_choose_the_files_of_stages(emit: tuple[str, ...], suffixes: set[str], tmp_path: Path) -> None:
    models.mlp("head").write(tmp_path, emit=emit)
    assert {path.suffix for path in tmp_path.glob("mlp_stage*")} == suffixes
    assert (tmp_path / "mlp_pipeline.py").exists() == ("torch" in emit)


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (KeyError("w"), "KeyError: 'w'"),
        (KeyError("fc.weight of old"), "KeyError: 'fc.weight of old'"),
        (AssertionError(), "AssertionError"),
        (ValueError("x"), "ValueError: x"),
        (IndexError("Target 9 is out of bounds.\nSee above."), "Target 9 is out of bounds."),
    ],
)
def test_messages_of_unclear_exceptions_begin_with_the_type(problem: Exception, line: str, tmp_path: Path) -> None:
    models.mlp("head").write(tmp_path, emit=("torch",))
    program = load_module(tmp_path / "mlp_pipeline.py")
    assert program.explain(problem, 1) == f"stage 1 failed: {line}"


@pytest.mark.parametrize("body", ["x -> fc: linear(8)", "x -> to_stage(0) -> fc: linear(8)"])
def test_a_model_of_one_stage_has_no_files_of_stages(body: str, tmp_path: Path) -> None:
    compiled = archc.compile(f"model m {{ input x: f32[N, 8]  output y = {body} }}")
    report = compiled.write(tmp_path, check=True)
    assert "stages" not in report
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "m.arch",
        "m.onnx",
        "m.py",
        "m.safetensors",
        "report.json",
    ]


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_emitted_files_are_formatted_and_need_few_packages(make: Callable[[], Compiled], tmp_path: Path) -> None:
    make().write(tmp_path, emit=("torch",))
    files = sorted(map(str, tmp_path.glob("*.py")))
    for options in (["format", "--check", "--diff"], ["check", "--select", "E,F,W,I", "--ignore", "E501"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *options, "--isolated", "--no-cache", *files], text=True, capture_output=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    for path in tmp_path.glob("*.py"):
        assert imports(path) <= {"torch", "numpy", "safetensors", *sys.stdlib_module_names}


@pytest.mark.parametrize(
    ("shape", "batched"),
    [("N, 8", True), ("4, 8", False), ("4, N, 8", False)],
)
def test_only_the_axis_of_samples_is_split(shape: str, batched: bool) -> None:
    text = f"model m {{ input x: f32[{shape}]  output y = x -> fc: linear(8) -> to_stage(1) -> relu }}"
    graph = archc.parse(text)
    assert f"BATCHED = {batched}\n" in emit(graph, split(graph), source_name="m.arch")


@pytest.mark.parametrize("name", ['"""\nraise SystemExit', "\\", '\\"""', "{{ 1 }}", "\0\r\x1b"])
def test_the_name_of_a_file_is_text_and_no_code(name: str) -> None:
    graph = models.mlp("head").graph
    plain, strange = (ast.parse(emit(graph, split(graph), source_name=text)) for text in ("mlp.arch", name))
    assert ast.dump(ast.Module(plain.body[1:], [])) == ast.dump(ast.Module(strange.body[1:], []))


def imports(path: Path) -> set[str]:
    """The packages that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found
