"""Tensors of a text during generation: types, and samples for one choice of inputs and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import torch

from archc.declaration.base import Operator
from archc.interpreter.evaluate import NodeFailure, run_node
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.types.dims import evaluate as number_of
from archc.types.tensor_type import DType, TensorType
from archc.weights.tensor import InitializedTensor

LARGEST = 1e3
LARGEST_INTEGER = 2**24
MOST_ELEMENTS = 4096


class Unsuitable(Exception):
    """The operator cannot run at these sizes, or gives NaN or huge numbers, which hide later faults."""


class CannotRun(Exception):
    """PyTorch rejects operands that `infer` accepts: the declaration of the operator is too permissive."""


@dataclass(eq=False)
class Tensor:
    """Named tensor.

    Attributes:
        sample: its elements for one choice of inputs and weights.
        given: it is an input of the model, with elements that are valid lookup indices.
        siblings: all results of the same operator.
        uses: number of operators that use it.
    """

    name: str
    type: TensorType
    sample: torch.Tensor
    given: bool = False
    siblings: list[Tensor] = field(default_factory=list)
    uses: int = 0


def torch_dtype(dtype: DType) -> torch.dtype:
    return getattr(torch, dtype.torch)  # type: ignore[no-any-return]


def shape_of(type: TensorType, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(number_of(dim, sizes=sizes) for dim in type.shape)


def random_tensor(
    type: TensorType, sizes: Mapping[str, int], chance: Random, accepted: range = range(100)
) -> torch.Tensor:
    """Random tensor of normal floats, integers in a range, or booleans."""
    generator = torch.Generator().manual_seed(chance.randrange(2**31))
    shape = shape_of(type, sizes)
    if type.dtype.floating:
        return torch.randn(shape, generator=generator).to(torch_dtype(type.dtype))
    if type.dtype is DType.bool:
        return torch.rand(shape, generator=generator) < 0.6
    if not accepted:
        raise Unsuitable("no integer is accepted")
    return torch.randint(accepted.start, accepted.stop, shape, generator=generator).to(torch_dtype(type.dtype))


def applied(
    op: Operator, operands: Sequence[tuple[TensorType, torch.Tensor]], sizes: Mapping[str, int], seed: int = 0
) -> list[tuple[TensorType, torch.Tensor]]:
    """Apply an operator with fresh weights.

    Raises:
        OperatorError: the operands are invalid.
        Unsuitable: the operator needs larger symbolic sizes, or its results are empty, not finite or huge.
        CannotRun: PyTorch rejects the operator for another reason.
    """
    graph = Graph("sample")
    rewriter = Rewriter(graph)
    given = [rewriter.input(f"x{number}", type) for number, (type, _) in enumerate(operands)]
    node = rewriter.add(op, given, name="layer")
    if any(number_of(dim, sizes=sizes) < 1 for value in node.results for dim in value.type.shape):
        raise Unsuitable("an empty result")
    if any(number_of(dim, sizes=sizes) < least for dim, least in op.minimum_sizes(node.types)):
        raise Unsuitable("too few elements")
    try:
        with torch.no_grad():
            results = run_node(node, [tensor for _, tensor in operands], _fresh_weights(graph, seed), sizes)
    except NodeFailure as failure:
        known = all(isinstance(dim, int) for type, _ in operands for dim in type.shape)
        # A slice with bounds from symbolic sizes may be out of range at some sizes.
        outside = not known and isinstance(failure.__cause__, IndexError)
        raise (Unsuitable if outside else CannotRun)(str(failure).splitlines()[0]) from failure
    for result in results:
        check_useful(result)
    return [(value.type, result) for value, result in zip(node.results, results)]


def _fresh_weights(graph: Graph, seed: int) -> dict[str, torch.Tensor]:
    weights = {}
    for weight in graph.weights.values():
        fresh = InitializedTensor(weight.shape, weight.dtype.value, weight.initializer, (seed, weight.path)).numpy()
        as_floats = fresh.astype("float32") if weight.dtype is DType.bf16 else fresh
        weights[weight.path] = torch.from_numpy(as_floats).to(torch_dtype(weight.dtype))
    return weights


def check_useful(tensor: torch.Tensor) -> None:
    if tensor.numel() > MOST_ELEMENTS:
        raise Unsuitable("too many elements")
    largest = LARGEST if tensor.dtype is not torch.float16 else LARGEST / 10
    if tensor.is_floating_point() and not bool((tensor.abs() < largest).all()):
        raise Unsuitable("not finite, or huge")
    if tensor.dtype in (torch.int32, torch.int64) and bool((tensor.abs() > LARGEST_INTEGER).any()):
        raise Unsuitable("near the end of the integers, where backends differ")
