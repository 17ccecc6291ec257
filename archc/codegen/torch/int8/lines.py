"""Lines: sequences of int8 layers that run in one call, such as `fixed_line(x, self.a_in, self.a)`.

In PyTorch, an int8 layer consists of about ten operators of a microsecond each.  Calling the modules and checking the
weights for changes takes another ten microseconds.  A line runs its layers without these calls and checks.  Measured
times, for operands of one row:

| | int8 modules | floating point | int8 line |
|---|---|---|---|
| a layer of a perceptron of width 384 | 42 us | 29 us | 23 us |
| the digit classifier (two convolutions, two linear layers), for an image | 210 us | 167 us | 155 us |

If a `tanh` separates layers of width 512, each layer is a line of its own.  Such a line is 1.2 times as fast as
floating point; int8 modules are 0.9 times as fast as floating point.

A line repeats this sequence: a quantizer, a layer, optionally a `relu`, optionally pooling and flattening.  A loop can
be part of a line if each iteration is a quantizer, a linear layer and optionally a `relu`.  A line with convolutions
ends in a linear layer.  A sequence that ends in a convolution is not a line: the kernel of its last convolution can
quantize the result itself, which saves more time than a line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from archc.codegen.outline.definitions import Local, Loop, OperatorStep, Statement
from archc.declaration.traits import RELU
from archc.frozen_dataclass import frozen_dataclass


@frozen_dataclass
class Part:
    """A quantizer and a layer, or a loop of them.

    Attributes:
        statements: the statements of the part, in order.
        rounding, layer: the names of the members that hold the quantizer and the layer.  For a loop, these members are
            lists.  With dynamic ranges, `rounding` is "".
        operand, result: the tensors that the part takes and returns.
        count: the number of layers.
        relu: a `relu` follows each layer.
        linear: the layers are linear.
        before, after: the statements that only move elements, before and after the layer.
    """

    statements: tuple[Statement, ...]
    rounding: str
    layer: str
    operand: Local
    result: Local
    count: int
    relu: bool
    linear: bool = True
    before: tuple[OperatorStep, ...] = ()
    after: tuple[OperatorStep, ...] = ()

    @property
    def bare(self) -> Part:
        """The part without the statements after its layer."""
        if self.count > 1 or not (self.relu or self.after):
            return self
        end = (
            next(k for k, step in enumerate(self.statements) if isinstance(step, OperatorStep) and self._is_layer(step))
            + 1
        )
        (result,) = self.statements[end - 1].results
        return replace(self, statements=self.statements[:end], result=result, relu=False, after=())

    def _is_layer(self, step: OperatorStep) -> bool:
        return step.member is not None and step.member.name == self.layer


@frozen_dataclass
class LayerLine:
    """A sequence of parts; the operand of each part is the result of the previous part."""

    parts: tuple[Part, ...]

    @property
    def statements(self) -> tuple[Statement, ...]:
        """The statements of all parts, in order."""
        return tuple(statement for part in self.parts for statement in part.statements)

    @property
    def moves(self) -> tuple[OperatorStep, ...]:
        """The statements that move elements between the layers."""
        return tuple(step for part in self.parts for step in (*part.before, *part.after))

    @property
    def result(self) -> Local:
        """The result of the last part."""
        return self.parts[-1].result

    @property
    def fixed(self) -> bool:
        """Return whether the quantization ranges are constants."""
        return bool(self.parts[0].rounding)

    def spell(
        self,
        operand: str,
        access: Callable[[str], str],
        elements: Callable[[str, int], str],
        move: Callable[[OperatorStep, str], str],
    ) -> str:
        """The expression that calls the line.

        Args:
            operand: the expression of the operand.
            access: returns the expression of the member at a path.
            elements: returns the iterable over the first n elements of a list, from the list's path and n.
            move: has two parameters, a statement that only moves elements and the text of its operand, and returns the
                statement's expression.
        """
        members = [[part.layer for part in self.parts]]
        if self.fixed:
            members.insert(0, [part.rounding for part in self.parts])
        relus = [part.relu for part in self.parts for _ in range(part.count)][:-1]
        options = [f"relu={all(relus) or relus}"] if any(relus) else []
        moves = self._moves(move)
        if any(text != "None" for text in moves):
            options.append(f"moves=[{', '.join(moves)}]")
        lists = [self._list(names, access, elements) for names in members]
        text = f"{'fixed_line' if self.fixed else 'ranged_line'}({', '.join([operand, *lists, *options])})"
        return f"F.relu({text})" if self.parts[-1].relu else text

    def _moves(self, move: Callable[[OperatorStep, str], str]) -> list[str]:
        """The functions that move elements after each layer, as texts; "None" for layers without one."""
        texts: list[str] = []
        for part, following in zip(self.parts, (*self.parts[1:], None)):
            text = "x"
            for step in (*part.after, *(following.before if following else ())):
                text = move(step, text)
            texts += ["None"] * (part.count - 1) + ["None" if text == "x" else f"lambda x: {text}"]
        return texts

    def _list(self, names: Sequence[str], access: Callable[[str], str], elements: Callable[[str, int], str]) -> str:
        texts = []
        for part, name in zip(self.parts, names):
            if not isinstance(part.statements[0], Loop):
                texts.append(access(name))
            elif len(names) == 1:
                return elements(name, part.count)
            else:
                texts.append(f"*{elements(name, part.count)}")
        return f"[{', '.join(texts)}]"


@frozen_dataclass
class Lines:
    """Search for lines.

    Attributes:
        rounding: returns the module of a quantizer, "" for the function `quantize`, None for other statements.
        layer: returns the class of a layer that computes on integers, None for other statements.
        moves: returns whether a statement only moves elements, so that it works on integers as well.
    """

    rounding: Callable[[OperatorStep], str | None]
    layer: Callable[[OperatorStep], str | None]
    moves: Callable[[OperatorStep], bool]

    def at(self, body: Sequence[Statement], position: int) -> LayerLine | None:
        """The line that begins at a position of a body; None if no line begins there."""
        parts: list[Part] = []
        while position < len(body):
            part = self._loop(body[position]) or self._single(body, position)
            if part is None or (parts and not _follows(part, parts)) or (not parts and part.before):
                break
            parts.append(part)
            position += len(part.statements)
        while parts and not parts[-1].linear:
            parts.pop()
        if not parts:
            return None
        parts[-1] = parts[-1].bare
        return LayerLine(tuple(parts)) if _is_flat(parts) else None

    def _single(self, body: Sequence[Statement], position: int) -> Part | None:
        """The part that begins at a position: a quantizer, a layer, and a following `relu` and pooling."""
        rounding = body[position]
        name = self.rounding(rounding) if isinstance(rounding, OperatorStep) else None
        if not isinstance(rounding, OperatorStep) or name is None:
            return None
        before = self._chain(body, position + 1, rounding.results[0], self.moves)
        position += 1 + len(before)
        given = before[-1].results[0] if before else rounding.results[0]
        layer = body[position] if position < len(body) else None
        kind = self.layer(layer) if isinstance(layer, OperatorStep) else None
        if not isinstance(layer, OperatorStep) or kind is None or layer.member is None or layer.member.shared:
            return None
        if layer.operands != (given,) or given.uses != 1:
            return None
        later = self._chain(body, position + 1, layer.results[0], lambda step: _rectifies(step) or self.moves(step))
        steps = (rounding, *before, layer, *later)
        return Part(
            steps,
            name,
            layer.member.name,
            rounding.operands[0],
            steps[-1].results[0],
            count=1,
            relu=any(map(_rectifies, later)),
            linear=kind == "Int8Linear",
            before=before,
            after=tuple(step for step in later if not _rectifies(step)),
        )

    def _chain(
        self, body: Sequence[Statement], position: int, local: Local, wanted: Callable[[OperatorStep], bool]
    ) -> tuple[OperatorStep, ...]:
        """The wanted statements from a position on, each the only consumer of the result before it.

        The first statement is the only consumer of `local`.
        """
        found: list[OperatorStep] = []
        for step in body[position:]:
            if not isinstance(step, OperatorStep) or step.operands != (local,) or local.uses != 1 or not wanted(step):
                break
            found.append(step)
            local = step.results[0]
        return tuple(found)

    def _loop(self, loop: Statement) -> Part | None:
        """The part of a loop whose iterations are one part each."""
        if not isinstance(loop, Loop) or loop.first or len(loop.carried) != 1 or set(loop.counts) != {loop.count}:
            return None
        parts = [self._single(iteration, 0) for iteration in loop.iterations]
        first = parts[0]
        if first is None or not first.layer.endswith(".0"):
            return None
        layers, roundings = (name.removesuffix(".0") for name in (first.layer, first.rounding))
        for number, (part, iteration) in enumerate(zip(parts, loop.iterations)):
            if part is None or part.statements != iteration or part.operand.uses != 1 or part.relu != first.relu:
                return None
            if part.before or part.after or not part.linear:
                return None
            if (part.operand,) != loop.parameters[number] or (part.result,) != loop.yields[number]:
                return None
            if part.layer != f"{layers}.{number}" or part.rounding != (roundings and f"{roundings}.{number}"):
                return None
        return Part((loop,), roundings, layers, loop.carried[0], loop.results[0], loop.count, first.relu)


def _rectifies(step: OperatorStep) -> bool:
    return step.nodes[0].op.has(RELU)


def _follows(part: Part, parts: Sequence[Part]) -> bool:
    """Return whether a part continues a line of other parts."""
    before = parts[-1]
    alike = bool(part.rounding) == bool(before.rounding)
    # With dynamic ranges, only layers and `relu` can be in a line.
    alike &= bool(part.rounding) or not (before.after or part.before)
    return alike and part.operand is before.result and before.result.uses == 1


def _is_flat(parts: Sequence[Part]) -> bool:
    """Return whether a line has linear layers alone, or all its linear layers have operands of rank 2.

    In a line with convolutions or moves of elements, the operand of a linear layer must have one row for each sample.
    """
    plain = all(part.linear and not (part.before or part.after) for part in parts)
    return plain or all(not part.linear or _operand(part).type.rank == 2 for part in parts)


def _operand(part: Part) -> Local:
    """The operand of a part's layer."""
    return part.before[-1].results[0] if part.before else part.operand
