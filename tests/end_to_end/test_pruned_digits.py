"""Accuracy and size of the digit classifier after pruning and further training.

`benchmarks/pruning.py` measures its speed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import digits as job
from benchmarks import pruning

pytestmark = pytest.mark.slow  # trains the classifier further four times


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory, digits: job.Digits, trained: Path) -> dict[str, pruning.Variant]:
    built = pruning.build(Path(tmp_path_factory.mktemp("pruned")), digits, trained, say=lambda text: None)
    return {variant.title: variant for variant in built}


@pytest.mark.parametrize("title", pruning.PIPELINES)
@pytest.mark.parametrize("runtime", ["PyTorch", "ONNX Runtime"])
def test_two_more_epochs_come_within_a_point_of_the_float_model(
    title: str, runtime: str, variants: dict[str, pruning.Variant], digits: job.Digits
) -> None:
    before = pruning.accuracy(variants["float"].programs, digits)[f"float, {runtime}"]
    at_once = pruning.accuracy(variants[title].untrained, digits)[f"{title}, {runtime}"]
    after = pruning.accuracy(variants[title].programs, digits)[f"{title}, {runtime}"]
    assert after >= before - 0.01
    assert after > at_once  # otherwise pruning lost no accuracy, and the assertion above shows nothing


def test_half_of_the_channels_are_a_quarter_of_the_weights(variants: dict[str, pruning.Variant]) -> None:
    before, after = (variants[title].programs[0].report for title in ("float", "half the channels"))
    assert after["parameters"] < 0.35 * before["parameters"]
    assert after["multiply_adds"] < 0.35 * before["multiply_adds"]


def test_a_tenth_of_the_weights_is_left_after_training(variants: dict[str, pruning.Variant]) -> None:
    biases = 32 + 64 + 128 + 10
    weights = variants["float"].programs[0].report["parameters"] - biases
    assert variants["a tenth of the weights"].nonzero <= weights - round(0.9 * weights) + biases
    assert variants["float"].nonzero == weights + biases
