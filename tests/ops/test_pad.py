"""`pad` against PyTorch."""

from __future__ import annotations

import pytest
from torch.nn import functional

from archc.declaration.base import OperatorError
from archc.ops.pad import Pad
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, integers, random

X = random(2, 3, 4, 5)

CASES = [
    case(Pad((1, 2)), X, lambda x: functional.pad(x, (1, 2))),
    case(Pad((1, 2, 0, 3), value=1.5), X, lambda x: functional.pad(x, (1, 2, 0, 3), value=1.5)),
    case(Pad((1, -2, -1, 3)), X, lambda x: functional.pad(x, (1, -2, -1, 3)), onnx_reference=False),
    case(Pad((0, 0, 0, 0, 1, 1)), X, lambda x: functional.pad(x, (0, 0, 0, 0, 1, 1))),
    case(Pad((1, 1), value=3.0), integers(2, 3, below=9), lambda x: functional.pad(x, (1, 1), value=3)),
    case(Pad((1, 2, 3, 0), "reflect"), X, lambda x: functional.pad(x, (1, 2, 3, 0), "reflect")),
    case(Pad((1, 2), "replicate"), X[0], lambda x: functional.pad(x, (1, 2), "replicate")),
    case(Pad((1, 2, 3, 0), "circular"), X, lambda x: functional.pad(x, (1, 2, 3, 0), "circular")),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def test_symbolic_sizes() -> None:
    h = symbol("H")
    op = Pad((1, 2, 3, 4), "reflect")
    assert str(op.infer([TensorType(DType.f32, (1, 3, h, 2 * h))]).results[0]) == "f32[1, 3, H + 7, 2*H + 3]"


def test_new_elements_are_parts_of_a_sum() -> None:
    assert str(Pad((0, 0, 1, 2)).signature_for([TensorType(DType.f32, (2, 3))])) == "x[d0, d1] -> y[a0 + d0 + b0, d1]"


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        (Pad((1,)), (2, 3)),
        (Pad(()), (2, 3)),
        (Pad((1, 1, 1, 1)), (3,)),
        (Pad((-2, -2)), (2, 3)),
        (Pad((3, -2)), (2, 1)),
        (Pad((1, 1), "reflect"), (3,)),
        (Pad((1, 1), "reflect"), (2, 3, 4, 5)),
        (Pad((5, 0), "reflect"), (2, 3, 5)),
        (Pad((6, 0), "circular"), (2, 3, 5)),
        (Pad((-1, 0), "replicate"), (2, 3, 5)),
    ],
    ids=str,
)
def test_mistakes(op: Pad, shape: tuple[int, ...]) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([TensorType(DType.f32, shape)])
    assert (caught.value.code, caught.value.attribute) == ("bad-attribute", "padding")
