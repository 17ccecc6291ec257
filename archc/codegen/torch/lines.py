"""Linear layers on integers, called as one: `fixed_line(x, self.hidden_in, self.hidden, relu=True)`.

A layer on integers in PyTorch is some ten operators, each of a microsecond, and what stands around them costs as much
again: calls of modules, and checks whether a weight has changed.  At one row the layers of a perceptron of width 384
took 42 microseconds each, where floats take 29.  As a line they take 23.  A layer alone gains, too: a network with
`tanh` between such layers of width 512 became 1.2 times as fast as floats, and was 0.9 times as fast.

A line is a rounding, a layer, perhaps a `relu`, a rounding, a layer and so on.  Loops that are nothing else are part
of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from archc.codegen.program import Apply, Local, Loop, Statement


@dataclass(frozen=True)
class Part:
    """A rounding and a layer, or as many as a loop has.

    Attributes:
        statements: those that it is, first to last.
        rounding, layer: the members of the two, or the lists of them; where the range is not fixed, the rounding is "".
        operand, result: what it receives and gives.
        count: how many layers; relu: a `relu` follows each of them.
    """

    statements: tuple[Statement, ...]
    rounding: str
    layer: str
    operand: Local
    result: Local
    count: int
    relu: bool


@dataclass(frozen=True)
class Line:
    """Parts of which each receives what the one before gives.

    Attributes:
        relu: a `relu` stands between every two layers; it may follow the last one as well.
    """

    parts: tuple[Part, ...]
    relu: bool

    @property
    def statements(self) -> tuple[Statement, ...]:
        return tuple(statement for part in self.parts for statement in part.statements)

    @property
    def result(self) -> Local:
        return self.parts[-1].result

    @property
    def fixed(self) -> bool:
        return bool(self.parts[0].rounding)

    def spell(self, operand: str, access: Callable[[str], str]) -> str:
        """The call; `access` gives the expression of a member."""
        members = [[part.layer for part in self.parts]]
        if self.fixed:
            members.insert(0, [part.rounding for part in self.parts])
        lists = [self._list([access(name) for name in names]) for names in members]
        relu = ["relu=True"] if self.relu else []
        text = f"{'fixed_line' if self.fixed else 'ranged_line'}({', '.join([operand, *lists, *relu])})"
        return f"F.relu({text})" if self.parts[-1].relu else text

    def _list(self, texts: Sequence[str]) -> str:
        if len(texts) == 1 and isinstance(self.parts[0].statements[0], Loop):
            return texts[0]
        starred = ["*" * isinstance(part.statements[0], Loop) + text for part, text in zip(self.parts, texts)]
        return f"[{', '.join(starred)}]"


@dataclass(frozen=True)
class Lines:
    """Finds lines.

    Attributes:
        rounding: for a statement that makes integers of numbers, the member that does it, or "" where that is a
            function; None for others.
        linear: whether a statement is a linear layer that takes integers.
    """

    rounding: Callable[[Apply], str | None]
    linear: Callable[[Apply], bool]

    def at(self, body: Sequence[Statement], position: int) -> Line | None:
        """The line that begins with a statement."""
        parts: list[Part] = []
        while position < len(body):
            part = self._loop(body[position]) or self._single(body, position)
            if part is None or (parts and not _follows(part, parts)):
                break
            parts.append(part)
            position += len(part.statements)
        if parts and parts[-1].relu and parts[-1].count == 1:
            parts[-1] = _bare(parts[-1])
        return Line(tuple(parts), parts[0].relu) if parts else None

    def _single(self, body: Sequence[Statement], position: int) -> Part | None:
        """A rounding, a layer and, where one follows, a `relu`."""
        found = body[position : position + 3]
        if len(found) < 2 or not isinstance(found[0], Apply) or not isinstance(found[1], Apply):
            return None
        rounding, layer = found[0], found[1]
        name = self.rounding(rounding)
        if name is None or not self.linear(layer) or layer.member is None or layer.member.shared:
            return None
        if layer.operands != rounding.results or rounding.results[0].uses != 1:
            return None
        operand, result = rounding.operands[0], layer.results[0]
        relu = found[-1] if isinstance(found[-1], Apply) else layer
        if relu.nodes[0].op.rectifies and relu.operands == (result,) and result.uses == 1:
            return Part((rounding, layer, relu), name, layer.member.name, operand, relu.results[0], 1, True)
        return Part((rounding, layer), name, layer.member.name, operand, result, 1, False)

    def _loop(self, loop: Statement) -> Part | None:
        """A loop whose iterations are such a part each."""
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
            if (part.operand,) != loop.parameters[number] or (part.result,) != loop.yields[number]:
                return None
            if part.layer != f"{layers}.{number}" or part.rounding != (roundings and f"{roundings}.{number}"):
                return None
        return Part((loop,), roundings, layers, loop.carried[0], loop.results[0], loop.count, first.relu)


def _follows(part: Part, parts: Sequence[Part]) -> bool:
    """Whether a part continues a line of others."""
    before = parts[-1]
    alike = bool(part.rounding) == bool(before.rounding) and before.relu == parts[0].relu
    # Two layers of a loop have the same between them as those before it.
    alike &= part.count == 1 or part.relu == parts[0].relu
    return alike and part.operand is before.result and before.result.uses == 1


def _bare(part: Part) -> Part:
    """A part without the `relu` at its end, which is a step of its own."""
    layer = part.statements[1]
    assert isinstance(layer, Apply)
    return Part(part.statements[:2], part.rounding, part.layer, part.operand, layer.results[0], 1, False)
