"""Generator of random valid models, with blocks, loops, scans, shared layers and tied weights.

The generator draws from the whole operator table and writes a text statement by statement.  It runs each statement on
sample data, and drops statements that give NaN or huge numbers, since these would hide later faults.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from archc.declaration.base import OPERATORS
from archc.types.dims import SymbolicDim, symbol
from archc.types.dims import evaluate as number_of
from archc.types.tensor_type import DType, TensorType
from tests.fuzz.operators import Choice, chosen
from tests.fuzz.tensors import CannotRun, Tensor, Unsuitable, applied, random_tensor
from tests.fuzz.writing import Body, Names, declared_type, spelled

MOST_INPUTS = 5
SAMPLE_SIZES = {"N": 3, "T": 5, "H": 4, "S": 2}
LARGE, MOST_STEPS = 16, 1000
"""Largest value of a symbol, and limit on scan steps at this value: 20 µs per step and operator."""


@dataclass
class Model:
    """Generated text with its operators.

    Attributes:
        operators: names of the operators in the text.
        broken: texts of single operators that archc accepts and PyTorch cannot run, each with the reason.
    """

    text: str
    operators: list[str]
    broken: list[tuple[str, str]]


def random_model(seed: int, operators: int | None = None) -> Model:
    """Generate the model of a seed, with 5 to 60 operators by default."""
    return _Writer(Random(seed), operators).model()


@dataclass
class _Recorded:
    """Recorded block: inputs, results and nodes, to replay on other inputs."""

    name: str
    inputs: list[Tensor]
    results: list[Tensor]
    steps: list[tuple[Choice, list[Tensor]]]
    attributes: list[str] = field(default_factory=list)


class _Writer:
    def __init__(self, chance: Random, operators: int | None):
        self.chance = chance
        self.names = Names(chance)
        self.left = operators if operators is not None else int(5 + min(55, chance.expovariate(1 / 12)))
        self.floating = DType(chance.choices(("f32", "f16", "f64", "bf16"), (86, 5, 5, 4))[0])
        self.definitions: list[str] = []
        self.inputs: list[str] = []
        self.operators: list[str] = []
        self.broken: list[tuple[str, str]] = []
        self.blocks: list[_Recorded] = []
        self.sizes = {name: size if chance.random() < 0.8 else 1 for name, size in SAMPLE_SIZES.items()}
        self.bounds = {name: chance.choice((None, None, 16)) for name in SAMPLE_SIZES}

    # The model and its inputs -------------------------------------------------------------------------------

    def model(self) -> Model:
        body = Body(self.names, inputs=True)
        for _ in range(self.chance.randint(1, 2)):
            self.input(body, self.floating)
        while self.left > 0:
            kind = self.chance.choices(("node", "block", "loop", "scan", "again"), (30, 2, 2, 1, 3))[0]
            {"node": self.node, "block": self.block, "loop": self.loop, "scan": self.scan, "again": self.again}[kind](
                body
            )
        outputs = self.outputs(body)
        name = self.names.new("model")
        lines = [f"model {name} {{", *_indented([*self.inputs, *body.lines, *outputs]), "}"]
        return Model("\n".join([*self.definitions, *lines]) + "\n", self.operators, self.broken)

    def outputs(self, body: Body) -> list[str]:
        leaves = [tensor for tensor in body.known if not tensor.uses and not tensor.given]
        wanted = leaves[-6:] or body.known[-1:]
        lines = [f"output {self.names.new('out')} = {tensor.name}" for tensor in wanted]
        self.chance.shuffle(lines)
        return lines

    def input(self, body: Body, dtype: DType, shape: Sequence[int | SymbolicDim] | None = None) -> Tensor:
        """Add an input to the model."""
        type = TensorType(dtype, tuple(self.shape() if shape is None else shape))
        tensor = Tensor(self.names.new("input"), type, random_tensor(type, self.sizes, self.chance), given=True)
        self.inputs.append(f"input {tensor.name}: {declared_type(type)}")
        body.known.append(tensor)
        return tensor

    def shape(self) -> list[int | SymbolicDim]:
        chance = self.chance
        batch = self.symbol("N") if chance.random() < 0.7 else chance.choice((1, 2, 3))
        width = chance.choice((1, 2, 3, 4, 6, 8, 12, 16))
        length = self.derived("T") if chance.random() < 0.4 else chance.choice((1, 4, 5, 7, 8))
        side = self.derived("H") if chance.random() < 0.3 else chance.choice((4, 5, 6, 8, 9))
        shapes = {
            "vector": [batch, width],
            "sequence": [batch, length, width],
            "image": [batch, width, side, side if chance.random() < 0.6 else chance.choice((1, 4, 7))],
            "signal": [batch, width, side],
            "volume": [batch, chance.choice((1, 2, 4)), 4, chance.choice((3, 4)), chance.choice((4, 5))],
            "ids": [batch, length],
            "scalar": [],
        }
        return shapes[chance.choices(list(shapes), (6, 6, 6, 3, 2, 2, 1))[0]]

    def symbol(self, name: str) -> SymbolicDim:
        return symbol(name, self.bounds[name])

    def derived(self, name: str) -> int | SymbolicDim:
        """Random symbolic size, sometimes scaled and with an offset."""
        scale, offset = self.chance.choice(((1, 0), (1, 0), (1, 0), (2, 0), (2, 1), (1, 2), (4, 3)))
        return self.symbol(name) * scale + offset

    # Statements ---------------------------------------------------------------------------------------------

    def node(self, body: Body) -> list[Tensor]:
        """Write a random operator on known tensors."""
        for _ in range(8):
            choice = chosen(body, self.chance, self.floating, self.sizes, self.supply(body))
            if choice is None:
                continue
            try:
                return self.write(body, choice)
            except Unsuitable:
                continue
            except CannotRun as failure:
                self.broken.append((alone(choice, self.chance), str(failure)))
        self.left -= 1
        return []

    def supply(self, body: Body) -> Callable[[TensorType, range], Tensor]:
        """Function that makes a tensor of a type: an input of the model, a constant or a parameter."""

        def made(type: TensorType, accepted: range) -> Tensor:
            if body.inputs and len(self.inputs) < MOST_INPUTS:
                tensor = self.input(body, type.dtype, type.shape)
                tensor.sample = random_tensor(type, self.sizes, self.chance, accepted)
                return tensor
            return self.constant(body, type, accepted)

        return made

    def constant(self, body: Body, type: TensorType, accepted: range) -> Tensor:
        static = all(isinstance(dim, int) for dim in type.shape)
        if not accepted:
            raise Unsuitable("no integer is accepted")
        if static and type.dtype.floating:
            op = OPERATORS["parameter"](type.shape, type.dtype)
        else:
            value = self.chance.choice((0.5, -1.5, 2.0)) if type.dtype.floating else True
            op = OPERATORS["full"](type.shape, value=accepted.start if type.dtype.integral else value, dtype=type.dtype)
        return self.write(body, Choice(op, []))[0]

    def write(self, body: Body, choice: Choice, label: str | None = None) -> list[Tensor]:
        """Write a node, and return its results."""
        results = self.done(choice, choice.operands)
        for tensor in results:
            tensor.name = body.names.new("tensor")
        body.lines.append(spelled(body, choice, results, self.chance, label))
        body.add(choice, results)
        return results

    def done(self, choice: Choice, operands: Sequence[Tensor]) -> list[Tensor]:
        """Results of a node, still without names.

        Raises:
            Unsuitable, CannotRun: see `applied`.
        """
        given = [(one.type, one.sample) for one in operands]
        results = [Tensor("", *each) for each in applied(choice.op, given, self.sizes, self.chance.randrange(1000))]
        for tensor in results:
            tensor.siblings = results
        for one in operands:
            one.uses += 1
        self.operators.append(choice.op.name)
        self.left -= 1
        return results

    def again(self, body: Body) -> list[Tensor]:
        """Use a shared layer or an existing block again."""
        if body.shared and self.chance.random() < 0.7:
            name, choice = self.chance.choice(body.shared)
            wanted = [one.type for one in choice.operands]
            operands = [self.alike(body, type) for type in wanted]
            if all(operands):
                again = Choice(choice.op, [one for one in operands if one is not None], shared=name)
                try:
                    return self.write(body, again)
                except (Unsuitable, CannotRun):
                    return []
        if self.blocks:
            return self.use(body, self.chance.choice(self.blocks), body.names.new("label"))
        return self.node(body)

    def alike(self, body: Body, type: TensorType) -> Tensor | None:
        found = [one for one in body.known if one.type == type]
        return self.chance.choice(found) if found else None

    # Blocks, loops and scans --------------------------------------------------------------------------------

    def block(self, body: Body, kept: bool = False) -> list[Tensor]:
        """Define a block and use it; with `kept`, only define it, with its first input type as result type."""
        count = self.chance.choice((1, 1, 2))
        operands = [self.operand(body) for _ in range(count)]
        inner = Body(Names(self.chance))
        inputs = []
        for one in operands:
            inputs.append(Tensor(inner.names.new("input"), one.type, one.sample))
            inner.known.append(inputs[-1])
        for _ in range(self.chance.randint(1, 5)):
            self.node(inner)
        made = [one for one in inner.known if one not in inputs]
        if kept and made:
            made = [self.brought_back(inner, made[-1], inputs[0])]
        results = made[-1:] if kept or self.chance.random() < 0.7 else made[-2:]
        if not results or (kept and results[0].type != inputs[0].type):
            return []
        name = self.names.new("block")
        free = sorted(inner.symbols - self.bound(inputs))
        head = f"block {name}({', '.join(free)}) {{" if free else f"block {name} {{"
        lines = [self.block_input(one) for one in inputs] + inner.lines
        lines.append(f"output {results[0].name}" if len(results) == 1 else f"output ({_list(results)})")
        self.definitions += [head, *_indented(lines), "}"]
        self.blocks.append(_Recorded(name, inputs, results, inner.steps, free))
        if kept:
            return results
        return self.use(body, self.blocks[-1], body.names.new("label"), operands)

    def block_input(self, tensor: Tensor) -> str:
        if self.chance.random() < 0.3 and not self.bound([tensor]):
            return f"input {tensor.name}"
        return f"input {tensor.name}: {declared_type(tensor.type, bounds=False)}"

    def bound(self, inputs: Sequence[Tensor]) -> set[str]:
        """Sizes bound in a block by inputs of these types."""
        return {str(dim) for one in inputs for dim in one.type.shape if str(dim) in SAMPLE_SIZES}

    def use(self, body: Body, block: _Recorded, label: str, operands: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Use a block on tensors of the types of its inputs."""
        if operands is None:
            found = [self.alike(body, one.type) for one in block.inputs]
            operands = [one for one in found if one is not None]
            if len(operands) != len(found):
                return []
        try:
            results = self.replayed(block, operands)
        except (Unsuitable, CannotRun):
            return []
        for tensor in results:
            tensor.name = body.names.new("tensor")
        arguments = f"({', '.join(block.attributes)})" if block.attributes else ""
        stage = f"{label}: {block.name}{arguments}" if label else f"{block.name}{arguments}"
        flow = operands[0].name if len(operands) == 1 else f"({_list(operands)})"
        body.lines.append(f"{_list(results)} = {flow} -> {stage}")
        body.note_symbols(block.attributes)
        body.known += results
        return results

    def replayed(self, block: _Recorded, operands: Sequence[Tensor]) -> list[Tensor]:
        meaning: dict[Tensor, Tensor] = dict(zip(block.inputs, operands))
        for choice, results in block.steps:
            made = self.done(choice, [meaning[one] for one in choice.operands])
            meaning.update(zip(results, made))
        for one in operands:
            one.uses += 1
        return [Tensor("", one.type, meaning[one].sample) for one in block.results]

    def loop(self, body: Body) -> list[Tensor]:
        """Write `for i in 0..3 { x = x -> h[i]: Block }`, sometimes with a named layer in the list."""
        block = next((one for one in self.blocks if self.repeats(one) and self.chance.random() < 0.5), None)
        if block is None:
            if not self.block(body, kept=True):
                return []
            block = self.blocks[-1]
        found = [self.alike(body, one.type) for one in block.inputs]
        operands = [one for one in found if one is not None]
        if len(operands) != len(found):
            return []
        times = self.chance.choice((1, 2, 3))
        value, others = operands[0], operands[1:]
        try:
            state = value
            for _ in range(times):
                (state,) = self.replayed(block, [state, *others])
        except (Unsuitable, CannotRun):
            return []
        label = body.names.new("label")
        name = body.names.new("tensor")
        arguments = f"({', '.join(block.attributes)})" if block.attributes else ""
        flow = f"({', '.join([name, *(one.name for one in others)])})" if others else name
        body.lines.append(f"{name} = {value.name}")
        body.lines.append(f"for i in 0..{times} {{ {name} = {flow} -> {label}[i]: {block.name}{arguments} }}")
        body.note_symbols(block.attributes)
        result = Tensor(name, state.type, state.sample)
        body.known.append(result)
        return [result]

    def repeats(self, block: _Recorded) -> bool:
        return len(block.results) == 1 and block.results[0].type == block.inputs[0].type

    def brought_back(self, body: Body, tensor: Tensor, wanted: Tensor) -> Tensor:
        """Tensor that depends on two tensors and has the type of one of them."""
        if tensor.type == wanted.type:
            return tensor
        try:
            if not wanted.type.dtype.floating:
                return wanted
            if tensor.type.dtype is not wanted.type.dtype:
                (tensor,) = self.write(body, Choice(OPERATORS["cast"](wanted.type.dtype), [tensor]))
            if tensor.type.rank:
                (tensor,) = self.write(body, Choice(OPERATORS["mean"](), [tensor]))
            (sum_,) = self.write(body, Choice(OPERATORS["add"](), [wanted, tensor]))
            return self.write(body, Choice(OPERATORS["mul"](scalar=0.5), [sum_]))[0]
        except (Unsuitable, CannotRun):
            return wanted

    def scan(self, body: Body) -> list[Tensor]:
        """Write a scan over a known sequence, with up to two states."""
        sequences = [one for one in body.known if one.type.rank >= 2 and one.sample.shape[1] > 0]
        if not sequences:
            return []
        sequence = self.chance.choice(sequences)
        if number_of(sequence.type.shape[1], LARGE) > MOST_STEPS:
            return []
        firsts = [self.operand(body) for _ in range(self.chance.choice((0, 1, 1, 2)))]
        inner = Body(body.names)
        inner.known += [one for one in body.known[-4:] if one is not sequence]
        batch, steps, *rest = sequence.type.shape
        item = Tensor(body.names.new("tensor"), TensorType(sequence.type.dtype, (batch, *rest)), sequence.sample[:, 0])
        states = [Tensor(body.names.new("state"), one.type, one.sample) for one in firsts]
        inner.known += [item, *states]
        start = len(inner.known)
        for _ in range(self.chance.randint(1, 4)):
            self.node(inner)
        made = inner.known[start:]
        lines: list[str] = []
        for state in states:
            nxt = self.brought_back(inner, self.chance.choice(made), state) if made else state
            lines.append(f"{state.name} = {nxt.name}")
        kept = [one for one in made if one.type.rank and one.type.shape[0] == batch][-2:] or [item]
        yields = [body.names.new("yield") for _ in kept]
        lines += [f"yield {name} = {one.name}" for name, one in zip(yields, kept)]
        parts = [f"{item.name} in {sequence.name}", *(f"{s.name} = {first.name}" for s, first in zip(states, firsts))]
        body.lines += [f"scan {', '.join(parts)} {{", *_indented([*inner.lines, *lines]), "}"]
        body.symbols |= inner.symbols
        results = [Tensor(state.name, state.type, state.sample) for state in states]
        for name, one in zip(yields, kept):
            type = TensorType(one.type.dtype, (batch, steps, *one.type.shape[1:]))
            sample = one.sample.unsqueeze(1).expand(-1, sequence.sample.shape[1], *one.sample.shape[1:]).clone()
            results.append(Tensor(name, type, sample))
        for one in (sequence, *firsts):
            one.uses += 1
        body.known += results
        return results

    def operand(self, body: Body) -> Tensor:
        return self.chance.choice(body.known[-5:])


def alone(choice: Choice, chance: Random) -> str:
    """Text of one operator on inputs."""
    body = Body(Names(chance))
    inputs = [Tensor(f"in{number}", one.type, one.sample) for number, one in enumerate(choice.operands)]
    result = Tensor("y", inputs[0].type, inputs[0].sample) if inputs else Tensor("y", TensorType(DType.f32, ()), None)
    statement = spelled(body, Choice(choice.op, inputs, choice.parameters), [result], chance)
    lines = [*(f"input {one.name}: {declared_type(one.type)}" for one in inputs), *body.lines, statement]
    return "\n".join(["model m {", *_indented([*lines, "output out = y"]), "}", ""])


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _list(tensors: Sequence[Tensor]) -> str:
    return ", ".join(one.name for one in tensors)
