"""safetensors files: read strictly and lazily, written tensor by tensor.

Eight bytes of header length, a JSON header, then the bytes of the tensors without gaps
(https://github.com/huggingface/safetensors, "Format").  The header is parsed here and not by the library, because
it is user input: the library accepts duplicate names, and its errors name neither tensor nor way out.
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
    "U8": "u8", "BOOL": "bool",
}  # fmt: skip
_FORMAT_OF_DTYPE = {dtype: name for name, dtype in _DTYPE_OF_FORMAT.items()}
_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 100_000_000  # the library's limit, too
_HIGHEST_RANK = 32  # numpy 1's limit
_LARGEST_EXTENT = 2**63 - 1
_METADATA = "__metadata__"
_ALIGNMENT = 64  # a cache line: the data starts on one, so that a mapped tensor suits vector loads


def read(path: Path | str) -> dict[str, LazyTensor]:
    """The tensors of a file in the order of its header.  Only the header is read.

    Raises `ArchcError`: `weights-truncated` for a file that ends too early, `weights-malformed` for one that
    contradicts the format or itself, `weights-dtype` for elements that archc has no name for, and those of `file_size`.
    """
    path = Path(path)
    size = file_size(path)
    with opened(path) as stream:
        prefix = stream.read(_LENGTH.size)
        if len(prefix) < _LENGTH.size:
            raise _truncated(path, f"it has {size} bytes, and the length of the header alone takes {_LENGTH.size}")
        (length,) = _LENGTH.unpack(prefix)
        if length > _LONGEST_HEADER:
            raise _malformed(path, f"its header claims {length} bytes; {_LONGEST_HEADER} is the most allowed")
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
                raise _malformed(path, f"its header says {quoted(key)} twice")
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
    except (ValueError, RecursionError):  # an integer of thousands of digits; nesting without end
        raise _malformed(path, "its header is not one that a safetensors file can have") from None
    metadata = entries.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _malformed(path, f"its `{_METADATA}` is not an object of strings")
    return dict(entries)


def _entry(path: Path, name: str, entry: object) -> tuple[str, tuple[int, ...], int, int]:
    """dtype, shape, first byte and last byte (exclusive, both counted from the start of the data) of one tensor."""
    where = f"its tensor {quoted(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _malformed(path, f"{where} is not described by exactly `dtype`, `shape` and `data_offsets`")
    written, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(written, str):
        raise _malformed(path, f"{where} has a dtype that is not a string")
    dtype = _DTYPE_OF_FORMAT.get(written)
    if dtype is None:
        raise error(
            "weights-dtype",
            f"tensor {quoted(name)} of {quoted(str(path))} is of dtype {quoted(written)}",
            help=f"archc reads {', '.join(_DTYPE_OF_FORMAT)}",
        )
    if not _are_sizes(shape):
        raise _malformed(path, f"{where} has a shape that is not a list of sizes")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise _malformed(path, f"{where} has `data_offsets` that are not two sizes")
    if len(shape) > _HIGHEST_RANK:
        raise _malformed(path, f"{where} has {len(shape)} axes; {_HIGHEST_RANK} is the most allowed")
    # An axis of extent zero must not hide that the others overflow: numpy multiplies these first.
    count, room = 1, ITEM_SIZE[dtype]
    for extent in shape:
        count *= extent
        room *= max(extent, 1)
    if room > _LARGEST_EXTENT:
        raise _malformed(path, f"{where} has a shape of more than 2^63 bytes")
    begin, end = offsets
    if begin > end:
        raise _malformed(path, f"{where} ends at {end}, before it begins at {begin}")
    if end - begin != count * ITEM_SIZE[dtype]:
        needed = count * ITEM_SIZE[dtype]
        raise _malformed(path, f"{where} is {dtype}{list(shape)}, which takes {needed} bytes, and has {end - begin}")
    return dtype, tuple(shape), begin, end


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value <= _LARGEST_EXTENT  # `type`: JSON's `true` is an `int` to isinstance
        for value in values
    )


def _check_layout(path: Path, stretches: list[tuple[int, int, str]], size: int) -> None:
    """Refuse overlaps and gaps: bytes of two meanings, and bytes of none."""
    reached, previous = 0, ""
    for begin, end, name in sorted(stretches):
        if end > size:
            missing = end - size
            raise _truncated(path, f"its tensor {quoted(name)} ends {missing} bytes after the end of the file")
        if begin < reached:
            raise _malformed(path, f"its tensors {quoted(previous)} and {quoted(name)} overlap")
        if begin > reached:
            raise _malformed(path, f"no tensor owns the {begin - reached} bytes before its tensor {quoted(name)}")
        reached, previous = end, name
    if reached < size:
        raise _malformed(path, f"no tensor owns its last {size - reached} bytes")


def _truncated(path: Path, why: str) -> ArchcError:
    return error(
        "weights-truncated",
        f"{quoted(str(path))} is cut short: {why}",
        help="copy or download the file again",
    )


def _malformed(path: Path, why: str) -> ArchcError:
    return error("weights-malformed", f"{quoted(str(path))} is not a sound safetensors file: {why}")


def write(
    path_or_stream: Path | str | ByteSink,
    tensors: Mapping[str, LazyTensor],
    metadata: Mapping[str, str] | None = None,
) -> dict[str, tuple[int, int]]:
    """Write a file, and return where each tensor stands in it: absolute offset and length in bytes.

    The same tensors in the same order make the same bytes.  The header names the tensors in the given order.  The
    data holds those of wide elements first, each width in the given order: as there are no gaps, every tensor then
    starts at a multiple of its element's width, which readers that map the file rely on.
    Raises ValueError for a tensor called `__metadata__`.
    """
    if _METADATA in tensors:
        raise ValueError(f"`{_METADATA}` is no name for a tensor")
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
