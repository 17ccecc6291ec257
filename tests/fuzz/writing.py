"""Text of statements: names, types, and operators with their operands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from random import Random

from archc.declaration.base import formula_of
from archc.types.dim_bounds import largest
from archc.types.storage import Dense
from archc.types.tensor_type import TensorType
from tests.fuzz.operators import Choice, owns_parameters
from tests.fuzz.tensors import Tensor
from tests.storages import random_storage

AWKWARD = ("F", "torch", "nn", "x", "path", "shape", "model", "device", "class_", "lambda_", "id", "T0")
"""Names that may collide with names in emitted Python."""


class Names:
    """Generator of unused names."""

    def __init__(self, chance: Random):
        self._chance = chance
        self._taken: set[str] = set()
        self._count = 0

    def new(self, kind: str) -> str:
        """Unused name for an object of a kind, sometimes an unusual one."""
        prefix = {"model": "m", "block": "B", "label": "l", "input": "in", "tensor": "t", "output": "o"}.get(kind, kind)
        if kind in ("model", "block"):
            name = self._chance.choice(("Net", "net", "Model", "Block") * 5 + ("F", "Path"))
        elif self._chance.random() < 0.05:
            name = self._chance.choice(AWKWARD)
        else:
            name = ""
        if not name or name in self._taken or name == "model":
            self._count += 1
            name = f"{prefix}{self._count}"
        self._taken.add(name)
        return name


class Body:
    """Statements of a model, a block or a scan step, and the tensors in their scope."""

    def __init__(self, names: Names, inputs: bool = False):
        self.names = names
        self.inputs = inputs
        self.lines: list[str] = []
        self.known: list[Tensor] = []
        self.steps: list[tuple[Choice, list[Tensor]]] = []
        self.shared: list[tuple[str, Choice]] = []
        self.owners: list[tuple[str, str, TensorType]] = []
        self.symbols: set[str] = set()

    def add(self, choice: Choice, results: list[Tensor]) -> None:
        self.steps.append((choice, results))
        self.known += results

    def note_symbols(self, names: Iterable[str]) -> None:
        self.symbols |= set(names)


def declared_type(type: TensorType, bounds: bool = True) -> str:
    """Type in the syntax of an input: `f32[N <= 16, 2*T + 1 <= 33]`."""
    dims = []
    for dim in type.shape:
        bound = None if isinstance(dim, int) or not bounds else largest(dim)
        dims.append(f"{dim} <= {bound}" if bound is not None else str(dim))
    return f"{type.dtype.value}[{', '.join(dims)}]"


def spelled(body: Body, choice: Choice, results: Sequence[Tensor], chance: Random, label: str | None = None) -> str:
    """Statement of a node; a layer declared before it is recorded for sharing."""
    op, operands = choice.op, [one.name for one in choice.operands]
    left = ", ".join(one.name for one in results)
    arguments = sorted(op.arguments(), key=lambda text: re.match(r"\w+ = ", text) is not None)
    body.symbols |= {name for name in ("N", "T", "H", "S") for text in arguments if _mentions(text, name)}
    if choice.shared is not None:
        return f"{left} = {_flow(operands)} -> {choice.shared}"
    formula = formula_of(op)
    if formula == "index":
        return f"{left} = {operands[0]}[{', '.join(arguments)}]"
    if formula is not None and chance.random() < 0.5:
        return f"{left} = {_formula(choice, operands)}"
    if owns_parameters(choice) and operands:
        return _layer(body, choice, left, operands, arguments, chance)
    call = f"{op.name}({', '.join(arguments)})" if arguments or not operands else op.name
    prefix = f"{body.names.new('label')}: " if owns_parameters(choice) or chance.random() < 0.05 else ""
    if not operands:
        return f"{left} = {call}"
    return f"{left} = {_flow(operands)} -> {prefix}{call}"


def _layer(body: Body, choice: Choice, left: str, operands: list[str], arguments: list[str], chance: Random) -> str:
    """Layer with weights: declared for sharing or anonymous, sometimes with the weight of another layer."""
    label = body.names.new("label")
    kind = chance.random()
    if kind < 0.15:
        body.shared.append((label, choice))
        call = f"{choice.op.name}({', '.join(arguments)})" if arguments else choice.op.name
        body.lines.append(f"layer {label} = {call}")
        return f"{left} = {_flow(operands)} -> {label}"
    shape = choice.parameters.get("weight")
    if shape is not None:
        stored = _storage(body, shape, chance)
        if stored is None:
            body.owners.append((label, "weight", shape))
        else:
            arguments = [*arguments, f"weight = {stored}"]
    call = f"{choice.op.name}({', '.join(arguments)})" if arguments else choice.op.name
    label = f"{label}: " if shape is not None or chance.random() < 0.7 else ""
    return f"{left} = {_flow(operands)} -> {label}{call}"


def _storage(body: Body, shape: TensorType, chance: Random) -> str | None:
    """Source or storage of a weight; None if the layer owns the weight."""
    turned = TensorType(shape.dtype, shape.shape[::-1])
    same = [f"{label}.weight" for label, _, own in body.owners if own == shape]
    same += [f"{label}.weight.T" for label, _, own in body.owners if own == turned and own.rank == 2]
    if same and chance.random() < 0.3:
        return chance.choice(same)
    if chance.random() < 0.08:
        stored = random_storage(chance, tuple(map(int, shape.shape)), shape.dtype)
        return None if isinstance(stored, Dense) else str(stored)
    return None


def _formula(choice: Choice, operands: list[str]) -> str:
    op = choice.op
    sides = op.sides() or ()
    if op.formula == "unary":
        return f"{op.symbol} {operands[0]}"
    names = iter(operands)
    return f" {op.symbol} ".join(next(names) if side is None else f"({side})" for side in sides)


def _flow(operands: Sequence[str]) -> str:
    return operands[0] if len(operands) == 1 else f"({', '.join(operands)})"


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"\b{name}\b", text) is not None
