"""Normalizations against `torch.nn`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from archc.declaration.base import Operator, OperatorError
from archc.ops.norm import MACHINE_EPSILON, BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RmsNorm
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, random

IMAGE = random(2, 6, 5, 4) * 3 + 1
WORDS = random(2, 5, 8) * 3 + 1

CASES = [
    case(BatchNorm(), random(5, 6), nn.BatchNorm1d(6)),
    case(BatchNorm(), random(5, 6, 3), nn.BatchNorm1d(6)),
    case(BatchNorm(), IMAGE, nn.BatchNorm2d(6)),
    case(BatchNorm(6, eps=0.1, momentum=0.3), IMAGE, nn.BatchNorm2d(6, eps=0.1, momentum=0.3)),
    case(BatchNorm(affine=False), IMAGE, nn.BatchNorm2d(6, affine=False)),
    case(BatchNorm(), random(2, 6, 3, 2, 4), nn.BatchNorm3d(6), symbolic=[{0: "N", 2: "D", 3: "H", 4: "W"}]),
    case(InstanceNorm(), random(2, 6, 9), nn.InstanceNorm1d(6)),
    case(InstanceNorm(), IMAGE, nn.InstanceNorm2d(6), symbolic=[{0: "N", 1: "C", 2: "H"}]),
    case(InstanceNorm(6, eps=0.1, affine=True), IMAGE, nn.InstanceNorm2d(6, eps=0.1, affine=True)),
    case(InstanceNorm(affine=True), random(2, 6, 3, 2, 4), nn.InstanceNorm3d(6, affine=True)),
    case(GroupNorm(3), IMAGE, nn.GroupNorm(3, 6)),
    case(GroupNorm(3, 6, eps=0.1), IMAGE, nn.GroupNorm(3, 6, eps=0.1), symbolic=[{0: "N", 2: "H", 3: "W"}]),
    case(GroupNorm(6), random(2, 6, 7), nn.GroupNorm(6, 6)),
    case(GroupNorm(2), random(2, 6, 40) + 1000, nn.GroupNorm(2, 6), rtol=1e-3, atol=1e-3),
    case(GroupNorm(1), random(2, 6), nn.GroupNorm(1, 6)),
    case(GroupNorm(2, affine=False), IMAGE, nn.GroupNorm(2, 6, affine=False)),
    case(LayerNorm(), WORDS, nn.LayerNorm(8)),
    case(LayerNorm(8, eps=0.1, bias=False), WORDS, nn.LayerNorm(8, eps=0.1, bias=False)),
    case(LayerNorm(dims=2), WORDS, nn.LayerNorm((5, 8))),
    case(LayerNorm((6, 5, 4)), IMAGE, nn.LayerNorm((6, 5, 4))),
    case(LayerNorm(elementwise_affine=False), WORDS, nn.LayerNorm(8, elementwise_affine=False)),
    case(
        LayerNorm(dims=2, elementwise_affine=False),
        WORDS,
        nn.LayerNorm((5, 8), elementwise_affine=False),
        symbolic=[{1: "T"}],
    ),
    case(RmsNorm(), WORDS, nn.RMSNorm(8)),
    case(RmsNorm(eps=0.1), WORDS, nn.RMSNorm(8, eps=0.1)),
    case(RmsNorm((5, 8)), WORDS, nn.RMSNorm((5, 8))),
    case(
        RmsNorm(elementwise_affine=False), WORDS, nn.RMSNorm(8, elementwise_affine=False), symbolic=[{1: "T", 2: "D"}]
    ),
    case(RmsNorm(), WORDS * 1e-5, nn.RMSNorm(8)),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_default_eps_of_rms_norm_is_the_machine_epsilon(dtype: torch.dtype) -> None:
    named = next(own for own in DType if getattr(torch, own.torch) is dtype)
    assert MACHINE_EPSILON[named] == torch.finfo(dtype).eps


@pytest.mark.parametrize(
    ("op", "module"),
    [(BatchNorm(), nn.BatchNorm2d(6)), (GroupNorm(2), nn.GroupNorm(2, 6)), (LayerNorm(), nn.LayerNorm(4))],
)
def test_fresh_weights_are_those_of_torch(op: Operator, module: nn.Module) -> None:
    parameters = op.infer([TensorType(DType.f32, (2, 6, 5, 4))]).parameters
    for name, wanted in module.state_dict().items():
        shape = tuple(int(str(dim)) for dim in parameters[name].shape)
        drawn = op.parameters[name].initializer({}).sample(shape, parameters[name].dtype.value, None)  # type: ignore[arg-type]
        torch.testing.assert_close(torch.from_numpy(drawn), wanted)


@pytest.mark.parametrize(
    ("op", "shape", "code", "attribute"),
    [
        (BatchNorm(eps=0.0), (2, 6, 4), "bad-attribute", "eps"),
        (BatchNorm(momentum=1.5), (2, 6, 4), "bad-attribute", "momentum"),
        (BatchNorm(5), (2, 6, 4), "shape-mismatch", "num_features"),
        (BatchNorm(), (2, 6, 1, 1, 1, 1), "rank-mismatch", None),
        (BatchNorm(), (6,), "rank-mismatch", None),
        (InstanceNorm(), (2, 6), "rank-mismatch", None),
        (InstanceNorm(), (2, 6, 1, 1), "shape-mismatch", None),
        (GroupNorm(4), (2, 6, 4), "shape-mismatch", None),
        (GroupNorm(6), (1, 6, 1), "shape-mismatch", None),
        (GroupNorm(0), (2, 6, 4), "bad-attribute", "num_groups"),
        (GroupNorm(2, 5), (2, 6, 4), "shape-mismatch", "num_channels"),
        (LayerNorm(5), (2, 6), "shape-mismatch", "normalized_shape"),
        (LayerNorm((2, 5)), (2, 6), "shape-mismatch", "normalized_shape"),
        (LayerNorm(()), (2, 6), "bad-attribute", "normalized_shape"),
        (LayerNorm(dims=0), (2, 6), "bad-attribute", "dims"),
        (LayerNorm(6, dims=2), (2, 6), "bad-attribute", "dims"),
        (LayerNorm(dims=3), (2, 6), "rank-mismatch", None),
        (RmsNorm(eps=float("nan")), (2, 6), "bad-attribute", "eps"),
        (RmsNorm(5), (2, 6), "shape-mismatch", "normalized_shape"),
    ],
    ids=str,
)
def test_invalid_attributes_and_shapes_are_refused(
    op: Operator, shape: tuple[int, ...], code: str, attribute: str | None
) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType.f32, shape)])
    assert (caught.value.code, caught.value.attribute) == (code, attribute)


def test_layer_norm_without_weights_needs_no_known_size() -> None:
    x = TensorType(DType.f32, (2, symbol("D")))
    assert LayerNorm(elementwise_affine=False).infer([x]).results == (x,)
