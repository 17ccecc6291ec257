"""Emitted modules compute the same results on a GPU as on the CPU; skipped without a GPU."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import archc
from archc.codegen.torch.load import load_module
from archc.interpreter.sample_inputs import random_inputs
from archc.passmanager.comparison import largest_error
from tests.specs.siblings import SPECS, sibling

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

FLOAT_TOLERANCE = 1e-4
INTEGER_TOLERANCE = 5e-2
"""Larger than `FLOAT_TOLERANCE`: devices may quantize a number between two steps differently."""


@pytest.fixture(autouse=True)
def whole_float32() -> None:
    """Compute products in float32, not in TF32, whose mantissa has only ten bits."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def emitted(spec: str, folder: Path, passes: str = "", **values: object) -> tuple[ModuleType, tuple[Tensor, ...]]:
    """The emitted module of a spec and random inputs; the default attribute values are small."""
    path = SPECS / f"{spec}.arch"
    compiled = archc.compile(path, values=values or dict(sibling(path)), passes=passes)
    compiled.write(folder, emit=("torch",))
    module = load_module(folder / f"{compiled.graph.name}.py")
    return module, tuple(map(torch.from_numpy, random_inputs(compiled.graph).values()))


def results(model: nn.Module, inputs: tuple[Tensor, ...], device: str) -> dict[str, Tensor]:
    with torch.no_grad():
        found = model(*(tensor.to(device) for tensor in inputs))
    found = found if isinstance(found, tuple) else (found,)
    assert all(tensor.device.type == torch.device(device).type for tensor in found)
    return {str(number): tensor.cpu() for number, tensor in enumerate(found)}


@pytest.mark.parametrize("spec", sorted(path.stem for path in SPECS.glob("*.arch")))
def test_a_spec_computes_the_same_on_a_gpu(spec: str, tmp_path: Path) -> None:
    module, inputs = emitted(spec, tmp_path)
    expected = results(module.load(), inputs, "cpu")
    assert largest_error(expected, results(module.load(device="cuda"), inputs, "cuda")) < FLOAT_TOLERANCE


PIPELINES = (
    "quant",
    "lowrank, quant",
    'quant(scheme = "dynamic")',
    'quant(scheme = "weight")',
    'prune(0.5, scheme = "channel")',
    "prune(0.5)",
    "fold, simplify",
)


@pytest.mark.parametrize("passes", PIPELINES)
@pytest.mark.parametrize("spec", ["cnn", "mlp", "resnet18", "gpt2"])
def test_a_model_after_passes_computes_the_same_on_a_gpu(spec: str, passes: str, tmp_path: Path) -> None:
    module, inputs = emitted(spec, tmp_path, passes)
    expected = results(module.load(), inputs, "cpu")
    tolerance = INTEGER_TOLERANCE if "quant" in passes else FLOAT_TOLERANCE
    model = module.load(device="cuda")
    assert largest_error(expected, results(model, inputs, "cuda")) < tolerance
    assert largest_error(expected, results(model.cpu(), inputs, "cpu")) < 1e-6  # moved back to the CPU


@pytest.mark.parametrize("rows", [1, 8, 33])
def test_linear_layers_multiply_integers_on_a_gpu(rows: int, tmp_path: Path) -> None:
    """cuBLAS needs more than 16 rows, so smaller operands are padded."""
    module, (x,) = emitted("mlp", tmp_path, "quant(least = 0)", features=512, width=1024)
    x = torch.cat([x] * 5)[:rows]
    module.Int8Linear.least = 1
    model = module.load(device="cuda")
    with torch.profiler.profile() as seen:
        found = results(model, (x,), "cuda")
    assert any(event.name == "aten::_int_mm" for event in seen.events() or ())
    assert largest_error(results(module.load(), (x,), "cpu"), found) < INTEGER_TOLERANCE


@pytest.mark.parametrize("spec", ["cnn", "gpt2", "elman", "resnet18"])
def test_gradients_are_the_same_on_a_gpu(spec: str, tmp_path: Path) -> None:
    module, inputs = emitted(spec, tmp_path)
    gradients = {}
    for device in ("cpu", "cuda"):
        model = module.load(device=device)  # in evaluation mode: dropout would differ
        found = model(*(tensor.to(device) for tensor in inputs))
        sum((each.float() ** 2).sum() for each in (found if isinstance(found, tuple) else (found,))).backward()
        gradients[device] = {
            name: parameter.grad.cpu() for name, parameter in model.named_parameters() if parameter.grad is not None
        }
    assert gradients["cpu"] and gradients["cpu"].keys() == gradients["cuda"].keys()
    largest = max(float(gradient.norm()) for gradient in gradients["cpu"].values())
    for name, gradient in gradients["cpu"].items():
        assert float((gradient - gradients["cuda"][name]).norm()) <= 1e-3 * max(float(gradient.norm()), 1e-3 * largest)


@pytest.mark.parametrize("spec", ["cnn", "gpt2"])
def test_a_model_trains_on_a_gpu_in_mixed_precision(spec: str, tmp_path: Path) -> None:
    module, inputs = emitted(spec, tmp_path)
    model = module.load(device="cuda").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    inputs = tuple(tensor.cuda() for tensor in inputs)
    losses = []
    for _ in range(20):
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(*inputs)
        target = torch.zeros(logits.shape[:-1], dtype=torch.long, device="cuda")
        loss = nn.functional.cross_entropy(logits.float().flatten(0, -2), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("passes", ["partition(stages = 2)", "quant, partition(stages = 2)"])
@pytest.mark.parametrize("devices", [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
@pytest.mark.parametrize("spec", ["cnn", "gpt2"])
def test_stages_go_to_the_devices_that_they_are_given(
    spec: str, devices: tuple[str, str], passes: str, tmp_path: Path
) -> None:
    module, inputs = emitted(spec, tmp_path, passes)
    expected = results(module.load(devices=["cpu", "cpu"]), inputs, "cpu")
    model = module.load(devices=list(devices))
    assert {tensor.device.type for tensor in model.state_dict().values()} == set(devices)
    with torch.no_grad():
        found = model(*(tensor.to(devices[0]) for tensor in inputs)).cpu()
    tolerance = INTEGER_TOLERANCE if "quant" in passes else FLOAT_TOLERANCE
    assert largest_error(expected, {"0": found}) < tolerance
