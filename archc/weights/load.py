"""One door for every kind of weights file.  What a file is, its content says, not its name."""

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

_HEAD = 16  # bytes that tell the formats apart
_ZIP = b"PK\x03\x04"
_EMPTY_ZIP = b"PK\x05\x06"
_PICKLE = b"\x80"  # pickle protocol 2 and later, and so what torch saved before it wrote zips
_OTHER_FORMATS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x93NUMPY": "a single numpy array",
    b"GGUF": "a GGUF file",
}


def load(path: Path | str, *, allow_pickle: bool = False) -> dict[str, LazyTensor]:
    """The tensors of a `.safetensors` file, an `.npz` archive or, with `allow_pickle`, a state dict of PyTorch's.

    Raises `ArchcError`: `pickle-refused` for a pickle that was not allowed, `weights-unknown-format`, those of the
    readers (`weights-malformed`, `weights-truncated`, `weights-dtype`) and those of `file_size` (`file-not-found`, …).
    """
    path = Path(path)
    file_size(path)
    with opened(path) as stream:
        head = stream.read(_HEAD)
    if head[8:9] == b"{":  # before the pickle: a header whose length ends in 0x80 begins like one
        return safetensors.read(path)
    if head.startswith((_ZIP, _EMPTY_ZIP)):
        if not _is_torch_archive(path):
            return {**npz.read(path)}
    elif not head.startswith(_PICKLE):
        if path.suffix == ".safetensors":  # damaged: its reader says how
            return safetensors.read(path)
        kind = next((kind for magic, kind in _OTHER_FORMATS.items() if head.startswith(magic)), "of an unknown format")
        raise error(
            "weights-unknown-format",
            f"{quoted(str(path))} is {kind}",
            help="weights are read from `.safetensors`, from `.npz`, and with `--allow-pickle` from `.pt`",
        )
    if not allow_pickle:
        raise error(
            "pickle-refused",
            f"{quoted(str(path))} is a pickle, and a pickle can run code when it is read",
            help="convert it with `safetensors.torch.save_file`, or, if you trust it, pass `--allow-pickle`",
        )
    return torch_state.read(path)


def _is_torch_archive(path: Path) -> bool:
    """Whether a zip holds a pickle beside the storages, as `torch.save` writes it."""
    try:
        with opened(path) as stream, zipfile.ZipFile(stream) as archive:
            return any(name == "data.pkl" or name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # ValueError: a member's name is no UTF-8
        raise error(
            "weights-truncated",
            f"{quoted(str(path))} begins as a zip archive, and its table of contents at the end is missing or damaged",
            help="copy or download the file again",
        ) from None


def tensors_of(given: Mapping[str, Any]) -> dict[str, LazyTensor]:
    """Copy numpy arrays or PyTorch tensors, so that later changes to them do not change a compiled model.

    Raises:
        TypeError: a name is not a string, a value is neither an array nor a tensor, or archc lacks its dtype.
    """
    return {name: ArrayTensor(array.copy()) for name, array in arrays_of(given, "weights").items()}


def arrays_of(given: Mapping[str, Any], argument: str) -> dict[str, np.ndarray]:
    """Convert numpy arrays or PyTorch tensors, by name, to numpy arrays.

    Args:
        argument: the name of the caller's argument, for messages.

    Raises:
        TypeError: as `tensors_of`.
    """
    import numpy as np

    arrays = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise TypeError(f"`{argument}` takes arrays by name, and {name!r} is no string")
        try:
            array = from_torch(value) if _is_torch(value) else value
        except (NotImplementedError, RuntimeError, TypeError) as reason:
            raise TypeError(f"`{argument}` takes dense tensors with values, and {name!r} {_problem(value)}") from reason
        if not isinstance(array, np.ndarray | np.generic):
            raise TypeError(
                f"`{argument}` takes numpy arrays or torch tensors by name, and {name!r} is {type(value).__name__}"
            )
        arrays[name] = np.asarray(array)
        if name_of_numpy(arrays[name].dtype) is None:
            raise TypeError(f"`{argument}`: archc has no dtype for the {arrays[name].dtype} of {name!r}")
    return arrays


def _problem(tensor: Any) -> str:
    """Clause on a PyTorch tensor that numpy cannot take."""
    if tensor.is_meta:
        return "is on the device `meta`, which holds no values"
    if str(tensor.layout) != "torch.strided":
        return f"is {tensor.layout}: call `.to_dense()`"
    if tensor.is_quantized:
        return f"is {tensor.dtype}: call `.dequantize()`"
    return f"is {tensor.dtype}, which archc has no dtype for: call `.float()`"


def _is_torch(value: Any) -> bool:
    """Return whether a value is a PyTorch tensor, without importing PyTorch."""
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach") and hasattr(value, "shape")
