"""Comparison of two modules in training: outputs, buffers and gradients."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch

FACTOR = 16
UPWARD = 3
CANCELLED = 10_000
"""Tolerance of sums near 0 in units in the last place: terms cancel in one order of addition only."""
LARGEST_CANCELLED = 1e-3
Leaves = dict[str, torch.Tensor]


class NotTrainable(Exception):
    """The model cannot be trained on these inputs: PyTorch rejects it, or no output has a gradient."""


def compare_training(
    plain: torch.nn.Module, other: torch.nn.Module, inputs: Mapping[str, torch.Tensor]
) -> tuple[str, str]:
    """Compare a training step; return a verdict and details.

    The verdict is `equal`, `mismatch`, or the reason that no comparison is possible.  Gradients are sums whose order
    may differ.  The tolerance is their change when inputs and weights change in the last digit.  Results beyond it are
    compared with the same step in float64, relative to the largest result of the step.
    """
    try:
        expected = _step(plain, inputs, seed=1)
        if not _equal(expected, _step(plain, inputs, seed=2)):
            return "random", ""
        moved = [_step(plain, inputs, seed=1, off=draw) for draw in (1, 2, UPWARD)]
    except NotTrainable:
        return "refused by PyTorch", ""
    found = _step(other, inputs, seed=1)
    exact = None
    for name, wanted in expected.items():
        if name not in found:
            continue  # `simplify` removed a weight without effect on the outputs
        if found[name].dtype != wanted.dtype or found[name].shape != wanted.shape:
            return "mismatch", f"{name} has another dtype or shape"
        unit = torch.finfo(wanted.dtype).eps if wanted.is_floating_point() else 0.0
        wanted, result = wanted.double(), found[name].double()
        reach = torch.stack([(one[name].double() - wanted).abs() for one in moved]).amax(0)
        allowed = FACTOR * (reach + reach.mean()) + 16 * unit * (wanted.abs() + wanted.abs().mean())
        allowed += min(CANCELLED * unit, LARGEST_CANCELLED)
        far = ~((result - wanted).abs() <= allowed) & wanted.isfinite()
        if bool(far.any()):
            exact = _in_float64(plain, inputs) if exact is None else exact
            if name in exact:  # large terms of a gradient may cancel, and leave their rounding errors
                error = unit * max(one.double().abs().max() for one in exact.values() if one.numel())
                far &= ~((result - exact[name]).abs() <= FACTOR * error)
        if bool(far.any()) and bool(reach.isfinite().all()):
            worst = (result - wanted).abs().max()
            return "mismatch", f"{name} differs by {float(worst):.4g} in training, {int(far.sum())} elements"
    return "equal", ""


def _equal(one: Leaves, other: Leaves) -> bool:
    return all(torch.equal(_comparable(one[name]), _comparable(other[name])) for name in one)


def _comparable(values: torch.Tensor) -> torch.Tensor:
    """The values with equal numbers in place of NaN, in float64: floats of 8 bits have no such function."""
    return values.double().nan_to_num(7e7) if values.is_floating_point() else values


def _in_float64(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> Leaves:
    """Outputs, gradients and buffers of one training step in float64; empty if the model has no such step."""
    given = {name: one.double() if one.is_floating_point() else one for name, one in inputs.items()}
    try:
        return _step(copy.deepcopy(model).double(), given, seed=1)
    except NotTrainable:
        return {}


def _step(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor], seed: int, off: int = 0) -> Leaves:
    """Outputs, gradients and buffers of one training step; restores the state of the model."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.Generator().manual_seed(off)

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        if not off or not tensor.is_floating_point():
            return tensor.clone()
        noise = torch.randint(-1, 2, tensor.shape, generator=generator)
        if off == UPWARD:  # random noise cancels in the gradient of a mean
            noise = torch.ones_like(noise)
        noise = noise * torch.finfo(tensor.dtype).eps
        return tensor * (1 + noise).to(tensor.dtype)

    given = {name: moved(tensor) for name, tensor in inputs.items()}
    for tensor in given.values():
        tensor.requires_grad_(tensor.is_floating_point())
    model.load_state_dict({name: moved(tensor) for name, tensor in state.items()})
    model.train()
    torch.manual_seed(seed)
    try:
        results = model(*given.values())
        results = results if isinstance(results, tuple) else (results,)
        total = sum((one.double() ** 2).sum() for one in results if one.requires_grad)
        leaves = {name: one for name, one in given.items() if one.requires_grad} | dict(model.named_parameters())
        if not isinstance(total, torch.Tensor):
            raise NotTrainable
        gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    except (RuntimeError, ValueError, NotImplementedError) as failure:
        raise NotTrainable from failure
    finally:
        buffers = {f"buffer {name}": one.detach().clone() for name, one in model.named_buffers()}
        model.load_state_dict(state)
        model.eval()
    found = {f"output {number}": one.detach() for number, one in enumerate(results)}
    found |= {f"gradient of {name}": one for name, one in zip(leaves, gradients) if one is not None}
    return {**found, **buffers}
