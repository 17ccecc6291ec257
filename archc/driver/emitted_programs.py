"""Run emitted programs: PyTorch modules and ONNX models, whole or in stages."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from archc.diagnostics import ArchcError, error, silent
from archc.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from types import ModuleType

    import onnx
    import torch

    from archc.ir.graph import Graph

Inputs = Mapping[str, "torch.Tensor"]
Files = Mapping[str, Path]
"""Paths of the emitted files of a model or a stage by suffix (`.py`, `.onnx`).

The weights are in the same folder.
"""

TITLES = {
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "torch stages": "the stages in PyTorch",
    "onnxruntime stages": "the stages in ONNX Runtime",
}
_WITHOUT = {"torch": "onnx,arch", "onnxruntime": "torch,arch"}
"""The values of `--emit` that leave out a program, by the first word of the program's key in `TITLES`."""


@frozen_dataclass
class Programs:
    """The files of a model, and the files of each of its stages.

    Attributes:
        exact: True if ONNX Runtime must sum products of 8-bit integers without saturation on every CPU; see `exactly`.
    """

    files: Files
    stages: Sequence[Files] = ()
    exact: bool = False

    def results(
        self, graph: Graph, inputs: Inputs, tell: Callable[[str], None] = silent
    ) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """Run each program; yield its key in `TITLES` and its outputs by name.

        Args:
            tell: called with the key of a program before the program runs.

        Raises:
            ArchcError: a program does not run (`check-failed`).
        """
        given = tuple(inputs.values())
        if ".py" in self.files:
            tell("torch")
            yield "torch", dict(zip(graph.outputs, _run_torch(self.files[".py"], given), strict=True))
        if ".onnx" in self.files:
            tell("onnxruntime")
            yield "onnxruntime", _run_onnx(self.files[".onnx"], inputs, self.exact)
        if self.stages and all(".py" in stage for stage in self.stages):
            tell("torch stages")
            for stage in self.stages:
                given = _run_torch(stage[".py"], given)
            yield "torch stages", dict(zip(graph.outputs, given, strict=True))
        if self.stages and all(".onnx" in stage for stage in self.stages):
            tell("onnxruntime stages")
            values = dict(inputs)
            for stage in self.stages:
                values = _run_onnx(stage[".onnx"], values, self.exact)
            yield "onnxruntime stages", values

    def exactly(self, folder: Path) -> Programs:
        """Copy the ONNX models to a folder; return programs that sum products of 8-bit integers exactly.

        Without VNNI instructions, x86 CPUs add two such products in 16 bits with saturation.  A session option avoids
        the saturation, but fails if nodes share an initializer (ONNX Runtime 1.23).  In the copies, therefore, no two
        nodes share an initializer.
        """
        onnx_only = [{".onnx": files[".onnx"]} if ".onnx" in files else {} for files in (self.files, *self.stages)]
        files, *stages = ({suffix: _unshared(path, folder) for suffix, path in each.items()} for each in onnx_only)
        return replace(self, files=files, stages=stages, exact=True)


def _run_torch(path: Path, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Outputs of an emitted module with the weights in its folder."""
    import torch

    try:
        module = load_module(path)
        # All stages run on the CPU, since the text may name devices that this machine lacks.
        model = module.load(devices=["cpu"] * len(module.DEVICES)) if hasattr(module, "DEVICES") else module.load()
        with torch.no_grad():
            results = model(*inputs)
    except MemoryError:
        raise  # the command line reports a lack of memory
    except Exception as failure:
        raise _refusal("torch", "PyTorch cannot run the module", failure) from failure
    # An output that is a parameter requires gradients even under `no_grad`, so it is detached.
    return tuple(result.detach() for result in (results if isinstance(results, tuple) else (results,)))


def _run_onnx(path: Path, inputs: Inputs, exact: bool) -> dict[str, torch.Tensor]:
    """Outputs of an ONNX model in ONNX Runtime, by name."""
    from onnxruntime.capi import onnxruntime_pybind11_state as refusals

    from archc.codegen import onnx

    try:
        return onnx.run_tensors(path, inputs, exact=exact)
    except (refusals.Fail, refusals.InvalidArgument, refusals.InvalidGraph, refusals.InvalidProtobuf) as refusal:
        raise _refusal("onnxruntime", "ONNX Runtime refuses the model", refusal) from None
    except MemoryError:
        raise
    except Exception as failure:
        raise _refusal("onnxruntime", "ONNX Runtime cannot run the model", failure) from failure


def _refusal(program: str, what: str, failure: Exception) -> ArchcError:
    lines = str(failure).strip().splitlines() or [""]
    kind = "" if lines[0].startswith("[ONNXRuntimeError]") else f"{type(failure).__name__}: "
    return error("check-failed", f"{what}: {kind}{lines[0]}", notes=lines[1:4], help=without(program))


def without(program: str) -> str:
    """Help for a program that fails, given its key in `TITLES`."""
    kept = _WITHOUT[program.split()[0]]
    return f"leave that program out with `--emit {kept}`, or write it unchecked with `--no-check`"


def load_module(path: Path) -> ModuleType:
    """Import an emitted module from its file, without byte code and without an entry in `sys.modules`."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes_bytecode
    return module


def _unshared(path: Path, folder: Path) -> Path:
    """Copy an ONNX model to a folder, so that each initializer has only one use; return the path."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    _part_decoders(model.graph, tensors)
    uses: Counter[str] = Counter()
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            uses[name] += name in tensors
            if uses[name] > 1:
                node.input[position] = f"{name}/{uses[name]}"
                copy = model.graph.initializer.add()
                copy.CopyFrom(tensors[name])
                copy.name = node.input[position]
    onnx.save(model, folder / path.name)
    weights, beside = path.with_suffix(".safetensors"), folder / f"{path.stem}.safetensors"
    if weights.exists() and not beside.exists():
        try:
            os.link(weights, beside)
        except OSError:  # a file system without hard links
            shutil.copyfile(weights, beside)
    return folder / path.name


def _part_decoders(graph: onnx.GraphProto, tensors: Collection[str]) -> None:
    """Give each use of a dequantized initializer, except the first use, its own `DequantizeLinear`."""
    import onnx

    decoders = {
        node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in tensors
    }
    uses: Counter[str] = Counter()
    copies = []
    for node in graph.node:
        for position, name in enumerate(node.input):
            uses[name] += 1
            if name in decoders and uses[name] > 1:
                node.input[position] = f"{name}/{uses[name]}"
                copies.append(onnx.NodeProto())
                copies[-1].CopyFrom(decoders[name])
                copies[-1].name = copies[-1].output[0] = node.input[position]
    nodes = [*copies, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
