"""Invalid weights, calibration data and output paths, and texts that a Markdown file cannot contain.

Each case writes its files in code; `built/<case>.txt` has the expected output.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from tests.diagnostics.cases import check_built, run

NET = """\
model net(classes = 3) {
    input x: f32[N, 4]
    output scores = x -> fc1: linear(8) -> relu -> fc2: linear(classes)
}
"""


def weights(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    """Valid weights for `NET`, with some replaced (`fc1_bias=...`) or removed (`fc1_bias=None`)."""
    tensors: dict[str, np.ndarray | None] = {
        "fc1.weight": np.ones((8, 4), np.float32),
        "fc1.bias": np.ones(8, np.float32),
        "fc2.weight": np.ones((3, 8), np.float32),
        "fc2.bias": np.ones(3, np.float32),
    }
    tensors |= {name.replace("_", ".", 1): tensor for name, tensor in changes.items()}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def safetensors(**changes: np.ndarray | None) -> None:
    save_file(weights(**changes), "w.safetensors")


def cut(size: int) -> None:
    """Write a valid file of weights, and keep `content[:size]`; a negative size removes the last bytes."""
    safetensors()
    content = Path("w.safetensors").read_bytes()
    Path("w.safetensors").write_bytes(content[:size])


def not_a_number() -> np.ndarray:
    array = np.ones((3, 8), np.float32)
    array[1, 5] = np.nan
    return array


class Payload:
    """Object in a malicious pickle: unpickling it creates a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("pwned"),)


def hostile() -> None:
    Path("w.safetensors").write_bytes(pickle.dumps({"fc1.weight": Payload()}))


def hostile_archive() -> None:
    torch.save({"fc1.weight": Payload()}, "w.pt")


def state_dict() -> None:
    torch.save({name: torch.from_numpy(array) for name, array in weights().items()}, "w.pt")


WEIGHTS: dict[str, tuple[Callable[[], object], str]] = {
    "weights-missing": (lambda: safetensors(fc1_bias=None), "w.safetensors"),
    "weights-surplus": (lambda: safetensors(fc3_bias=np.ones(3, np.float32)), "w.safetensors"),
    "weights-misspelt": (lambda: safetensors(fc2_bias=None, fc2_bais=np.ones(3, np.float32)), "w.safetensors"),
    "weights-shape": (lambda: safetensors(fc2_weight=np.ones((10, 8), np.float32)), "w.safetensors"),
    "weights-transposed": (lambda: safetensors(fc2_weight=np.ones((8, 3), np.float32)), "w.safetensors"),
    "weights-nan": (lambda: safetensors(fc2_weight=not_a_number()), "w.safetensors"),
    "weights-integers": (lambda: safetensors(fc1_weight=np.ones((8, 4), np.int64)), "w.safetensors"),
    "weights-several": (lambda: safetensors(fc1_weight=None, fc2_bias=np.ones(5, np.float32)), "w.safetensors"),
    "weights-truncated": (lambda: cut(-40), "w.safetensors"),
    "weights-truncated-header": (lambda: cut(30), "w.safetensors"),
    "weights-garbage": (lambda: Path("w.safetensors").write_bytes(b"\xff" * 64), "w.safetensors"),
    "weights-no-known-format": (lambda: Path("w.bin").write_text("1 2 3"), "w.bin"),
    "weights-empty": (lambda: Path("w.safetensors").write_bytes(b""), "w.safetensors"),
    "weights-not-there": (safetensors, "v.safetensors"),
    "weights-a-folder": (lambda: Path("w").mkdir(), "w"),
    "weights-pickle-in-disguise": (hostile, "w.safetensors"),
    "weights-pickle": (state_dict, "w.pt"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.arch").write_text(NET)
    return tmp_path


def refused(
    case: str, command: tuple[str, ...], capsys: pytest.CaptureFixture[str], update: bool, status: int = 1
) -> None:
    """Check that a command fails with the output of its case, and writes no file."""
    before = sorted(Path().rglob("*"))
    code, output = run(command, capsys)
    assert "Traceback" not in output
    assert code == status
    assert sorted(Path().rglob("*")) == before
    check_built(case, output.replace(str(Path.cwd()), "."), update)


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights(case: str, capsys: pytest.CaptureFixture[str], update_golden: bool) -> None:
    make, name = WEIGHTS[case]
    make()
    refused(case, ("compile", "net.arch", "--weights", name), capsys, update_golden)
    assert not Path("pwned").exists()


def test_a_wrong_target_in_the_rules(capsys: pytest.CaptureFixture[str], update_golden: bool) -> None:
    safetensors(fc1_weight=None, first_weight=np.ones((8, 4), np.float32))
    Path("net.names").write_text("# names of the checkpoint\nfirst.* -> fcc1.*\n")
    command = ("compile", "net.arch", "--weights", "w.safetensors", "--rename", "net.names")
    refused("weights-wrong-rule", command, capsys, update_golden)


@pytest.mark.parametrize(("make", "name"), [(hostile, "w.safetensors"), (hostile_archive, "w.pt")])
def test_a_hostile_pickle_runs_nothing_even_where_pickles_are_allowed(
    make: Callable[[], None], name: str, capsys: pytest.CaptureFixture[str], update_golden: bool
) -> None:
    make()
    command = ("compile", "net.arch", "--weights", name, "--allow-pickle")
    refused(f"weights-hostile-{name.partition('.')[2]}", command, capsys, update_golden)
    assert not Path("pwned").exists()


def test_floats_for_a_text_that_quant_wrote(capsys: pytest.CaptureFixture[str], update_golden: bool) -> None:
    Path("net.arch").write_text(NET.replace("linear(8", "linear(8, weight = int8(axis = 0)"))
    safetensors()
    refused("weights-not-quantized", ("compile", "net.arch", "--weights", "w.safetensors"), capsys, update_golden)


def test_a_state_dict_is_read_where_pickles_are_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    state_dict()
    status, _ = run(
        ("compile", "net.arch", "--weights", "w.pt", "--allow-pickle", "--emit", "torch", "-o", "out"), capsys
    )
    assert status == 0
    assert Path("out/net.safetensors").exists()


def npz(**arrays: np.ndarray) -> None:
    np.savez("data.npz", **arrays)


def strange() -> np.ndarray:
    array = np.zeros((8, 4), np.float32)
    array[3, 2] = np.inf
    return array


CALIBRATION: dict[str, Callable[[], object]] = {
    "calibration-shape": lambda: npz(x=np.zeros((8, 5), np.float32)),
    "calibration-rank": lambda: npz(x=np.zeros(8, np.float32)),
    "calibration-name": lambda: npz(X=np.zeros((8, 4), np.float32)),
    "calibration-missing": lambda: npz(),
    "calibration-surplus": lambda: npz(x=np.zeros((8, 4), np.float32), labels=np.zeros(8, np.int64)),
    "calibration-dtype": lambda: npz(x=np.zeros((8, 4), np.int64)),
    "calibration-infinite": lambda: npz(x=strange()),
    "calibration-no-samples": lambda: npz(x=np.zeros((0, 4), np.float32)),
    "calibration-objects": lambda: npz(x=np.array([{}], dtype=object)),
    "calibration-no-archive": lambda: Path("data.npz").write_text("x = 1"),
    "calibration-not-there": lambda: None,
}


@pytest.mark.parametrize("case", CALIBRATION)
def test_calibration(case: str, capsys: pytest.CaptureFixture[str], update_golden: bool) -> None:
    CALIBRATION[case]()
    refused(case, ("compile", "net.arch", "--passes", "quant", "--calib", "data.npz"), capsys, update_golden)


def test_calibration_with_tokens_beyond_the_vocabulary(capsys: pytest.CaptureFixture[str], update_golden: bool) -> None:
    Path("net.arch").write_text("model net { input tokens: i64[B, T]  output tokens -> wte: embedding(50, 8) }")
    npz(tokens=np.array([[3, 49], [50, 7]]))
    command = ("compile", "net.arch", "--passes", "quant", "--calib", "data.npz")
    refused("calibration-range", command, capsys, update_golden)


SELECTORS = {
    "selector-matches-nothing": "lowrank(on='fcc*')",
    "selector-near-a-layer": "quant(int8, keep='fc3')",
    "selector-of-a-weight": "lowrank(rank=2, on='fc1.weight')",
}


@pytest.mark.parametrize("case", SELECTORS)
def test_selectors(case: str, capsys: pytest.CaptureFixture[str], update_golden: bool) -> None:
    refused(case, ("compile", "net.arch", "--passes", SELECTORS[case]), capsys, update_golden)


def deep(opening: str, closing: str = "") -> bytes:
    """A model whose output expression has 10,000 nested levels."""
    text = opening * 10_000 + "x" + closing * 10_000
    return f"model net {{\n    input x: f32[N, 4]\n    output y = {text}\n}}\n".encode()


def within(text: str) -> bytes:
    """A model with an attribute that is the given text."""
    return f"model net {{\n    input x: f32[N, 4]\n    output x -> linear({text})\n}}\n".encode()


TEXTS: dict[str, bytes] = {
    "text-parentheses": deep("(", ")"),
    "text-brackets-unclosed": deep("["),
    "text-signs": deep("-"),
    "text-nots": deep("not "),
    "text-indices": deep("x[", "]"),
    "text-calls": deep("relu(", ")"),
    "text-ifs": b"model net { " + b"if true { " * 10_000 + b"} " * 10_001,
    "text-else-ifs": b"model net { if true { } " + b"else if true { } " * 10_000 + b"}",
    "text-integer": within("9" * 10_000),
    "text-fraction": within("0." + "9" * 10_000),
    "text-power": within("9 ** 9 ** 9 ** 9"),
    "text-long-name": within("n" * 100_000),
    "text-long-line": b"# " + b"." * 1_000_000 + b"\nmodel net { input x: f32[4] output x -> reluu }" + b" " * 10_000,
    "text-nul": b"model net {\n    input x: f32[N, 4]\0\0\0\n    output x -> relu\n}\n",
    "text-latin-1": "model net {\n    input x: f32[N, 4]  # größe\n    output x\n}\n".encode("latin-1"),
    "text-utf-16": NET.encode("utf-16"),
    "text-binary": bytes(range(256)) * 4,
    "text-empty": b"",
    "text-carriage-returns": b"model net {\r\n    input x: f32[N, 4]\r\n    output x -> reluu\r\n}\r\n",
    "text-tabs": b"model net {\n\tinput x: f32[N, 4]\n\toutput x\t-> reluu\n}\n",
}


@pytest.mark.parametrize("case", TEXTS)
def test_texts(case: str, capsys: pytest.CaptureFixture[str], update_golden: bool) -> None:
    Path("net.arch").write_bytes(TEXTS[case])
    refused(case, ("compile", "net.arch"), capsys, update_golden)


def test_a_sum_of_ten_thousand_terms_is_no_nesting(capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.arch").write_bytes(within("1" + " + 1" * 10_000))
    status, output = run(("check", "net.arch"), capsys)
    assert status == 0, output


def test_a_file_in_the_way_of_the_output_folder(capsys: pytest.CaptureFixture[str], update_golden: bool) -> None:
    Path("out").write_text("mine")
    refused("output-file-in-the-way", ("compile", "net.arch"), capsys, update_golden)
    assert Path("out").read_text() == "mine"


def test_a_folder_in_the_way_of_an_output_file(capsys: pytest.CaptureFixture[str], update_golden: bool) -> None:
    Path("out/net.py").mkdir(parents=True)
    Path("out/net.arch").write_text("mine")
    refused("output-folder-in-the-way", ("compile", "net.arch", "--emit", "torch,arch"), capsys, update_golden)
    assert Path("out/net.arch").read_text() == "mine"


def test_a_folder_without_write_permission(capsys: pytest.CaptureFixture[str], update_golden: bool) -> None:
    """Not even root can create files in `/proc`."""
    if not Path("/proc/self").exists():
        pytest.skip("there is no /proc here")
    refused("output-not-writable", ("compile", "net.arch", "-o", "/proc/archc"), capsys, update_golden)


def test_a_path_with_a_nul(capsys: pytest.CaptureFixture[str], update_golden: bool) -> None:
    refused("output-path-with-nul", ("compile", "net.arch", "-o", "out\0put"), capsys, update_golden)
    refused("source-path-with-nul", ("check", "net\0.arch"), capsys, update_golden)


def test_a_folder_of_texts_for_a_text(capsys: pytest.CaptureFixture[str], update_golden: bool) -> None:
    Path("nets").mkdir()
    refused("source-a-folder", ("compile", "nets"), capsys, update_golden)


def test_an_import_of_a_folder(capsys: pytest.CaptureFixture[str], update_golden: bool) -> None:
    Path("parts.arch").mkdir()
    Path("net.arch").write_text('import "parts.arch"\n' + NET)
    refused("import-a-folder", ("check", "net.arch"), capsys, update_golden)


def test_standard_error_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal without Unicode gets the message with replaced letters."""
    from archc.cli import main

    Path("net.arch").write_text(NET.replace("relu", "réłu"), encoding="utf-8")
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stderr", plain)
    assert main(("check", "net.arch")) == 1
    plain.seek(0)
    assert "invalid-character" in plain.read()
