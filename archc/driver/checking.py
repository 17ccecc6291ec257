"""`--check`: run what was emitted, and compare it with the graph itself and PyTorch with ONNX Runtime."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from archc.diagnostics import error
from archc.ir.graph import Graph
from archc.passmanager.agreement import largest_error, spreads
from archc.passmanager.calibration import Calibration

if TYPE_CHECKING:
    from types import ModuleType

    import torch

    from archc.compiler import Compiled

FLOAT_TOLERANCE = 1e-4
INTEGER_TOLERANCE = 5e-2
"""Where integers flow, a value on the edge of two steps may be rounded either way by different kernels."""
LEAST_SHARE = 0.1
"""An output that varies by less than this part of its size is compared with this part: its rounding is that of all."""
ROUNDINGS = 10
"""How many times what one rounding in each layer changes scaled programs may differ by.

Each element of a layer's result is a sum, in which another order rounds a few times, not once; and one draw of the
disturbance says how fast it grows within a factor of two or so.
"""
FAINT = 1e-2
"""An output that varies by less than this part of its size says too little of the layers that are far from it."""


def check_agreement(
    compiled: Compiled, files: Mapping[str, Path], stages: Sequence[Mapping[str, Path]] = ()
) -> dict[str, Any]:
    """Run the emitted files on seeded random inputs; the stages one after the other, in this process.

    What an output is for every input says nothing of how it came about.  So errors are relative to the spread, which is
    how much an output varies over inputs; see `spreads`.  Where it hardly does, copies of the files run with other
    weights as well; see `archc.driver.lively`.

    Args:
        files: what was written, by suffix: `.py`, `.onnx`.
        stages: the same for each stage of a divided model; what one gives is what the next takes.

    Returns:
        `errors`: the error of each against the graph; `tolerance`: the most that there may be; `spread`: that of each
        output, relative to its size; `faint`: the outputs for which it is too small, though inputs and trained weights
        lead to them; `scaled`: all of these once more, with other weights, where these were tried, and None where no
        layer could be scaled.

    Raises:
        ArchcError: one is above the tolerance, or does not run (`check-failed`).
    """
    graph = compiled.graph
    programs = Programs(files, stages)
    outcome = _compared(compiled, graph, programs)
    if outcome["errors"] and outcome["faint"] and not _integers(graph):
        from archc.driver.lively import lively_factors, scaled_copies, with_factors

        factors = lively_factors(graph, next(Calibration(graph, seed=compiled.seed).batches()))
        if not factors:
            return {**outcome, "scaled": None}
        with TemporaryDirectory(prefix="archc-check-") as folder:
            copies = [scaled_copies(each, factors, Path(folder)) for each in (files, *stages)]
            scaled = Programs(copies[0], copies[1:])
            outcome["scaled"] = _compared(compiled, with_factors(graph, factors), scaled, alive=True)
    return outcome


@dataclass(frozen=True)
class Programs:
    """What was written: the files of the model, and those of each of its stages."""

    files: Mapping[str, Path]
    stages: Sequence[Mapping[str, Path]]

    def results(
        self, graph: Graph, inputs: Mapping[str, torch.Tensor]
    ) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """What each of them makes of inputs: what it is called, and its outputs by name."""
        given = tuple(inputs.values())
        if ".py" in self.files:
            yield "torch", dict(zip(graph.outputs, _run_torch(self.files[".py"], given), strict=True))
        if ".onnx" in self.files:
            yield "onnxruntime", _run_onnx(self.files[".onnx"], inputs)
        if self.stages and all(".py" in stage for stage in self.stages):
            for stage in self.stages:
                given = _run_torch(stage[".py"], given)
            yield "torch stages", dict(zip(graph.outputs, given, strict=True))
        if self.stages and all(".onnx" in stage for stage in self.stages):
            values = dict(inputs)
            for stage in self.stages:
                values = _run_onnx(stage[".onnx"], values)
            yield "onnxruntime stages", values


def _compared(compiled: Compiled, graph: Graph, programs: Programs, alive: bool = False) -> dict[str, Any]:
    """Errors and spread, with the weights that the graph has; `alive` where they were scaled for this.

    Where integers flow, errors stay relative to the size: kernels may round a number between two steps either way, and
    relative to a small spread that looks like a mistake.
    """
    calibration, other = (Calibration(compiled.graph, seed=compiled.seed + k) for k in range(2))
    expected = calibration.outputs(graph)
    spread = spreads(expected, other.outputs(graph))
    integers = _integers(graph)
    shares = {name: 1.0 if integers else max(LEAST_SHARE, min(1.0, value)) for name, value in spread.items()}
    inputs = next(calibration.batches())
    errors = {name: largest_error(expected, found, shares) for name, found in programs.results(graph, inputs)}
    tolerance = INTEGER_TOLERANCE if integers else FLOAT_TOLERANCE
    if alive:
        from archc.driver.lively import with_rounding

        magnified = ROUNDINGS * largest_error(expected, with_rounding(graph, inputs), shares)
        tolerance = max(tolerance, magnified) if math.isfinite(magnified) else tolerance
    worst = max(errors, key=lambda name: errors[name], default=None)
    if worst is not None and not errors[worst] <= tolerance:
        where = " once weights are scaled so that the inputs matter" if alive else ""
        raise error(
            "check-failed",
            f"{worst} differs from the graph by {errors[worst]:.2g}{where}; {tolerance:.2g} is the most",
            help="this is a bug in archc; compile with `--explain` to see what the passes did",
        )
    trained = _trained_outputs(graph)
    faint = [name for name, value in spread.items() if name in trained and not value >= FAINT]
    return {"tolerance": tolerance, "errors": errors, "spread": spread, "faint": faint}


def _trained_outputs(graph: Graph) -> set[str]:
    """The outputs that inputs lead to, and weights that training changes.

    Any others are what they are: no trained weights would let the inputs matter more.
    """
    trained = {node for node in graph.nodes() if any(graph.weights[path].trainable for path in node.weights.values())}
    # Of each value, whether an input leads to it, and whether a trained weight does.
    reached = dict.fromkeys(graph.inputs, (True, False))
    for node in graph.nodes():
        operands = [reached[operand] for operand in node.operands]
        both = (any(one for one, _ in operands), node in trained or any(other for _, other in operands))
        reached.update(dict.fromkeys(node.results, both))
    return {name for name, value in graph.outputs.items() if all(reached[value])}


def _run_torch(path: Path, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The outputs of an emitted module with the weights that lie beside it."""
    import torch

    module = load_module(path)
    # A text may name devices that this machine does not have.
    model = module.load(devices=["cpu"] * len(module.DEVICES)) if hasattr(module, "DEVICES") else module.load()
    with torch.no_grad():
        results = model(*inputs)
    # A parameter that is an output as it stands asks for gradients, no matter what.
    return tuple(result.detach() for result in (results if isinstance(results, tuple) else (results,)))


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


def _integers(graph: Graph) -> bool:
    """Whether weights are stored as integers, or numbers are rounded to them."""
    return any(not weight.storage.elementwise for weight in graph.weights.values()) or any(
        value.type.dtype.value in ("u8", "i8") for node in graph.nodes() for value in node.results
    )


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
