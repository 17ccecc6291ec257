"""Emission and import of modules, and comparison with their graphs."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from archc.codegen.torch import class_name, emit
from archc.compiler import compile as compile_text
from archc.compiler import parse
from archc.driver.binding import bind_fresh
from archc.interpreter.evaluate import evaluate
from archc.interpreter.sample_inputs import accepted_integers
from archc.ir.graph import Graph
from archc.types.dims import evaluate as size_of
from archc.types.dims import symbols
from archc.types.tensor_type import DType
from archc.weights.safetensors import write

SPECS = sorted(Path("specs").glob("*.arch"))

GPT = """
block Attention(heads) {
    input x: f32[B, T, D]
    q = x -> query: linear(D)
    k = x -> key: linear(D)
    v = x -> value: linear(D)
    output (q, k, v) -> attention(heads, causal = true) -> proj: linear(D)
}

# A transformer block with normalization first.
block Block(heads, ff = 4, drop = 0.1) {
    input x: f32[B, T, D]
    x = x + (x -> ln1: layer_norm -> attn: Attention(heads) -> dropout(drop))
    output x + (x -> ln2: layer_norm -> up: linear(ff * D) -> gelu -> down: linear(D) -> dropout(drop))
}

model gpt(vocab = 11, width = 8, depth = 3, heads = 2) {
    input tokens: i64[B, T <= 16]
    layer wte = embedding(vocab, width)
    x = (tokens -> wte) + (arange(T) -> wpe: embedding(16, width))
    for i in 0..depth { x = x -> h[i]: Block(heads) }
    output logits = x -> ln_f: layer_norm -> head: linear(vocab, bias = false, weight = wte.weight)
}
"""

CONVOLUTIONS = """
block Stage(channels, stride = 1) {
    input x: f32[N, C, H, W]
    shortcut = x
    if stride != 1 or C != channels {
        shortcut = x -> down[0]: conv2d(channels, 1, stride = stride, bias = false) -> down[1]: batch_norm
    }
    y = x -> conv1: conv2d(channels, 3, stride = stride, padding = 1, bias = false) -> bn1: batch_norm -> relu
    output (y -> conv2: conv2d(channels, 3, padding = 1)) + shortcut -> relu
}

model net {
    input image: f32[N, 3, 8, 8]
    x = image -> stem: conv2d(4, 3, padding = 1) -> bn: batch_norm -> relu
    x = x -> a: Stage(4)
    x = x -> b: Stage(8, stride = 2)
    output scores: f32[N, 5] = x -> adaptive_avg_pool2d(1) -> flatten -> fc: linear(5)
}
"""

_numbers = itertools.count()


def graph_of(text: str | Path, passes: str = "", **values: Any) -> Graph:
    """Return the graph of a text after passes, with fresh weights."""
    if passes:
        return compile_text(text, passes=passes, values=values).graph
    graph = parse(text, values=values)
    bind_fresh(graph, 0)
    return graph


def source_of(graph: Graph) -> str:
    return emit(graph, source_name="net.arch", weights_name=f"{graph.name}.safetensors")


def imported(graph: Graph, folder: Path, source: str | None = None) -> ModuleType:
    """Write the emitted module and its weights to a folder; return the imported module."""
    path = folder / f"{graph.name}.py"
    path.write_text(source or source_of(graph), encoding="utf-8")
    if graph.tensors is not None:
        write(folder / f"{graph.name}.safetensors", graph.tensors)
    spec = importlib.util.spec_from_file_location(f"emitted_{next(_numbers)}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fresh(graph: Graph, folder: Path) -> torch.nn.Module:
    """A new model of the emitted class."""
    made: torch.nn.Module = getattr(imported(graph, folder), class_name(graph.name, graph.scope.doc))()
    return made


def inputs_of(graph: Graph, seed: int = 0, **sizes: int) -> dict[str, torch.Tensor]:
    """Seeded inputs; symbolic sizes are 2 unless given, integers are valid indices."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for value in graph.inputs:
        shape = [size_of(dim, 2, sizes) for dim in value.type.shape]
        dtype = getattr(torch, value.type.dtype.torch)
        if value.type.dtype is DType.bool:
            found[value.name or ""] = torch.rand(shape, generator=generator) > 0.5
        elif value.type.dtype.integral:
            every = {name: sizes.get(name, 2) for each in graph.inputs for d in each.type.shape for name in symbols(d)}
            accepted = accepted_integers(graph, value, every) or range(7)
            start, stop = accepted.start, accepted.start + min(7, len(accepted))
            found[value.name or ""] = torch.randint(start, stop, shape, generator=generator, dtype=dtype)
        else:
            found[value.name or ""] = torch.randn(shape, generator=generator).to(dtype)
    return found


def assert_agrees(graph: Graph, folder: Path, atol: float = 1e-5, **sizes: int) -> torch.nn.Module:
    """Assert that the loaded module and the interpreter of the graph agree."""
    model: torch.nn.Module = imported(graph, folder).load()
    assert not model.training
    inputs = inputs_of(graph, **sizes)
    with torch.no_grad():
        found = model(*inputs.values())
    expected = evaluate(graph, inputs)
    results = found if isinstance(found, tuple) else (found,)
    assert len(results) == len(expected)
    for result, (name, wanted) in zip(results, expected.items()):
        assert result.dtype == wanted.dtype, name
        torch.testing.assert_close(result, wanted, atol=atol, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    assert_paths(model, graph)
    return model


def assert_paths(model: torch.nn.Module, graph: Graph) -> None:
    """Assert that the state dict has exactly the names, shapes and dtypes of the graph's tensors."""
    state: Mapping[str, torch.Tensor] = model.state_dict()
    expected = {path: spec for weight in graph.weights.values() for path, spec in weight.tensors.items()}
    assert set(state) == set(expected)
    for path, (shape, dtype) in expected.items():
        assert tuple(state[path].shape) == shape, path
        assert state[path].dtype == getattr(torch, dtype.torch), path


def with_exact_sums(model: torch.nn.Module) -> torch.nn.Module:
    """Make a model choose its kernels as on a CPU whose integer kernels are exact."""
    type(model).forward.__globals__["EXACT"] = True
    return model
