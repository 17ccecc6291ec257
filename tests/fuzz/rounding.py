"""Tolerance between two correct programs, measured by perturbing every tensor of the graph.

Programs that sum in another order or use other kernels differ by about one rounding error at each operator, amplified
by later operators.  The graph therefore runs again with random errors of one unit in the last place in each result, and
the change of the outputs is the tolerance.  It accounts for dtype, depth, cancellation and amplification.  If a
difference exceeds it, many perturbed runs decide: they reveal comparisons and indices that depend on the last digit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from archc.declaration.base import OPERATORS
from archc.declaration.traits import ROUNDED, ROUNDED_BY_TOKEN, ROUNDS_OPERANDS
from archc.driver.tolerance import scales_of
from archc.interpreter import evaluate as interpreter
from archc.ir.graph import Graph, Node

FACTOR = 16
"""Allowed error as a multiple of the measured change: one run finds a typical change, not the largest."""
CLOSER_DRAWS = 24
CLOSER_SCALE = 4.0
CLOSER_FACTOR = 8
SUMS = frozenset(("mean", "norm", "std", "sum", "var"))
LANES = 256
"""Largest number of elements whose sum has an error in the last digit only.

For n elements, the error grows by √(n / LANES).  ONNX Runtime sums sequentially in several lanes, PyTorch pairwise.
"""
NORM_FACTOR = 64
"""Tolerance factor of norms: ONNX Runtime computes E[x²] - E[x]², which loses more digits."""
MOST_TIES = 5
"""Number of distinct index values above which a few runs may not find all of them."""
FLIPS = 0.03
"""Share of quantized elements that other kernels may round to the adjacent integer."""

ALMOST_EQUAL = 16.0
"""Largest difference, in units in the last place, of two numbers that may be equal in another program."""
BIAS_STEP = 1 / (255 * 127)
"""Bias rounding of integer layers in ONNX: to multiples of the operand scale times the weight scale."""
CANCELLING = frozenset(("tanhshrink", *(name for name, op in OPERATORS.items() if op.family == "norm")))
"""Operators with zero results from cancellation of nearly equal numbers; other zero results are exact."""


@dataclass
class Bounds:
    """Expected value, tolerance and indeterminacy of each element of an output.

    An integer or a boolean must equal the result of a run.  If the runs gave many values, an integer near them is also
    accepted.  An example is the index of the maximum of many equal elements.
    """

    expected: torch.Tensor
    draws: torch.Tensor
    allowed: torch.Tensor
    unsure: torch.Tensor

    @staticmethod
    def of(expected: torch.Tensor, moved: Sequence[torch.Tensor], factor: float) -> Bounds:
        """Bounds from perturbed runs."""
        if not expected.is_floating_point():
            draws = torch.stack([expected, *moved]).long()
            many = draws.sort(0).values.diff(dim=0).ne(0).sum(0) >= MOST_TIES
            reach = (draws - expected.long()).abs().amax(0)
            return Bounds(expected.long(), draws, torch.where(many, 2 * reach, 0), torch.zeros_like(many))
        unit, wide = torch.finfo(expected.dtype).eps, expected.double()
        draws = torch.stack([one.double() for one in moved])
        finite = wide.isfinite()
        reach = torch.where(finite, (draws - wide).abs().amax(0).nan_to_num(0.0, 0.0, 0.0), 0.0)
        size = torch.where(finite, wide.abs(), 0.0)
        usual = [part.mean() if part.numel() else 0.0 for part in (reach, size)]
        allowed = factor * reach.clamp(min=float(usual[0])) + 4 * unit * (size + usual[1]) + unit**2
        unsure = (draws.isfinite() != finite).any(0)
        if expected.dtype is torch.float16:  # ONNX Runtime computes in f32, where nothing overflows
            unsure |= ~finite
        return Bounds(wide, draws, allowed, unsure)

    def far(self, found: torch.Tensor) -> torch.Tensor:
        """Mask of the elements that exceed their tolerance."""
        if not self.expected.is_floating_point():
            return (found.long() != self.draws).all(0) & ((found.long() - self.expected).abs() > self.allowed)
        wide = found.double()
        near = (wide - self.expected).abs() <= self.allowed
        same = (wide == self.expected) | (wide.isnan() & self.expected.isnan())
        return ~(near | same | self.unsure)


@dataclass
class Reference:
    """Results of a graph for given inputs, with their tolerances.

    Attributes:
        undecided: the runtimes are known to differ on the operands of a node; see `decided`.
    """

    graph: Graph
    inputs: Mapping[str, torch.Tensor]
    expected: dict[str, torch.Tensor]
    near: dict[str, Bounds]
    undecided: bool
    nearer: dict[str, Bounds] | None = None

    @property
    def empty(self) -> bool:
        """Return whether an input has no elements."""
        return any(tensor.numel() == 0 for tensor in self.inputs.values())

    def difference(self, name: str, found: torch.Tensor) -> str | None:
        """Describe a difference that rounding does not explain; None if the results agree."""
        expected = self.expected[name]
        if found.dtype != expected.dtype:
            return f"`{name}` is {found.dtype}, not {expected.dtype}"
        if found.shape != expected.shape:
            return f"`{name}` has the shape {list(found.shape)}, not {list(expected.shape)}"
        if self.undecided:
            return None
        if self.empty:  # reductions of no elements: a mean is NaN in PyTorch and 0 in ONNX Runtime
            return None
        if torch.equal(found, expected) or not bool(self.near[name].far(found).any()):
            return None
        far = self._closer()[name].far(found)
        if not far.any():
            return None
        place = tuple(int(index) for index in far.nonzero()[0])
        one, other = found[place].item(), expected[place].item()
        return f"`{name}`{list(place)} is {one:.9g}, not {other:.9g}; {int(far.sum())} of {far.numel()} elements differ"

    def _closer(self) -> dict[str, Bounds]:
        if self.nearer is None:
            norms = any(node.op.family == "norm" for node in self.graph.nodes())
            factor = NORM_FACTOR if norms else CLOSER_FACTOR
            seeds = range(100, 100 + CLOSER_DRAWS)
            draws = [disturbed(self.graph, self.inputs, seed, CLOSER_SCALE, floor=True) for seed in seeds]
            draws += in_floats(self.graph, self.inputs)
            self.nearer = {
                name: Bounds.of(expected, [draw[name] for draw in draws], factor)
                for name, expected in self.expected.items()
            }
        return self.nearer


def reference(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> Reference:
    """Evaluate a graph, and determine the tolerances of its results."""
    undecided = False
    run = interpreter.run_node

    def watched(node: Node, operands: list[torch.Tensor], *arguments: object) -> tuple[torch.Tensor, ...]:
        nonlocal undecided
        undecided |= not decided(node, operands)
        return run(node, operands, *arguments)  # type: ignore[arg-type]

    with _running_nodes_by(watched):
        expected = interpreter.evaluate(graph, inputs)
    moved = [disturbed(graph, inputs, seed=0), *in_floats(graph, inputs)]
    near = {name: Bounds.of(expected[name], [run[name] for run in moved], FACTOR) for name in expected}
    return Reference(graph, inputs, expected, near, undecided)


def in_floats(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Outputs without the rounding inside of operators, which programs may omit; empty if none rounds."""
    if not any(node.op.has(ROUNDS_OPERANDS) for node in graph.nodes()):
        return []
    tensors = dict(interpreter.evaluate_all(graph, inputs, set(graph.outputs.values()), rounds=False))
    return [{name: tensors[value] for name, value in graph.outputs.items()}]


def decided(node: Node, operands: Sequence[torch.Tensor]) -> bool:
    """Return whether both runtimes must give the same results for a node.

    `topk` may order equal elements in any way, and NaN is the largest number only in PyTorch.  For groups of a single
    element, `group_norm` of PyTorch gives the rounding error of x - mean, times 1 / √eps = 316.  In ONNX Runtime,
    recurrent kernels clip the operands of tanh and sigmoid, max pools replace NaN by the smallest number, and `Shrink`
    replaces it by 0.
    """
    if node.op.name == "group_norm":
        return operands[0].numel() > len(operands[0]) * node.op.num_groups
    if node.op.name == "topk":
        distinct = operands[0].sort(node.op.dim).values.diff(dim=node.op.dim) != 0
        return bool(distinct.all()) and not bool(operands[0].isnan().any())
    takes_numbers = re.match("max_pool|adaptive_max_pool|hardshrink|softshrink", node.op.name)
    return not (takes_numbers or node.op.family == "recurrent") or not any(bool(one.isnan().any()) for one in operands)


def disturbed(
    graph: Graph, inputs: Mapping[str, torch.Tensor], seed: int, scale: float = 1.0, floor: bool = False
) -> dict[str, torch.Tensor]:
    """Outputs of a run with errors of about `scale` units in the last place in inputs and results.

    Args:
        floor: also perturb nonzero elements by a share of the usual magnitude of results, operands and weights: an
            operator with an internal difference, such as x - tanh(x), rounds more than its result shows.
    """
    generator = torch.Generator().manual_seed(seed)

    def off(
        tensor: torch.Tensor,
        operands: Sequence[torch.Tensor] = (),
        zeros: bool = False,
        least: float = 0.0,
        terms: float = 1.0,
    ) -> torch.Tensor:
        if not tensor.is_floating_point() or not tensor.numel():
            return tensor
        unit = max(torch.finfo(tensor.dtype).eps, least) * max(1.0, math.sqrt(terms / LANES))
        noise = torch.randint(-1, 2, tensor.shape, generator=generator).double() * scale * unit
        wide = tensor.double()
        size = max(map(_usual_size, (tensor, *operands))) if floor else 0.0
        return torch.where(wide.isfinite() & ((wide != 0) | zeros), wide + noise * (wide.abs() + size), wide).to(
            tensor.dtype
        )

    def steps(tensor: torch.Tensor) -> torch.Tensor:
        step = torch.randint(-1, 2, tensor.shape, generator=generator)
        return step * (torch.rand(tensor.shape, generator=generator) < FLIPS)

    def flipped(tensor: torch.Tensor) -> torch.Tensor:
        limits = torch.iinfo(tensor.dtype)
        return (tensor.long() + steps(tensor)).clamp(limits.min, limits.max).to(tensor.dtype)

    def equal_or_not(node: Node, operands: Sequence[torch.Tensor], results: torch.Tensor) -> torch.Tensor:
        drawn = torch.rand(results.shape, generator=generator) < 0.5
        return torch.where(_almost_equal(node, operands) & drawn, ~results, results)

    run = interpreter.run_node
    quantized = any(node.op.name == "quantize" for node in graph.nodes())

    def run_off(
        node: Node, operands: list[torch.Tensor], weights: Mapping[str, torch.Tensor], *others: Any
    ) -> tuple[torch.Tensor, ...]:
        results = run(node, operands, weights, *others)
        if node.op.family == "quantize" and not results[0].is_floating_point() and node.types[0].dtype.floating:
            return (flipped(results[0]), *results[1:])
        if node.op.has(ROUNDED):
            scales = scales_of(results[0], node.op.has(ROUNDED_BY_TOKEN)).reshape(results[0].shape)
            return (results[0] + scales * steps(results[0]),)
        if node.op.name in ("eq", "ne") and operands[0].is_floating_point():
            return (equal_or_not(node, operands, results[0]),)
        involved = [*operands, *(weights[path] for path in node.weights.values())]
        least = BIAS_STEP if quantized and "bias" in node.weights else 0.0
        reduced = operands[0].numel() if node.op.name in SUMS else 0
        return tuple(
            off(result, involved, node.op.name in CANCELLING, least, reduced / max(1, result.numel()))
            for result in results
        )

    with _running_nodes_by(run_off):
        return interpreter.evaluate(graph, {name: off(tensor) for name, tensor in inputs.items()})


def without_small_weights(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Outputs of a run with all weights below half a per-tensor 8-bit quantization step set to 0."""
    run = interpreter.run_node

    def run_rounded(
        node: Node, operands: list[torch.Tensor], weights: Mapping[str, torch.Tensor], *others: Any
    ) -> tuple[torch.Tensor, ...]:
        return run(node, operands, {path: rounded(tensor) for path, tensor in weights.items()}, *others)

    def rounded(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point() or not tensor.numel():
            return tensor
        return torch.where(tensor.abs() <= tensor.abs().max() / 254, 0, tensor)

    with _running_nodes_by(run_rounded):
        return interpreter.evaluate(graph, inputs)


def _almost_equal(node: Node, operands: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mask of the operand elements of `eq` and `ne` that differ by a few units in the last place."""
    left = operands[0].double()
    other = operands[1] if len(operands) == 2 else getattr(node.op, "scalar", None)
    if not isinstance(other, (torch.Tensor, int, float)):
        return torch.zeros_like(left, dtype=torch.bool)
    right = torch.as_tensor(other).double()
    gap, size = (left - right).abs(), torch.maximum(left.abs(), right.abs())
    return (gap > 0) & (gap <= ALMOST_EQUAL * torch.finfo(operands[0].dtype).eps * size)


def _usual_size(tensor: torch.Tensor) -> float:
    """Mean magnitude of the elements, with 0 in place of infinities and NaN; 0 for other dtypes."""
    if not tensor.is_floating_point() or not tensor.numel():
        return 0.0
    return float(tensor.double().abs().nan_to_num(0.0, 0.0, 0.0).mean())


@contextmanager
def _running_nodes_by(run: object) -> Iterator[None]:
    kept = interpreter.run_node
    interpreter.run_node = run  # type: ignore[assignment]
    try:
        yield
    finally:
        interpreter.run_node = kept
