"""Random texts with scans, whose states change, stay or swap, and whose steps read outer tensors."""

from __future__ import annotations

import random

_STATEMENTS = ("layer", "layer", "sum", "product", "tanh", "name", "state", "state", "scan", "loop", "yield")


def random_text(seed: int) -> str:
    """Return the text of a model whose tensors are f32[B, 4], or sequences of such tensors."""
    return _Text(seed).text()


class _Text:
    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.layers = 0
        self.lines: list[str] = []
        self.sequences = ["x", "z"]

    def text(self) -> str:
        self.lines = ["model m {", "input x: f32[B, T, 4]", "input z: f32[B, T, 4]", "input h0: f32[B, 4]"]
        tensors = ["h0", self.emit("start", "x -> mean(1)")]
        for _ in range(self.random.randint(1, 3)):
            tensors += self.scan(tensors, depth=0)
            tensors.append(self.emit(self.name("a"), self.expression(tensors)))
        outputs = self.random.sample(tensors, min(2, len(tensors)))
        self.lines += [f"output out{number} = {name} * 1.5" for number, name in enumerate([tensors[-1], *outputs])]
        self.lines.append(f"output all = {self.random.choice(self.sequences)} * 0.5")
        return "\n".join([*self.lines, "}"])

    def scan(self, around: list[str], depth: int) -> list[str]:
        """Write a scan; return the names of the f32[B, 4] tensors that it defines."""
        chance = self.random
        states = list(dict.fromkeys(self.name("s") for _ in range(chance.randint(0, 3))))
        pieces = [f"p{self.layers}_{number}" for number in range(chance.randint(1, 2))]
        self.layers += 1
        parts = [f"{piece} in {chance.choice(self.sequences)}" for piece in pieces]
        parts += [f"{state} = {chance.choice(around)}" for state in states]
        self.lines.append(f"scan {', '.join(parts)} {{")
        known, yields = [*around, *pieces, *states], list[str]()
        for _ in range(chance.randint(1, 5)):
            self.statement(known, states, yields, depth)
        for state in chance.sample(states, len(states) // 2):
            self.emit(state, self.expression(known))
        if not yields and not states:
            yields.append(self.name("y"))
            self.lines.append(f"yield {yields[-1]} = {self.expression(known)}")
        self.lines.append("}")
        if depth == 0:
            self.sequences += yields
        else:  # `sequences` has only tensors of the model, so a nested scan's are reduced at once
            states += [self.emit(self.name("m"), f"{name} -> mean(1)") for name in yields]
        return states

    def statement(self, known: list[str], states: list[str], yields: list[str], depth: int) -> None:
        chance = self.random
        kind = chance.choice(_STATEMENTS)
        if kind == "scan" and depth < 1:
            known += self.scan(known, depth + 1)
        elif kind == "loop":
            name = self.emit(self.name("l"), chance.choice(known))
            self.layers += 1
            step = f"{name} = {name} + {chance.choice(known)} -> f{self.layers}[i]: linear(4)"
            self.lines.append(f"for i in 0..3 {{ {step} }}")
            known.append(name)
        elif kind == "yield":
            yields.append(self.name("y"))
            self.lines.append(f"yield {yields[-1]} = {self.expression(known)}")
        elif kind == "state" and states:
            self.emit(chance.choice(states), chance.choice(known))
        else:
            known.append(self.emit(self.name("t"), self.expression(known)))

    def expression(self, known: list[str]) -> str:
        chance = self.random
        one, other = chance.choice(known[-4:]), chance.choice(known)
        kind = chance.choice(("layer", "sum", "product", "tanh", "name"))
        if kind == "layer":
            self.layers += 1
            return f"{one} -> w{self.layers}: linear(4)"
        return {
            "sum": f"{one} + {other} -> tanh",
            "product": f"{one} * {other}",
            "tanh": f"{one} -> tanh",
            "name": f"{one} -> sigmoid -> tanh",
        }[kind]

    def emit(self, name: str, value: str) -> str:
        self.lines.append(f"{name} = {value}")
        return name

    def name(self, kind: str) -> str:
        """Return a name; a name of kind `a` or `t` is often in use, other names are new."""
        self.layers += 1
        return f"{kind}{self.random.randint(0, 2)}" if kind in "at" else f"{kind}{self.layers}"
