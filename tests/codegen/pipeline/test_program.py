"""Command line of the emitted pipeline program: its outputs, and its errors of one line."""

from __future__ import annotations

import ast
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from archc.codegen.torch.load import load_module
from tests.codegen.pipeline import models
from tests.codegen.pipeline.processes import PATIENCE, children, environment, started, wait_until_gone

SAMPLES = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a compiled perceptron of two stages, and data."""
    folder = tmp_path_factory.mktemp("mlp")
    models.mlp("hidden.1").write(folder, emit=("torch",))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, 20), dtype=np.float32)
    np.savez(folder / "x.npz", x=x, target=rng.integers(0, 5, SAMPLES))
    return folder


def command(folder: Path, *options: str, data: str = "x.npz") -> list[str]:
    program = str(folder / "mlp_pipeline.py")
    return [sys.executable, program, "--launch", "--data", str(folder / data), "--timeout", "60", *options]


def ran(folder: Path, *options: str, data: str = "x.npz") -> subprocess.CompletedProcess[str]:
    line = command(folder, *options, data=data)
    return subprocess.run(line, env=environment(), text=True, capture_output=True, timeout=PATIENCE)


def refused(folder: Path, *options: str) -> str:
    """Return the error message of a run that fails; assert that it is one line without a traceback."""
    done = ran(folder, *options)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    for path in filter(Path.is_file, folder.iterdir()):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_infers(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "y.npz"
    done = ran(folder, "--output", str(output), "--batch", "4", "--microbatches", "2")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    x = torch.from_numpy(np.load(folder / "x.npz")["x"])
    expected = load_module(folder / "mlp.py").load()(x).detach().numpy()
    np.testing.assert_allclose(np.load(output)["logits"], expected, atol=1e-5)


@pytest.mark.slow
def test_trains_and_continues_with_saved_weights(folder: Path, tmp_path: Path) -> None:
    train = ("--loss", "cross_entropy", "--lr", "0.5", "--schedule", "1f1b", "--microbatches", "4")
    first = ran(folder, *train, "--steps", "3", "--save", str(tmp_path))
    assert first.returncode == 0, first.stderr
    losses = [float(line.split()[-1]) for line in first.stdout.splitlines()]
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)
    second = ran(folder, *train, "--steps", "1", "--weights", str(tmp_path))
    assert float(second.stdout.split()[-1]) < losses[-1]
    # The weights of the stages together are those of the whole model.
    weights = {key: tensor for n in (0, 1) for key, tensor in load_file(tmp_path / f"mlp_stage{n}.safetensors").items()}
    save_file(weights, tmp_path / "mlp.safetensors")
    whole = load_module(folder / "mlp.py").load(tmp_path / "mlp.safetensors")
    data = np.load(folder / "x.npz")
    loss = torch.nn.functional.cross_entropy(whole(torch.from_numpy(data["x"])), torch.from_numpy(data["target"]))
    assert loss.item() == pytest.approx(float(second.stdout.split()[-1]), rel=1e-4)


@pytest.mark.slow
def test_works_under_torchrun(folder: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line = [*torchrun, *command(folder, "--output", str(tmp_path / "y.npz"))[1:]]
    line.remove("--launch")
    done = subprocess.run(line, env=environment(), text=True, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "y.npz")["logits"].shape == (SAMPLES, 5)


X = np.zeros((SAMPLES, 20), np.float32)
BAD_DATA = {
    "without an input": ({"y": X}, "lacks `x`; it has y"),
    "of text": ({"x": np.full((SAMPLES, 20), "a")}, "`x` of"),
    "of another shape": ({"x": X[:, 1:]}, "has the shape [8, 19], not [N, 20]"),
    "of objects": ({"x": np.array([None] * SAMPLES)}, "is not a valid .npz file"),
    "without samples": ({"x": X[:0]}, "0 samples do not form batches of 0"),
}
BAD_TARGETS = {
    "missing": ({"x": X}, "lacks `target`; it has x"),
    "single": ({"x": X, "target": np.array(3)}, "is a single number"),
    "too few": ({"x": X, "target": np.zeros(5, np.int64)}, "8 samples have 5 targets"),
    "no class": ({"x": X, "target": np.full(SAMPLES, 9)}, "stage 1 failed: Target 9 is out of bounds"),
}


@pytest.mark.parametrize(
    "name", [name if name == "without an input" else pytest.param(name, marks=pytest.mark.slow) for name in BAD_DATA]
)
def test_bad_data_ends_the_program_with_one_line(name: str, copy: Path) -> None:
    arrays, message = BAD_DATA[name]
    np.savez(copy / "x.npz", **arrays)
    assert message in refused(copy, "--output", str(copy / "y.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_TARGETS)
def test_bad_targets_end_the_program_with_one_line(name: str, copy: Path) -> None:
    arrays, message = BAD_TARGETS[name]
    np.savez(copy / "x.npz", **arrays)
    assert message in refused(copy, "--loss", "cross_entropy")


@pytest.mark.slow
def test_missing_files_end_the_program_with_one_line(copy: Path) -> None:
    assert "does not exist: create the folder first" in refused(copy, "--output", str(copy / "none" / "y.npz"))
    assert "cannot be written" in refused(copy, "--output", str(copy))
    assert "none has no mlp_stage0.safetensors" in refused(copy, "--output", "y.npz", "--weights", str(copy / "none"))
    (copy / "x.npz").unlink()
    assert "cannot be read: No such file or directory" in refused(copy, "--output", str(copy / "y.npz"))


@pytest.mark.slow
def test_a_stage_with_an_error_ends_the_program_with_one_line(copy: Path) -> None:
    with (copy / "mlp_stage1.py").open("a") as source:
        source.write("{}['w']\n")
    message = "stage 1: mlp_stage1.py does not run: KeyError: 'w'"
    assert message in refused(copy, "--output", str(copy / "y.npz"))


@pytest.mark.slow
def test_microbatches_must_divide_a_batch(folder: Path, tmp_path: Path) -> None:
    line = refused(folder, "--output", str(tmp_path / "y.npz"), "--microbatches", "3")
    assert "a batch of 8 samples is not divisible by 3 microbatches" in line
    assert not (tmp_path / "y.npz").exists()


@pytest.mark.slow
def test_a_missing_stage_is_named(copy: Path) -> None:
    (copy / "mlp_stage1.py").unlink()
    line = refused(copy, "--output", str(copy / "y.npz"))
    assert line.startswith("error: stage 1: ") and line.endswith(" has no mlp_stage1.py")


@pytest.mark.slow
def test_a_stage_of_another_compile_is_refused(copy: Path) -> None:
    models.mlp("head").write(copy / "other", emit=("torch",))
    for suffix in (".py", ".safetensors"):
        (copy / "other" / f"mlp_stage1{suffix}").replace(copy / f"mlp_stage1{suffix}")
    assert "come from different compiles" in refused(copy, "--output", str(copy / "y.npz"))


@pytest.mark.slow
def test_a_port_in_use_is_named(folder: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port} is in use" in refused(folder, "--output", str(tmp_path / "y"), "--port", port)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1])
def test_a_worker_that_is_killed_ends_all(folder: Path, stage: int) -> None:
    with training(folder) as (launcher, workers):
        os.kill(workers[stage], signal.SIGKILL)
        begun = time.monotonic()
        _, errors = launcher.communicate(timeout=PATIENCE)
        assert launcher.returncode == 1
        assert time.monotonic() - begun < 30
        assert f"stage {stage} was ended by SIGKILL" in errors
        assert "Traceback" not in errors
        assert wait_until_gone(workers, 10) == []


@pytest.mark.slow
def test_a_launcher_that_is_killed_leaves_no_workers(folder: Path) -> None:
    with training(folder) as (launcher, workers):
        launcher.kill()
        assert wait_until_gone(workers, 30) == []


@pytest.mark.slow
def test_a_stopped_worker_ends_all_after_the_timeout(folder: Path) -> None:
    with training(folder, "--timeout", "3") as (launcher, workers):
        os.kill(workers[1], signal.SIGSTOP)
        _, errors = launcher.communicate(timeout=PATIENCE)
        assert launcher.returncode == 1
        assert "did not answer in time" in errors
        assert wait_until_gone(workers, 10) == []


class training:
    """Context of a running training: the launcher, and the process ids of the stages in order."""

    def __init__(self, folder: Path, *options: str):
        line = command(folder, "--loss", "cross_entropy", "--steps", "1000000", *options)
        self.started = started([line], environment())

    def __enter__(self) -> tuple[subprocess.Popen[str], Sequence[int]]:
        (launcher,) = self.started.__enter__()
        assert launcher.stdout is not None
        assert launcher.stdout.readline().startswith("step 1"), "it never began"
        return launcher, sorted(children(launcher.pid))

    def __exit__(self, *problem: object) -> None:
        self.started.__exit__(None, None, None)


# Functions alone ------------------------------------------------------------------------------------------------------


@pytest.fixture
def program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.delenv("RANK", raising=False)
    yield load_module(folder / "mlp_pipeline.py")


def test_functions_and_options_of_the_page_exist(program) -> None:  # type: ignore[no-untyped-def]
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "pipelines.md").read_text()
    (block,) = (block for block in page.split("```python\n")[1:] if "from resnet18_pipeline import" in block)
    tree = ast.parse(block.partition("```")[0])
    imported = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert len(imported) > 5
    assert all(callable(getattr(program, name)) for name in imported)
    others = {
        "--passes",
        "--emit",
        "--check",
        "--standalone",
        "--nproc-per-node",
        "--nnodes",
        "--help",
    }  # of archc and torchrun
    options = set(re.findall(r"--[a-z0-9-]+", page)) - others - {"---"}
    text = Path(program.__file__).read_text()
    assert [option for option in sorted(options) if f'"{option}"' not in text] == []


def test_a_start_without_a_launcher_is_explained(program) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(program.Failure, match="`--launch`, or with `torchrun --standalone --nproc-per-node 2"):
        program.connect()


def test_the_number_of_processes_is_that_of_stages(program, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(program.Failure, match="has 2 stages, one for each process; 3 processes were started"):
        program.connect()


def test_1f1b_takes_a_microbatch_for_each_stage(program) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(program.Failure, match="a microbatch for each of 2 stages"):
        program.make_schedule(None, 1, "1f1b")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.zeros((2, 20), np.float32)}, "lacks `x`; it has y"),
        ({"x": np.zeros((2, 21), np.float32)}, r"has the shape \[2, 21\], not \[N, 20\]"),
        ({"x": np.zeros(20, np.float32)}, r"has the shape \[20\], not \[N, 20\]"),
    ],
)
def test_data_that_does_not_fit_is_refused(program, arrays, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(program.Failure, match=message):
        program.read_inputs(tmp_path / "x.npz")


def test_a_size_that_two_inputs_have_is_named(program, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    inputs = {"tokens": (torch.int64, ("N", "T")), "mask": (torch.bool, ("N", "T", 4))}
    monkeypatch.setattr(program, "INPUTS", inputs)
    np.savez(tmp_path / "x.npz", tokens=np.zeros((2, 9), np.int64), mask=np.ones((2, 8, 4), bool))
    message = r"`mask` of .* has the shape \[2, 8, 4\], not \[N, T, 4\] with N = 2, T = 9 as in other inputs$"
    with pytest.raises(program.Failure, match=message):
        program.read_inputs(tmp_path / "x.npz")


def npy() -> bytes:
    """Contents of an .npy file, which has one array instead of an archive."""
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04", npy()])
def test_a_file_that_is_no_archive_is_refused(program, content: bytes, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(program.Failure, match=r"is not a valid \.npz file"):
        program.read_inputs(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("rows", "batch", "microbatches", "message"),
    [(8, 8, 3, "not divisible by 3"), (8, 3, 1, "batches of 3"), (0, 0, 1, "batches of 0")],
)
def test_numbers_that_do_not_divide_are_refused(
    program, rows: int, batch: int, microbatches: int, message: str
) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(program.Failure, match=message):
        program.check_batches(rows, batch, microbatches)


@pytest.mark.parametrize("options", ["--data x.npz", "--output y.npz", "--data x.npz --loss mse --microbatches 0"])
def test_options_that_make_no_sense_are_one_line(program, options: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(program.Failure):
        program.parse(options.split())


def test_weights_of_another_compile_are_refused(program, folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    models.mlp("head").write(tmp_path, emit=("torch",))
    with pytest.raises(program.Failure, match="from different compiles"):
        program._read_stage(folder / "mlp_stage1.py", tmp_path / "mlp_stage1.safetensors", torch.device("cpu"))


def test_a_gpu_that_is_not_there_is_named(program) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(program.Failure, match="which this machine does not have"):
        program.device_of(0, f"cuda:{torch.cuda.device_count()}")
