"""Operators without operands, and `cast`, against PyTorch."""

from __future__ import annotations

import onnxruntime
import pytest
import torch

from archc.codegen.onnx import to_model
from archc.declaration.base import Operator, OperatorError
from archc.declaration.spelling import TorchSpelling
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.ops.create import Arange, Cast, Full, Identity, Ones, Zeros
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.ops.harness import Case, case, random

CASES = [
    case(Arange(5), (), lambda: torch.arange(5)),
    case(Arange(9, 2, 3), (), lambda: torch.arange(2, 9, 3)),
    case(Arange(0, 7, -2), (), lambda: torch.arange(7, 0, -2)),
    case(Arange(3, 3), (), lambda: torch.zeros(0, dtype=torch.int64)),
    case(Arange(5, dtype=DType.f32), (), lambda: torch.arange(5, dtype=torch.float32)),
    case(Full((2, 3), 1.5), (), lambda: torch.full((2, 3), 1.5)),
    case(Full((2,), 7, dtype=DType.i64), (), lambda: torch.full((2,), 7)),
    case(Full((2,), True, dtype=DType.bool), (), lambda: torch.full((2,), True)),
    case(Full((2,), 1, dtype=DType.i32), (), lambda: torch.full((2,), 1, dtype=torch.int32)),
    case(Full((), 2.0), (), lambda: torch.tensor(2.0)),
    case(Zeros((2, 3)), (), lambda: torch.zeros(2, 3)),
    case(Ones((4,), dtype=DType.i64), (), lambda: torch.ones(4, dtype=torch.int64)),
    case(Cast(DType.i64), random(2, 3) * 5, lambda x: x.long()),
    case(Cast(DType.f32), torch.tensor([[1, -2], [0, 3]]), lambda x: x.float()),
    case(Cast(DType.bool), torch.tensor([0.0, 0.5, -1.0]), lambda x: x != 0),
    case(Cast(DType.f16), random(2, 3), lambda x: x.half()),
    case(Identity(), random(2, 3), lambda x: x),
]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_operator(one: Case) -> None:
    one.check()


def test_symbolic_sizes() -> None:
    """Sizes of new tensors may be known only at run time."""
    t = symbol("T")
    graph = Graph("sizes")
    rewriter = Rewriter(graph)
    rewriter.input("x", TensorType(DType.f32, (t, 2)))
    rewriter.output("places", rewriter.add(Arange(2 * t, t, 2), []).result)
    rewriter.output("ones", rewriter.add(Ones((t, 3, t + 1)), []).result)
    x = torch.zeros(5, 2)
    expected = (torch.arange(5, 10, 2), torch.ones(5, 3, 6))
    assert str(graph.outputs["places"].type) == "i64[(T + 1) // 2]"
    for found, wanted in zip(evaluate(graph, {"x": x}).values(), expected):
        assert torch.equal(found, wanted)
    session = onnxruntime.InferenceSession(to_model(graph).SerializeToString())
    for array, wanted in zip(session.run(None, {"x": x.numpy()}), expected):
        assert torch.equal(torch.from_numpy(array), wanted)


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (Arange(symbol("T")), "torch.arange(T, device=x.device)"),
        (Full((2, 3), 0.5), "torch.full((2, 3), 0.5, device=x.device)"),
        (Full((2,), 1, dtype=DType.f32), "torch.full((2,), 1.0, device=x.device)"),
        (Zeros((symbol("T"),), dtype=DType.f16), "torch.zeros((T,), dtype=torch.float16, device=x.device)"),
    ],
    ids=str,
)
def test_new_tensors_are_on_the_device_of_the_model(op: Operator, text: str) -> None:
    inference = op.infer([])
    sizes = inference.solution.extents
    assert op.torch(TorchSpelling([], {}, [], inference.results, sizes, str, {}, device="x.device")) == text


@pytest.mark.parametrize(
    "op",
    [
        Arange(3, step=0),
        Arange(0, 3),
        Arange(3, step=-1),
        Arange(3, dtype=DType.bool),
        Full((-1,), 0),
    ],
    ids=str,
)
def test_mistakes(op: Operator) -> None:
    with pytest.raises(OperatorError) as caught:
        op.infer([])
    assert caught.value.code == "bad-attribute"
