"""`--check`: run what was emitted, and compare it with the graph itself and PyTorch with ONNX Runtime."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.diagnostics import error
from archc.ir.graph import Graph
from archc.passmanager.agreement import largest_error
from archc.passmanager.calibration import Calibration

if TYPE_CHECKING:
    from types import ModuleType

    import torch

    from archc.compiler import Compiled

FLOAT_TOLERANCE = 1e-4
INTEGER_TOLERANCE = 5e-2
"""Where integers flow, a value on the edge of two steps may be rounded either way by different kernels."""


def check_agreement(
    compiled: Compiled, files: Mapping[str, Path], stages: Sequence[Mapping[str, Path]] = ()
) -> dict[str, Any]:
    """Run the emitted files on seeded random inputs; the stages one after the other, in this process.

    Args:
        files: what was written, by suffix: `.py`, `.onnx`.
        stages: the same for each stage of a divided model; what one gives is what the next takes.

    Returns:
        The relative error of each against the graph (see `PassReport.error`), and the tolerance.

    Raises:
        ArchcError: one is above the tolerance, or does not run (`check-failed`).
    """
    graph = compiled.graph
    inputs = next(Calibration(graph, seed=compiled.seed).batches())
    expected = Calibration(graph, seed=compiled.seed).outputs(graph)
    errors: dict[str, float] = {}
    if ".py" in files:
        results = _run_torch(files[".py"], tuple(inputs.values()))
        errors["torch"] = largest_error(expected, dict(zip(graph.outputs, results, strict=True)))
    if ".onnx" in files:
        errors["onnxruntime"] = largest_error(expected, _run_onnx(files[".onnx"], inputs))
    if stages and all(".py" in stage for stage in stages):
        results = tuple(inputs.values())
        for stage in stages:
            results = _run_torch(stage[".py"], results)
        errors["torch stages"] = largest_error(expected, dict(zip(graph.outputs, results, strict=True)))
    if stages and all(".onnx" in stage for stage in stages):
        values = dict(inputs)
        for stage in stages:
            values = _run_onnx(stage[".onnx"], values)
        errors["onnxruntime stages"] = largest_error(expected, values)
    tolerance = _tolerance(graph)
    worst = max(errors, key=lambda name: errors[name], default=None)
    if worst is not None and not errors[worst] <= tolerance:
        raise error(
            "check-failed",
            f"{worst} differs from the graph by {errors[worst]:.2g}; {tolerance:.0e} is the most",
            help="this is a bug in archc; compile with `--explain` to see what the passes did",
        )
    return {"errors": errors, "tolerance": tolerance}


def _run_torch(path: Path, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The outputs of an emitted module with the weights that lie beside it."""
    import torch

    module = load_module(path)
    # A text may name devices that this machine does not have.
    model = module.load(devices=["cpu"] * len(module.DEVICES)) if hasattr(module, "DEVICES") else module.load()
    with torch.no_grad():
        results = model(*inputs)
    return results if isinstance(results, tuple) else (results,)


def _run_onnx(path: Path, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The outputs that ONNX Runtime computes.

    Raises:
        ArchcError: it cannot run the file (`check-failed`): it has no kernel for an operator of a dtype, mostly.
    """
    import torch
    from onnxruntime.capi import onnxruntime_pybind11_state as refusals

    from archc.codegen import onnx

    if any(tensor.dtype is torch.bfloat16 for tensor in inputs.values()):
        raise error("check-failed", "ONNX Runtime takes no bf16 arrays from Python", help="compile without `--check`")
    try:
        arrays = onnx.run(path, {name: tensor.numpy() for name, tensor in inputs.items()})
    except (refusals.Fail, refusals.InvalidArgument, refusals.InvalidGraph, refusals.InvalidProtobuf) as refusal:
        raise error("check-failed", f"ONNX Runtime refuses the model: {refusal}") from None
    except (refusals.NotImplemented, refusals.RuntimeException) as refusal:
        raise error("check-failed", f"ONNX Runtime cannot run the model: {refusal}") from None
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _tolerance(graph: Graph) -> float:
    integers = any(not weight.storage.elementwise for weight in graph.weights.values()) or any(
        value.type.dtype.value in ("u8", "i8") for node in graph.nodes() for value in node.results
    )
    return INTEGER_TOLERANCE if integers else FLOAT_TOLERANCE


def load_module(path: Path) -> ModuleType:
    """Import an emitted module from its file, leaving no trace in the folder or in `sys.modules`."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes_bytecode
    return module
