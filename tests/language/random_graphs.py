"""Random graphs with nested blocks, shared layers, and tied and quantized weights.

Nodes in a block may have operands from other blocks.
"""

from __future__ import annotations

import random

from archc.declaration.base import OPERATORS
from archc.ir.graph import Graph, Node, Scope, Value
from archc.ir.rewriter import Rewriter
from archc.ir.verifier import verify
from archc.ops.linear import Linear
from archc.types.dims import symbol
from archc.types.storage import Storage
from archc.types.tensor_type import DType, TensorType
from tests.storages import random_storage

_WIDTH = 8


def random_graph(seed: int) -> Graph:
    """Return a random valid graph; most blocks of the same kind (`A` to `D`) have the same nodes."""
    return _Maker(seed).graph()


class _Maker:
    def __init__(self, seed: int):
        self.seed = seed
        self.random = random.Random(seed)
        self.result = Graph("model_under_test")
        self.rewriter = Rewriter(self.result)
        self.layers: list[Node] = []
        self.names: set[str] = set()
        self.values: list[Value] = []

    def graph(self) -> Graph:
        chance = self.random
        type_ = TensorType(DType.f32, (symbol("N", 64), _WIDTH))
        inputs = ["x", "memory", "k"][: chance.randint(1, 3)]
        self.values = [self.rewriter.input(name, type_) for name in inputs]
        local = list(self.values)
        for _ in range(chance.randint(2, 10)):
            make_block = chance.random() < 0.5
            local.append(
                self.block(self.result.scope, local) if make_block else self.node(self.result.scope, local, chance)
            )
        outputs = [local[-1], *(chance.choice(local) for _ in range(chance.randint(0, 2)))]
        for name, value in zip(("out", "x2", "y"), outputs):
            self.rewriter.output(name, value)
        self.rewriter.remove_unused_nodes()
        self.rewriter.remove_unused_weights()
        verify(self.result)
        return self.result

    def block(self, around: Scope, values: list[Value], depth: int = 0) -> Value:
        kind = self.random.choice("AB" if depth == 0 else "CD")
        name = self.name(around, self.random.choice(("h.*", "h.*", "q.*", "enc")))
        scope = Scope(f"{around.path}.{name}" if around.path else name, kind, around)
        plan = random.Random(f"{kind}{self.seed}") if self.random.random() < 0.8 else self.random
        local = [self.random.choice(values)]
        for _ in range(plan.randint(1, 5)):
            nested = depth < 2 and plan.random() < 0.3
            local.append(self.block(scope, local, depth + 1) if nested else self.node(scope, local, plan))
        self.values += local[1:] if self.random.random() < 0.1 else local[-1:]
        return local[-1]

    def node(self, scope: Scope, local: list[Value], plan: random.Random) -> Value:
        """Add a node and return its result; its operands are mostly recent values of `local`."""

        def operand() -> Value:
            return self.random.choice(local[-3:] if self.random.random() < 0.9 else self.values)

        def plain(name: str, *operands: Value, label: str | None = None, **options: object) -> Value:
            return self.rewriter.add(OPERATORS[name](**options), operands, scope=scope, name=label).result

        kind = plan.choice(("linear", "linear", "relu", "tanh", "add", "sub", "neg", "split", "again", "pow"))
        if kind == "linear":
            value = self.linear(scope, operand(), plan)
        elif kind == "again" and self.layers:
            layer = self.random.choice(self.layers)
            again = self.rewriter.add(
                layer.op,
                [operand()],
                name=layer.name,
                scope=layer.scope,
                weights=layer.weights,
                transposed=layer.transposed,
            )
            value = again.result
        elif kind == "add":
            value = plain("add", operand(), operand())
        elif kind == "sub":
            value = plain("sub", operand(), scalar=plan.choice((2, 0.5, -1)), reverse=plan.random() < 0.5)
        elif kind == "split":
            halves = list(self.rewriter.add(OPERATORS["split"](4, dim=1), [operand()], scope=scope).results)
            value = plain("concat", *(halves if plan.random() < 0.7 else halves[::-1]), dim=1)
        elif kind == "tanh":
            value = plain("tanh", operand(), label=self.name(scope, "act"))
        else:
            value = plain("neg" if kind == "neg" else "relu", operand())
        if self.random.random() < 0.3:
            value.name = self.random.choice(("x", "y", "h", "t", "relu", "memory"))
        return value

    def linear(self, scope: Scope, operand: Value, plan: random.Random) -> Value:
        weights: dict[str, str] = {}
        storages: dict[str, Storage] = {}
        transposed: tuple[str, ...] = ()
        if self.layers and self.random.random() < 0.1:
            weights["weight"] = self.random.choice(self.layers).weights["weight"]
            transposed = self.random.choice(((), ("weight",)))
        elif self.random.random() < 0.15:
            storages["weight"] = random_storage(self.random, (_WIDTH, _WIDTH), DType.f32)
        name = self.name(scope, self.random.choice(("h.*", "fc", "q.fc*", "linear")))
        op = Linear(_WIDTH, bias=plan.random() < 0.7)
        layer = self.rewriter.add(
            op, [operand], name=name, scope=scope, weights=weights, transposed=transposed, storages=storages
        )
        self.layers.append(layer)
        return layer.result

    def name(self, scope: Scope, pattern: str) -> str:
        """Return an unused name in a scope: `h.*` becomes `h.0`, `h.1`, …, and `fc` becomes `fc`, `fc_2`, …."""
        number = 0 if "*" in pattern else 1
        while True:
            name = pattern.replace("*", str(number)) if "*" in pattern or number == 1 else f"{pattern}_{number}"
            number += 1
            path = f"{scope.path}.{name}"
            if path not in self.names:
                self.names.add(path)
                return name
