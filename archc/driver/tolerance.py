"""Bound on the error between correct programs of one graph.

Kernels add in different orders and round at different places.  Each rounding is at most a unit in the last place of the
dtype (Higham 2002, "Accuracy and Stability of Numerical Algorithms", chapter 3).  A number near the middle between two
quantization steps may be quantized to either step.  The effect of these differences on the outputs depends on the depth
and the operators of a graph.  The effect is therefore measured: the graph runs with random disturbances of its inputs
and of the results of its nodes.  The disturbances are as large as the rounding errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from archc.declaration.traits import HOLDS_WEIGHT, LAYOUT_ONLY, ROUNDED, ROUNDED_BY_TOKEN, ROUNDS_OPERANDS
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Graph, Value
from archc.passmanager.comparison import largest_error

if TYPE_CHECKING:
    import torch

Tensors = Mapping[str, "torch.Tensor"]

FLOORS = {"f64": 1e-6, "f32": 1e-4, "f16": 4 * 2.0**-10, "bf16": 4 * 2.0**-7}
"""Relative error allowed without a measurement, by the coarsest floating-point dtype of a graph.

Approximations of functions such as `exp` and `erf` differ by about this much.
"""
UNITS = {"f64": 5 * 2.0**-52, "f32": 5 * 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}
"""The largest relative disturbance of a result, by dtype; the smallest disturbance is half as large.

The disturbance in f64 and f32 is five units in the last place: sums are rounded after each addition, and each kernel
adds in its own order.  In f16 and bf16 it is one unit: sums are accumulated in f32 and rounded once.
"""
FLIPS = 1 / 64
"""The share of the elements of a quantized tensor that are disturbed by one quantization step.

At least one element is disturbed.  In measurements, PyTorch and ONNX Runtime differ in at most one of 1,000 elements
of the first quantized tensor of a model, so the share includes a margin.
"""
DRAWS = 3
"""The number of disturbed runs from which a bound is computed."""
MANY_DRAWS = 24
"""The number of disturbed runs in a second measurement.

The first measurement has few runs, so it may miss undecided elements (`Bound.undecided`).  The second measurement
follows if the first measurement found an undecided element, and a program still has a NaN or an infinity where the
graph has a number, or the reverse.
"""
MARGIN = 2
"""The ratio of the bound to the largest error of the disturbed runs."""


@frozen_dataclass
class Bound:
    """The largest relative error of a correct program.

    Attributes:
        tolerance: the largest error, relative to the spread of an output (`comparison.spreads`).
        origin: a phrase that says how the bound was found.
        undecided: for each output by name, a mask of the elements that are finite in some runs and not in others.  For
            example, rounding can decide whether the operand of `log` is negative.  Undecided elements are not compared.
    """

    tolerance: float
    origin: str
    undecided: Tensors = field(default_factory=dict)


def least_bound(graph: Graph) -> Bound:
    """The bound that holds without a measurement."""
    dtype = coarsest(graph)
    return Bound(FLOORS[dtype], f"the least bound for {dtype}")


def measured_bound(
    graph: Graph, inputs: Tensors, expected: Tensors, shares: Mapping[str, float], draws: int = DRAWS
) -> Bound:
    """Measure the bound with disturbed runs on the given inputs.

    Args:
        expected: the undisturbed outputs.
        shares: as for `largest_error`.
        draws: number of disturbed runs.
    """
    from archc.interpreter.evaluate import evaluate_all

    least = least_bound(graph)
    runs = [disturbed(graph, inputs, seed) for seed in range(draws)]
    if any(node.op.has(ROUNDS_OPERANDS) for node in graph.nodes()):
        runs.append(_outputs(graph, evaluate_all(graph, inputs, set(graph.outputs.values()), rounds=False)))
    undecided = {name: _undecided(tensor, [run[name] for run in runs]) for name, tensor in expected.items()}
    known = decided(expected, undecided)
    grown = MARGIN * max(largest_error(known, decided(run, undecided), shares) for run in runs)
    if not math.isfinite(grown) or grown <= least.tolerance:
        return Bound(least.tolerance, least.origin, undecided)
    return Bound(grown, f"{MARGIN} × the measured effect of rounding", undecided)


def coarsest(graph: Graph) -> str:
    """The floating-point dtype of lowest precision in a graph; `f32` if the graph has none."""
    found = {value.type.dtype.value for value in _values(graph)}
    return max(found & set(FLOORS), key=FLOORS.__getitem__, default="f32")


def quantized(value: Value) -> bool:
    """Return whether a value is a float tensor quantized to 8-bit integers; it may be dequantized, too."""
    node = value.producer
    if node is not None and node.op.has(ROUNDED):
        return True
    if node is None or value is not node.results[0] or value.type.dtype.value not in ("u8", "i8"):
        return False
    return bool(node.operands) and node.operands[0].type.dtype.floating


def _values(graph: Graph) -> list[Value]:
    return [*graph.inputs, *(value for node in graph.nodes() for value in node.results)]


def disturbed(graph: Graph, inputs: Tensors, seed: int = 0) -> dict[str, torch.Tensor]:
    """Outputs of a run with random disturbances of all inputs and computed results (`UNITS`, `FLIPS`)."""
    import torch

    from archc.interpreter.evaluate import evaluate_all

    generator = torch.Generator().manual_seed(seed)

    def change(value: Value, tensor: torch.Tensor) -> torch.Tensor:
        node = value.producer
        if not tensor.numel() or (node is not None and (node.op.has(HOLDS_WEIGHT) or node.op.has(LAYOUT_ONLY))):
            return tensor
        if quantized(value):
            by_token = node is not None and node.op.has(ROUNDED_BY_TOKEN)
            return _one_step_off(tensor, by_token, generator)
        if not tensor.is_floating_point():
            return tensor
        wide = torch.promote_types(tensor.dtype, torch.float32)
        signs = torch.randint(0, 2, tensor.shape, generator=generator) * 2 - 1
        # Disturbances of equal size and opposite sign would cancel out in a sum.
        sizes = 0.5 + 0.5 * torch.rand(tensor.shape, generator=generator, dtype=wide)
        return (tensor * (1 + signs * sizes * UNITS[value.type.dtype.value])).to(tensor.dtype)

    return _outputs(graph, evaluate_all(graph, inputs, set(graph.outputs.values()), change))


def _outputs(graph: Graph, values: Iterable[tuple[Value, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The outputs of a run, by name."""
    wanted = set(graph.outputs.values())
    found = {value: result for value, result in values if value in wanted}
    return {name: found[value] for name, value in graph.outputs.items()}


def _one_step_off(tensor: torch.Tensor, by_token: bool, generator: torch.Generator) -> torch.Tensor:
    """Disturb elements of a quantized tensor by one step; see `scales_of` for `by_token`."""
    import torch

    count = max(1, round(tensor.numel() * FLIPS))
    places = torch.randint(0, tensor.numel(), (count,), generator=generator)
    steps = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    flat = tensor.flatten().clone()
    if tensor.is_floating_point():
        flat[places] += steps * scales_of(tensor, by_token)[places]
    else:
        limits = torch.iinfo(tensor.dtype)
        flat[places] = (flat[places].long() + steps).clamp(limits.min, limits.max).to(tensor.dtype)
    return flat.reshape(tensor.shape)


def scales_of(tensor: torch.Tensor, by_token: bool) -> torch.Tensor:
    """The scale of each element of a dequantized tensor, as a vector.

    Args:
        by_token: True if each position of all axes but the last has a scale, for the integers -127 to 127.
    """
    if by_token:
        sizes: torch.Tensor = tensor.abs().amax(-1, keepdim=True) / 127
        return sizes.expand_as(tensor).flatten()
    distances = tensor.flatten().sort().values.diff()
    distances = distances[distances > 0]
    scale = distances.min() if len(distances) else tensor.new_zeros(())
    return scale.expand(tensor.numel())


def decided(tensors: Tensors, undecided: Tensors) -> dict[str, torch.Tensor]:
    """Replace the undecided elements of tensors by 0."""
    return {
        name: tensor.masked_fill(undecided[name], 0) if name in undecided else tensor
        for name, tensor in tensors.items()
    }


def _undecided(expected: torch.Tensor, runs: list[torch.Tensor]) -> torch.Tensor:
    import torch

    apart = torch.zeros(expected.shape, dtype=torch.bool)
    if expected.is_floating_point():
        for run in runs:
            apart |= (run.isfinite() != expected.isfinite()) | (run.isnan() != expected.isnan())
            apart |= run.isinf() & expected.isinf() & (run != expected)
    return apart
