"""One door for every kind of weights file.  What a file is, its content says, not its name."""

from __future__ import annotations

import zipfile
from pathlib import Path

from archc.diagnostics import error
from archc.weights import npz, safetensors, torch_state
from archc.weights.files import opened, quoted, size_of
from archc.weights.npz import load_npz_arrays
from archc.weights.tensor import LazyTensor

__all__ = ["load", "load_npz_arrays"]

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
    readers (`weights-malformed`, `weights-truncated`, `weights-dtype`) and those of `size_of` (`file-not-found`, …).
    """
    path = Path(path)
    size_of(path)
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
