"""safetensors files: a strict lazy reader, and a writer that streams tensors.

A file consists of eight bytes with the length of the header, a JSON header, and the bytes of the tensors without gaps
(https://github.com/huggingface/safetensors, "Format").  This module does not use the library `safetensors`,
which accepts duplicate names, and reports errors without the name of the tensor.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archc.diagnostics import ArchcError, error
from archc.weights.dtype_conversion import ITEM_SIZE
from archc.weights.input_files import file_size, opened, quoted
from archc.weights.tensor import ByteSink, FileTensor, LazyTensor

_DTYPE_OF_FORMAT = {
    "F64": "f64", "F32": "f32", "F16": "f16", "BF16": "bf16",
    "I64": "i64", "I32": "i32", "I16": "i16", "I8": "i8",
    "U8": "u8", "BOOL": "bool", "F8_E4M3": "f8e4m3", "F8_E5M2": "f8e5m2",
}  # fmt: skip
_FORMAT_OF_DTYPE = {dtype: name for name, dtype in _DTYPE_OF_FORMAT.items()}
_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 100_000_000  # the limit of the library `safetensors`
_HIGHEST_RANK = 32  # the limit of numpy 1
_LARGEST_EXTENT = 2**63 - 1
_METADATA = "__metadata__"
_ALIGNMENT = 64  # bytes of a cache line; the data begin at a multiple, so that vector loads are aligned


def read(path: Path | str) -> dict[str, LazyTensor]:
    """Return the tensors of a file in the order of its header; only the header is read.

    Raises:
        ArchcError: `weights-truncated` for an incomplete file, `weights-malformed` for an invalid file,
            `weights-dtype` for a dtype that archc does not support, or an error of `file_size`.
    """
    path = Path(path)
    size = file_size(path)
    with opened(path) as stream:
        prefix = stream.read(_LENGTH.size)
        if len(prefix) < _LENGTH.size:
            raise _truncated(path, f"it has {size} bytes, and the length of the header takes {_LENGTH.size}")
        (length,) = _LENGTH.unpack(prefix)
        if length > _LONGEST_HEADER:
            raise _malformed(path, f"its header has {length} bytes; the limit is {_LONGEST_HEADER}")
        start = _LENGTH.size + length
        if start > size:
            raise _truncated(path, f"it has {size} bytes, and its header ends at byte {start}")
        header = stream.read(length)
    entries = _parse(path, header)
    stretches: list[tuple[int, int, str]] = []
    tensors: dict[str, LazyTensor] = {}
    for name, entry in entries.items():
        dtype, shape, begin, end = _entry(path, name, entry)
        stretches.append((begin, end, name))
        tensors[name] = FileTensor(path, start + begin, shape, dtype)
    _check_layout(path, stretches, size - start)
    return tensors


def _parse(path: Path, header: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for key, value in pairs:
            if key in members:
                raise _malformed(path, f"its header has the key {quoted(key)} twice")
            members[key] = value
        return members

    if not header.startswith(b"{"):
        raise _malformed(path, "its header does not begin with `{`")
    try:
        entries = json.loads(header.decode("utf-8"), object_pairs_hook=once)
    except UnicodeDecodeError as reason:
        raise _malformed(path, f"its header is not UTF-8 at byte {_LENGTH.size + reason.start}") from None
    except json.JSONDecodeError as reason:
        place = f"at byte {_LENGTH.size + reason.pos}"
        raise _malformed(path, f"its header is not JSON: {reason.msg[0].lower() + reason.msg[1:]} {place}") from None
    except (ValueError, RecursionError):  # an integer with thousands of digits, or deep nesting
        raise _malformed(path, "its header is not a header of a safetensors file") from None
    metadata = entries.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _malformed(path, f"its `{_METADATA}` is not an object of strings")
    return dict(entries)


def _entry(path: Path, name: str, entry: object) -> tuple[str, tuple[int, ...], int, int]:
    """Return dtype and shape of one tensor, and the offsets of its bytes from the start of the data."""
    where = f"tensor {quoted(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _malformed(path, f"the entry of {where} must have the keys `dtype`, `shape` and `data_offsets`")
    written, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(written, str):
        raise _malformed(path, f"{where} has a dtype that is not a string")
    dtype = _DTYPE_OF_FORMAT.get(written)
    if dtype is None:
        raise error(
            "weights-dtype",
            f"tensor {quoted(name)} of {quoted(str(path))} has the dtype {quoted(written)}",
            help=f"archc reads {', '.join(_DTYPE_OF_FORMAT)}",
        )
    if not _are_sizes(shape):
        raise _malformed(path, f"{where} has a shape that is not a list of sizes")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise _malformed(path, f"{where} has `data_offsets` that are not two sizes")
    if len(shape) > _HIGHEST_RANK:
        raise _malformed(path, f"{where} has {len(shape)} axes; the limit is {_HIGHEST_RANK}")
    # An axis of size 0 must not hide an overflow: numpy first multiplies the sizes of the other axes.
    count, room = 1, ITEM_SIZE[dtype]
    for extent in shape:
        count *= extent
        room *= max(extent, 1)
    if room > _LARGEST_EXTENT:
        raise _malformed(path, f"{where} has a shape of more than 2^63 bytes")
    begin, end = offsets
    if begin > end:
        raise _malformed(path, f"{where} begins at {begin} and ends before, at {end}")
    if end - begin != count * ITEM_SIZE[dtype]:
        needed = count * ITEM_SIZE[dtype]
        raise _malformed(path, f"{where} is {dtype}{list(shape)}, which takes {needed} bytes, got {end - begin}")
    return dtype, tuple(shape), begin, end


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value <= _LARGEST_EXTENT  # not `isinstance`, which accepts JSON's `true`
        for value in values
    )


def _check_layout(path: Path, stretches: list[tuple[int, int, str]], size: int) -> None:
    """Check that the tensors cover the data without overlaps and gaps."""
    reached, previous = 0, ""
    for begin, end, name in sorted(stretches):
        if end > size:
            missing = end - size
            raise _truncated(path, f"tensor {quoted(name)} ends {missing} bytes after the end of the file")
        if begin < reached:
            raise _malformed(path, f"the tensors {quoted(previous)} and {quoted(name)} overlap")
        if begin > reached:
            raise _malformed(path, f"no tensor contains the {begin - reached} bytes before tensor {quoted(name)}")
        reached, previous = end, name
    if reached < size:
        raise _malformed(path, f"no tensor contains its last {size - reached} bytes")


def _truncated(path: Path, why: str) -> ArchcError:
    return error(
        "weights-truncated",
        f"{quoted(str(path))} is truncated: {why}",
        help="copy or download the file again",
    )


def _malformed(path: Path, why: str) -> ArchcError:
    return error("weights-malformed", f"{quoted(str(path))} is not a valid safetensors file: {why}")


def write(
    path_or_stream: Path | str | ByteSink,
    tensors: Mapping[str, LazyTensor],
    metadata: Mapping[str, str] | None = None,
) -> dict[str, tuple[int, int]]:
    """Write a file, and return the offset in the file and the length in bytes of each tensor.

    The output is deterministic.  The header has the tensors in the given order.  The data are sorted by the size of
    elements, largest first, and then in the given order.  With this order, every tensor is aligned to the size of its
    elements without gaps.  Memory mapping requires this alignment.

    Raises:
        ValueError: a tensor has the name `__metadata__`.
    """
    if _METADATA in tensors:
        raise ValueError(f"`{_METADATA}` must not be the name of a tensor")
    layout = sorted(tensors.items(), key=lambda item: -ITEM_SIZE[item[1].dtype])
    begins: dict[str, int] = {}
    reached = 0
    for name, tensor in layout:
        begins[name] = reached
        reached += tensor.nbytes
    header: dict[str, Any] = {_METADATA: dict(sorted(metadata.items()))} if metadata else {}
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": _FORMAT_OF_DTYPE[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begins[name], begins[name] + tensor.nbytes],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-(_LENGTH.size + len(text)) % _ALIGNMENT)
    start = _LENGTH.size + len(text)

    def write_all(stream: ByteSink) -> None:
        stream.write(memoryview(_LENGTH.pack(len(text)) + text))
        for _, tensor in layout:
            tensor.write_to(stream)

    if isinstance(path_or_stream, (str, Path)):
        with open(path_or_stream, "wb") as stream:
            write_all(stream)
    else:
        write_all(path_or_stream)
    return {name: (start + begins[name], tensor.nbytes) for name, tensor in tensors.items()}
