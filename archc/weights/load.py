"""Weights and calibration data from files of all formats and from arrays.

The format of a file is detected from its content, not from its name.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.diagnostics import error
from archc.weights import npz, safetensors, torch_state
from archc.weights.dtype_conversion import from_torch, name_of_numpy
from archc.weights.input_files import file_size, opened, quoted
from archc.weights.tensor import ArrayTensor, LazyTensor

if TYPE_CHECKING:
    import numpy as np

_HEAD = 16  # bytes that distinguish the formats
_ZIP = b"PK\x03\x04"
_EMPTY_ZIP = b"PK\x05\x06"
_PICKLE = b"\x80"  # pickle protocol 2 and later, also files of torch < 1.6
_OTHER_FORMATS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x93NUMPY": "a single numpy array",
    b"GGUF": "a GGUF file",
}


def load(path: Path | str, *, allow_pickle: bool = False) -> dict[str, LazyTensor]:
    """Read the tensors of a safetensors file, numpy archive or, with `allow_pickle`, PyTorch state dict.

    Raises:
        ArchcError: `pickle-refused` for a pickle without `allow_pickle`, `weights-unknown-format`, the errors of the
            readers (`weights-malformed`, `weights-truncated`, `weights-dtype`) and of `file_size` (`file-not-found`,
            …).
    """
    path = Path(path)
    file_size(path)
    with opened(path) as stream:
        head = stream.read(_HEAD)
    if head[8:9] == b"{":  # safetensors, tested first: the first byte may be 0x80, as in a pickle
        return safetensors.read(path)
    if head.startswith((_ZIP, _EMPTY_ZIP)):
        if not _is_torch_archive(path):
            return {**npz.read(path)}
    elif not head.startswith(_PICKLE):
        if path.suffix == ".safetensors":  # a damaged file: the reader reports the damage
            return safetensors.read(path)
        kind = next((kind for magic, kind in _OTHER_FORMATS.items() if head.startswith(magic)), "of an unknown format")
        raise error(
            "weights-unknown-format",
            f"{quoted(str(path))} is {kind}",
            help="weights are read from `.safetensors`, `.npz`, and also `.pt` with `--allow-pickle`",
        )
    if not allow_pickle:
        raise error(
            "pickle-refused",
            f"{quoted(str(path))} is a pickle, which can run code when it is read",
            help="convert it with `safetensors.torch.save_file`, or, if you trust the file, use `--allow-pickle`",
        )
    return torch_state.read(path)


def _is_torch_archive(path: Path) -> bool:
    """Return True if a zip archive contains a pickle, as archives of `torch.save` do."""
    try:
        with opened(path) as stream, zipfile.ZipFile(stream) as archive:
            return any(name == "data.pkl" or name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # ValueError: a member's name is not UTF-8
        raise error(
            "weights-truncated",
            f"{quoted(str(path))} is a zip archive whose directory at the end of the file is missing or damaged",
            help="copy or download the file again",
        ) from None


def tensors_of(given: Mapping[str, Any]) -> dict[str, LazyTensor]:
    """Copy numpy arrays or PyTorch tensors, so that later changes of them do not change a compiled model.

    Raises:
        TypeError: a name is not a string, a value is neither an array nor a tensor, or archc does not support its
            dtype.
    """
    return {name: ArrayTensor(array.copy()) for name, array in arrays_of(given, "weights").items()}


def arrays_of(given: Mapping[str, Any], argument: str) -> dict[str, np.ndarray]:
    """Convert numpy arrays or PyTorch tensors, by name, to numpy arrays.

    Args:
        argument: name of the caller's argument in messages.

    Raises:
        TypeError: as `tensors_of`.
    """
    import numpy as np

    arrays = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise TypeError(f"`{argument}` expects strings as names, got {name!r}")
        try:
            array = from_torch(value) if _is_torch(value) else value
        except (NotImplementedError, RuntimeError, TypeError) as reason:
            raise TypeError(f"`{argument}` expects dense tensors with values; {name!r} {_problem(value)}") from reason
        if not isinstance(array, np.ndarray | np.generic):
            raise TypeError(f"`{argument}` expects numpy arrays or torch tensors; {name!r} is {type(value).__name__}")
        arrays[name] = np.asarray(array)
        if name_of_numpy(arrays[name].dtype) is None:
            raise TypeError(f"`{argument}`: archc does not support the dtype {arrays[name].dtype} of {name!r}")
    return arrays


def _problem(tensor: Any) -> str:
    """Return the reason that numpy cannot convert a PyTorch tensor, as a clause."""
    if tensor.is_meta:
        return "is on the device `meta`, without values"
    if str(tensor.layout) != "torch.strided":
        return f"is {tensor.layout}: call `.to_dense()`"
    if tensor.is_quantized:
        return f"is {tensor.dtype}: call `.dequantize()`"
    return f"is {tensor.dtype}, which archc does not support: call `.float()`"


def _is_torch(value: Any) -> bool:
    """Return True if a value is a PyTorch tensor, without an import of PyTorch."""
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach") and hasattr(value, "shape")
