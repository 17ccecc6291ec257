"""Names and metadata of ONNX models: scopes, constants by their use, the producer and the passes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import archc
from archc.codegen.onnx import to_model
from archc.codegen.onnx.initializers import Initializers, UniqueNames
from archc.version import __version__
from tests.specs.siblings import SPECS, sibling

NESTED = """
block Attn { input x: f32[N, T, D]  q = x -> q: linear(D)  output (q, q, q) -> attention(2) }
block Layer { input x: f32[N, T, D]  y = x -> attn: Attn  output y -> relu -> Feed }
block Feed { input x: f32[N, T, D]  output x -> up: linear(D, bias = false) }
# A stack of layers.
model net {
    input x: f32[N, T, 8]
    for i in 0..2 { x = x -> h[i]: Layer }
    output y = x -> softmax(2)
}
"""


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes(attribute.g)


def initializers(text: str) -> set[str]:
    return {tensor.name for tensor in to_model(archc.compile(text).graph).graph.initializer}


def test_names_show_the_blocks() -> None:
    graph = to_model(archc.compile(NESTED).graph).graph
    named = {node.name: list(node.output) for node in nodes(graph)}
    assert named["h.1/attn/q/MatMul"] == ["h.1/attn/q/MatMul"]
    assert named["h.1/attn/q/Add"] == ["h.1/attn/q"]
    assert named["h.1/attn/attention/Softmax"] == ["h.1/attn/attention/Softmax"]
    assert named["h.0/relu"] == ["h.0/relu"]
    assert named["h.1/feed/up"] == ["h.1/feed/up"]
    assert named["softmax"] == ["y"]


@pytest.mark.parametrize("name", ["gpt2", "elman", "tagger", "unet"])
def test_names_are_unique_and_differ_from_those_of_weights(name: str) -> None:
    path = SPECS / f"{name}.arch"
    graph = archc.compile(path, set=sibling(path)).graph
    proto = to_model(graph).graph
    made = [output for node in nodes(proto) for output in node.output if output]
    taken = [value.name for value in proto.input] + [tensor.name for tensor in proto.initializer]
    assert len({*made, *taken}) == len(made) + len(taken)
    assert {value.name for value in proto.output} <= {*made, *taken}
    assert set(made).isdisjoint(path for weight in graph.weights.values() for path in weight.tensors)
    titles = [node.name for node in nodes(proto)]
    assert all(titles) and len(set(titles)) == len(titles)


USES = {
    "x -> clamp(0.5, 2)": {"min/0.5", "max/2.0"},
    "x -> sum(1)": {"axes/[1]"},
    "x[:, 1:3]": {"starts/[1]", "ends/[3]", "axes/[1]", "steps/[1]"},
    "x -> pad((1, 2))": {"pads/[0,0,1,0,0,2]"},
    "x * 3": {"constant/3.0"},
    "x -> reshape((N, 48))": {"shape/[0,48]"},
    "(x -> sum(1)) + (x -> sum(1) -> clamp(1, 2)) * 2": {"axes/[1]", "min/1.0", "max/2.0", "constant/2.0"},
}


@pytest.mark.parametrize("body", USES)
def test_constants_are_called_after_their_use(body: str) -> None:
    assert initializers(f"model net {{ input x: f32[N, 6, 8]\noutput y = {body} }}") == USES[body]


def test_constants_in_the_body_of_a_scan_are_named() -> None:
    text = """model net {
        input x: f32[N, T, 6]
        scan x_t in x, h = x -> mean(1) { h = h + (x_t -> clamp(0.5, 2)) }
        output h
    }"""
    model = to_model(archc.compile(text).graph)
    assert {"min/0.5", "max/2.0"} <= {tensor.name for tensor in model.graph.initializer}
    (clip,) = (node for node in nodes(model.graph) if node.op_type == "Clip")
    assert list(clip.input)[1:] == ["min/0.5", "max/2.0"]


def test_a_large_constant_is_called_after_its_type() -> None:
    constants = Initializers(onnx.GraphProto(), UniqueNames())
    assert constants.constant(np.zeros((30, 2))) == "constant/f32[30,2]"
    assert constants.constant(np.ones((30, 2))) == "constant/f32[30,2]_1"


def test_profiles_of_onnx_runtime_show_the_names(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    model = to_model(archc.compile(NESTED).graph)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    session.run(None, {"x": np.zeros((1, 3, 8), np.float32)})
    names = {event["name"] for event in json.loads(Path(session.end_profiling()).read_text())}
    assert "h.1/attn/attention/Softmax_kernel_time" in names


def test_metadata_say_where_a_model_comes_from(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    source = tmp_path / "deep" / "stack.arch"
    source.write_text(NESTED)
    for folder in ("a", "b"):
        archc.compile(source, passes="lowrank(rank = 2), fold").write(tmp_path / folder, emit="onnx")
    assert (tmp_path / "a" / "net.onnx").read_bytes() == (tmp_path / "b" / "net.onnx").read_bytes()
    found = onnxruntime.InferenceSession(tmp_path / "a" / "net.onnx").get_modelmeta()
    assert found.producer_name == "archc"
    assert found.description == "A stack of layers."
    assert found.custom_metadata_map == {
        "model": "net",
        "source": "stack.arch",
        "passes": "lowrank(rank = 2), fold",
    }
    assert onnx.load(tmp_path / "a" / "net.onnx").producer_version == __version__


def test_stages_of_a_compilation_have_its_identifier(tmp_path: Path) -> None:
    text = "model net { input x: f32[N, 8]\noutput y = x -> a: linear(4) -> to_stage(1) -> relu -> b: linear(3) }"
    found = {}
    for seed in (0, 1):
        for emit in ("onnx", "torch,onnx"):
            folder = tmp_path / f"{seed}{emit}"
            archc.compile(text, seed=seed).write(folder, emit=emit)
            for number in (0, 1):
                model = onnx.load(folder / f"net_stage{number}.onnx")
                found[seed, emit, number] = {one.key: one.value for one in model.metadata_props}["compilation"]
    assert len(set(found.values())) == 2
    assert all(found[key] == found[key[0], "onnx", 0] for key in found)
