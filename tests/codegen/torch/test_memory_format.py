"""Channels-last convolutions on the CPU, compared with the default layout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from archc.compiler import compile as compile_path
from archc.interpreter.evaluate import evaluate
from tests.codegen.torch_modules import CONVOLUTIONS as NARROW
from tests.codegen.torch_modules import graph_of, imported, inputs_of, source_of

CONVOLUTIONS = (
    NARROW.replace("conv2d(4,", "conv2d(16,").replace("Stage(4)", "Stage(16)").replace("Stage(8,", "Stage(32,")
)

IMAGES = """
model images {
    input image: f32[N, 1, 8, 8]
    x = image -> a: conv2d(4, 3, padding = 1) -> relu
    output half: f32[N, 6, 4, 4] = x -> max_pool2d(2) -> b: conv2d(6, 3, padding = 1)
    output whole = half -> up: conv_transpose2d(2, 2, stride = 2)
}
"""
ORDERED = "model.to(memory_format=torch.channels_last)"


def as_list(results: torch.Tensor | tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    return [results] if isinstance(results, torch.Tensor) else list(results)


def test_loaded_convolutions_have_channels_last_and_fresh_ones_have_not(tmp_path: Path) -> None:
    module = imported(graph_of(CONVOLUTIONS), tmp_path)
    for model, ordered in ((module.load(), True), (module.Net(), False)):
        kernels = [weight for weight in model.parameters() if weight.dim() == 4 and weight.shape[-1] > 1]
        assert kernels
        assert all(weight.is_contiguous() != ordered for weight in kernels)
        assert all(weight.is_contiguous(memory_format=torch.channels_last) == ordered for weight in kernels)


@pytest.mark.parametrize("text", [CONVOLUTIONS, IMAGES], ids=["net", "images"])
def test_values_and_gradients_are_those_of_the_usual_order(text: str, tmp_path: Path) -> None:
    graph = graph_of(text)
    module = imported(graph, tmp_path)
    ordered, usual = module.load(), module.load().to(memory_format=torch.contiguous_format)
    inputs = inputs_of(graph)
    found, expected = (as_list(model(**inputs)) for model in (ordered, usual))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found, list(evaluate(graph, inputs).values()))
    for results in (found, expected):
        sum(result.square().sum() for result in results).backward()
    assert ordered.state_dict().keys() == usual.state_dict().keys()
    for (name, own), other in zip(ordered.named_parameters(), usual.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, msg=name)


def test_images_leave_a_model_in_the_usual_order(tmp_path: Path) -> None:
    model = imported(graph_of(IMAGES), tmp_path).load()
    half, whole = model(torch.ones(2, 1, 8, 8))
    assert half.is_contiguous() and whole.is_contiguous()
    assert whole.view(-1).shape == (2 * 2 * 8 * 8,)


def test_trained_weights_load_into_a_fresh_model(tmp_path: Path) -> None:
    module = imported(graph_of(CONVOLUTIONS), tmp_path)
    trained, fresh = module.load(), module.Net()
    fresh.load_state_dict(trained.state_dict())
    image = torch.ones(1, 3, 8, 8)
    torch.testing.assert_close(fresh.eval()(image), trained(image))


@pytest.mark.parametrize(
    "text",
    [
        "model m { input x: f32[N, 4] output y = x -> linear(3) }",
        "model m { input x: f32[N, 4, 8] output y = x -> conv1d(3, 3) }",
        "model m { input x: f32[N, 1, 4, 8, 8] output y = x -> conv3d(3, 3) }",
        # `Module.to` would also convert the weight of five axes, which channels-last layout does not support.
        "model m { input x: f32[N, 1, 4, 8, 8] output y = x -> conv3d(3, (4, 1, 1)) -> squeeze(2) -> conv2d(3, 3) }",
        # A stage sends tensors in their memory layout, so the layout would reach the next stage.
        "model m { input x: f32[N, 1, 8, 8] output y = x -> conv2d(3, 3) -> to_stage(1) -> conv2d(3, 3) }",
        # Shapes for which the channels-last kernels of oneDNN are wrong, or may be.
        "model m { input x: f32[N, 187, 80, 1] output y = x -> conv2d(64, (64, 1)) }",
        "model m { input x: f32[N, 3, 80, 8] output y = x -> conv2d(4, 3) -> conv2d(64, (24, 1)) }",
        "model m { input x: f32[N, 3, 8, 1] output y = x -> conv2d(4, (3, 1)) }",
        "model m { input x: f32[N, 4, 8, 8] output y = x -> conv2d(32, 1, stride = 2) }",
        "model m { input x: f32[N, 32, 8, 8] output y = x -> conv2d(32, 1, stride = 2, groups = 4) }",
        "model m { input x: f32[N, 32, 8, 8] output y = x -> conv_transpose2d(4, 1, stride = 2) }",
    ],
    ids=["linear", "conv1d", "conv3d", "both", "stages", "tall", "tall inside", "column", "strided", "groups", "up"],
)
def test_other_models_keep_the_default_layout(text: str) -> None:
    source = source_of(graph_of(text))
    assert ORDERED not in source
    assert ".contiguous()" not in source


@pytest.mark.parametrize(
    "layer",
    ["conv2d(8, 3)", "conv2d(8, 16, stride = 16)", "conv2d(8, 1)", "conv2d(16, 1, stride = 2, in_channels = 16)"],
)
def test_common_kernels_have_channels_last(layer: str) -> None:
    channels = 16 if "in_channels" in layer else 3
    text = f"model m {{ input x: f32[N, {channels}, 32, 32] output y = x -> {layer} }}"
    assert ORDERED in source_of(graph_of(text))


def test_integer_convolutions_with_tall_kernels_keep_the_usual_order() -> None:
    text = "model m { input x: f32[N, 64, 80, 4] output y = x -> conv: conv2d(64, (24, 1)) }"
    source = source_of(graph_of(text, "quant"))
    assert "Int8Conv2d(" in source
    assert "torch.channels_last" not in source


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(
    ("height", "width", "kernel"), [(80, 1, (64, 1)), (40, 1, (24, 1)), (9, 9, (3, 3)), (5, 1, (1, 1))]
)
def test_kernels_read_no_uninitialized_memory(
    groups: int, height: int, width: int, kernel: tuple[int, int], tmp_path: Path
) -> None:
    """Before each call, freed blocks of the sizes that the kernels may allocate are filled with NaN."""
    for channels in (61, 89):
        text = (
            f"model m {{ input x: f32[N, {groups * channels}, {height}, {width}]"
            f" output y = x -> conv: conv2d({groups * 5}, {kernel}, groups = {groups}) }}"
        )
        graph = graph_of(text)
        model = imported(graph, tmp_path).load()
        x = torch.randn(2, groups * channels, height, width, generator=torch.manual_seed(0))
        expected = evaluate(graph, {"x": x})["y"]
        for _ in range(3):
            poison(x.numel(), expected.numel(), *(weight.numel() for weight in model.parameters()))
            with torch.no_grad():
                torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)


def poison(*sizes: int) -> None:
    """Fill blocks of memory with NaN, and free them.

    The blocks have these sizes, and sizes for channels that are padded to full registers.
    """
    padded = {size * (pad + 1) + 16 * pad for size in sizes for pad in (0, 1)}
    blocks = [torch.full((size,), float("nan")) for size in (*padded, 64, 4096, 65536) for _ in range(3)]
    del blocks


TRAIN = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import m
torch.set_num_threads(1)
model = m.load().train()
x = torch.randn(32, 4, 32, 32, generator=torch.manual_seed(0))
model(x).square().sum().backward()
weight = model.conv.weight.detach().double().requires_grad_()
torch.nn.functional.conv2d(x.double(), weight, stride=2).square().sum().backward()
torch.testing.assert_close(model.conv.weight.grad.double(), weight.grad, rtol=1e-4, atol=1e-2)
"""


def test_a_strided_convolution_of_few_channels_trains(tmp_path: Path) -> None:
    """In channels-last layout, the gradient of the weight ends the process by SIGSEGV."""
    text = "model m { input x: f32[N, 4, 32, 32] output y = x -> conv: conv2d(8, 1, stride = 2, bias = false) }"
    (tmp_path / "m.arch").write_text(text)
    compile_path(tmp_path / "m.arch").write(tmp_path / "out")
    subprocess.run([sys.executable, "-c", TRAIN, str(tmp_path / "out")], check=True)


def test_integer_convolutions_have_channels_last(tmp_path: Path) -> None:
    text = CONVOLUTIONS.replace("8, 8", "32, 32")
    graph = graph_of(text, "quant")
    module = imported(graph, tmp_path)
    image = torch.randn(4, 3, 32, 32, generator=torch.manual_seed(0))
    with torch.no_grad():
        found = module.load()(image)
        expected = module.load().to(memory_format=torch.contiguous_format)(image)
    assert ORDERED in source_of(graph)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("text", [CONVOLUTIONS, IMAGES], ids=["net", "images"])
def test_channels_last_models_can_be_exported(text: str, tmp_path: Path) -> None:
    graph = graph_of(text)
    model = imported(graph, tmp_path).load()
    inputs = inputs_of(graph)
    exported = torch.export.export(model, (), inputs).module()
    torch.testing.assert_close(exported(**inputs), model(**inputs))


@pytest.mark.parametrize("spec", ["resnet18", "densenet121"])
def test_a_deep_network_trains_with_the_same_gradients_but_for_rounding(spec: str, tmp_path: Path) -> None:
    """In float64, since batch statistics of few elements amplify the rounding of float32."""
    module = imported(graph_of(Path(f"specs/{spec}.arch")), tmp_path)
    ordered, usual = module.load().double(), module.load().double().to(memory_format=torch.contiguous_format)
    image = torch.randn(4, 3, 64, 64, dtype=torch.float64, generator=torch.manual_seed(0))
    for model in (ordered, usual):
        model.train()(image).square().mean().backward()
    for (name, own), other in zip(ordered.named_parameters(), usual.parameters(), strict=True):
        assert (own.grad - other.grad).norm() <= 1e-6 * other.grad.norm(), name
