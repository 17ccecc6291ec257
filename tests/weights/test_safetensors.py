"""safetensors files: archc and the library read each other's files, and hostile files are refused."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from archc.diagnostics import ArchcError
from archc.types.tensor_type import Float8
from archc.weights.dtype_conversion import ITEM_SIZE, numpy_dtype
from archc.weights.initializers import Normal
from archc.weights.safetensors import read, write
from archc.weights.tensor import ArrayTensor, ComputedTensor, InitializedTensor

ARRAYS = st.sampled_from([dtype for dtype in ITEM_SIZE if dtype not in ("bf16", *Float8)]).flatmap(
    lambda dtype: hnp.arrays(numpy_dtype(dtype), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)
NAMES = st.text(st.characters(codec="utf-8"), max_size=12).filter(lambda name: name != "__metadata__")
MODELS = st.dictionaries(NAMES, ARRAYS, max_size=6)


def identical(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


@given(MODELS)
def test_the_library_reads_what_is_written(model: dict[str, np.ndarray]) -> None:
    stream = io.BytesIO()
    places = write(stream, {name: ArrayTensor(array) for name, array in model.items()}, {"format": "pt"})
    data = stream.getvalue()
    loaded = safetensors.numpy.load(data)
    assert loaded.keys() == model.keys()
    for name, array in model.items():
        assert identical(loaded[name], array)
        offset, length = places[name]
        assert data[offset : offset + length] == array.tobytes()
        assert offset % array.itemsize == 0


@settings(deadline=None)
@given(MODELS)
def test_what_the_library_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, model: dict[str, np.ndarray]
) -> None:
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    path.write_bytes(safetensors.numpy.save(dict(model.items()), {"made": "by hand"}))
    tensors = read(path)
    assert tensors.keys() == model.keys()
    for name, array in model.items():
        assert identical(tensors[name].numpy(), array)


def test_a_state_dict_of_every_dtype_goes_there_and_back(tmp_path: Path) -> None:
    state = {dtype: torch.arange(6).reshape(2, 3).to(getattr(torch, numpy_dtype(dtype).name)) for dtype in ITEM_SIZE}
    theirs, ours = tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors"
    safetensors.torch.save_file(state, theirs)
    write(ours, read(theirs), {"format": "pt"})
    loaded = safetensors.torch.load_file(ours)
    assert loaded.keys() == state.keys()
    assert all(
        torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype for name, tensor in state.items()
    )


def test_the_data_begins_on_a_cache_line_and_the_order_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = {"z.small": np.zeros(3, np.int8), "a.large": np.zeros(3, np.float64), "m.middle": np.zeros(3, np.float32)}
    places = write(path, {name: ArrayTensor(array) for name, array in model.items()})
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    assert (8 + length) % 64 == 0
    assert places["a.large"] == (8 + length, 24)
    assert places["z.small"] == (8 + length + 36, 3)
    assert list(read(path)) == list(model) == list(places)


def test_the_same_model_makes_the_same_bytes() -> None:
    def model() -> bytes:
        stream = io.BytesIO()
        tensors = {path: InitializedTensor((40, 3), "f32", Normal(), (1, path)) for path in ("b", "a")}
        write(stream, tensors, {"b": "1", "a": "2"})
        return stream.getvalue()

    assert model() == model()


def test_a_tensor_cannot_be_called_as_the_metadata() -> None:
    with pytest.raises(ValueError, match="__metadata__"):
        write(io.BytesIO(), {"__metadata__": ArrayTensor(np.zeros(1))})


class Discard:
    """Stream that counts the bytes written to it and discards them."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: memoryview) -> None:
        self.written += data.nbytes


def test_writing_holds_one_tensor_at_a_time() -> None:
    elements = 1 << 20
    largest = 4 * elements
    count = 40

    def layer(value: int) -> ComputedTensor:
        return ComputedTensor((elements,), "f32", lambda: np.full(elements, value, np.float32))

    stream = Discard()
    tensors = {f"layers.{i}.weight": layer(i) for i in range(count)}
    tracemalloc.start()
    try:
        write(stream, tensors)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert stream.written > count * largest
    assert peak < 2.5 * largest


def test_initialized_tensors_are_written_in_chunks() -> None:
    tensors = {"w": InitializedTensor((8 << 20,), "f32", Normal(), (0, "w"))}
    stream = Discard()
    tracemalloc.start()
    try:
        write(stream, tensors)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert stream.written > 32 << 20
    assert peak < 8 << 20


# Hostile files ------------------------------------------------------------------------------------------------


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def file_of(header: bytes | str | dict[str, Any], data: bytes = b"\0" * 8, length: int | None = None) -> bytes:
    if isinstance(header, dict):
        header = json.dumps(header)
    if isinstance(header, str):
        header = header.encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


SOUND = file_of({"w": entry()})

HOSTILE = {
    "shorter than the length": (SOUND[:5], "weights-truncated", "has 5 bytes"),
    "header cut": (SOUND[:30], "weights-truncated", "its header ends at byte"),
    "data cut": (SOUND[:-3], "weights-truncated", "`w` ends 3 bytes after the end"),
    "header of 2^64 bytes": (file_of("{}", b"", 2**64 - 1), "weights-malformed", "18446744073709551615 bytes"),
    "header of 100 MB and a byte": (file_of("{}", b"", 100_000_001), "weights-malformed", "100000001 bytes"),
    "no header": (file_of("", b"{}"), "weights-malformed", "does not begin with"),
    "header is a list": (file_of("[]", b""), "weights-malformed", "does not begin with"),
    "space before the header": (file_of(" {}", b""), "weights-malformed", "does not begin with"),
    "not JSON": (file_of("{'w': 1}"), "weights-malformed", "is not JSON"),
    "text after the header": (file_of("{} {}", b""), "weights-malformed", "extra data at byte 11"),
    "not UTF-8": (file_of(b'{"\xff": 1}'), "weights-malformed", "not UTF-8 at byte 10"),
    "duplicate tensor": (
        file_of('{"w":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"w":{"dtype":"I8","shape":[8],"data_offsets":[0,8]}}'),
        "weights-malformed",
        "the key `w` twice",
    ),
    "duplicate key": (
        file_of('{"w":{"dtype":"U8","dtype":"I8","shape":[8],"data_offsets":[0,8]}}'),
        "weights-malformed",
        "the key `dtype` twice",
    ),
    "deep nesting": (file_of('{"w":' + "[" * 100_000), "weights-malformed", "not a header of"),
    "integer of 10,000 digits": (file_of('{"w":' + "9" * 10_000 + "}"), "weights-malformed", "not a header of"),
    "metadata of numbers": (file_of({"__metadata__": {"a": 1}}, b""), "weights-malformed", "object of strings"),
    "metadata is a list": (file_of({"__metadata__": []}, b""), "weights-malformed", "object of strings"),
    "entry is a number": (file_of({"w": 1}), "weights-malformed", "`w` must have the keys"),
    "key missing": (file_of({"w": {"dtype": "F32", "shape": [2]}}), "weights-malformed", "`w` must have the keys"),
    "key too many": (file_of({"w": {**entry(), "x": 1}}), "weights-malformed", "`w` must have the keys"),
    "dtype unknown": (file_of({"w": entry("F8_E8M0", (8,))}), "weights-dtype", "`F8_E8M0`"),
    "dtype is no string": (file_of({"w": entry(["F32"])}), "weights-malformed", "dtype that is not a string"),
    "shape is no list": (file_of({"w": entry(shape=2)}), "weights-malformed", "not a list of sizes"),
    "negative extent": (file_of({"w": entry(shape=(-2, -1))}), "weights-malformed", "not a list of sizes"),
    "extent is true": (file_of({"w": entry(shape=(True, 2))}), "weights-malformed", "not a list of sizes"),
    "extent is a float": (file_of({"w": entry(shape=(2.0,))}), "weights-malformed", "not a list of sizes"),
    "extent of 2^64": (file_of({"w": entry(shape=(2**64,))}), "weights-malformed", "not a list of sizes"),
    "product wraps at 64 bits": (
        file_of({"w": entry(shape=(2**62, 4), offsets=(0, 0))}, b""), "weights-malformed", "more than 2^63 bytes",
    ),
    "overflow after a zero": (
        file_of({"w": entry(shape=(0, 2**62, 2**62), offsets=(0, 0))}, b""), "weights-malformed", "more than 2^63",
    ),
    "a thousand axes": (file_of({"w": entry(shape=(1,) * 1000)}), "weights-malformed", "has 1000 axes"),
    "shape does not fit": (file_of({"w": entry(shape=(3,))}), "weights-malformed", "takes 12 bytes, got 8"),
    "negative offset": (file_of({"w": entry(offsets=(-8, 0))}), "weights-malformed", "not two sizes"),
    "ends before it begins": (file_of({"w": entry(offsets=(8, 0))}), "weights-malformed", "begins at 8 and ends"),
    "offset of 2^62": (
        file_of({"w": entry(offsets=(2**62, 2**62 + 8))}), "weights-truncated", "after the end of the file",
    ),
    "three offsets": (file_of({"w": entry(offsets=(0, 8, 8))}), "weights-malformed", "not two sizes"),
    "overlap": (
        file_of({"v": entry(), "w": entry(offsets=(4, 12))}, b"\0" * 12), "weights-malformed", "`v` and `w` overlap",
    ),
    "the same bytes twice": (file_of({"v": entry(), "w": entry()}), "weights-malformed", "`v` and `w` overlap"),
    "gap before the first": (
        file_of({"w": entry(offsets=(4, 12))}, b"\0" * 12), "weights-malformed", "4 bytes before tensor `w`",
    ),
    "gap between": (
        file_of({"v": entry(), "w": entry(offsets=(9, 17))}, b"\0" * 17), "weights-malformed", "1 bytes before",
    ),
    "bytes after the last": (SOUND + b"\0", "weights-malformed", "its last 1 bytes"),
    "control characters in a name": (file_of({"\x1b[2J\n": 1}), "weights-malformed", "`\\x1b[2J\\n` must have"),
    "endless name": (file_of({"n" * 10_000: 1}), "weights-malformed", "n…` must have"),
    "half a surrogate": (file_of('{"\\ud800": 1}'), "weights-malformed", "`\\ud800` must have"),
}  # fmt: skip


def test_the_valid_file_is_read(tmp_path: Path) -> None:
    """The valid file is read, so hostile files, which are made from it, are refused for their changes."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(SOUND)
    assert read(path)["w"].numpy().tolist() == [0, 0]


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(case: str, tmp_path: Path) -> None:
    content, code, excerpt = HOSTILE[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArchcError) as caught:
        read(path)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == code
    assert excerpt in diagnostic.message
    assert str(diagnostic).isprintable() or "\n" in str(diagnostic)
    assert len(diagnostic.message) < 500
    str(diagnostic).encode("utf-8")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    stream = io.BytesIO()
    write(stream, {"a": ArrayTensor(np.arange(4.0)), "b": ArrayTensor(np.arange(3, dtype=np.int8))}, {"m": "x"})
    damaged = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(1, len(damaged))) :]
    path = tmp_path_factory.mktemp("damaged") / "model.safetensors"
    path.write_bytes(damaged)
    try:
        tensors = read(path)
    except ArchcError as refusal:
        assert refusal.diagnostics[0].code in {"weights-malformed", "weights-truncated", "weights-dtype"}
    else:
        assert sum(tensor.numpy().nbytes for tensor in tensors.values()) < len(damaged)


def test_the_library_reads_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write(path, {"w": ArrayTensor(np.zeros(3))}, {"spec": "cnn.arch", "format": "pt"})
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"format": "pt", "spec": "cnn.arch"}
    assert list(read(path)) == ["w"]
