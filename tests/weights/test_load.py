"""Loading of weights: the content determines the format; a pickle is read only if allowed."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import zipfile
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from archc.diagnostics import ArchcError, Diagnostic
from archc.weights import npz
from archc.weights.load import load
from archc.weights.npz import load_npz_arrays
from archc.weights.safetensors import write
from archc.weights.tensor import ArrayTensor

STATE = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.tensor([1, 2], dtype=torch.bfloat16)}


def refusal(path: Path, **options: bool) -> Diagnostic:
    with pytest.raises(ArchcError) as caught:
        load(path, **options)
    (diagnostic,) = caught.value.diagnostics
    return diagnostic


def test_the_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    write(tmp_path / "a.bin", {"w": ArrayTensor(array)})
    np.savez(tmp_path / "b.npz", w=array)
    os.rename(tmp_path / "b.npz", tmp_path / "b.safetensors")
    torch.save({"w": torch.from_numpy(array)}, tmp_path / "c.npz")
    for name in ("a.bin", "b.safetensors", "c.npz"):
        tensors = load(tmp_path / name, allow_pickle=name == "c.npz")
        assert list(tensors) == ["w"]
        assert np.array_equal(tensors["w"].numpy(), array)
        stream = io.BytesIO()
        tensors["w"].write_to(stream)
        assert stream.getvalue() == array.tobytes()


def test_a_safetensors_header_whose_length_looks_like_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    header = b'{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'.ljust(128)
    path.write_bytes(struct.pack("<Q", 128) + header + b"abcd")
    assert path.read_bytes()[:1] == b"\x80"
    assert load(path)["w"].numpy().tobytes() == b"abcd"


# npz ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_arrays_of_every_layout(save: object, tmp_path: Path) -> None:
    arrays = {
        "rows": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        "big": np.arange(3, dtype=">i8"),
        "scalar": np.array(True),
        "empty": np.zeros((0, 4), np.float16),
    }
    path = tmp_path / "data.npz"
    save(path, **arrays)  # type: ignore[operator]
    tensors = load(path)
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        "rows": "f32", "columns": "f64", "big": "i64", "scalar": "bool", "empty": "f16",
    }  # fmt: skip
    for name, array in load_npz_arrays(path).items():
        assert array.shape == arrays[name].shape == tensors[name].shape
        assert np.array_equal(array, arrays[name])
        assert array.dtype.isnative


def npz_with_header(path: Path, header: str, data: bytes = b"") -> None:
    encoded = header.encode("latin1")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(encoded)) + encoded + data)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("{'descr': '|O', 'fortran_order': False, 'shape': ()}", "weights-dtype"),
        ("{'descr': '<c8', 'fortran_order': False, 'shape': ()}", "weights-dtype"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (10**30,)}", "weights-malformed"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "weights-malformed"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "weights-malformed"),
        ("{'descr': [[]], 'fortran_order': False, 'shape': ()}", "weights-malformed"),
        ("{'descr': '<f4'}", "weights-malformed"),
        ("{[]: 1}", "weights-malformed"),
        ("-" * 9000 + "1", "weights-malformed"),
        ("(" * 9000, "weights-malformed"),
        ("\n  a\n b", "weights-malformed"),
        ("'''", "weights-malformed"),
        ("9" * 5000, "weights-malformed"),
        ("__import__('os')", "weights-malformed"),
    ],
)
def test_hostile_array_headers_are_refused(header: str, code: str, tmp_path: Path) -> None:
    npz_with_header(tmp_path / "data.npz", header)
    assert refusal(tmp_path / "data.npz").code == code


def test_an_object_array_is_refused_and_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", w=np.array([Trap(tmp_path / "sprung")], dtype=object))
    assert refusal(tmp_path / "data.npz").code == "weights-dtype"
    assert refusal(tmp_path / "data.npz", allow_pickle=True).code == "weights-dtype"
    assert not (tmp_path / "sprung").exists()


def test_zip_members_that_are_no_arrays_or_come_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "readme.txt" in refusal(path).message
    np.savez(path, w=np.zeros(2))
    with zipfile.ZipFile(path) as archive:
        member = archive.read("w.npy")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("w.npy", member)
    assert "twice" in refusal(path).message


def test_calibration_data_is_bounded_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x=np.zeros((1 << 20,), np.float32))
    assert path.stat().st_size < 10_000
    with pytest.raises(ArchcError) as caught:
        load_npz_arrays(path, limit=4_000_000)
    assert [diagnostic.code for diagnostic in caught.value.diagnostics] == ["calibration-too-large"]
    assert load_npz_arrays(path, limit=4 << 20)["x"].shape == (1 << 20,)


def test_calibration_data_has_a_limit_of_arrays_and_is_opened_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archc.weights.npz.MOST_CALIBRATION_ARRAYS", 30)
    opened = Mock(wraps=npz.opened)
    monkeypatch.setattr("archc.weights.npz.opened", opened)
    path = tmp_path / "many.npz"
    np.savez(path, **{f"x{number}": np.zeros(1, np.float32) for number in range(30)})
    assert len(load_npz_arrays(path)) == 30
    assert opened.call_count == 2, "for the headers, and for all arrays"
    np.savez(path, **{f"x{number}": np.zeros(1, np.float32) for number in range(31)})
    with pytest.raises(ArchcError) as caught:
        load_npz_arrays(path)
    assert [diagnostic.code for diagnostic in caught.value.diagnostics] == ["calibration-too-large"]


def test_damaged_archives_are_read_or_refused_but_never_crash(tmp_path: Path) -> None:
    sound = io.BytesIO()
    np.savez_compressed(sound, x=np.arange(100.0), y=np.ones((3, 4), np.float16))
    path = tmp_path / "data.npz"
    generator = random.Random(0)
    refused = 0
    for i in range(600):
        damaged = bytearray(sound.getvalue())
        if i % 3 == 0:
            del damaged[generator.randrange(4, len(damaged)) :]
        for _ in range(i % 3):
            damaged[generator.randrange(4, len(damaged))] = generator.randrange(256)
        path.write_bytes(damaged)
        try:
            for tensor in load(path).values():
                tensor.numpy()
        except ArchcError:
            refused += 1
    assert refused > 500


# Pickles --------------------------------------------------------------------------------------------------------


class Trap:
    """Object whose unpickling makes a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_pickle_is_refused_unless_allowed(as_zip: bool, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    torch.save(STATE, path, _use_new_zipfile_serialization=as_zip)
    diagnostic = refusal(path)
    assert diagnostic.code == "pickle-refused"
    assert diagnostic.help is not None
    assert "--allow-pickle" in diagnostic.help
    tensors = load(path, allow_pickle=True)
    assert {key: (tensor.shape, tensor.dtype) for key, tensor in tensors.items()} == {
        "fc.weight": ((2, 3), "f32"),
        "fc.bias": ((2,), "bf16"),
    }
    assert tensors["fc.weight"].numpy().tolist() == STATE["fc.weight"].tolist()
    assert tensors["fc.bias"].numpy().astype(float).tolist() == [1, 2]


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state"])
def test_a_state_dict_inside_a_checkpoint_is_found(wrapper: str, tmp_path: Path) -> None:
    torch.save({"epoch": 3, wrapper: STATE}, tmp_path / "checkpoint.pt")
    assert list(load(tmp_path / "checkpoint.pt", allow_pickle=True)) == list(STATE)


@pytest.mark.parametrize("as_zip", [True, False])
def test_code_in_an_allowed_pickle_is_not_run(as_zip: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"w": Trap(tmp_path / "sprung")}, path, _use_new_zipfile_serialization=as_zip)
    diagnostic = refusal(path, allow_pickle=True)
    assert diagnostic.code == "weights-malformed"
    assert "weights_only" not in str(diagnostic)
    assert not (tmp_path / "sprung").exists()


def test_a_plain_pickle_is_refused_either_way(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert refusal(path).code == "pickle-refused"
    assert refusal(path, allow_pickle=True).code == "weights-malformed"
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ([torch.zeros(2)], "weights-malformed"),
        ({"lr": 0.1}, "weights-malformed"),
        ({3: torch.zeros(2)}, "weights-malformed"),
        ({"w": torch.zeros(2, dtype=torch.complex64)}, "weights-dtype"),
        ({"w": torch.eye(2).to_sparse()}, "weights-dtype"),
    ],
)
def test_pickles_that_are_no_state_dict(content: object, code: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    assert refusal(tmp_path / "model.pt", allow_pickle=True).code == code


def test_damaged_pickles_are_read_or_refused_but_never_crash(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    generator = random.Random(0)
    refused = 0
    for as_zip in (True, False):
        sound = io.BytesIO()
        torch.save(STATE, sound, _use_new_zipfile_serialization=as_zip)
        for i in range(150):
            damaged = bytearray(sound.getvalue())
            if i % 3 == 0:
                del damaged[generator.randrange(4, len(damaged)) :]
            for _ in range(i % 3):
                damaged[generator.randrange(4, len(damaged))] = generator.randrange(256)
            path.write_bytes(damaged)
            try:
                load(path, allow_pickle=True)
            except ArchcError:
                refused += 1
    assert refused > 100


# Unreadable files and other formats -----------------------------------------------------------------------------


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "empty.safetensors").touch()
    os.mkfifo(tmp_path / "pipe")
    expected = {
        "missing.safetensors": "file-not-found",
        "empty.safetensors/below": "file-not-found",
        "empty.safetensors": "file-empty",
        ".": "not-a-file",
        "pipe": "not-a-file",
        "nul\0": "file-unreadable",
        "n" * 300: "file-unreadable",
    }
    assert {name: refusal(tmp_path / name).code for name in expected} == expected


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 20, "an HDF5 file"),
        (b"\x93NUMPY\x01\x00" + b"\0" * 20, "a single numpy array"),
        (b"GGUF" + b"\0" * 20, "a GGUF file"),
        (b"hello", "of an unknown format"),
    ],
)
def test_other_formats_are_named(content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    diagnostic = refusal(tmp_path / "model.bin")
    assert diagnostic.code == "weights-unknown-format"
    assert kind in diagnostic.message


def test_a_truncated_safetensors_file_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write(path, {"w": ArrayTensor(np.zeros(100, np.float32))})
    whole = path.read_bytes()
    for length in (1, 7, 40, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert refusal(path).code == "weights-truncated"


def test_a_torch_with_known_holes_reads_no_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(STATE, tmp_path / "model.pt")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    assert refusal(tmp_path / "model.pt", allow_pickle=True).code == "torch-too-old"
