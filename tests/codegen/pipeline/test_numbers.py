"""Outputs, gradients, batch statistics and trained weights of a pipeline agree with one process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from archc.codegen.torch.load import load_module
from archc.driver.compiled import Compiled
from tests.codegen.pipeline import models, worker
from tests.codegen.pipeline.processes import run_stages

MICROBATCHES = 4
SAMPLES = 8


def images(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "image": rng.standard_normal((SAMPLES, 3, 32, 32), dtype=np.float32),
        "target": rng.integers(0, 10, SAMPLES),
    }


def vectors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"x": rng.standard_normal((SAMPLES, 20), dtype=np.float32), "target": rng.integers(0, 5, SAMPLES)}


def sentences(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"tokens": rng.integers(0, 24, (SAMPLES, 6)), "target": rng.integers(0, 24, (SAMPLES, 6))}


# The stages of resnet18 end inside blocks, so that a shortcut is transferred besides the main path.
CASES = [
    pytest.param(models.tied, sentences, 3, id="tied-3"),
    pytest.param(partial(models.resnet18, "layer2.0.conv2"), images, 2, id="resnet18-2", marks=pytest.mark.slow),
    pytest.param(
        partial(models.resnet18, "layer2.0.conv2", "layer3.1.conv2"), images, 3, id="resnet18-3", marks=pytest.mark.slow
    ),
    pytest.param(partial(models.mlp, "hidden.1"), vectors, 2, id="mlp-2", marks=pytest.mark.slow),
    pytest.param(partial(models.mlp, "hidden.1", "head"), vectors, 3, id="mlp-3", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("make", "draw", "count"), CASES)
def test_stages_compute_what_one_process_does(
    make: Callable[[], Compiled],
    draw: Callable[[np.random.Generator], dict[str, np.ndarray]],
    count: int,
    tmp_path: Path,
) -> None:
    compiled = make()
    compiled.write(tmp_path / "out", emit=("torch",))
    data = tmp_path / "data.npz"
    arrays = draw(np.random.default_rng(0))
    np.savez(data, **arrays)
    program = tmp_path / "out" / f"{compiled.name}_pipeline.py"
    run_stages(Path(worker.__file__), [str(program), str(data), str(MICROBATCHES), str(tmp_path)], count)
    stages = [torch.load(tmp_path / f"{number}.pt", weights_only=False) for number in range(count)]

    whole = load_module(tmp_path / "out" / f"{compiled.name}.py")
    target = torch.from_numpy(arrays.pop("target"))
    inputs = [torch.from_numpy(array) for array in arrays.values()]
    with torch.no_grad():
        expected = whole.load()(*inputs)
    torch.testing.assert_close(stages[-1]["outputs"], expected, rtol=1e-5, atol=1e-5)
    model, gradients, losses = trained(whole.load().train(), inputs, target)
    for kind in ("gpipe", "1f1b"):
        np.testing.assert_allclose(stages[-1][kind]["losses"], losses, rtol=1e-5)
        seen: set[str] = set()
        for stage in stages:
            for ours, theirs in zip(stage[kind]["gradients"], gradients, strict=True):
                for name, gradient in ours.items():
                    assert distance(gradient, theirs[name]) < 1e-6, f"the gradient of {name}, {kind}"
            for name, tensor in stage[kind]["state"].items():
                assert distance(tensor, model.state_dict()[name]) < 1e-6, f"{name} after training, {kind}"
            seen |= stage[kind]["state"].keys()
        assert seen == model.state_dict().keys()


def trained(
    model: torch.nn.Module, inputs: list[torch.Tensor], target: torch.Tensor
) -> tuple[torch.nn.Module, list[dict[str, torch.Tensor]], list[float]]:
    """Train two steps in one process, on the same microbatches as the pipeline.

    Returns:
        The model, the gradients of each step, and the losses of the last step.
    """
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    gradients = []
    for _ in range(2):
        optimizer.zero_grad()
        losses = []
        parts = zip(*(x.chunk(MICROBATCHES) for x in inputs), target.chunk(MICROBATCHES), strict=True)
        for *some, wanted in parts:
            logits = model(*some)
            loss = F.cross_entropy(logits.flatten(0, -2), wanted.flatten())
            (loss / MICROBATCHES).backward()
            losses.append(loss.item())
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        optimizer.step()
    return model, gradients, losses


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Euclidean distance of two tensors, relative to the norm of the second tensor."""
    ours, theirs = ours.double(), theirs.double()
    return float((ours - theirs).norm() / theirs.norm().clamp(min=1e-12))
