"""Selection of layers that compute in int8.

A layer computes in int8 if its weight is int8 and its operand comes from `quantize` and `dequantize`.  The emitted
layer takes the quantized operand directly: `self.fc1(self.fc1_q(x))`.  A `to_stage` between the quantizer and the layer
sends the quantized operand to a later stage of a pipeline.  The class of the layer is in `archc.runtime.int8`.  Every
other layer with an int8 weight decodes the weight and caches the decoded weight.

If the result of a layer is quantized next, the layer's kernel quantizes it:
`self.conv1(self.conv1_in(image), self.conv2_in, relu=True)`.  A `relu`, pooling or flattening may be between the layer
and the quantizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from archc.codegen.outline.definitions import Local, Loop, OperatorStep, Outline, Recurrence, Statement
from archc.codegen.torch.int8.integer_forms import IntegerForms
from archc.declaration.spelling import TorchModule, atom
from archc.declaration.traits import DECODES, RELU
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Graph
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
        modules: for statements that become modules, the module of each node.
        functions: for other statements, a function from the expressions of operands to the statement's expression.
        quantizers: the statements that quantize.
        output_quantizers: the quantization of a layer's result, for each layer that quantizes its result in its kernel.
        absorbed: the `quantize` and `relu` statements that the kernel of an earlier layer computes.  The emitted code
            has no line for such a statement; its result is the result of the layer.
    """

    modules: dict[OperatorStep, list[TorchModule]] = field(default_factory=dict)
    functions: dict[OperatorStep, Callable[[Sequence[str]], str]] = field(default_factory=dict)
    quantizers: set[Statement] = field(default_factory=set)
    output_quantizers: dict[Statement, OutputQuantizer] = field(default_factory=dict)
    absorbed: set[Statement] = field(default_factory=set)

    def computes(self, statement: OperatorStep) -> bool:
        """Return whether a statement is computed on integers, or in the kernel of a layer."""
        return statement in self.modules or statement in self.functions or statement in self.absorbed


def find_integer_layers(outline: Outline, graph: Graph) -> IntegerLayers:
    """Find the layers that can compute on integers, and change the outline in place.

    Their `dequantize` statements are removed, and the three results of a `quantize` become one local.
    """
    search = _Search(IntegerForms(graph), IntegerLayers())
    search.exclude_mixed(outline)
    for definition in outline.definitions:
        definition.body = search.body(definition.body)
    return search.found


Readers = Mapping[Local, Sequence[OperatorStep]]
"""The operator statements of a body that use each local."""
Layers = set[tuple[str, ...]]
"""A set of layers; the paths of the weights of a layer identify it.

A statement has several layers if its definition has several instances.
"""


@frozen_dataclass
class _QuantizedOperand:
    """A quantizer whose results are used only by `dequantize` statements, possibly in a later stage.

    Attributes:
        transfers: the `to_stage` statements of the three results; empty if the decoders are in the same stage.
        decoders: the `dequantize` statements.
    """

    quantize: OperatorStep
    transfers: Sequence[OperatorStep]
    decoders: Sequence[OperatorStep]


@frozen_dataclass
class _Search:
    """Search in the statements of definitions.

    Attributes:
        found: the layers found so far.
        excluded: the layers with a use that cannot compute on integers.  All uses of such a layer call one module, so
            the other uses cannot compute on integers either.
    """

    forms: IntegerForms
    found: IntegerLayers
    excluded: Layers = field(default_factory=set)

    def exclude_mixed(self, outline: Outline) -> None:
        """Exclude shared quantizers and layers that could compute on integers in some uses only."""
        bodies = [(_steps(body), _readers(body)) for body in _bodies(outline)]
        steps = [(step, readers) for body, readers in bodies for step in body]
        quantizers = [(step, readers) for step, readers in steps if len(step.results) > 1]
        fit = {step for step, readers in quantizers if self._operand(step, readers) is not None}
        self.excluded.update(_mixed((_layers(step), step in fit) for step, _ in quantizers))
        # The layers after an excluded quantizer compute in floats.
        operands = [(self._operand(step, readers), readers) for step, readers in quantizers]
        decoders = [(each, readers) for operand, readers in operands if operand for each in operand.decoders]
        fit = {layer for decoder, readers in decoders for layer in self._integer_layers(decoder, readers)}
        self.excluded.update(_mixed((_layers(step), step in fit) for step, _ in steps if len(step.results) == 1))

    def body(self, body: Sequence[Statement]) -> tuple[Statement, ...]:
        """Rewrite a body, and return the statements that remain."""
        for statement in body:
            if isinstance(statement, (Loop, Recurrence)):
                statement.bodies = tuple(map(self.body, statement.bodies))
        steps, readers = _steps(body), _readers(body)
        operands = [operand for step in steps if (operand := self._operand(step, readers)) is not None]
        dropped = {statement for operand in operands for statement in self._use_integers(operand, readers)}
        producers = {local: step for step in steps for local in step.results}
        for operand in operands:
            if operand.quantize in self.found.modules:
                self._quantize_in_kernel(operand.quantize, producers)
        return tuple(statement for statement in body if statement not in dropped)

    def _operand(self, step: OperatorStep, readers: Readers) -> _QuantizedOperand | None:
        """The quantized operand that a `quantize` statement computes, with the statements that decode it.

        None for any other statement, for a quantizer that is excluded or has no integer form, and for a quantizer with
        a result that has a use other than `dequantize`.
        """
        transfers = _transfers(step, readers)
        parts = tuple(transfer.results[0] for transfer in transfers) or step.results
        decoders = readers.get(parts[0], []) if parts else []
        if not decoders or any(not each.nodes[0].op.has(DECODES) or each.operands != parts for each in decoders):
            return None
        if any(part.uses != len(decoders) for part in parts) or self._is_excluded(step):
            return None
        has_form = self.forms.modules(step) is not None or self.forms.has_expression(step)
        return _QuantizedOperand(step, transfers, decoders) if has_form else None

    def _integer_layers(self, decoder: OperatorStep, readers: Readers) -> list[OperatorStep]:
        """The layers that can take the integers instead of a decoder's result."""
        # Another quantizer may read the result, too.  It has several results; a layer has one.
        return [
            step
            for step in readers.get(decoder.results[0], [])
            if step.operands == decoder.results
            and len(step.results) == 1
            and not self._is_excluded(step)
            and self.forms.modules(step) is not None
        ]

    def _is_excluded(self, step: OperatorStep) -> bool:
        return not self.excluded.isdisjoint(_layers(step))

    # Rewriting ----------------------------------------------------------------------------------------------

    def _use_integers(self, operand: _QuantizedOperand, readers: Readers) -> list[OperatorStep]:
        """Let layers use the integers of a quantizer; return the statements that are no longer needed."""
        quantize, transfers = operand.quantize, operand.transfers
        self.found.quantizers.add(quantize)
        self._set_form(quantize)
        integers = _with_one_result(quantize)
        if transfers:
            transfers[0].operands = (integers,)
            integers.uses = 1
            integers = _with_one_result(transfers[0])
        dropped = [*transfers[1:]]
        for decoder in operand.decoders:
            layers = self._integer_layers(decoder, readers)
            for layer in layers:
                layer.operands = (integers,)
                self._set_form(layer)
            decoder.operands = (integers,)
            decoder.results[0].uses -= len(layers)
            integers.uses += len(layers)
            if decoder.results[0].uses:
                self.found.functions[decoder] = lambda texts: f"{atom(texts[0])}.decoded()"
                integers.uses += 1
            else:
                dropped.append(decoder)
        return dropped

    def _set_form(self, step: OperatorStep) -> None:
        """Emit a statement as its integer module or expression."""
        modules = self.forms.modules(step)
        if modules is not None:
            self.found.modules[step] = modules
        else:
            self.found.functions[step] = lambda texts: self.forms.expression(step, texts)

    def _quantize_in_kernel(self, quantize: OperatorStep, producers: Mapping[Local, OperatorStep]) -> None:
        """Quantize in the kernel of the producing layer, if the steps up to the quantizer accept integers."""
        between: list[OperatorStep] = []
        local = quantize.operands[0]
        while local.uses == 1 and local in producers:
            step = producers[local]
            if step in self.found.modules:
                clips = [step for step in between if _is_relu(step)]
                self.found.output_quantizers[step] = OutputQuantizer(quantize, relu=bool(clips))
                self.found.absorbed.update(clips, [quantize])
                for moved in between:
                    if moved not in clips:
                        self._set_form(moved)
                return
            if not (_is_relu(step) or self.forms.has_expression(step)):
                return
            between.append(step)
            local = step.operands[0]


def _with_one_result(step: OperatorStep) -> Local:
    """Replace the results of a statement by one, with the type and the name of the first."""
    (result,) = step.results = (Local(step.results[0].type, step.results[0].name),)
    return result


def _is_relu(step: OperatorStep) -> bool:
    return step.nodes[0].op.has(RELU)


def _bodies(outline: Outline) -> Iterator[Sequence[Statement]]:
    """Yield all bodies of an outline, including the bodies of loops and scans."""
    waiting: list[Sequence[Statement]] = [definition.body for definition in outline.definitions]
    while waiting:
        body = waiting.pop()
        yield body
        waiting += [inner for one in body if isinstance(one, (Loop, Recurrence)) for inner in one.bodies]


def _steps(body: Sequence[Statement]) -> list[OperatorStep]:
    return [statement for statement in body if isinstance(statement, OperatorStep)]


def _readers(body: Sequence[Statement]) -> Readers:
    readers: dict[Local, list[OperatorStep]] = {}
    for step in _steps(body):
        for local in dict.fromkeys(step.operands):
            readers.setdefault(local, []).append(step)
    return readers


def _layers(step: OperatorStep) -> Layers:
    return {tuple(node.weights.values()) for node in step.nodes if node.weights}


def _mixed(uses: Iterable[tuple[Layers, bool]]) -> Layers:
    """The layers with a use that cannot compute on integers, and layers that share a statement with them.

    A statement in a block or a loop has one layer for each instance of the block, or iteration of the loop.

    Args:
        uses: for each statement, its layers, and whether the statement can compute on integers.
    """
    fit: list[Layers] = []
    found: Layers = set()
    for layers, fits in uses:
        if fits:
            fit.append(layers)
        else:
            found |= layers
    while reached := [layers for layers in fit if layers & found and not layers <= found]:
        found.update(*reached)
    return found


def _transfers(step: OperatorStep, readers: Readers) -> tuple[OperatorStep, ...]:
    """The `to_stage` statements that send all results of a quantizer to the same stage.

    Empty if a result has another use.
    """
    found = [readers.get(local, []) for local in step.results]
    if any(len(transfers) != 1 or local.uses != 1 for local, transfers in zip(step.results, found)):
        return ()
    stages = {entered_stage(node.op) for (transfer,) in found for node in transfer.nodes}
    return tuple(transfer for (transfer,) in found) if len(stages) == 1 and None not in stages else ()
