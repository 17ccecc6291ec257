"""Selection of layers that compute in int8.

A layer computes in int8 if its weight is int8 and its operand comes from `quantize` and `dequantize`.  The emitted
layer takes the quantized operand directly: `self.fc1(self.fc1_q(x))`.  A `to_stage` between the quantizer and the layer
sends the quantized operand to a later stage of a pipeline.  The class of the layer is in `archc.runtime.int8`.  Every
other layer with an int8 weight decodes the weight and caches the decoded weight.

If the result of a layer is quantized next, the layer's kernel quantizes it:
`self.conv1(self.conv1_in(image), self.conv2_in, relu=True)`.  A `relu`, pooling or flattening may be between the layer
and the quantizer.  Consecutive linear layers, with the convolutions before them, form a line: one function calls all of
them.  See `archc.codegen.torch.int8.lines`.

Operators declare their int8 form in `Operator.torch_integers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from archc.codegen.outline.definitions import Local, Loop, OperatorStep, Outline, Recurrence, Statement
from archc.codegen.torch.int8.lines import LayerLine, Lines
from archc.codegen.torch.layer_classes import owns, spelling
from archc.declaration.spelling import TorchModule, atom
from archc.declaration.traits import DECODES, RELU
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Graph, Node
from archc.ir.stages import entered_stage


@frozen_dataclass
class OutputQuantizer:
    """The quantization of a layer's result by the layer's kernel.

    Attributes:
        quantize: the `quantize` statement; its module is an argument of the layer's call.
        relu: True if the kernel applies a `relu` before it quantizes.
    """

    quantize: OperatorStep
    relu: bool


@dataclass
class IntegerLayers:
    """PyTorch forms of the statements that compute on integers.

    Attributes:
        modules: for statements that become modules, a function from a node to its module.
        functions: for other statements, a function from the expressions of operands to the statement's expression.
        quantizers: the statements that quantize.
        output_quantizers: the quantization of a layer's result, for each layer that quantizes its result in its kernel.
        absorbed: the `quantize` and `relu` statements that the kernel of a layer computes; they have no emitted line.
        lines: the lines of layers, by their first statement.
    """

    modules: dict[OperatorStep, Callable[[Node], TorchModule]] = field(default_factory=dict)
    functions: dict[OperatorStep, Callable[[Sequence[str]], str]] = field(default_factory=dict)
    quantizers: set[Statement] = field(default_factory=set)
    output_quantizers: dict[Statement, OutputQuantizer] = field(default_factory=dict)
    absorbed: set[Statement] = field(default_factory=set)
    lines: dict[Statement, LayerLine] = field(default_factory=dict)


def find_integer_layers(outline: Outline, graph: Graph) -> IntegerLayers:
    """Find the layers that can compute on integers, and change the outline in place.

    Their `dequantize` statements are removed, and the three results of a `quantize` become one local.
    """
    search = _Search(graph, IntegerLayers())
    search.exclude_mixed(outline)
    for definition in outline.definitions:
        definition.body = search.body(definition.body)
    return search.found


@frozen_dataclass
class _Search:
    """Search in the statements of definitions.

    Attributes:
        found: the layers found so far.
        excluded: the weights of layers with a use that cannot compute on integers.  All uses of such a layer call one
            module, so the other uses cannot compute on integers either.
    """

    graph: Graph
    found: IntegerLayers
    excluded: set[tuple[str, ...]] = field(default_factory=set)

    def exclude_mixed(self, outline: Outline) -> None:
        """Exclude shared layers that could compute on integers in some uses only."""
        bodies = [(body, _readers(body)) for body in _bodies(outline)]
        applied = [(one, readers) for body, readers in bodies for one in body if isinstance(one, OperatorStep)]
        self.excluded.update(
            _mixed(
                (_weights(one), self._chain(one, readers) is not None) for one, readers in applied if _quantizes(one)
            )
        )
        taking = {
            layer
            for one, readers in applied
            if (chain := self._chain(one, readers)) is not None
            for decoder in chain[1]
            for layer in readers.get(decoder.results[0], [])
            if self._takes_integers(layer, decoder)
        }
        self.excluded.update(_mixed((_weights(one), one in taking) for one, _ in applied if not _quantizes(one)))

    def body(self, body: Sequence[Statement]) -> tuple[Statement, ...]:
        """Rewrite a body, and return the statements that remain."""
        for statement in body:
            if isinstance(statement, (Loop, Recurrence)):
                statement.bodies = tuple(map(self.body, statement.bodies))
        applied = [statement for statement in body if isinstance(statement, OperatorStep)]
        readers = _readers(body)
        dropped = {decoder for statement in applied for decoder in self._take_integers(statement, readers)}
        makers = {local: statement for statement in applied for local in statement.results}
        left = tuple(statement for statement in body if statement not in dropped)
        lines = Lines(self._rounding, self._layer, self._moves)
        within: set[Statement] = set()
        for position, statement in enumerate(left):
            if statement in within:
                continue
            if statement in self.found.quantizers and statement in self.found.modules:
                self._round_in_kernel(statement, makers)
            line = None if statement in self.found.absorbed else lines.at(left, position)
            if line is not None:
                self.found.lines[statement] = line
                self.found.functions |= {step: self._function(step) for step in line.moves}
                within.update(line.statements)
                makers = {local: maker for local, maker in makers.items() if maker not in within}
        return left

    def _rounding(self, statement: OperatorStep) -> str | None:
        """The member name of a quantizer's module; "" for the function `quantize`, None for other statements."""
        if statement not in self.found.quantizers:
            return None
        if statement not in self.found.modules or statement.member is None:
            return ""
        known = all(self._needed_module(node).function == "Quantize" for node in statement.nodes)
        return statement.member.name if known else None

    def _layer(self, statement: OperatorStep) -> str | None:
        """The class of a layer that computes on integers; None for other statements."""
        if statement not in self.found.modules or statement in self.found.quantizers:
            return None
        kinds = {self._needed_module(node).function for node in statement.nodes}
        return kinds.pop() if len(kinds) == 1 else None

    def _moves(self, statement: OperatorStep) -> bool:
        """Return whether a statement only moves elements, so that it works on integers as well."""
        first = statement.nodes[0]
        if (
            statement in self.found.quantizers
            or first.op.has(RELU)
            or any(node.op != first.op for node in statement.nodes)
        ):
            return False
        return isinstance(self._form(first), str)

    def _take_integers(self, quantize: OperatorStep, readers: dict[Local, list[OperatorStep]]) -> list[OperatorStep]:
        """Let layers use a quantizer's results directly; return the statements that are no longer needed."""
        chain = self._chain(quantize, readers)
        if chain is None:
            return []
        entries, decoders = chain
        if all(self._module(node) for node in quantize.nodes):
            self.found.modules[quantize] = self._needed_module
        else:
            self.found.functions[quantize] = self._function(quantize)
        layers = {decoder: readers.get(decoder.results[0], []) for decoder in decoders}
        quantized = Local(quantize.results[0].type, quantize.results[0].name)
        quantize.results = (quantized,)
        self.found.quantizers.add(quantize)
        dropped = list(entries[1:])
        if entries:
            entries[0].operands = (quantized,)
            quantized.uses += 1
            quantized = Local(entries[0].results[0].type, entries[0].results[0].name)
            entries[0].results = (quantized,)
        for decoder in decoders:
            decoder.operands = (quantized,)
            decoded = decoder.results[0]
            for layer in layers[decoder]:
                if self._takes_integers(layer, decoder):
                    layer.operands = (quantized,)
                    self.found.modules[layer] = self._needed_module
                    decoded.uses -= 1
                    quantized.uses += 1
            if decoded.uses:
                self.found.functions[decoder] = lambda texts: f"{atom(texts[0])}.decoded()"
                quantized.uses += 1
            else:
                dropped.append(decoder)
        return dropped

    def _chain(
        self, quantize: OperatorStep, readers: Mapping[Local, Sequence[OperatorStep]]
    ) -> tuple[Sequence[OperatorStep], Sequence[OperatorStep]] | None:
        """Return two lists: the `to_stage` statements after a quantizer, and the `dequantize` statements.

        None if the quantizer has no integer form, or if a result has any other use.
        """
        entries = _entries(quantize, readers)
        parts = tuple(entry.results[0] for entry in entries) or quantize.results
        decoders = readers.get(parts[0], []) if parts else []
        if not decoders or any(
            not decoder.nodes[0].op.has(DECODES) or decoder.operands != parts for decoder in decoders
        ):
            return None
        if any(local.uses != len(decoders) for local in parts) or not self.excluded.isdisjoint(_weights(quantize)):
            return None
        has_form = all(map(self._module, quantize.nodes)) or all(map(self._form, quantize.nodes))
        return (entries, decoders) if has_form else None

    def _takes_integers(self, layer: OperatorStep, decoder: OperatorStep) -> bool:
        """Return whether a layer with a dequantized operand can take the quantized operand instead."""
        # The reader of a dequantized operand may be another quantizer, which has several results; a layer has one.
        return (
            layer.operands == decoder.results
            and len(layer.results) == 1
            and self.excluded.isdisjoint(_weights(layer))
            and all(map(self._module, layer.nodes))
        )

    def _round_in_kernel(self, quantize: OperatorStep, makers: dict[Local, OperatorStep]) -> None:
        """Quantize in the kernel of the producing layer, if the steps up to the quantizer accept integers."""
        between: list[OperatorStep] = []
        local = quantize.operands[0]
        while local.uses == 1 and local in makers:
            maker = makers[local]
            if maker in self.found.modules and maker not in self.found.output_quantizers:
                clips = [step for step in between if step.nodes[0].op.has(RELU)]
                self.found.output_quantizers[maker] = OutputQuantizer(quantize, relu=bool(clips))
                self.found.absorbed.update(clips, [quantize])
                self.found.functions |= {step: self._function(step) for step in between if step not in clips}
                return
            op = maker.nodes[0].op
            carried = op.has(RELU) or isinstance(self._form(maker.nodes[0]), str)
            if not carried or any(node.op != op for node in maker.nodes):
                return
            between.append(maker)
            local = maker.operands[0]

    def _form(self, node: Node, operands: Sequence[str] = ()) -> TorchModule | str | None:
        """The module or expression of a node in int8, if it has one and uses no weight of another layer."""
        if not all(owns(node, name) for name in node.weights):
            return None
        operands = operands or ("",) * len(node.operands)
        return node.op.torch_integers(spelling(node, self.graph, operands, dict.fromkeys(node.weights, "")))

    def _module(self, node: Node) -> TorchModule | None:
        """The int8 module of a node, if it has one."""
        form = self._form(node)
        return form if isinstance(form, TorchModule) else None

    def _needed_module(self, node: Node) -> TorchModule:
        module = self._module(node)
        assert module is not None, "the caller has checked it"
        return module

    def _function(self, statement: OperatorStep) -> Callable[[Sequence[str]], str]:
        """The expression of a step that computes on integers without a module."""
        return lambda texts: str(self._form(statement.nodes[0], texts))


def _bodies(outline: Outline) -> Iterator[Sequence[Statement]]:
    """Yield all bodies of an outline, including the bodies of loops and scans."""
    waiting: list[Sequence[Statement]] = [definition.body for definition in outline.definitions]
    while waiting:
        body = waiting.pop()
        yield body
        waiting += [inner for one in body if isinstance(one, (Loop, Recurrence)) for inner in one.bodies]


def _readers(body: Sequence[Statement]) -> dict[Local, list[OperatorStep]]:
    """The operator statements of a body that use each local."""
    readers: dict[Local, list[OperatorStep]] = {}
    for statement in body:
        if isinstance(statement, OperatorStep):
            for local in dict.fromkeys(statement.operands):
                readers.setdefault(local, []).append(statement)
    return readers


def _quantizes(statement: OperatorStep) -> bool:
    """Return whether a statement may be a quantizer: unlike a layer, it has several results."""
    return len(statement.results) > 1


def _weights(statement: OperatorStep) -> set[tuple[str, ...]]:
    """The weights of each node of a statement, which identify the layer."""
    return {tuple(node.weights.values()) for node in statement.nodes if node.weights}


def _mixed(uses: Iterable[tuple[set[tuple[str, ...]], bool]]) -> set[tuple[str, ...]]:
    """The layers with a use that cannot compute on integers, and layers that share a statement with them.

    A statement in a block or a loop has one layer for each instance of the block, or iteration of the loop.

    Args:
        uses: for each statement, its layers, and whether the statement can compute on integers.
    """
    fit: list[set[tuple[str, ...]]] = []
    found: set[tuple[str, ...]] = set()
    for weights, fits in uses:
        if fits:
            fit.append(weights)
        else:
            found |= weights
    while reached := [weights for weights in fit if weights & found and not weights <= found]:
        found.update(*reached)
    return found


def _entries(quantize: OperatorStep, readers: Mapping[Local, Sequence[OperatorStep]]) -> tuple[OperatorStep, ...]:
    """The `to_stage` statements that send all results of a quantizer to the same stage.

    Empty if a result has another use.
    """
    found = [readers.get(local, []) for local in quantize.results]
    if any(len(entries) != 1 or local.uses != 1 for local, entries in zip(quantize.results, found)):
        return ()
    stages = {entered_stage(node.op) for (entry,) in found for node in entry.nodes}
    return tuple(entry for (entry,) in found) if len(stages) == 1 and None not in stages else ()
