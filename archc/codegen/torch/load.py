"""Import emitted PyTorch modules: from their files, or in memory with the weights of a graph."""

from __future__ import annotations

import builtins
import importlib.util
import linecache
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from archc.ir.graph import Graph
from archc.weights.dtype_conversion import to_torch

if TYPE_CHECKING:
    import torch
    from torch import nn


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


def load_model(path: Path) -> nn.Module:
    """The model of an emitted module with the weights in its folder, on the CPU and in evaluation mode."""
    module = load_module(path)
    # All stages run on the CPU, since the text may name devices that this machine lacks.
    devices = {"devices": ["cpu"] * len(module.DEVICES)} if hasattr(module, "DEVICES") else {}
    model: nn.Module = module.load(**devices)
    return model


def live_model(graph: Graph, source: str, device: str | torch.device) -> nn.Module:
    """The model of an emitted module in evaluation mode, with the weights of a graph.

    No file is read or written.

    Args:
        source: the source of the module that was emitted for the graph.
        device: the device of all weights, also for a model of several stages.
    """
    emitted = ModuleType(graph.name)
    emitted.__file__ = f"<{graph.name}.py of archc>"
    linecache.cache[emitted.__file__] = (len(source), None, source.splitlines(keepends=True), emitted.__file__)
    tensors = {path: to_torch(tensor.numpy()) for path, tensor in graph.stored_tensors().items()}
    # The emitted `load` calls `load_file` of safetensors.  The replacement here returns the tensors in memory.
    emitted.__dict__["__builtins__"] = {**vars(builtins), "__import__": _importer(tensors)}
    exec(compile(source, emitted.__file__, "exec"), emitted.__dict__)
    devices = getattr(emitted, "DEVICES", None)
    model: nn.Module = (
        emitted.load("", device) if devices is None else emitted.load("", devices=[device] * len(devices))
    )
    return model


def _importer(tensors: Mapping[str, torch.Tensor]) -> Callable[..., Any]:
    """An `__import__` with a replaced `safetensors.torch.load_file`, which returns these tensors."""

    def load_file(path: object, device: str = "cpu") -> dict[str, torch.Tensor]:
        return {name: tensor.to(device) for name, tensor in tensors.items()}

    def importer(name: str, *arguments: Any, **options: Any) -> Any:
        return (
            SimpleNamespace(load_file=load_file)
            if name == "safetensors.torch"
            else __import__(name, *arguments, **options)
        )

    return importer
