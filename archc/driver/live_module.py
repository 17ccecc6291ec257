"""The PyTorch module of a compiled model, created in this process without a file."""

from __future__ import annotations

import builtins
import linecache
from collections.abc import Callable, Mapping
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from archc.driver.emission import needs_weights, torch_source
from archc.driver.graph_files import stored_tensors
from archc.weights.dtype_conversion import to_torch

if TYPE_CHECKING:
    import torch
    from torch import nn

    from archc.driver.compilation import Compilation


def live_module(compiled: Compilation, device: str | torch.device) -> nn.Module:
    """The emitted module with its weights, in evaluation mode, with all stages on one device.

    Raises:
        TypeError: `device` is neither a string nor a `torch.device`.
        ValueError: PyTorch does not know the device, or the device is not available on this machine.
        ArchcError: the model was compiled without weights (`needs-weights`), or PyTorch cannot express the model.
    """
    if compiled.graph.tensors is None:
        raise needs_weights(compiled, "a module", "compile it with weights, or call `sources()` for its source")
    _check_device(device)
    source = torch_source(compiled)
    emitted = ModuleType(compiled.name)
    emitted.__file__ = f"<{compiled.name}.py of archc>"
    linecache.cache[emitted.__file__] = (len(source), None, source.splitlines(keepends=True), emitted.__file__)
    tensors = {path: to_torch(tensor.numpy()) for path, tensor in stored_tensors(compiled.graph).items()}
    # The emitted `load` calls `load_file` of safetensors.  The replacement here returns the tensors in memory.
    emitted.__dict__["__builtins__"] = {**vars(builtins), "__import__": _importer(tensors)}
    exec(compile(source, emitted.__file__, "exec"), emitted.__dict__)
    devices = getattr(emitted, "DEVICES", None)
    model: nn.Module = (
        emitted.load("", device) if devices is None else emitted.load("", devices=[device] * len(devices))
    )
    return model


def _check_device(device: str | torch.device) -> None:
    """Reject a device on which PyTorch cannot allocate a tensor.

    Raises:
        TypeError: `device` is neither a string nor a `torch.device`.
        ValueError: PyTorch does not know the device, or the device is not available on this machine.
    """
    import torch

    if not isinstance(device, str | torch.device):
        raise TypeError(f'`device` takes a device of PyTorch such as "cpu" or "cuda:0", not {type(device).__name__}')
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as failure:
        reason = str(failure).partition("\n")[0]
        raise ValueError(f'`device` takes a device of PyTorch such as "cpu" or "cuda:0": {reason}') from None


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
