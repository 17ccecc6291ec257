"""Laws of traits, tested on every case of every operator.

A law says for a case whether an operator behaves as a trait claims.  Each trait is tested in both directions: it holds
in all cases of the operators that declare it, and an operator that obeys the law in all of its cases declares the
trait, or is listed in `UNDECLARED` with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from archc.codegen.torch import emit
from archc.declaration.base import Operator, OperatorError
from archc.declaration.traits import (
    ADDS,
    AFFINE_IN_WEIGHT,
    CLIPS,
    COMMUTATIVE,
    COMMUTES_WITH_ROUNDING,
    HOLDS_WEIGHT,
    IDEMPOTENT,
    IMPURE,
    INFERENCE_IDENTITY,
    INVOLUTION,
    LAYOUT_ONLY,
    POINTWISE,
    RELU,
    SAME_IF_SAME_TYPE,
    AllEqual,
    Flag,
    NeutralOperand,
)
from archc.interpreter.evaluate import NodeFailure, evaluate
from archc.ops.activation import Sigmoid
from archc.ops.arithmetic import Abs, Binary
from tests.ops.every_case import every_case
from tests.ops.harness import Case
from tests.ops.operands import draw_weights, one_node, random, type_of

Tensors = tuple[torch.Tensor, ...]
Law = Callable[[Case], bool | None]
"""Function that says whether a trait holds in a case; None if the trait says nothing about the case."""

IN_TRAINING = "it holds in inference only"
STAGES = "a pass that removes or merges it would move operators to another stage"
OWN_RULE = "rearrangements have a rule of their own, which also merges different ones"
SAME_TYPE = "the trait `SAME_IF_SAME_TYPE` already removes a second application"
RANGE = "the range is the range of all numbers"
CLIPPING = "the trait `CLIPS` says more"
UNMEASURED = "`quant` does not move quantization past it: the effect on the speed of int8 models is not measured"
DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout")


def run(op: Operator, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor] | None = None) -> Tensors:
    """The results of an operator; weights are drawn if they are not given."""
    values = draw_weights(op, inputs, weights or {})
    feeds = {f"x{number}": tensor for number, tensor in enumerate(inputs)}
    return tuple(evaluate(one_node(op, inputs, values), feeds).values())


def same(left: Tensors, right: Tensors) -> bool:
    """Return whether tensors are bit-equal, apart from the signs of zeros and the bits of NaN."""
    return len(left) == len(right) and all(
        a.dtype == b.dtype and a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
        for a, b in zip(left, right)
    )


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor with larger numbers, so that the constant parts of a function are reached."""
    return tensor * 16 if tensor.is_floating_point() else tensor


def pointwise(one: Case) -> bool | None:
    """A change of one operand element changes the result only at the same position."""
    if not one.inputs:
        return None
    before = run(one.op, one.inputs, one.weights)
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in one.inputs)) if broadcast(one.inputs) else None
    if len(before) != 1 or before[0].shape != shape:
        return False
    for number, tensor in enumerate(one.inputs):
        for place in {0, tensor.numel() // 3, tensor.numel() // 2, tensor.numel() - 1} if tensor.numel() else ():
            changed = tensor.clone(memory_format=torch.contiguous_format)
            changed.view(-1)[place] = other(tensor).flatten()[place]
            at = torch.zeros(tensor.shape, dtype=torch.bool)
            at.view(-1)[place] = True
            inputs = (*one.inputs[:number], changed, *one.inputs[number + 1 :])
            after = run(one.op, inputs, one.weights)
            outside = ~at.expand(shape)
            if not same((before[0][outside],), (after[0][outside],)):
                return False
    return True


def broadcast(inputs: Sequence[torch.Tensor]) -> bool:
    """Return whether the shapes of tensors broadcast."""
    ranks = zip(*([1] * (8 - tensor.dim()) + list(tensor.shape) for tensor in inputs))
    return all(len({size for size in sizes if size != 1}) <= 1 for sizes in ranks)


def other(tensor: torch.Tensor) -> torch.Tensor:
    """Other numbers: a function of each element that is exact and not monotone."""
    if tensor.dtype is torch.bool:
        return ~tensor
    if not tensor.is_floating_point():
        return 3 - tensor
    return torch.where(tensor > 0.25, 2 - tensor, tensor * 4)


def negative(tensor: torch.Tensor) -> torch.Tensor:
    """Numbers with the other sign; truth values unchanged."""
    return tensor if tensor.dtype in (torch.bool, torch.uint8) else -tensor


def constant(tensor: torch.Tensor) -> torch.Tensor:
    """One number for all elements."""
    return torch.full_like(tensor, 3)


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    """Floating-point numbers, rounded down to multiples of 0.3; other numbers unchanged."""
    return (tensor / 0.3).floor() * 0.3 if tensor.is_floating_point() else tensor


def commutes(one: Case, change: Callable[[torch.Tensor], torch.Tensor]) -> bool | None:
    """A function of each element can be applied to the operands or to the results; indices are no data."""
    types = [type_of(tensor, {}) for tensor in one.inputs]
    data = [one.op.operand_range(types, position) is None for position in range(len(types))]
    if not one.inputs:
        return None
    inputs = [change(tensor) if moved else tensor for tensor, moved in zip(one.inputs, data)]
    return same(run(one.op, inputs, one.weights), tuple(map(change, run(one.op, one.inputs, one.weights))))


def layout_only(one: Case) -> bool | None:
    """Every function of single elements commutes with the operator."""
    told = [commutes(one, change) for change in (other, negative, constant)]
    return None if None in told else all(told)


def commutes_with_rounding(one: Case) -> bool | None:
    """Rounding commutes with the operator."""
    if not any(tensor.is_floating_point() for tensor in one.inputs):
        return None
    return commutes(one, rounded) if run(one.op, one.inputs, one.weights)[0].is_floating_point() else False


def twice(one: Case, law: Callable[[Tensors, Tensors, Tensors], bool]) -> bool:
    """Check a law for the operand and the results of one and of two applications.

    It does not hold if a second application is impossible.
    """
    if len(one.inputs) != 1:
        return False
    for operand in (one.inputs[0], wide(one.inputs[0])):
        first = run(one.op, (operand,), one.weights)
        try:
            second = run(one.op, first, one.weights)
        except (OperatorError, NodeFailure, AssertionError):
            return False
        if not law((operand,), first, second):
            return False
    return True


def idempotent(one: Case) -> bool:
    """A second application changes nothing."""
    return twice(one, lambda operand, first, second: same(first, second))


def involution(one: Case) -> bool:
    """A second application restores the operand."""
    return twice(one, lambda operand, first, second: same(operand, second))


def commutative(one: Case) -> bool | None:
    """The result is the same for exchanged operands, or for a number on the other side."""
    if len(one.inputs) == 2:
        try:
            return same(run(one.op, one.inputs, one.weights), run(one.op, one.inputs[::-1], one.weights))
        except OperatorError:
            return False
    given: Any = one.op
    if len(one.inputs) == 1 and getattr(one.op, "scalar", None) is not None:
        return same(run(one.op, one.inputs), run(replace(given, reverse=not given.reverse), one.inputs))
    return False


def clips(one: Case) -> bool | None:
    """The result is the operand, clamped to a range."""
    if len(one.inputs) != 1:
        return False
    (x,) = map(wide, one.inputs)
    (y, *others) = run(one.op, (x,), one.weights)
    if others or y.dtype != x.dtype or y.shape != x.shape or x.dtype is torch.bool:
        return False
    return same((y,), (x.clamp(y.min(), y.max()),)) if y.numel() else None


def relu(one: Case) -> bool:
    """The result is max(0, x)."""
    return len(one.inputs) == 1 and same(run(one.op, one.inputs, one.weights), (one.inputs[0].clamp(min=0),))


def inference_identity(one: Case) -> bool:
    """The result in inference is the operand."""
    return len(one.inputs) == 1 and same(run(one.op, one.inputs, one.weights), one.inputs)


def same_if_same_type(one: Case) -> bool | None:
    """A result of the type of the single operand is this operand."""
    if len(one.inputs) != 1:
        return None
    results = run(one.op, one.inputs, one.weights)
    alike = len(results) == 1 and (results[0].dtype, results[0].shape) == (one.inputs[0].dtype, one.inputs[0].shape)
    return same(results, one.inputs) if alike else None


def affine_in_weight(one: Case) -> bool | None:
    """Without the bias, the result is linear in the operand and in the weight; a factor of 2 is exact."""
    if not one.inputs:
        return None
    values = draw_weights(one.op, one.inputs, one.weights or {})
    if "weight" not in values or len(one.inputs) != 1 or not one.inputs[0].is_floating_point():
        return False
    values |= {"bias": torch.zeros_like(values["bias"])} if "bias" in values else {}
    plain = run(one.op, one.inputs, values)
    doubled = tuple(2 * tensor for tensor in plain)
    inputs = tuple(2 * tensor for tensor in one.inputs)
    negated = run(one.op, tuple(-tensor for tensor in one.inputs), values)
    return (
        same(run(one.op, one.inputs, {**values, "weight": 2 * values["weight"]}), doubled)
        and same(run(one.op, inputs, values), doubled)
        and same(negated, tuple(-tensor for tensor in plain))
    )


def holds_weight(one: Case) -> bool:
    """The result is the only weight, and there are no operands."""
    values = draw_weights(one.op, one.inputs, one.weights or {})
    return not one.inputs and len(values) == 1 and same(run(one.op, (), values), tuple(values.values()))


def adds(one: Case) -> bool | None:
    """The result is a sum; truth values have no sum."""
    number = getattr(one.op, "scalar", None)
    if isinstance(number, float) and not one.inputs[0].is_floating_point():
        return None  # PyTorch would return floats
    terms = (*one.inputs, *(() if number is None else (number,)))
    if len(terms) != 2 or any(tensor.dtype is torch.bool for tensor in one.inputs):
        return False
    try:
        return same(run(one.op, one.inputs, one.weights), (terms[0] + terms[1],))
    except RuntimeError:  # the shapes do not broadcast
        return False


LAWS: dict[Flag, Law] = {
    ADDS: adds,
    AFFINE_IN_WEIGHT: affine_in_weight,
    CLIPS: clips,
    COMMUTATIVE: commutative,
    COMMUTES_WITH_ROUNDING: commutes_with_rounding,
    HOLDS_WEIGHT: holds_weight,
    IDEMPOTENT: idempotent,
    INFERENCE_IDENTITY: inference_identity,
    INVOLUTION: involution,
    LAYOUT_ONLY: layout_only,
    POINTWISE: pointwise,
    RELU: relu,
    SAME_IF_SAME_TYPE: same_if_same_type,
}
UNDECLARED: dict[Flag, dict[str, str]] = {
    CLIPS: {"identity": RANGE, "to_stage": RANGE},
    COMMUTES_WITH_ROUNDING: {
        **dict.fromkeys(("relu", "relu6"), CLIPPING),
        **dict.fromkeys(("concat", "stack", "split", "chunk", "where", "maximum", "pad", "max", "min"), UNMEASURED),
        **dict.fromkeys(("slice", "index_select", "gather", "scatter", "reshape", "expand", "identity"), UNMEASURED),
        **dict.fromkeys(("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"), UNMEASURED),
        "to_stage": STAGES,
    },
    IDEMPOTENT: {
        "reshape": SAME_TYPE,
        "expand": SAME_TYPE,
        "to_stage": STAGES,
        "fake_quantize": "another one has other weights, or computes a scale with another rounding error",
    },
    INFERENCE_IDENTITY: {"identity": "the trait `SAME_IF_SAME_TYPE` says more", "to_stage": STAGES},
    INVOLUTION: {"transpose": OWN_RULE, "to_stage": STAGES},
    POINTWISE: {"batch_norm": IN_TRAINING},
    SAME_IF_SAME_TYPE: {"permute": OWN_RULE, "to_stage": STAGES},
}
"""For each trait, the operators that obey its law and do not declare it, with the reasons.

`DROPOUTS` obey every law of the identity, but in inference only.
"""


@cache
def cases() -> dict[str, list[Case]]:
    """The cases of each operator, by name."""
    found: dict[str, list[Case]] = {}
    for one in every_case():
        found.setdefault(one.op.name, []).append(one)
    return found


@pytest.mark.parametrize("flag", LAWS, ids=str)
def test_a_declared_trait_holds(flag: Flag) -> None:
    told = {(name, str(one)): LAWS[flag](one) for name in cases() for one in cases()[name] if one.op.has(flag)}
    assert [case for case, holds in told.items() if holds is False] == []
    assert True in told.values()


def declares(name: str, flag: Flag) -> bool:
    """Return whether an operator declares a flag, with or without a condition."""
    return flag in {trait.key() for trait in cases()[name][0].op.all_traits()}


def obeys(name: str, law: Law) -> bool:
    """Return whether a law holds in all cases of an operator, and says something about one of them."""
    told = set()
    for one in cases()[name]:
        told.add(law(one))
        if False in told:
            return False
    return True in told


@pytest.mark.parametrize("flag", LAWS, ids=str)
def test_a_trait_that_holds_is_declared(flag: Flag) -> None:
    undeclared = [name for name in cases() if name not in DROPOUTS and not declares(name, flag)]
    assert {name for name in undeclared if obeys(name, LAWS[flag])} == set(UNDECLARED.get(flag, ()))


def test_a_missing_and_a_wrong_declaration_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not `delitem`, which restores the trait at the end, and so changes the order in the reference pages.
    left = {key: trait for key, trait in Abs._traits_by_key.items() if key is not IDEMPOTENT}
    monkeypatch.setattr(Abs, "_traits_by_key", left)
    with pytest.raises(AssertionError, match="abs"):
        test_a_trait_that_holds_is_declared(IDEMPOTENT)
    monkeypatch.setitem(Sigmoid._traits_by_key, IDEMPOTENT, IDEMPOTENT)
    with pytest.raises(AssertionError, match="sigmoid"):
        test_a_declared_trait_holds(IDEMPOTENT)


def neutral(one: Case, value: int) -> bool:
    """A number as the second operand leaves the first one unchanged."""
    x = random(3, 4)
    given: Any = type(one.op)
    result = run(given(scalar=value), (x,))
    return same(result, (x,))


@pytest.mark.parametrize("value", [0, 1])
def test_neutral_operands_are_declared(value: int) -> None:
    binary = {name: known[0] for name, known in cases().items() if isinstance(known[0].op, Binary)}
    operands = {name: one.op.trait(NeutralOperand) for name, one in binary.items()}
    declared = {name for name, operand in operands.items() if operand is not None and operand.value == value}
    assert {name for name, one in binary.items() if neutral(one, value)} == declared


def test_operators_with_one_number_declare_it() -> None:
    sources = [one for known in cases().values() for one in known if not one.inputs and not one.op.parameters]
    for one in sources:
        (result,) = run(one.op, ())
        declared = one.op.trait(AllEqual)
        if declared is not None:
            assert same((result,), (torch.full_like(result, declared.value(one.op)),)), str(one)
    assert {one.op.name for one in sources if one.op.trait(AllEqual) is None} == {"arange"}


def differs(one: Case) -> bool:
    """Return whether two runs in training differ, or change a buffer."""
    values = draw_weights(one.op, one.inputs, one.weights or {})
    names: dict[str, Any] = {}
    exec(emit(one_node(one.op, one.inputs, values), source_name="one.arch", weights_name="one.safetensors"), names)
    module = names["ONEModel"]().train()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    results: list[Tensors] = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found = module(*one.inputs)
        results.append((found,) if isinstance(found, torch.Tensor) else tuple(found))
    changed = not same(tuple(before.values()), tuple(buffer for _, buffer in module.named_buffers()))
    return changed or not same(*results)


def test_impure_operators_are_declared() -> None:
    """An operator with random numbers or running statistics is impure, if these are switched on."""
    impure = {one.op.name for known in cases().values() for one in known if differs(one)}
    assert impure == {one.op.name for known in cases().values() for one in known if one.op.has(IMPURE)}
