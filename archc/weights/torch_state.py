"""PyTorch's checkpoint files, which are pickles, read with PyTorch's restricted unpickler.

An unrestricted unpickler runs any code that the pickle names.  `torch.load(weights_only=True)` constructs only tensors
and containers.
"""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.diagnostics import error
from archc.weights.dtype_conversion import ITEM_SIZE, from_torch
from archc.weights.input_files import file_size, quoted
from archc.weights.tensor import CHUNK_BYTES, LazyTensor

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

# Keys of the state dict in checkpoints of Lightning, timm and many scripts.
_WRAPPERS = ("state_dict", "model", "model_state")
_SAFE_SINCE = (2, 10)  # CVE-2025-32434 and CVE-2026-24747 circumvent `weights_only` in older versions
_DTYPE_OF_TORCH = {
    "torch.float64": "f64", "torch.float32": "f32", "torch.float16": "f16", "torch.bfloat16": "bf16",
    "torch.int64": "i64", "torch.int32": "i32", "torch.int16": "i16", "torch.int8": "i8",
    "torch.uint8": "u8", "torch.bool": "bool",
    "torch.float8_e4m3fn": "f8e4m3", "torch.float8_e5m2": "f8e5m2",
}  # fmt: skip


class TorchTensor(LazyTensor):
    """A PyTorch tensor on any device; a memory-mapped tensor is read on demand.

    Raises:
        ValueError: the tensor is not dense, is on the device `meta`, or has a dtype that archc does not support.
    """

    def __init__(self, tensor: torch.Tensor):
        import torch

        dtype = _DTYPE_OF_TORCH.get(str(tensor.dtype))
        if dtype is None or tensor.layout != torch.strided or tensor.is_meta:
            raise ValueError(f"a tensor of {tensor.dtype} on {tensor.device} with the layout {tensor.layout}")
        self._tensor = tensor.detach()
        self.shape = tuple(tensor.shape)
        self.dtype = dtype

    def numpy(self) -> npt.NDArray[Any]:
        return from_torch(self._tensor)

    def chunks(self) -> Iterator[npt.NDArray[Any]]:
        if not self._tensor.is_contiguous():
            yield from super().chunks()
            return
        flat = self._tensor.reshape(-1)
        step = CHUNK_BYTES // ITEM_SIZE[self.dtype]
        for start in range(0, self.size, step):
            yield from_torch(flat[start : start + step])


def read(path: Path | str) -> dict[str, LazyTensor]:
    """Read a state dict from a file of `torch.save`.

    The state dict may be the value of a key `state_dict`, `model` or `model_state`.

    Raises:
        ArchcError: `weights-malformed` if the file is not a state dict, `weights-dtype`, `torch-too-old`, or an error
            of `file_size`.
    """
    import torch

    path = Path(path)
    file_size(path)
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < _SAFE_SINCE:
        raise error(
            "torch-too-old",
            f"torch {torch.__version__} cannot read pickles safely",
            help=f"install torch {'.'.join(map(str, _SAFE_SINCE))} or later, or use a safetensors file",
        )
    try:
        content = _unpickle(path)
    except _UNPICKLING_ERRORS:
        # PyTorch's message, which advises to disable the protection, is not repeated.
        raise error(
            "weights-malformed",
            f"{quoted(str(path))} is not a state dict that PyTorch's restricted unpickler accepts",
            notes=["the file is damaged, or has objects other than tensors, numbers, strings and containers"],
            help="save `model.state_dict()` with `safetensors.torch.save_file`",
        ) from None
    tensors: dict[str, LazyTensor] = {}
    for name, tensor in _state_dict(path, content).items():
        try:
            tensors[name] = TorchTensor(tensor)
        except ValueError as reason:
            message = f"tensor {quoted(name)} of {quoted(str(path))} is {reason}"
            raise error("weights-dtype", message, help=f"archc reads dense {', '.join(ITEM_SIZE)}") from None
    return tensors


def _unpickle(path: Path) -> object:
    """Unpickle a file: map the tensors of a zip archive, read the tensors of a file of torch < 1.6."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the pickle protocol of the file
        if zipfile.is_zipfile(path) and path.suffix != ".safetensors":
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        # `torch.load` does not unpickle a path with the suffix `.safetensors`.  A stream has no suffix, but cannot be
        # mapped.
        with path.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)


# Exceptions of the unpickler and of PyTorch's functions for damaged or malicious pickles.
_UNPICKLING_ERRORS = (
    pickle.UnpicklingError, struct.error, zipfile.BadZipFile, RuntimeError, ValueError, TypeError, LookupError,
    AttributeError, AssertionError, EOFError, ImportError, OSError, OverflowError, MemoryError,
)  # fmt: skip


def _state_dict(path: Path, content: object) -> Mapping[str, torch.Tensor]:
    import torch

    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise error("weights-malformed", f"{quoted(str(path))} is a {type(content).__name__}, not a state dict")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise error(
                "weights-malformed",
                f"{quoted(str(path))} is not a state dict: {quoted(str(name))} is a {type(value).__name__}",
                help="save `model.state_dict()`, alone or as `{'state_dict': model.state_dict()}`",
            )
    return content
