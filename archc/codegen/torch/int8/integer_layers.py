"""Layers that compute in integers.

`quantize`, `dequantize` and a layer with an int8 weight compute what the layer would compute on the decoded numbers.
Where the three stand together in a program, the layer takes the integers as they are: `self.fc1(self.fc1_q(x))`.
They may enter another stage in between.  The classes for it are emitted with the module; their kernels ship with torch.
Every other layer with an int8 weight decodes it, and keeps the result.

Where what a layer makes is rounded next, after no more than clipping, pooling or flattening it, its kernel makes
integers itself: `self.conv1(self.conv1_in(image), self.conv2_in, relu=True)`.  Linear layers one after the other are
called as one, and so are those alone, and convolutions before them: `archc.codegen.torch.int8.lines`.

Which operators have such a form, and which, they say themselves: `Operator.torch_integers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from archc.codegen.outline.program import Apply, Local, Loop, Program, Recurrence, Statement
from archc.codegen.torch.int8.lines import Line, Lines
from archc.codegen.torch.layer_classes import owns, spelling
from archc.ir.graph import Graph, Node
from archc.operator.spelling import TorchModule, atom


@dataclass(frozen=True)
class OutputQuantizer:
    """What rounds the result of a layer: a statement, for whose module the layer's kernel makes integers.

    Attributes:
        relu: the result is clipped at zero before.
    """

    quantize: Apply
    relu: bool


@dataclass
class IntegerLayers:
    """How statements are spelled that work on integers.

    Attributes:
        modules: the constructor for each node of a statement.
        functions: the expression, given those of the operands, where no module is needed.
        quantizers: the statements that make integers.
        output_quantizers: for layers whose kernels make integers, where these go.
        absorbed: the statements that such kernels do as well: their results are what they receive.
        lines: those that begin a line of layers.
    """

    modules: dict[Apply, Callable[[Node], TorchModule]] = field(default_factory=dict)
    functions: dict[Apply, Callable[[Sequence[str]], str]] = field(default_factory=dict)
    quantizers: set[Statement] = field(default_factory=set)
    output_quantizers: dict[Statement, OutputQuantizer] = field(default_factory=dict)
    absorbed: set[Statement] = field(default_factory=set)
    lines: dict[Statement, Line] = field(default_factory=dict)


def find_integer_layers(program: Program, graph: Graph) -> IntegerLayers:
    """Let layers take integers where they can; changes the program in place.

    The three results of a `quantize` become one tensor's worth of a tuple.
    """
    search = _Search(graph, IntegerLayers())
    search.exclude_mixed(program)
    for definition in program.definitions:
        definition.body = search.body(definition.body)
    return search.found


@dataclass(frozen=True)
class _Search:
    """Looks through the statements of definitions.

    Attributes:
        found: what it has found so far.
        excluded: the weights of shared layers of which some uses cannot work on integers: a module has one form.
    """

    graph: Graph
    found: IntegerLayers
    excluded: set[tuple[str, ...]] = field(default_factory=set)

    def exclude_mixed(self, program: Program) -> None:
        """Find the shared layers of which some uses could work on integers, and others could not."""
        bodies = [(body, _readers(body)) for body in _bodies(program)]
        applied = [(one, readers) for body, readers in bodies for one in body if isinstance(one, Apply)]
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
        """The statements that are needed still."""
        for statement in body:
            if isinstance(statement, (Loop, Recurrence)):
                statement.bodies = tuple(map(self.body, statement.bodies))
        applied = [statement for statement in body if isinstance(statement, Apply)]
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

    def _rounding(self, statement: Apply) -> str | None:
        """The member that makes integers of numbers, "" for a function that does, or None."""
        if statement not in self.found.quantizers:
            return None
        if statement not in self.found.modules or statement.member is None:
            return ""
        known = all(self._needed_module(node).function == "Quantize" for node in statement.nodes)
        return statement.member.name if known else None

    def _layer(self, statement: Apply) -> str | None:
        """The class of a layer that takes integers, for other statements None."""
        if statement not in self.found.modules or statement in self.found.quantizers:
            return None
        kinds = {self._needed_module(node).function for node in statement.nodes}
        return kinds.pop() if len(kinds) == 1 else None

    def _moves(self, statement: Apply) -> bool:
        """Whether a statement only moves elements, of integers as well as of numbers."""
        first = statement.nodes[0]
        if (
            statement in self.found.quantizers
            or first.op.is_relu
            or any(node.op != first.op for node in statement.nodes)
        ):
            return False
        return isinstance(self._form(first), str)

    def _take_integers(self, quantize: Apply, readers: dict[Local, list[Apply]]) -> list[Apply]:
        """Rewrite what follows a statement that makes integers; returns the decoders that are not needed any more."""
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
        self, quantize: Apply, readers: Mapping[Local, Sequence[Apply]]
    ) -> tuple[Sequence[Apply], Sequence[Apply]] | None:
        """The statements by which all results of one enter a stage, and those that decode them.

        None where the statement has no form for integers, or something else reads a result.
        """
        entries = _entries(quantize, readers)
        parts = tuple(entry.results[0] for entry in entries) or quantize.results
        decoders = readers.get(parts[0], []) if parts else []
        if not decoders or any(not decoder.nodes[0].op.decodes or decoder.operands != parts for decoder in decoders):
            return None
        if any(local.uses != len(decoders) for local in parts) or not self.excluded.isdisjoint(_weights(quantize)):
            return None
        has_form = all(map(self._module, quantize.nodes)) or all(map(self._form, quantize.nodes))
        return (entries, decoders) if has_form else None

    def _takes_integers(self, layer: Apply, decoder: Apply) -> bool:
        """Return whether a layer that reads decoded numbers can read the integers instead."""
        # Another quantizer takes numbers: it has several results, which a layer for integers has not.
        return (
            layer.operands == decoder.results
            and len(layer.results) == 1
            and self.excluded.isdisjoint(_weights(layer))
            and all(map(self._module, layer.nodes))
        )

    def _round_in_kernel(self, quantize: Apply, makers: dict[Local, Apply]) -> None:
        """Let the layer whose result is rounded give integers, if only such steps lie between as integers can take."""
        between: list[Apply] = []
        local = quantize.operands[0]
        while local.uses == 1 and local in makers:
            maker = makers[local]
            if maker in self.found.modules and maker not in self.found.output_quantizers:
                clips = [step for step in between if step.nodes[0].op.is_relu]
                self.found.output_quantizers[maker] = OutputQuantizer(quantize, relu=bool(clips))
                self.found.absorbed.update(clips, [quantize])
                self.found.functions |= {step: self._function(step) for step in between if step not in clips}
                return
            op = maker.nodes[0].op
            carried = op.is_relu or isinstance(self._form(maker.nodes[0]), str)
            if not carried or any(node.op != op for node in maker.nodes):
                return
            between.append(maker)
            local = maker.operands[0]

    def _form(self, node: Node, operands: Sequence[str] = ()) -> TorchModule | str | None:
        """How a node works on integers; only a layer with weights of its own may."""
        if not all(owns(node, name) for name in node.weights):
            return None
        operands = operands or ("",) * len(node.operands)
        return node.op.torch_integers(spelling(node, self.graph, operands, dict.fromkeys(node.weights, "")))

    def _module(self, node: Node) -> TorchModule | None:
        form = self._form(node)
        return form if isinstance(form, TorchModule) else None

    def _needed_module(self, node: Node) -> TorchModule:
        module = self._module(node)
        assert module is not None, "it was asked for before"
        return module

    def _function(self, statement: Apply) -> Callable[[Sequence[str]], str]:
        """The spelling of a step that takes integers, or makes them, without a module."""
        return lambda texts: str(self._form(statement.nodes[0], texts))


def _bodies(program: Program) -> Iterator[Sequence[Statement]]:
    """All lists of statements of a program, those of loops and recurrences included."""
    waiting: list[Sequence[Statement]] = [definition.body for definition in program.definitions]
    while waiting:
        body = waiting.pop()
        yield body
        waiting += [inner for one in body if isinstance(one, (Loop, Recurrence)) for inner in one.bodies]


def _readers(body: Sequence[Statement]) -> dict[Local, list[Apply]]:
    """The statements of a body that read each local."""
    readers: dict[Local, list[Apply]] = {}
    for statement in body:
        if isinstance(statement, Apply):
            for local in dict.fromkeys(statement.operands):
                readers.setdefault(local, []).append(statement)
    return readers


def _quantizes(statement: Apply) -> bool:
    """Return whether a statement may be a quantizer: it has several results, and no layer that takes integers has."""
    return len(statement.results) > 1


def _weights(statement: Apply) -> set[tuple[str, ...]]:
    """The weights of each node of a statement: those of a layer name it."""
    return {tuple(node.weights.values()) for node in statement.nodes if node.weights}


def _mixed(uses: Iterable[tuple[set[tuple[str, ...]], bool]]) -> set[tuple[str, ...]]:
    """The layers of which one use cannot work on integers; a statement that stands for several is one use of each."""
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


def _entries(quantize: Apply, readers: Mapping[Local, Sequence[Apply]]) -> tuple[Apply, ...]:
    """The statements by which all results of one enter the same stage, if nobody else reads them; else none."""
    found = [readers.get(local, []) for local in quantize.results]
    if any(len(entries) != 1 or local.uses != 1 for local, entries in zip(quantize.results, found)):
        return ()
    stages = {node.op.enters_stage() for (entry,) in found for node in entry.nodes}
    return tuple(entry for (entry,) in found) if len(stages) == 1 and None not in stages else ()
