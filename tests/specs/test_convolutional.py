"""Convolutional specs, compared with independent implementations and with published counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorchcv.models.densenet import DenseNet
from pytorchcv.models.inceptionv3 import InceptionV3
from pytorchcv.models.mobilenetv2 import get_mobilenetv2
from pytorchcv.models.resnet import ResNet
from pytorchcv.models.vgg import VGG
from torch import Tensor, nn

import archc
from archc.analysis.cost import cost
from tests.specs.convolutional import SSD300, UNet, cnn, googlenet, lenet5, net
from tests.specs.dense import perceptron
from tests.specs.siblings import SPECS, sibling
from tests.specs.twins import Twins, assert_same_gradients, twins


def of_any_size(model: nn.Module) -> nn.Module:
    """Replace the last pooling, which pytorchcv sizes for 224 pixels, by an adaptive pooling."""
    features = model.get_submodule("features")
    features.add_module("final_pool", nn.AdaptiveAvgPool2d(1))
    return model


def resnet(bottleneck: bool, width: int, depths: tuple[int, ...], classes: int) -> nn.Module:
    expansion = 4 if bottleneck else 1
    channels = [[expansion * width * 2**i] * depth for i, depth in enumerate(depths)]
    return of_any_size(ResNet(channels, width, bottleneck, conv1_stride=False, num_classes=classes))


def vgg(width: int, size: int, hidden: int, classes: int) -> nn.Module:
    widths = [width * factor for factor in (1, 2, 4, 8, 8)]
    model = VGG([[wide] * depth for wide, depth in zip(widths, (2, 2, 3, 3, 3), strict=True)], num_classes=classes)
    # The dense layers of pytorchcv have fixed sizes for images of 224 pixels.
    model.output = perceptron([8 * width * (size // 32) ** 2, hidden, hidden, classes], dropout=0.5)
    return model


def mobilenet(width: int, features: int, classes: int) -> nn.Module:
    model = get_mobilenetv2(width / 32, remove_exp_conv=True, num_classes=classes)
    final = model.features.final_block
    final.conv = nn.Conv2d(10 * width, features, 1, bias=False)
    final.bn = nn.BatchNorm2d(features)
    model.output = nn.Conv2d(features, classes, 1)  # with a bias, as in the published count; pytorchcv has no bias
    return of_any_size(model)


def densenet(growth: int, depths: tuple[int, ...], classes: int) -> nn.Module:
    channels: list[list[int]] = []
    wide = 2 * growth
    for depth in depths:
        channels.append([wide + growth * (i + 1) for i in range(depth)])
        wide = channels[-1][-1] // 2
    return of_any_size(DenseNet(channels, 2 * growth, num_classes=classes))


def googlenet_of(width: int, classes: int, largest: int = 3) -> nn.Module:
    return googlenet(64 // width, classes, largest)


def inception_v3(classes: int) -> nn.Module:
    channels = [[256, 288, 288], [768] * 5, [1280, 2048, 2048]]
    return of_any_size(InceptionV3(channels, 192, [128, 160, 160, 192], bn_eps=1e-3, num_classes=classes))


@dataclass(frozen=True)
class Case:
    """Small model of a spec, and its reference.

    Attributes:
        build: builds the reference from the attribute values.
        shapes: shapes of two inputs, which differ in all symbolic sizes.
        values: attribute values; None for those of `sibling`.
    """

    spec: str
    build: Callable[..., nn.Module]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    values: Mapping[str, Any] | None = None

    def twins(self, folder: Path) -> Twins:
        values = sibling(SPECS / f"{self.spec}.arch") if self.values is None else self.values
        with torch.random.fork_rng():
            torch.manual_seed(0)
            reference = self.build(**values)
            return twins(SPECS / f"{self.spec}.arch", values, reference, [random(self.shapes[0], seed=1)], folder)


def random(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


IMAGES = ((4, 3, 64, 64), (2, 3, 96, 73))

CASES = [
    Case("resnet18", lambda **v: resnet(False, depths=(2, 2, 2, 2), **v), IMAGES),
    Case("resnet34", lambda **v: resnet(False, **v), IMAGES),
    Case("resnet50", lambda **v: resnet(True, **v), IMAGES),
    Case("resnet101", lambda **v: resnet(True, **v), IMAGES),
    Case("vgg16", vgg, ((4, 3, 32, 32), (2, 3, 32, 32))),
    Case("mobilenet_v2", mobilenet, IMAGES),
    Case("densenet121", densenet, IMAGES),
    # In the second image, poolings end with an incomplete window.
    Case("inception_v1", googlenet_of, ((4, 3, 64, 64), (2, 3, 75, 80))),
    # With convolutions of size 5, as in the paper; the default is 3.
    Case("inception_v1", googlenet_of, ((4, 3, 64, 64), (2, 3, 75, 80)), {"width": 16, "classes": 10, "largest": 5}),
    # pytorchcv has only the default width, so the smaller width of `sibling` is not used.
    Case("inception_v3", inception_v3, ((4, 3, 107, 107), (2, 3, 75, 123)), {"classes": 10}),
    Case("unet", lambda width: nn.Sequential(UNet(width, 4), nn.LazyConv2d(2, 1)), ((4, 1, 32, 32), (2, 1, 48, 64))),
    Case(
        "unet",
        lambda width, depth: nn.Sequential(UNet(width, depth), nn.LazyConv2d(2, 1)),
        ((4, 1, 16, 24), (2, 1, 12, 4)),
        {"width": 4, "depth": 2},
    ),
    Case("ssd300", SSD300, ((3, 3, 300, 300), (2, 3, 300, 300))),
    Case("net", net, ((4, 1, 28, 28), (2, 1, 28, 28))),
    Case("cnn", cnn, ((4, 1, 28, 28), (2, 1, 28, 28))),
    Case("lenet5", lenet5, ((4, 1, 28, 28), (2, 1, 28, 28))),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.spec)
def test_a_spec_computes_what_its_reference_does(case: Case, tmp_path: Path) -> None:
    both = case.twins(tmp_path)
    for seed, shape in enumerate(case.shapes):
        both.agree(random(shape, seed))


# One network of each kind: a plain chain, residuals, concatenations, pixel labels and object detection.
# The loss is a sum of squared errors of all outputs.
@pytest.mark.parametrize("spec", ["cnn", "resnet18", "densenet121", "unet", "ssd300"])
def test_the_gradients_of_a_spec_are_those_of_its_reference(spec: str, tmp_path: Path) -> None:
    """Gradients and the updated running statistics agree in training mode."""
    case = next(case for case in CASES if case.spec == spec)
    both = case.twins(tmp_path)
    # The layout of the reference.  In channels-last layout rounding errors differ, and batch norms magnify them.
    both.module.to(memory_format=torch.contiguous_format)
    goals = torch.Generator().manual_seed(6)

    def loss(*outputs: Tensor) -> Tensor:
        return sum(((y - torch.randn(y.shape, generator=goals.manual_seed(6))) ** 2).mean() for y in outputs)

    assert_same_gradients(both, [random(case.shapes[0], seed=5)], loss)
    statistics = dict(both.reference.named_buffers())
    for path, buffer in both.module.named_buffers():
        assert buffer.dtype == torch.int64 or torch.allclose(buffer, statistics[both.paths[path]], rtol=1e-4), path


PUBLISHED = {
    "densenet121": (7_978_856, 2.834),
    "inception_v1": (6_624_904, 1.498),
    "inception_v3": (23_834_568, 5.713),
    "mobilenet_v2": (3_504_872, 0.301),
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 4.089),
    "resnet101": (44_549_160, 7.801),
    "vgg16": (138_357_544, 15.47),
}
"""Parameters, and billions of multiply-adds for one image, from the documentation of torchvision."""


@pytest.mark.parametrize("spec", PUBLISHED)
def test_a_spec_has_the_published_cost(spec: str) -> None:
    parameters, billions = PUBLISHED[spec]
    side = 299 if spec == "inception_v3" else 224
    found = cost(archc.parse(SPECS / f"{spec}.arch"), {"H": side, "W": side})
    assert found.parameters == parameters
    assert found.multiply_adds / 1e9 == pytest.approx(billions, abs=6e-4)


@pytest.mark.parametrize(
    ("spec", "values", "parameters"),
    [
        ("resnet101", {"depths": (3, 8, 36, 3)}, 60_192_808),  # ResNet-152
        ("vgg16", {"depths": (1, 1, 2, 2, 2)}, 132_863_336),  # VGG-11
        ("vgg16", {"depths": (2, 2, 4, 4, 4)}, 143_667_240),  # VGG-19
        ("densenet121", {"depths": (6, 12, 32, 32)}, 14_149_480),  # DenseNet-169
        ("densenet121", {"depths": (6, 12, 36, 24), "growth": 48}, 28_681_000),  # DenseNet-161
    ],
)
def test_the_attributes_of_a_spec_give_its_published_siblings(
    spec: str, values: Mapping[str, Any], parameters: int
) -> None:
    assert cost(archc.parse(SPECS / f"{spec}.arch", values=values)).parameters == parameters


def test_ssd300_has_the_published_number_of_parameters() -> None:
    """The number of parameters is that of the usual implementation, for the 21 classes of Pascal VOC."""
    assert cost(archc.parse(SPECS / "ssd300.arch")).parameters == 26_285_486


def test_the_reference_of_inception_v1_has_the_published_number_of_parameters() -> None:
    """The reference, which is written for these tests, has the published size."""
    model = googlenet(1, 1000)
    model(torch.zeros(2, 3, 64, 64))
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED["inception_v1"][0]
