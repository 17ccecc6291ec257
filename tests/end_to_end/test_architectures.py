"""Compilation of whole architectures to PyTorch, ONNX and text.

Each file in `architectures/` is compiled with and without compression, and all emitted programs run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import archc
from archc.codegen import onnx
from archc.codegen.torch.load import load_module
from archc.diagnostics import Diagnostics, Source
from archc.driver.compiled import Compiled
from archc.interpreter.evaluate import evaluate
from archc.interpreter.sample_inputs import random_inputs
from archc.ir.graph import Graph
from archc.language.syntax.formatter import format as format_file
from archc.language.syntax.parser import parse as parse_syntax
from archc.passmanager.comparison import largest_error
from archc.types.dims import as_symbol

FOLDER = Path(__file__).parent / "architectures"
ARCHITECTURES = sorted(path.stem for path in FOLDER.glob("*.arch"))
COMPRESSED = "simplify, fold, lowrank(ratio = 0.25), quant"
CASES = [(name, passes) for name in ARCHITECTURES for passes in ("", COMPRESSED)]
SIZES = ((2, 8), (5, 11))
"""Pairs of batch and length: values of the symbolic sizes on the first axis, and on all other axes."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(name)
    written.cache_clear()


@cache
def written(name: str, passes: str, folder: Path) -> tuple[Compiled, Path]:
    """Compile, write and check an architecture; return it with its output folder."""
    compiled = archc.compile(FOLDER / f"{name}.arch", passes=passes)
    own = folder / f"{name}-{'compressed' if passes else 'plain'}"
    report = compiled.write(own, check=True)
    assert set(report["check"]["errors"]) == {"torch", "onnxruntime"}
    return compiled, own


def inputs_of(graph: Graph, batch: int, length: int) -> dict[str, torch.Tensor]:
    """Random inputs of the given batch and length."""
    arrays = random_inputs(graph, seed=1, batch=batch)
    found = {}
    for value in graph.inputs:
        dims = value.type.shape
        cut = [slice(length if axis and as_symbol(dim) is not None else None) for axis, dim in enumerate(dims)]
        found[value.name or ""] = torch.from_numpy(np.ascontiguousarray(arrays[value.name or ""][tuple(cut)]))
    return found


def module_of(compiled: Compiled, own: Path) -> ModuleType:
    return load_module(own / f"{compiled.name}.py")


def run_module(model: torch.nn.Module, graph: Graph, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    results = model(*inputs.values())
    return dict(zip(graph.outputs, results if isinstance(results, tuple) else (results,), strict=True))


def agree(compiled: Compiled, expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> bool:
    """Return whether outputs are equal up to rounding; the tolerance after quantization is larger."""
    assert expected.keys() == found.keys()
    assert all(expected[name].shape == found[name].shape for name in expected)
    floats = [name for name, tensor in expected.items() if tensor.is_floating_point()]
    error = largest_error({name: expected[name] for name in floats}, {name: found[name] for name in floats})
    return error <= (5e-2 if compiled.passes else 1e-4)


@pytest.mark.parametrize(("name", "passes"), CASES)
def test_the_printed_text_parses_to_the_same_graph(name: str, passes: str, folder: Path) -> None:
    compiled, own = written(name, passes, folder)
    text = (own / f"{compiled.name}.arch").read_text(encoding="utf-8")
    again = archc.parse(text)
    assert again == compiled.graph
    assert archc.print_graph(again) == text
    diagnostics = Diagnostics()
    assert format_file(parse_syntax(Source(text), diagnostics)) == text
    diagnostics.check()


@pytest.mark.parametrize(("name", "passes"), CASES)
def test_the_compiled_text_compiles_to_the_same(name: str, passes: str, folder: Path, tmp_path: Path) -> None:
    compiled, own = written(name, passes, folder)
    again = archc.compile(own / f"{compiled.name}.arch", weights=own / f"{compiled.name}.safetensors")
    inputs = inputs_of(compiled.graph, *SIZES[0])
    expected = evaluate(compiled.graph, inputs)
    found = evaluate(again.graph, inputs)
    assert all(torch.allclose(found[name], tensor, rtol=1e-5, atol=1e-6) for name, tensor in expected.items())
    again.write(tmp_path)
    assert (tmp_path / f"{compiled.name}.arch").read_bytes() == (own / f"{compiled.name}.arch").read_bytes()
    before, after = (load_file(path / f"{compiled.name}.safetensors") for path in (own, tmp_path))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("name", "passes"), CASES)
def test_the_module_has_the_weights_of_the_graph(name: str, passes: str, folder: Path) -> None:
    compiled, own = written(name, passes, folder)
    stored = load_file(own / f"{compiled.name}.safetensors")
    assert set(module_of(compiled, own).load().state_dict()) == set(stored)
    tensors = {path for weight in compiled.graph.weights.values() for path in weight.tensors}
    assert tensors == set(stored)


@pytest.mark.parametrize(("name", "passes"), CASES)
def test_all_targets_agree_at_all_sizes(name: str, passes: str, folder: Path) -> None:
    compiled, own = written(name, passes, folder)
    model = module_of(compiled, own).load()
    for batch, length in SIZES:
        inputs = inputs_of(compiled.graph, batch, length)
        expected = evaluate(compiled.graph, inputs)
        with torch.no_grad():
            assert agree(compiled, expected, run_module(model, compiled.graph, inputs))
        arrays = onnx.run(own / f"{compiled.name}.onnx", {name: tensor.numpy() for name, tensor in inputs.items()})
        assert agree(compiled, expected, {name: torch.from_numpy(array) for name, array in arrays.items()})


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_module_trains(name: str, folder: Path) -> None:
    compiled, own = written(name, "", folder)
    torch.manual_seed(0)
    model = module_of(compiled, own).load().train()
    parameters = dict(model.named_parameters())
    assert set(parameters) == {path for path, weight in compiled.graph.weights.items() if weight.trainable}
    inputs = inputs_of(compiled.graph, *SIZES[1])
    targets = {name: torch.zeros_like(t) for name, t in evaluate(compiled.graph, inputs).items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=3e-3) if parameters else None
    losses = []
    for _ in range(20):
        outputs = run_module(model, compiled.graph, inputs)
        reached = [name for name, tensor in outputs.items() if tensor.requires_grad]
        if optimizer is None or not reached:
            break
        loss = sum(torch.nn.functional.mse_loss(outputs[name], targets[name]) for name in reached)
        assert isinstance(loss, torch.Tensor)
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in parameters.values())
        optimizer.step()
        losses.append(loss.item())
    assert bool(losses) == bool(parameters)
    assert sum(losses[-3:]) < sum(losses[:3]) or not losses


COMPILE_ALL = """
import pathlib, sys, archc
passes, folder, *files = sys.argv[1:]
for file in files:
    compiled = archc.compile(pathlib.Path(file), passes=passes)
    compiled.write(f"{folder}/{compiled.name}")
"""


@pytest.mark.parametrize("names", [ARCHITECTURES[::4], pytest.param(ARCHITECTURES, marks=pytest.mark.slow)], ids=len)
def test_every_process_writes_the_same_bytes(names: list[str], tmp_path: Path) -> None:
    """The order of sets of strings differs between processes, and must not change the files."""
    files = [str(FOLDER / f"{name}.arch") for name in names]
    processes = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", COMPILE_ALL, COMPRESSED, str(tmp_path / seed), *files]
        processes.append(subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2]))
    assert [process.wait() for process in processes] == [0, 0]
    contents = []
    for seed in ("1", "2"):
        paths = sorted(path for path in (tmp_path / seed).rglob("*") if path.is_file())
        contents.append({str(path.relative_to(tmp_path / seed)): path.read_bytes() for path in paths})
    assert len(contents[0]) >= 4 * len(names)
    assert contents[0].keys() == contents[1].keys()
    assert [name for name in contents[0] if contents[0][name] != contents[1][name]] == []
