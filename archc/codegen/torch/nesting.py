"""Steps of a function body, and the nesting of their expressions.

An unnamed value with a single use is nested into the expression that uses it, up to a readable depth and without
changing the order of execution.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from archc.codegen.outline.definitions import Local
from archc.codegen.torch.formatting import WIDTH
from archc.codegen.torch.merge import placeholders
from archc.declaration.spelling import Infix, call, method

_CALLS = 3  # maximum depth of nested calls
_LEVELS = 4  # maximum depth of nested calls and infix operators
_ROOM = WIDTH - len("        features = ")  # maximum length of an expression with nested steps


@dataclass(eq=False)
class Step:
    """A call of an operator, layer or block.

    Attributes:
        operands, results: the tensors that the call reads and computes.
        spell: returns the expression of the call, from the expressions of the operands.
        layer: True if the call has weights; two layers with a call in between, `fc2(relu(fc1(x)))`, are not nested.
        names: names for unnamed results: one name for all results, or one for each.
        light: True for a quantizer; it does not count in `ExpressionTree.calls`, and its result is not named `x`.
        unpack: the pattern of nested results, such as `{}, ({}, {})`; empty for a plain tuple.
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
    """Sequences, items and kept values of a loop over the steps of a scan.

    Attributes:
        sequences, items: the tensors that the loop iterates over along axis 1, and their values in a step.
        kept, lists: the values of a step that the loop keeps, and the list to which each of them is appended.
        names: the preferred names of the kept values within a step.
    """

    sequences: tuple[Local, ...]
    items: tuple[Local, ...]
    kept: tuple[Local, ...]
    lists: tuple[Local, ...]
    names: tuple[str, ...]

    def header(self, sequences: Sequence[str], items: Sequence[str]) -> tuple[str, str]:
        """The targets and the iterable of the loop: `x_t, m_t` and `zip(x.unbind(1), m.unbind(1))`."""
        unbound = [method(name, "unbind", 1) for name in sequences]
        return ", ".join(items), unbound[0] if len(unbound) == 1 else call("zip", *unbound)


@dataclass(eq=False)
class Repeat:
    """A loop.

    Attributes:
        targets, iterable: `block` and `self.h` of `for block in self.h`; empty for the steps of a scan.
        body: the steps of one iteration.
        carried: the initial values of the tensors that change from iteration to iteration.
        parameters, yields, results: the carried tensors at the start of an iteration, at its end, and after the loop.
        steps: the sequences of a scan; None for other loops.
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
        """The outer tensors that every iteration reads."""
        made = set(self.parameters if self.steps is None else (*self.parameters, *self.steps.items))
        found: dict[Local, None] = {}
        for item in self.body:
            found |= {local: None for local in reads(item) if local not in made}
            made.update(item.results)
        kept = self.steps.kept if self.steps is not None else ()
        return found | {local: None for local in (*self.yields, *kept) if local not in made}


def reads(item: Step | Repeat) -> Iterable[Local]:
    """The outer tensors that a step or a loop reads."""
    if isinstance(item, Step):
        return item.operands
    return (*item.carried, *(item.steps.sequences if item.steps is not None else ()), *item.invariants())


@dataclass(eq=False)
class ExpressionTree:
    """A step with the steps that are nested into its expression.

    Attributes:
        operands: nested steps, and tensors that have a variable.
        guesses: approximate texts of the operands.
        estimate: the text of the step with these operands.
        calls, levels: the depth of nested calls, and of nested steps.
        has_layer: True if the step or a nested step is a layer.
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
        """The results of the outermost step."""
        return self.step.results

    @property
    def leaves(self) -> Iterator[Local]:
        """The tensors that the expression reads, from left to right."""
        for operand in self.operands:
            if isinstance(operand, Local):
                yield operand
            else:
                yield from operand.leaves


def nest(
    items: Sequence[Step | Repeat], keep: Iterable[Local], guess: Callable[[Local], str]
) -> list[ExpressionTree | Repeat]:
    """Nest the steps of a body into expression trees; loops are unchanged.

    Args:
        items: steps and loops in order; the last one may be the `return` statement, a step without results.
        keep: results that need a variable.
        guess: returns the probable name of a tensor.
    """
    return _Nesting(items, set(keep), guess).roots()


class _Nesting:
    """State of `nest`; `pending` maps results to the trees that a later step may nest, in execution order."""

    def __init__(self, items: Sequence[Step | Repeat], keep: set[Local], guess: Callable[[Local], str]):
        self.items, self.keep, self.guess = items, keep, guess
        self.uses = Counter(local for item in items for local in reads(item))
        self.pending: dict[Local, ExpressionTree] = {}
        # Results with a reused name (`x = f(x)`, then `x = g(x)`) are nested like unnamed results.
        named = Counter(local.name for item in items for local in dict.fromkeys((*reads(item), *item.results)))
        self.nameless = {None, *(name for name, count in named.items() if count > 2)}
        self.done: list[ExpressionTree | Repeat] = []

    def roots(self) -> list[ExpressionTree | Repeat]:
        """The trees and loops of the body, in order."""
        last = self.items[-1] if self.items else None
        # The named result of a model needs no variable if it is returned at once.
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
        """The tree of a step, in which the pending trees that fit are nested.

        If the step uses a pending tree that does not fit, all pending trees become roots.
        """
        wanted = [local for local in step.operands if local in self.pending]
        nested: list[ExpressionTree] = []
        # To keep the order of execution, nest the latest tree first, at the rightmost operand.
        while wanted and wanted[-1] is next(reversed(self.pending)) and self._fits(step, self.pending[wanted[-1]]):
            nested.insert(0, self.pending.pop(wanted.pop()))
        tree = self._tree(step, nested)
        # A single long operand of `return` gains nothing from a variable.
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
            return False  # of two layers with an activation in between, the second begins a new line
        if _repeats(step, inner.results[0]):
            return False  # the operand would be computed twice; with dropout, to different values
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
    """Return whether the text of a step contains an operand more than once."""
    names = placeholders(len(step.operands))
    text = step.spell(names)
    return sum(text.count(name) for name, operand in zip(names, step.operands) if operand is local) > 1


def texts_of(steps: Sequence[Step | Repeat]) -> list[str]:
    """The texts of steps, with placeholders for their operands."""
    found = []
    for step in steps:
        if isinstance(step, Repeat):
            found += [step.targets, step.iterable, *texts_of(step.body)]
        else:
            found.append(step.spell(placeholders(len(step.operands))))
    return found


def results_of(steps: Sequence[Step | Repeat]) -> Iterator[Local]:
    """Yield the results of steps, nested steps included."""
    for step in steps:
        yield from step.results
        if isinstance(step, Repeat):
            yield from results_of(step.body)
