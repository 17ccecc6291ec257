"""Emitted programs of a graph, run in memory: PyTorch, and ONNX Runtime at all optimization levels."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from torch import nn

from archc.codegen.onnx import to_model
from archc.codegen.onnx.runtime import run_session
from archc.codegen.python_source import Activations
from archc.codegen.torch import emit
from archc.driver.weights_file import write_weights
from archc.ir.graph import Graph
from archc.weights.dtype_conversion import from_torch, to_torch

Outputs = dict[str, torch.Tensor]
Levels = onnxruntime.GraphOptimizationLevel
LEVELS = {
    "none": Levels.ORT_DISABLE_ALL,
    "basic": Levels.ORT_ENABLE_BASIC,
    "extended": Levels.ORT_ENABLE_EXTENDED,
    "all": Levels.ORT_ENABLE_ALL,
}


FORK_PATIENCE = 20.0
"""Timeout of a forked process in seconds: it may wait for a lock that another thread held at the fork."""


class NoPython(Exception):
    """The emitted module does not compile."""


def torch_model(graph: Graph, activations: Activations = "functions") -> torch.nn.Module:
    """Model loaded by the emitted PyTorch module, with this form of activations."""
    with TemporaryDirectory(prefix="archc-fuzz-") as folder, _nothing_initialized():

        def write_beside(name: str, text: str) -> str:
            Path(folder, name).write_text(text)
            return name

        weights = Path(folder, "fuzzed.safetensors")
        source = emit(
            graph,
            source_name="fuzzed.arch",
            weights_name=weights.name,
            write_beside=write_beside,
            activations=activations,
        )
        try:
            code = compile(source, "fuzzed.py", "exec")
        except SyntaxError as mistake:
            raise NoPython(f"{mistake.msg}: {(mistake.text or '').strip()}") from mistake
        module = types.ModuleType("fuzzed")
        module.__file__ = str(Path(folder, "fuzzed.py"))
        exec(code, module.__dict__)
        write_weights(graph, weights)
        if "DEVICES" in module.__dict__:
            return module.load(weights, devices=["cpu"] * len(module.DEVICES))  # type: ignore[no-any-return]
        return module.load(weights)  # type: ignore[no-any-return]


@contextmanager
def _nothing_initialized() -> Iterator[None]:
    """Skip the random initialization of modules: it is slow, and loading overwrites the weights."""
    initializers = [(nn.init, name) for name in vars(nn.init) if name.endswith("_") and not name.startswith("_")]
    initializers += [(torch.Tensor, name) for name in ("normal_", "uniform_")]
    kept = [getattr(owner, name) for owner, name in initializers]
    for owner, name in initializers:
        setattr(owner, name, lambda tensor, *arguments, **options: tensor)
    try:
        yield
    finally:
        for (owner, name), function in zip(initializers, kept):
            setattr(owner, name, function)


def run_torch(model: torch.nn.Module, graph: Graph, inputs: Mapping[str, torch.Tensor]) -> Outputs:
    with torch.no_grad():
        results = model(*[tensor.clone() for tensor in inputs.values()])
    results = results if isinstance(results, tuple) else (results,)
    return {name: result.detach() for name, result in zip(graph.outputs, results, strict=True)}


def onnx_bytes(graph: Graph) -> bytes:
    """Emitted ONNX model as bytes, after the ONNX checker."""
    model = to_model(graph)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def saturates(model: bytes, level: str) -> bool:
    """Return whether integer sums of a model may saturate on this CPU at an optimization level.

    Kernels without VNNI instructions saturate.  The session option against it takes effect from `extended` on, and not
    in constant folding.
    """
    if adds_exactly():
        return False
    graph = onnx.load_model_from_string(model).graph
    varying = {one.name for one in graph.input}
    for node in graph.node:
        varies = any(name in varying for name in node.input)
        if node.op_type == "MatMulInteger" and not (varies and level in ("extended", "all")):
            return True
        varying.update(node.output if varies else ())
    return False


@cache
def adds_exactly() -> bool:
    """Return whether this CPU sums the largest products of 8-bit integers without saturation."""
    text = "agraph (uint8[1, 64] x) => (int32[1, 8] y) <int8[64, 8] w = {%s}> { y = MatMulInteger(x, w) }"
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]>' + text % ", ".join(["127"] * 512))
    ready = session(model.SerializeToString(), "none")
    (found,) = ready.run(None, {"x": np.full((1, 64), 255, np.uint8)})
    return bool((found == 255 * 127 * 64).all())


class NoExactSums(Exception):
    """The option of ONNX Runtime 1.23 for exact sums fails if nodes share an 8-bit weight."""


def session(model: bytes, level: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = LEVELS[level]
    options.add_session_config_entry("session.x64quantprecision", "1")  # see `saturates`
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Fail as failure:
        if "AddInitializerWithOrtValue" in str(failure):
            raise NoExactSums from failure
        raise


def run_onnx(ready: onnxruntime.InferenceSession, inputs: Mapping[str, torch.Tensor]) -> Outputs:
    wanted = {one.name for one in ready.get_inputs()}
    arrays = run_session(ready, {name: from_torch(tensor) for name, tensor in inputs.items() if name in wanted})
    return {name: to_torch(array) for name, array in arrays.items()}


def survives(run: Callable[[], object]) -> bool:
    """Return whether a function returns when run in a forked process: kernels may crash on a size of 0."""
    child = os.fork()
    if child == 0:
        try:
            faulthandler.disable()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            run()
        except BaseException:  # the forked process must end here after any exception
            os._exit(1)
        os._exit(0)
    end = time.monotonic() + FORK_PATIENCE
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False
