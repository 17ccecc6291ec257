"""The body of a function, step by step, and which steps stand within others.

Values that nobody named and that one step alone reads are nested into that step, as far as a reader likes it and
without changing the order of execution.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from archc.codegen.outline.program import Local
from archc.codegen.torch.formatting import WIDTH
from archc.codegen.torch.merge import placeholders
from archc.operator.spelling import Infix, call, method

_CALLS = 3  # as many calls stand in one another
_LEVELS = 4  # the same, operators counted too
_ROOM = WIDTH - len("        features = ")


@dataclass(eq=False)
class Step:
    """An operator or a block at work.

    Attributes:
        operands, results: the tensors that it reads and makes.
        spell: its expression, given those of the operands.
        layer: it has state of its own; such a step rather begins a line than stands within one.
        names: what unnamed results may be called: one name, or one for each result.
        light: it makes integers out of numbers: nothing that a reader counts as a call, and no tensor.
        unpack: how several results are nested, as `{}, ({}, {})`; empty for a plain tuple.
    """

    operands: tuple[Local, ...]
    results: tuple[Local, ...]
    spell: Callable[[Sequence[str]], str]
    layer: bool = False
    names: tuple[str, ...] = ("x",)
    light: bool = False
    unpack: str = ""


@dataclass(eq=False)
class ScanSteps:
    """What a loop goes through that is the steps of a scan.

    Attributes:
        sequences, items: the tensors that it goes through along their second axis, and what they are in a step.
        kept, lists: what is kept of each step, and the lists that it is put into.
        names: what is kept had better be called so in a step.
    """

    sequences: tuple[Local, ...]
    items: tuple[Local, ...]
    kept: tuple[Local, ...]
    lists: tuple[Local, ...]
    names: tuple[str, ...]

    def header(self, sequences: Sequence[str], items: Sequence[str]) -> tuple[str, str]:
        """`x_t, m_t` and `zip(x.unbind(1), m.unbind(1))`: the targets and the iterable of the loop."""
        unbound = [method(name, "unbind", 1) for name in sequences]
        return ", ".join(items), unbound[0] if len(unbound) == 1 else call("zip", *unbound)


@dataclass(eq=False)
class Repeat:
    """A loop.

    Attributes:
        targets, iterable: `block` and `self.h`, of `for block in self.h`; empty for the steps of a scan.
        body: the steps of one iteration.
        carried, parameters, yields, results: what enters the loop, what it is called within, what an iteration hands
            on, and what it is called afterwards.  What stays the same in all iterations is not among them.
        steps: what it goes through, where that is tensors.
    """

    targets: str
    iterable: str
    body: list[Step | Repeat]
    carried: tuple[Local, ...]
    parameters: tuple[Local, ...]
    yields: tuple[Local, ...]
    results: tuple[Local, ...]
    steps: ScanSteps | None = None

    def invariants(self) -> dict[Local, None]:
        """What it reads of the tensors around it, in every iteration anew."""
        made = set(self.parameters if self.steps is None else (*self.parameters, *self.steps.items))
        found: dict[Local, None] = {}
        for item in self.body:
            found |= {local: None for local in reads(item) if local not in made}
            made.update(item.results)
        kept = self.steps.kept if self.steps is not None else ()
        return found | {local: None for local in (*self.yields, *kept) if local not in made}


def reads(item: Step | Repeat) -> Iterable[Local]:
    """The tensors around it that a step or a loop reads."""
    if isinstance(item, Step):
        return item.operands
    return (*item.carried, *(item.steps.sequences if item.steps is not None else ()), *item.invariants())


@dataclass(eq=False)
class ExpressionTree:
    """A step with the steps that are nested into it.

    Attributes:
        guesses: what its operands will look like, about; estimate: its text with them.
        calls, levels: how many calls, and how many steps, stand in one another.
        has_layer: a layer is among the steps.
    """

    step: Step
    operands: tuple[ExpressionTree | Local, ...]
    guesses: list[str]
    estimate: str
    calls: int
    levels: int
    has_layer: bool

    @property
    def results(self) -> tuple[Local, ...]:
        return self.step.results

    @property
    def leaves(self) -> Iterator[Local]:
        """The tensors that it reads, from left to right."""
        for operand in self.operands:
            if isinstance(operand, Local):
                yield operand
            else:
                yield from operand.leaves


def nest(
    items: Sequence[Step | Repeat], keep: Iterable[Local], guess: Callable[[Local], str]
) -> list[ExpressionTree | Repeat]:
    """The steps of a body as trees, in order; the loops stay what they are.

    Args:
        items: the last one may be the function's `return`, a step without results.
        keep: results that must have a name.
        guess: what a tensor will be called, about.
    """
    return _Nesting(items, set(keep), guess).roots()


class _Nesting:
    def __init__(self, items: Sequence[Step | Repeat], keep: set[Local], guess: Callable[[Local], str]):
        self.items, self.keep, self.guess = items, keep, guess
        self.uses = Counter(local for item in items for local in reads(item))
        self.pending: dict[Local, ExpressionTree] = {}  # by result, in the order of execution
        # `x = f(x)` then `x = g(x)`: such a name is worth no line of its own.
        named = Counter(local.name for item in items for local in dict.fromkeys((*reads(item), *item.results)))
        self.nameless = {None, *(name for name, count in named.items() if count > 2)}
        self.done: list[ExpressionTree | Repeat] = []

    def roots(self) -> list[ExpressionTree | Repeat]:
        last = self.items[-1] if self.items else None
        # The result of the model has a name in the text, and needs none where it is returned at once.
        returned = set(last.operands) if isinstance(last, Step) and not last.results else set()
        for item in self.items:
            if isinstance(item, Repeat):
                self._flush()
                self.done.append(item)
                continue
            tree = self._grow(item)
            result = item.results[0] if len(item.results) == 1 else None
            if (
                result is not None
                and result not in self.keep
                and self.uses[result] == 1
                and (result.name in self.nameless or result in returned)
            ):
                self.pending[result] = tree
            else:
                self._flush()
                self.done.append(tree)
        self._flush()
        return self.done

    def _flush(self) -> None:
        self.done += self.pending.values()
        self.pending.clear()

    def _grow(self, step: Step) -> ExpressionTree:
        """A step with those pending trees that fit into it; if it needs others as well, all become roots."""
        wanted = [local for local in step.operands if local in self.pending]
        nested: list[ExpressionTree] = []
        # The order of execution stays: the tree that was made last is nested first, and rightmost.
        while wanted and wanted[-1] is next(reversed(self.pending)) and self._fits(step, self.pending[wanted[-1]]):
            nested.insert(0, self.pending.pop(wanted.pop()))
        tree = self._tree(step, nested)
        # What is too long by itself gains nothing from a name before it is returned.
        long = len(tree.estimate) > _ROOM and (step.results or len(step.operands) > 1)
        if nested and (long or tree.calls > _CALLS + (not step.results)):
            self.pending |= {inner.results[0]: inner for inner in nested}
            self._flush()
            return self._tree(step, ())
        if wanted:
            self._flush()
        return tree

    def _fits(self, step: Step, inner: ExpressionTree) -> bool:
        ends = not step.results
        if inner.results[0].name not in self.nameless and not ends:
            return False
        plain = not inner.step.layer and not isinstance(inner.estimate, Infix)
        if step.layer and inner.has_layer and plain:
            return False  # a layer upon an activation upon a layer: a new line
        if _repeats(step, inner.results[0]):
            return False  # it would be computed twice, and dropout would not even give the same
        return inner.levels < _LEVELS + ends and inner.calls <= _CALLS

    def _tree(self, step: Step, nested: Sequence[ExpressionTree]) -> ExpressionTree:
        by_result = {inner.results[0]: inner for inner in nested}
        operands = tuple(by_result.get(local, local) for local in step.operands)
        guesses = [self.guess(o) if isinstance(o, Local) else o.estimate for o in operands]
        estimate = step.spell(guesses)
        counts = not step.light and not isinstance(estimate, Infix)
        return ExpressionTree(
            step,
            operands,
            guesses,
            estimate,
            calls=max((inner.calls for inner in nested), default=0) + counts,
            levels=max((inner.levels for inner in nested), default=0) + 1,
            has_layer=step.layer or any(inner.has_layer for inner in nested),
        )


def _repeats(step: Step, local: Local) -> bool:
    """Whether a step's text has an operand in it more than once."""
    names = placeholders(len(step.operands))
    text = step.spell(names)
    return sum(text.count(name) for name, operand in zip(names, step.operands) if operand is local) > 1


def texts_of(steps: Sequence[Step | Repeat]) -> list[str]:
    """The texts of steps, whatever their operands are called."""
    found = []
    for step in steps:
        if isinstance(step, Repeat):
            found += [step.targets, step.iterable, *texts_of(step.body)]
        else:
            found.append(step.spell(placeholders(len(step.operands))))
    return found


def results_of(steps: Sequence[Step | Repeat]) -> Iterator[Local]:
    """The results of steps, and of the steps within them."""
    for step in steps:
        yield from step.results
        if isinstance(step, Repeat):
            yield from results_of(step.body)
