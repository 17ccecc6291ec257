"""Comparison of an operator's `torch.nn` module with a reference: forward, backward, training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from archc.declaration.base import Operator
from archc.declaration.spelling import TorchModule, TorchSpelling
from archc.interpreter.evaluate import helper_namespace
from tests.ops.comparison import as_tuple, close
from tests.ops.operands import random, type_of

Tensor = torch.Tensor
Reference = Callable[..., Any]
"""The reference: a `torch.nn` module with parameters of the same names, or a function.

A function is called with the inputs by position and the weights by name.
"""


def call_reference(reference: Reference, inputs: Sequence[Tensor], weights: Mapping[str, Tensor]) -> Any:
    """Result of the reference in inference."""
    if isinstance(reference, nn.Module):
        return torch.func.functional_call(reference.eval(), dict(weights), tuple(inputs))
    return reference(*inputs, **weights)


def build_module(op: Operator, inputs: Sequence[Tensor]) -> nn.Module | None:
    """Build the module of an operator from its emitted text; return None if it has no module."""
    types = [type_of(tensor, {}) for tensor in inputs]
    inference = op.infer(types)
    spelling = TorchSpelling(
        operands=[f"x{number}" for number in range(len(inputs))],
        weights={name: f"self.{name}" for name in inference.parameters},
        types=types,
        results=inference.results,
        sizes=inference.solution.extents,
        size_text=str,
        storages={},
    )
    spelled = op.torch_module(spelling)
    if spelled is None:
        return None
    assert isinstance(spelled, TorchModule)
    module = eval(str(spelled), {"nn": nn, "torch": torch, "F": functional})
    assert isinstance(module, nn.Module)
    return module if spelled.use is None else called_as_spelled(op, module, spelled, len(inputs))


def called_as_spelled(op: Operator, module: nn.Module, spelled: TorchModule, count: int) -> nn.Module:
    """Return the module, called as in emitted code, with the results unpacked."""
    assert spelled.use is not None
    text = spelled.use("forward", [f"operands[{number}]" for number in range(count)])
    forward = module.forward
    helpers = helper_namespace(op.torch_helpers)
    module.forward = lambda *operands: eval(text, {**helpers, "forward": forward, "operands": operands})
    if spelled.unpack:
        names = [f"result{number}" for number in range(spelled.unpack.count("{}"))]
        code = f"def unpack(results):\n    {spelled.unpack.format(*names)} = results\n    return {', '.join(names)}"
        namespace: dict[str, Any] = {}
        exec(code, namespace)
        nested = module.forward
        module.forward = lambda *operands: namespace["unpack"](nested(*operands))
    return module


def check_torch_module(
    op: Operator,
    inputs: Sequence[Tensor],
    reference: Reference,
    weights: Mapping[str, Tensor],
    rtol: float,
    atol: float,
    gradients: bool,
) -> None:
    """Check that the module has the operator's parameters and equals the reference in all modes."""
    module = build_module(op, inputs)
    parameters = op.infer([type_of(tensor, {}) for tensor in inputs]).parameters
    if module is None:
        return
    state = {name: (str(tensor.dtype), tuple(tensor.shape)) for name, tensor in module.state_dict().items()}
    assert state == {name: (f"torch.{type.dtype.torch}", type.shape) for name, type in parameters.items()}
    trainable = [name for name, _ in module.named_parameters()]
    assert trainable == [name for name in parameters if op.parameters[name].trainable]
    expected = as_tuple(call_reference(reference, inputs, weights))
    got = as_tuple(torch.func.functional_call(module.eval(), dict(weights), tuple(inputs)))
    close(got, expected, rtol, atol, f"the module of {op}")
    if gradients:
        ours = gradients_of(module.eval(), inputs, weights, trainable)
        theirs = gradients_of(reference, inputs, weights, trainable)
        close(ours, theirs, rtol, atol, f"the gradients of {op}")
    if isinstance(reference, nn.Module):
        check_training(module, reference, inputs, weights, rtol, atol)


def gradients_of(
    function: Reference, inputs: Sequence[Tensor], weights: Mapping[str, Tensor], trainable: Sequence[str]
) -> tuple[Tensor, ...]:
    """Gradients of a random combination of the results by the float inputs and trainable weights."""
    leaves = [tensor.clone().requires_grad_(tensor.is_floating_point()) for tensor in inputs]
    values = {name: tensor.clone().requires_grad_(name in trainable) for name, tensor in weights.items()}
    results = as_tuple(call_reference(function, leaves, values))
    total = sum((result * random(*result.shape, seed=7)).sum() for result in results if result.requires_grad)
    wanted = [tensor for tensor in (*leaves, *values.values()) if tensor.requires_grad]
    return torch.autograd.grad(total, wanted)  # type: ignore[arg-type]  # `sum` might give 0


def check_training(
    ours: nn.Module,
    theirs: nn.Module,
    inputs: Sequence[Tensor],
    weights: Mapping[str, Tensor],
    rtol: float,
    atol: float,
) -> None:
    """Check that both modules give equal results in `train()` with one seed, and then have equal buffers."""
    outcomes = []
    for module in (ours, theirs):
        module.load_state_dict(weights)
        module.train()
        torch.manual_seed(3)
        with torch.no_grad():
            outcomes.append((*as_tuple(module(*inputs)), *(buffer.clone() for buffer in module.buffers())))
    close(outcomes[0], outcomes[1], rtol, atol, "the module in training")
