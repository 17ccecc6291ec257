"""Accuracy and size of the compressed digit classifier; `benchmarks/digits.py` measures its speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import digits as job


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory, digits: job.Digits, trained: Path) -> dict[str, job.Program]:
    folder = Path(tmp_path_factory.mktemp("digits"))
    built = job.build(folder, digits, trained, say=lambda text: None, exact=True)
    return {program.title: program for program in built}


@pytest.fixture(scope="module")
def picked(programs: dict[str, job.Program], digits: job.Digits) -> dict[str, np.ndarray]:
    return job.pick(list(programs.values()), digits)


def test_the_float_network_learns_the_digits(picked: dict[str, np.ndarray], digits: job.Digits) -> None:
    assert np.mean(picked["float, PyTorch"] == digits.test_labels.numpy()) >= 0.96


@pytest.mark.parametrize("runtime", ["PyTorch", "ONNX Runtime"])
def test_compression_costs_at_most_a_point(runtime: str, picked: dict[str, np.ndarray], digits: job.Digits) -> None:
    labels = digits.test_labels.numpy()
    lost = np.mean(picked[f"float, {runtime}"] == labels) - np.mean(picked[f"compressed, {runtime}"] == labels)
    assert lost <= 0.01


@pytest.mark.parametrize("weights", ["float", "compressed"])
def test_pytorch_and_onnx_runtime_recognize_the_same_digits(weights: str, picked: dict[str, np.ndarray]) -> None:
    assert np.mean(picked[f"{weights}, PyTorch"] == picked[f"{weights}, ONNX Runtime"]) >= 0.995


def test_a_quarter_of_the_bytes_is_left(programs: dict[str, job.Program]) -> None:
    before = programs["float, PyTorch"].report
    after = programs["compressed, PyTorch"].report
    assert before["bytes"] == before["parameters"] * 4
    assert after["bytes"] * 4 <= before["bytes"]
    # The report counts the bytes of the file without its header.
    assert after["bytes"] <= after["files"]["cnn.safetensors"]["bytes"] <= after["bytes"] + 4096
