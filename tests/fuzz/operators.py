"""Random operators of the registry, with valid operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from archc.declaration.base import OPERATORS, Operator, OperatorError
from archc.types.attributes import AttributeProblem
from archc.types.dims import SymbolicDim
from archc.types.dims import evaluate as number_of
from archc.types.signature import Pattern, Spread, parse_signature
from archc.types.tensor_type import DType, TensorType
from tests.fuzz.attributes import Undrawable, draw_operator
from tests.fuzz.tensors import Tensor, Unsuitable

if TYPE_CHECKING:
    from tests.fuzz.writing import Body

STRUCTURAL = ("to_stage",)
"""Operators excluded from generation: they need matching operators, which `partition` inserts."""
ATTEMPTS = 60
UNAMBIGUOUS: Mapping[str, Callable[[Operator, Sequence[TensorType]], bool]] = {
    # If two elements are written to one index, either may remain.
    "scatter": lambda op, types: types[1].shape[op.dim] == 1,
    # `Pow` of ONNX Runtime does not wrap integers; archc replaces it by products for constant exponents only.
    "pow": lambda op, types: types[0].dtype.floating or (isinstance(op.scalar, (int, float)) and not op.reverse),
}
"""Conditions under which all backends give the same results."""

Supply = Callable[[TensorType, range], Tensor]
Dim = int | SymbolicDim


@dataclass
class Choice:
    """Operator and its operands; `shared` names the declared layer that it reuses."""

    op: Operator
    operands: list[Tensor]
    parameters: Mapping[str, TensorType] = field(default_factory=dict)
    shared: str | None = None


def names() -> list[str]:
    return [name for name in sorted(OPERATORS) if name not in STRUCTURAL]


def owns_parameters(choice: Choice) -> bool:
    return bool(choice.parameters)


def chosen(body: Body, chance: Random, floating: DType, sizes: Mapping[str, int], supply: Supply) -> Choice | None:
    """Choose a random operator on existing or new tensors; None if no attempt gave valid operands."""
    cls = OPERATORS[chance.choice(names())]
    for attempt in range(ATTEMPTS):
        try:
            plan = _operands(cls, body, chance, floating, fresh=attempt > ATTEMPTS // 2)
            op = draw_operator(cls, [_type(one) for one in plan], chance)
            inference = op.infer([_type(one) for one in plan])
            if not UNAMBIGUOUS.get(op.name, lambda op, types: True)(op, [_type(one) for one in plan]):
                continue
            operands = _settled(op, plan, sizes, chance, supply)
        except (OperatorError, AttributeProblem, Undrawable, Unsuitable):
            continue
        return Choice(op, operands, inference.parameters)
    return None


def _type(one: Tensor | TensorType) -> TensorType:
    return one.type if isinstance(one, Tensor) else one


def _operands(
    cls: type[Operator], body: Body, chance: Random, floating: DType, fresh: bool
) -> list[Tensor | TensorType]:
    """Candidate operands: tensors, or types of tensors to create; `infer` then validates them."""
    patterns = [one for one in parse_signature(cls.signature).operands if one.name not in cls.parameters]
    patterns = [one for one in patterns if not one.optional or chance.random() < 0.5]
    if not patterns:
        return []
    together = [one for one in body.known if len(one.siblings) == len(patterns) > 1]
    if together and chance.random() < 0.3:
        return list(chance.choice(together).siblings)
    found: list[Tensor | TensorType] = []
    sizes: dict[str, Dim] = {}
    spreads: dict[str, tuple[Dim, ...]] = {}
    if cls.formula == "binary" and chance.random() < 0.4:
        patterns = patterns[:1]
    elif len(patterns) < 3 and chance.random() < 0.15:
        patterns = [*patterns, *[patterns[-1]] * chance.choice((1, 1, 2))]
    for pattern in patterns:
        found.append(_operand(pattern, found, body, chance, floating, sizes, spreads, fresh))
        _note(pattern, _type(found[-1]).shape, sizes, spreads)
    return found


def _operand(
    pattern: Pattern,
    others: Sequence[Tensor | TensorType],
    body: Body,
    chance: Random,
    floating: DType,
    sizes: Mapping[str, Dim],
    spreads: Mapping[str, tuple[Dim, ...]],
    fresh: bool,
) -> Tensor | TensorType:
    fixed = sum(1 for axis in pattern.axes if not _spread(axis))
    any_rank = fixed < len(pattern.axes)
    ranked = [one for one in body.known if one.type.rank == fixed or (any_rank and one.type.rank > fixed)]
    if not others:
        if ranked and not (fresh and chance.random() < 0.5):
            return chance.choice(ranked[-6:] if chance.random() < 0.8 else ranked)
        return TensorType(
            _dtype(chance, floating), _fresh_shape(fixed + (chance.randint(0, 2) if any_rank else 0), chance)
        )
    first = _type(others[0])
    shape = _like(pattern, sizes, spreads, chance)
    alike = [one for one in ranked if one.type.shape == shape]
    if alike and chance.random() < 0.8:
        return chance.choice(alike)
    if ranked and chance.random() < 0.2:
        return chance.choice(ranked)
    dtype = (
        first.dtype if chance.random() < 0.6 else DType(chance.choice(("i64", "i64", "bool", floating.value, "i32")))
    )
    return TensorType(dtype, shape)


def _dtype(chance: Random, floating: DType) -> DType:
    return floating if chance.random() < 0.8 else DType(chance.choice(("i64", "i64", "bool", "i32", "u8", "f32")))


def _fresh_shape(rank: int, chance: Random) -> tuple[Dim, ...]:
    return tuple(
        chance.choice((1, 2, 3, 4, 5, 6, 8)) if place != 1 else chance.choice((1, 2, 4, 6, 8)) for place in range(rank)
    )


def _spread(axis: object) -> Spread | None:
    factors = getattr(axis, "factors", ())
    return factors[0] if factors and isinstance(factors[0], Spread) and factors[0].kind != "prod" else None


def _note(pattern: Pattern, shape: tuple[Dim, ...], sizes: dict[str, Dim], spreads: dict[str, tuple[Dim, ...]]) -> None:
    """Bind the axis names of a signature to the sizes of an operand."""
    length = len(shape) - (len(pattern.axes) - sum(1 for axis in pattern.axes if _spread(axis)))
    place = 0
    for axis in pattern.axes:
        spread = _spread(axis)
        if spread is not None:
            spreads.setdefault(spread.name, shape[place : place + max(length, 0)])
            place += max(length, 0)
            continue
        if place < len(shape):
            sizes.setdefault(str(axis), shape[place])
        place += 1


def _like(
    pattern: Pattern, sizes: Mapping[str, Dim], spreads: Mapping[str, tuple[Dim, ...]], chance: Random
) -> tuple[Dim, ...]:
    """Shape for a pattern, with the sizes that earlier operands bound to its axis names."""
    shape: list[Dim] = []
    for axis in pattern.axes:
        spread = _spread(axis)
        if spread is None:
            shape.append(sizes.get(str(axis), chance.choice((1, 2, 3, 4, 8))))
            continue
        own = list(spreads.get(spread.name, spreads[min(spreads)] if spreads else ()))
        if spread.kind == "~" or spread.name not in spreads:
            own = [1 if chance.random() < 0.2 else dim for dim in own]
            own = own[chance.choice((0, 0, 0, 1)) :] if own else own
        shape += own
    return tuple(shape)


def _settled(
    op: Operator, plan: Sequence[Tensor | TensorType], sizes: Mapping[str, int], chance: Random, supply: Supply
) -> list[Tensor]:
    """Operands of a plan, with new tensors for its types.

    Raises:
        Unsuitable: an index operand may be out of range.
    """
    types = [_type(one) for one in plan]
    operands: list[Tensor] = []
    for position, one in enumerate(plan):
        limits = op.operand_range(types, position)
        accepted = range(100) if limits is None else range(limits[0], number_of(limits[1], sizes=sizes))
        if isinstance(one, TensorType):
            operands.append(supply(one, accepted if one.dtype.integral else range(100)))
            continue
        if limits is not None and not (one.given and _within(one, accepted)):
            raise Unsuitable("it may lead beyond the last place")
        operands.append(one)
    return operands


def _within(tensor: Tensor, accepted: range) -> bool:
    return int(tensor.sample.min()) in accepted and int(tensor.sample.max()) in accepted
