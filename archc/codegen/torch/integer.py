"""Layers that compute in integers.

`quantize`, `dequantize` and a layer with an int8 weight compute what the layer would compute on the decoded numbers.
Where the three stand together in a program, the layer takes the integers as they are: `self.fc1(self.fc1_q(x))`.
The classes for it are emitted with the module; their kernels ship with torch.  Every other layer with an int8 weight
decodes it, and keeps the result.

Where what a layer makes is rounded next, after no more than clipping, pooling or flattening it, its kernel makes
integers itself: `self.conv1(self.conv1_in(image), self.conv2_in, relu=True)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from archc.codegen.program import Apply, Local, Loop, Program, Statement
from archc.codegen.torch.spell import owns, spelling
from archc.ir.attributes import attributes
from archc.ir.graph import Graph, Node
from archc.ir.storage import Dense, Int8
from archc.ir.types import DType, TensorType
from archc.ops.spelling import TorchModule, atom, call, literal

_NEEDS = {
    "Quantized": (),
    "Quantize": ("Quantized",),
    "quantize": ("Quantized",),
    "Int8Weight": (),
    "Int8Layer": ("Int8Weight", "Quantize", "Quantized"),
    "Int8Linear": ("Int8Layer",),
    "Int8Conv2d": ("Int8Layer",),
    "pooled": ("Quantized",),
}
HELPERS = frozenset(_NEEDS)
"""The names that the template of the integer layers defines."""

_CARRIED = frozenset(("relu", "flatten", "max_pool2d"))
"""Operators that give the same before rounding as after it, up to the rounding."""

_KERNELS = {"linear": "Int8Linear", "conv2d": "Int8Conv2d"}


@dataclass(frozen=True)
class Target:
    """What rounds the result of a layer: a statement, for whose module the layer's kernel makes integers.

    Attributes:
        relu: the result is clipped at zero before.
    """

    quantize: Apply
    relu: bool


@dataclass
class Integers:
    """How statements are spelled that work on integers.

    Attributes:
        modules: the constructor for each node of a statement.
        functions: the expression, given those of the operands, where no module is needed.
        quantizers: the statements that make integers.
        targets: for layers whose kernels make integers, where these go.
        absorbed: the statements that such kernels do as well: their results are what they receive.
    """

    modules: dict[Apply, Callable[[Node], TorchModule]] = field(default_factory=dict)
    functions: dict[Apply, Callable[[Sequence[str]], str]] = field(default_factory=dict)
    quantizers: set[Statement] = field(default_factory=set)
    targets: dict[Statement, Target] = field(default_factory=dict)
    absorbed: set[Statement] = field(default_factory=set)


def find_integers(program: Program, graph: Graph) -> Integers:
    """Let layers take integers where they can; changes the program in place.

    The three results of a `quantize` become one tensor's worth of a tuple.
    """
    found = Integers()
    for definition in program.definitions:
        definition.body = _body(definition.body, graph, found)
    return found


def _body(body: Sequence[Statement], graph: Graph, found: Integers) -> tuple[Statement, ...]:
    for statement in body:
        if isinstance(statement, Loop):
            statement.iterations = tuple(_body(iteration, graph, found) for iteration in statement.iterations)
    readers: dict[Local, list[Apply]] = {}
    for statement in body:
        if isinstance(statement, Apply):
            for local in dict.fromkeys(statement.operands):
                readers.setdefault(local, []).append(statement)
    dropped: set[Statement] = set()
    for statement in body:
        if isinstance(statement, Apply) and _is_plain_quantize(statement):
            dropped |= _take_integers(statement, readers, graph, found)
    makers = {local: statement for statement in body for local in statement.results if isinstance(statement, Apply)}
    for statement in body:
        if statement in found.quantizers and statement in found.modules:
            assert isinstance(statement, Apply)
            _round_in_kernel(statement, makers, found)
    return tuple(statement for statement in body if statement not in dropped)


def _round_in_kernel(quantize: Apply, makers: dict[Local, Apply], found: Integers) -> None:
    """Let the layer whose result is rounded give integers, if only such steps lie between as integers can take."""
    between: list[Apply] = []
    local = quantize.operands[0]
    while local.uses == 1 and local in makers:
        maker = makers[local]
        operator = maker.nodes[0].op.name
        if operator in _KERNELS and maker in found.modules and maker not in found.targets:
            clips = [step for step in between if step.nodes[0].op.name == "relu"]
            found.targets[maker] = Target(quantize, relu=bool(clips))
            found.absorbed.update(clips, [quantize])
            for step in between:
                if step.nodes[0].op.name == "max_pool2d":
                    found.functions[step] = _pooled(step)
            return
        if operator not in _CARRIED or any(node.op != maker.nodes[0].op for node in maker.nodes):
            return
        between.append(maker)
        local = maker.operands[0]


def _pooled(step: Apply) -> Callable[[Sequence[str]], str]:
    """The spelling of a `max_pool2d` of integers."""
    op = step.nodes[0].op
    named = {info.name: (getattr(op, info.name), info.default) for info in attributes(type(op))}
    changed = {name: value for name, (value, default) in named.items() if value != default}
    kernel_size = literal(changed.pop("kernel_size"))
    return lambda texts: call("pooled", texts[0], kernel_size, **changed)


def _take_integers(quantize: Apply, readers: dict[Local, list[Apply]], graph: Graph, found: Integers) -> set[Statement]:
    """Rewrite what follows a `quantize`; returns the statements that are not needed any more."""
    decoders = readers.get(quantize.results[0], [])
    if not decoders or any(
        decoder.nodes[0].op.name != "dequantize" or decoder.operands != quantize.results for decoder in decoders
    ):
        return set()
    if any(local.uses != len(decoders) for local in quantize.results):
        return set()
    layers = {decoder: readers.get(decoder.results[0], []) for decoder in decoders}
    if quantize.nodes[0].weights:
        found.modules[quantize] = lambda node: TorchModule("Quantize", {})
    else:
        found.functions[quantize] = lambda texts: f"quantize({texts[0]})"
    quantized = Local(quantize.results[0].type, quantize.results[0].name)
    quantize.results = (quantized,)
    found.quantizers.add(quantize)
    dropped: set[Statement] = set()
    for decoder in decoders:
        decoder.operands = (quantized,)
        decoded = decoder.results[0]
        for layer in layers[decoder]:
            if _has_kernel(layer, decoder, graph):
                layer.operands = (quantized,)
                found.modules[layer] = lambda node: _integer_module(node, graph)
                decoded.uses -= 1
                quantized.uses += 1
        if decoded.uses:
            found.functions[decoder] = lambda texts: f"{atom(texts[0])}.decoded()"
            quantized.uses += 1
        else:
            dropped.add(decoder)
    return dropped


def _is_plain_quantize(statement: Apply) -> bool:
    """To u8, with one scale, and with buffers of its own if it has any: what the kernels take."""
    return all(
        node.op.name == "quantize"
        and node.results[0].type.dtype is DType.u8
        and node.results[1].type == TensorType(DType.f32, ())
        and all(owns(node, name) for name in node.weights)
        for node in statement.nodes
    )


def _has_kernel(layer: Apply, decoder: Apply, graph: Graph) -> bool:
    if layer.operands != decoder.results or layer.nodes[0].op.name not in _KERNELS:
        return False
    return all(_fits(node, graph) for node in layer.nodes)


def _fits(node: Node, graph: Graph) -> bool:
    if not all(owns(node, name) for name in node.weights) or node.results[0].type.dtype is not DType.f32:
        return False
    storages = {name: graph.weights[path].storage for name, path in node.weights.items()}
    weight = storages.pop("weight")
    if not isinstance(weight, Int8) or weight.axis not in (None, 0):
        return False
    return all(isinstance(storage, Dense) for storage in storages.values()) and _padding(node) is not None


def _padding(node: Node) -> int | tuple[int, ...] | None:
    """The padding of a convolution as numbers (0 for what has none); None where it differs between two sides."""
    padding = getattr(node.op, "padding", 0)
    if not isinstance(padding, str):
        return padding  # type: ignore[no-any-return]
    if padding == "valid":
        return 0
    kernel, dilation = (_pair(getattr(node.op, name)) for name in ("kernel_size", "dilation"))
    total = [step * (size - 1) for step, size in zip(dilation, kernel)]
    return None if any(size % 2 for size in total) else tuple(size // 2 for size in total)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _integer_module(node: Node, graph: Graph) -> TorchModule:
    """The constructor of the integer layer, from that of the layer in floating point."""
    spell = spelling(node, graph, ("",) * len(node.operands), dict.fromkeys(node.weights, ""))
    module = node.op.torch_module(spell)
    assert module is not None, "linear and convolution layers are modules"
    storage = graph.weights[node.weights["weight"]].storage
    named = dict(module.named)
    if "padding" in named:
        named["padding"] = (_padding(node), 0)
    named["per_channel"] = (getattr(storage, "axis", 0) == 0, True)
    return TorchModule(_KERNELS[node.op.name], module.positional, named)


def needed(names: Iterable[str]) -> frozenset[str]:
    """The helpers that these need, and they themselves."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _NEEDS[name]
    return frozenset(found)
