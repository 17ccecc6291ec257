"""Models with stages in one process: layers and tensors are on the devices of their stages.

The device `meta` serves as a second device.  Its tensors have no elements, but an operator on tensors of `meta` and the
CPU fails, like an operator on tensors of two GPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

import archc
from archc.codegen.torch.load import load_module
from archc.driver.compiled import Compiled
from tests.codegen.pipeline import models
from tests.codegen.torch_modules import inputs_of

GUEST = """
model guest {
    input x: f32[N, 8]
    layer twice = linear(8)
    h = x -> twice -> relu -> to_stage(1) -> fc: linear(8)
    output y = h -> twice -> to_stage(2) -> head: linear(4)
}
"""

MODELS: dict[str, Callable[[], Compiled]] = {
    "tied": models.tied,
    "resnet18 in blocks": partial(models.resnet18, "layer2.0.conv2", "layer3.1.conv2"),
    "a layer of two stages": lambda: archc.compile(GUEST),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_layers_are_on_the_devices_of_their_stages(make: Callable[[], Compiled], tmp_path: Path) -> None:
    compiled = make()
    compiled.write(tmp_path, emit=("torch",))
    module = load_module(tmp_path / f"{compiled.name}.py")
    names = set(module.load().state_dict())
    # A transfer from `meta` to the CPU fails, so only the last stage is on `meta`.
    model = module.load(devices=("cpu", "cpu", "meta"))
    assert set(model.state_dict()) == names
    for number, layers in enumerate(module.STAGES):
        for layer in layers:
            devices = {tensor.device.type for tensor in model.get_submodule(layer).state_dict().values()}
            assert devices == {("cpu", "cpu", "meta")[number]}
    inputs = inputs_of(compiled.graph, H=32, W=32)
    assert model(*inputs.values()).is_meta
    assert not module.load()(*inputs.values()).is_meta


def test_a_shared_weight_stays_one_parameter(tmp_path: Path) -> None:
    models.tied().write(tmp_path, emit=("torch",))
    model = load_module(tmp_path / "tied.py").load()
    assert [name for name, _ in model.named_parameters()].count("wte.weight") == 1
    assert not any(name.startswith("head") for name in model.state_dict())
    tokens = torch.arange(6).reshape(1, 6)
    model(tokens).sum().backward()
    # No row of the gradient is zero: the head uses all rows, the embedding only six.
    assert (model.wte.weight.grad.abs().sum(1) > 0).all()


def test_a_layer_of_two_stages_computes_where_its_weights_are(tmp_path: Path) -> None:
    compiled = archc.compile(GUEST)
    compiled.write(tmp_path, emit=("torch",))
    module = load_module(tmp_path / "guest.py")
    x = torch.randn(3, 8)
    model = module.load()
    relu, linear = torch.relu, torch.nn.functional.linear
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}

    def layer(name: str, x: torch.Tensor) -> torch.Tensor:
        return linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    expected = layer("head", layer("twice", layer("fc", relu(layer("twice", x)))))
    torch.testing.assert_close(module.place(model, ("cpu", "cpu", "cpu"))(x), expected)
    assert module.SHARED == ("twice",)


def test_the_text_names_devices(tmp_path: Path) -> None:
    text = 'model m { input x: f32[N, 8]  output y = x -> fc1: linear(8) -> to_stage(1, device = "meta") -> relu }'
    archc.compile(text).write(tmp_path, emit=("torch",))
    module = load_module(tmp_path / "m.py")
    assert module.DEVICES == ("cpu", "meta")
    assert module.load()(torch.zeros(2, 8)).is_meta


def test_devices_of_another_machine_can_be_checked_here(tmp_path: Path) -> None:
    text = 'model m { input x: f32[N, 8]  output y = x -> fc1: linear(8) -> to_stage(1, device = "cuda:99") -> relu }'
    report = archc.compile(text).write(tmp_path, check=True)
    assert report["check"]["errors"]["torch"] < 1e-5


def test_a_model_without_stages_has_no_trace_of_them(tmp_path: Path) -> None:
    archc.compile(models.SPECS / "cnn.arch").write(tmp_path, emit=("torch",))
    source = (tmp_path / "cnn.py").read_text()
    assert "stage" not in source.lower()
    assert "device: str | torch.device" in source
