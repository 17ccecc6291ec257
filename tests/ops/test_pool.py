"""Pooling against `torch.nn`."""

from __future__ import annotations

import onnx
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from archc.declaration.base import Operator, OperatorError
from archc.ops.pool import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from archc.types.dims import evaluate, symbol
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, check_operator, one_node, random

SIGNAL, IMAGE, VIDEO = random(2, 3, 11), random(2, 3, 9, 8), random(2, 3, 5, 6, 7)
SIZES = [{0: "N", 2: "H", 3: "W"}]

CASES = [
    case(MaxPool1d(3), SIGNAL, nn.MaxPool1d(3)),
    case(MaxPool1d(3, stride=2, padding=1, dilation=2), SIGNAL, nn.MaxPool1d(3, 2, 1, 2), symbolic=[{2: "L"}]),
    case(MaxPool2d(2), IMAGE, nn.MaxPool2d(2), symbolic=SIZES),
    case(MaxPool2d(3, stride=2, padding=1), IMAGE, nn.MaxPool2d(3, 2, 1)),
    case(MaxPool2d((3, 2), stride=(1, 2), padding=(1, 0)), IMAGE, nn.MaxPool2d((3, 2), (1, 2), (1, 0))),
    case(MaxPool2d(3, 2, ceil_mode=True), IMAGE, nn.MaxPool2d(3, 2, ceil_mode=True), symbolic=SIZES),
    case(MaxPool2d(2, 3, 1, ceil_mode=True), IMAGE, nn.MaxPool2d(2, 3, 1, ceil_mode=True)),
    case(MaxPool3d((1, 2, 3)), VIDEO, nn.MaxPool3d((1, 2, 3))),
    case(AvgPool1d(3), SIGNAL, nn.AvgPool1d(3)),
    case(AvgPool1d(4, stride=3, padding=2), SIGNAL, nn.AvgPool1d(4, 3, 2)),
    case(AvgPool2d(2), IMAGE, nn.AvgPool2d(2), symbolic=SIZES),
    case(AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE, nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    case(AvgPool2d(3, 2, ceil_mode=True), IMAGE, nn.AvgPool2d(3, 2, ceil_mode=True)),
    case(AvgPool2d(3, 2, 1, ceil_mode=True), IMAGE, nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
    case(AvgPool2d(2, 3, 1, ceil_mode=True), IMAGE, nn.AvgPool2d(2, 3, 1, ceil_mode=True)),
    case(AvgPool3d(2, padding=1), VIDEO, nn.AvgPool3d(2, padding=1)),
    case(AdaptiveAvgPool1d(1), SIGNAL, nn.AdaptiveAvgPool1d(1), symbolic=[{0: "N", 2: "L"}]),
    case(AdaptiveAvgPool1d(4), SIGNAL, nn.AdaptiveAvgPool1d(4)),
    case(AdaptiveAvgPool2d(1), IMAGE, nn.AdaptiveAvgPool2d(1), symbolic=SIZES),
    case(AdaptiveAvgPool2d((3, 4)), IMAGE, nn.AdaptiveAvgPool2d((3, 4))),
    case(AdaptiveAvgPool2d((4, 2)), IMAGE, nn.AdaptiveAvgPool2d((4, 2))),
    case(AdaptiveAvgPool2d(12), IMAGE, nn.AdaptiveAvgPool2d(12)),
    case(AdaptiveAvgPool2d((1, 4)), IMAGE, nn.AdaptiveAvgPool2d((1, 4)), symbolic=[{0: "N", 2: "H"}]),
    case(AdaptiveAvgPool3d((2, 1, 3)), VIDEO, nn.AdaptiveAvgPool3d((2, 1, 3))),
    case(AdaptiveMaxPool1d(4), SIGNAL, nn.AdaptiveMaxPool1d(4)),
    case(AdaptiveMaxPool2d(1), IMAGE, nn.AdaptiveMaxPool2d(1), symbolic=SIZES),
    case(AdaptiveMaxPool2d((3, 4)), IMAGE, nn.AdaptiveMaxPool2d((3, 4))),
    case(AdaptiveMaxPool2d((5, 1)), IMAGE, nn.AdaptiveMaxPool2d((5, 1)), symbolic=[{0: "N", 3: "W"}]),
    case(AdaptiveMaxPool3d(2), VIDEO, nn.AdaptiveMaxPool3d(2)),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def f32(*shape: object) -> TensorType:
    return TensorType(DType.f32, shape)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=300)
@given(
    size=st.integers(1, 14),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 6),
    padding=st.integers(0, 4),
    dilation=st.integers(1, 3),
    ceil_mode=st.booleans(),
)
def test_sizes_are_those_of_torch(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> None:
    op = MaxPool1d(kernel, stride, padding, dilation=dilation, ceil_mode=ceil_mode)
    try:
        actual = functional.max_pool1d(torch.zeros(1, 1, size), kernel, stride, padding, dilation, ceil_mode)
    except RuntimeError:
        with pytest.raises(OperatorError):
            op.infer([f32(1, 1, size)])
        return
    assert op.infer([f32(1, 1, size)]).results[0].shape == tuple(actual.shape)
    symbolic = op.infer([f32(1, 1, symbol("L"))]).results[0].shape[2]
    assert evaluate(symbolic, sizes={"L": size}) == actual.shape[2]


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(5, 12),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 6),
    padding=st.integers(0, 2),
    ceil_mode=st.booleans(),
    count_include_pad=st.booleans(),
)
def test_average_pooling_agrees_everywhere(
    size: int, kernel: int, stride: int, padding: int, ceil_mode: bool, count_include_pad: bool
) -> None:
    assume(2 * padding <= kernel)
    op = AvgPool1d(kernel, stride, padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad)
    check_operator(op, [random(2, 3, size)], nn.AvgPool1d(kernel, stride, padding, ceil_mode, count_include_pad))


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(5, 12),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 6),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    ceil_mode=st.booleans(),
)
def test_max_pooling_agrees_everywhere(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> None:
    assume(2 * padding <= kernel and dilation * (kernel - 1) < size)
    op = MaxPool1d(kernel, stride, padding, dilation=dilation, ceil_mode=ceil_mode)
    check_operator(
        op,
        [random(2, 3, size)],
        nn.MaxPool1d(kernel, stride, padding, dilation, ceil_mode=ceil_mode),
        # onnx.reference omits the padding with stride and dilation 1
        onnx_reference=stride > 1 or dilation > 1 or padding == 0,
    )


@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 12), output=st.integers(1, 14))
def test_adaptive_pooling_agrees_everywhere(size: int, output: int) -> None:
    # GlobalMaxPool of onnx.reference reduces two axes for any rank
    check_operator(
        AdaptiveMaxPool1d(output), [random(2, 3, size)], nn.AdaptiveMaxPool1d(output), onnx_reference=output != 1
    )
    check_operator(AdaptiveAvgPool1d(output), [random(2, 3, size)], nn.AdaptiveAvgPool1d(output))


def test_a_symbolic_size_pools_to_one_element_only_in_onnx() -> None:
    from archc.codegen.onnx import to_model
    from archc.diagnostics import ArchcError

    graph = one_node(AdaptiveAvgPool2d(3), [IMAGE], {}, SIZES)
    with pytest.raises(ArchcError) as caught:
        to_model(graph)
    (found,) = caught.value.diagnostics
    assert found.code == "no-onnx-form"
    assert "adaptive_avg_pool2d" in found.message


def test_global_pooling_is_one_onnx_node() -> None:
    from archc.codegen.onnx import to_model

    model = to_model(one_node(AdaptiveAvgPool2d(1), [IMAGE], {}, SIZES))
    assert isinstance(model, onnx.ModelProto)
    assert [node.op_type for node in model.graph.node] == ["GlobalAveragePool"]


def test_symbolic_sizes_stay_formulas() -> None:
    assert str(MaxPool2d(2).infer([f32(1, 3, symbol("H"), 8)]).results[0]) == "f32[1, 3, H // 2, 4]"


@pytest.mark.parametrize(
    ("op", "code", "attribute"),
    [
        (MaxPool2d(0), "bad-attribute", "kernel_size"),
        (MaxPool2d(2, stride=0), "bad-attribute", "stride"),
        (MaxPool2d(2, dilation=0), "bad-attribute", "dilation"),
        (MaxPool2d(2, padding=-1), "bad-attribute", "padding"),
        (MaxPool2d(3, padding=2), "bad-attribute", "padding"),
        (AvgPool2d((2, 2, 2)), "bad-attribute", "kernel_size"),
        (AvgPool2d(9), "shape-mismatch", "kernel_size"),
        (AdaptiveAvgPool2d(0), "bad-attribute", "output_size"),
        (AdaptiveMaxPool2d((1,)), "bad-attribute", "output_size"),
    ],
    ids=str,
)
def test_invalid_attributes_and_shapes_are_refused(op: Operator, code: str, attribute: str) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([f32(1, 3, 8, 8)])
    assert (caught.value.code, caught.value.attribute) == (code, attribute)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "must be positive, got 0"), (2**31, "must be from 1 to 2147483647, got 2147483648")]
)
def test_the_limit_that_a_kernel_violates_is_named(size: int, text: str) -> None:
    with pytest.raises(OperatorError, match=text):
        MaxPool2d(size).infer([f32(1, 3, 8, 8)])


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_volume_without_padding_is_at_least_as_large_as_the_window(size: int) -> None:
    """PyTorch has this requirement only for `avg_pool3d`."""
    op, x = AvgPool3d(3, padding=1), random(1, 2, size, 3, 4)
    if size >= 3:
        assert op.infer([f32(*x.shape)]).results[0].shape == functional.avg_pool3d(x, 3, padding=1).shape
        return
    with pytest.raises(RuntimeError):
        functional.avg_pool3d(x, 3, padding=1)
    with pytest.raises(OperatorError) as caught:
        op.infer([f32(*x.shape)])
    assert caught.value.code == "shape-mismatch"
    assert (symbol("D"), 3) in op.minimum_sizes([TensorType(DType.f32, (1, 2, symbol("D"), 3, 4))])
