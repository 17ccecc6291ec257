"""The PyTorch module of a compiled model, created in this process without a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archc.codegen.target import Form
from archc.driver.compilation import Compilation, model_to_emit
from archc.driver.emission import needs_weights
from archc.targets.torch import module_of

if TYPE_CHECKING:
    import torch
    from torch import nn


def live_module(compiled: Compilation, device: str | torch.device, form: Form) -> nn.Module:
    """The emitted module with its weights, in evaluation mode, with all stages on one device.

    Raises:
        TypeError: `device` is neither a string nor a `torch.device`.
        ValueError: PyTorch does not know the device, or the device is not available on this machine.
        ArchcError: the model was compiled without weights (`needs-weights`), or PyTorch cannot express the model.
    """
    if compiled.graph.tensors is None:
        raise needs_weights(compiled, "a module", "compile it with weights, or call `sources()` for its source")
    _check_device(device)
    return module_of(model_to_emit(compiled, form=form), device)


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
