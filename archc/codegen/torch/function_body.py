"""Lines of a function body, and the names of its variables.

A value has the name from the user's text.  A value without such a name gets a free name from `COMMON`.  A name is free
if no later line reads the value that has the name.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from archc.codegen.outline.definitions import Local
from archc.codegen.torch.formatting import assignment, lines_of, loop_header
from archc.codegen.torch.names import identifier
from archc.codegen.torch.nesting import ExpressionTree, Repeat, Step, nest, reads
from archc.declaration.spelling import method

COMMON = ("x", "h", "y", "z")
"""Names for unnamed values, in order of preference."""

Note = Callable[[Local, "Local | None"], str]
"""Returns the comment for a line, from the result of the line and its main operand (or None)."""
Reserved = Callable[[str], bool]
"""Returns whether a name has another meaning in the function, so that no variable can have it."""


def function_body(
    inputs: dict[Local, str], items: Sequence[Step | Repeat], outputs: Sequence[Local], reserved: Reserved, note: Note
) -> list[str]:
    """The lines of a method body, indented by two levels.

    Args:
        inputs: the tensor parameters with their names.
        items: the steps and loops of the body.
        outputs: the tensors to return.
    """
    called = dict(inputs)
    end = Step(tuple(outputs), (), lambda texts: ", ".join(texts))
    trees = nest([*items, end], (), lambda local: _guess(local, called))
    held: dict[str, set[Local]] = defaultdict(set)
    for local, name in inputs.items():
        held[name].add(local)
    return _FunctionBody(trees, (), called, held, reserved, note, 2, inputs).lines()


def _guess(local: Local, called: dict[Local, str]) -> str:
    return called.get(local) or (identifier(local.name) if local.name else "x")


class _FunctionBody:
    """The body of a function or of a loop.

    Args:
        ends: the tensors that are read at the end of the body.
        called: the name of each tensor, shared with the outer bodies.
        held: the live tensors by name, shared with the outer bodies.
        own: the inputs or loop parameters; the body may reuse their names after their last use.
        wishes: preferred names of some results.

    Attributes:
        last: the position of the last use of each tensor.
        made: for each name from the text and each preferred name, the positions at which it is assigned.
    """

    def __init__(
        self,
        trees: Sequence[ExpressionTree | Repeat],
        ends: Iterable[Local],
        called: dict[Local, str],
        held: dict[str, set[Local]],
        reserved: Reserved,
        note: Note,
        indent: int,
        own: Iterable[Local],
        wishes: dict[Local, str] | None = None,
    ):
        self.trees, self.called, self.held, self.reserved, self.note = trees, called, held, reserved, note
        self.indent, self.wishes = indent, wishes or {}
        self.own = {*own, *(local for tree in trees for local in tree.results)}
        self.last: dict[Local, int] = {}
        self.made: dict[str, list[int]] = defaultdict(list)
        for position, tree in enumerate(trees):
            self.last |= dict.fromkeys(tree.leaves if isinstance(tree, ExpressionTree) else reads(tree), position)
            if isinstance(tree, Repeat):
                entering = zip(tree.carried, tree.parameters)
                self.wishes |= {
                    first: identifier(inside.name) for first, inside in entering if inside.name and not first.name
                }
            for local in tree.results:
                wanted = self.wishes.get(local) or (local.name and identifier(local.name))
                if wanted:
                    self.made[wanted].append(position)
        self.last |= dict.fromkeys(ends, len(trees))

    def lines(self) -> list[str]:
        """The lines of the body."""
        found: list[str] = []
        for position, tree in enumerate(self.trees):
            found += self._repeat(tree, position) if isinstance(tree, Repeat) else self._statement(tree, position)
        return found

    def _statement(self, tree: ExpressionTree, position: int) -> list[str]:
        text = self._text(tree)
        self._release(tree.leaves, position)
        if not tree.results:
            return lines_of("return ", text, self.indent, self._comment(tree))
        targets = [
            self._name(local, tree.step, position, self.last[local]) if local in self.last else "_"
            for local in tree.results
        ]
        unpacked = tree.step.unpack.format(*targets) if tree.step.unpack else ", ".join(targets)
        return assignment(unpacked, text, self.indent, self._comment(tree))

    def _text(self, tree: ExpressionTree) -> str:
        texts = [self.called[o] if isinstance(o, Local) else self._text(o) for o in tree.operands]
        return tree.estimate if texts == tree.guesses else tree.step.spell(texts)

    def _comment(self, tree: ExpressionTree) -> str:
        source = next(tree.leaves, None)
        (operand, *others) = tree.operands or (None,)
        if not tree.results and isinstance(operand, ExpressionTree) and not others:
            return self.note(operand.results[0], source)  # a `return` of an expression
        return self.note(tree.results[0], source) if len(tree.results) == 1 else ""

    # Names ------------------------------------------------------------------------------------------------

    def _release(self, read: Iterable[Local], position: int) -> None:
        """Make the names of tensors free at their last use.

        Tensors from outside a loop keep their names, since later iterations read them.
        """
        for local in read:
            if self.last[local] == position and local in self.own:
                self.held[self.called[local]].discard(local)

    def _name(self, local: Local, step: Step | None, position: int, until: int) -> str:
        """Name a tensor that is assigned at `position` and read until `until`; `step` is None in loop headers."""
        wish = self.wishes.get(local)
        own = identifier(local.name) if local.name else None
        place = step.results.index(local) if step is not None else 0
        for candidate in _candidates(wish, own, step, place):
            if self.held[candidate] or self.reserved(candidate):
                continue
            if candidate not in (wish, own) and self._means_another(candidate, position, until):
                continue
            self.called[local] = candidate
            self.held[candidate].add(local)
            return candidate
        raise AssertionError("the candidates do not end")

    def _means_another(self, name: str, position: int, until: int) -> bool:
        """Return whether an unnamed tensor with this name could be mistaken for a named tensor of the text.

        The name `x` is refused if a named tensor `x` is assigned between the assignment and the last use of the unnamed
        tensor.  Any other name, such as `h`, is refused if a named tensor `h` is assigned anywhere in the body.
        """
        made = self.made.get(name, [])
        if name != COMMON[0]:
            return bool(made)
        following = bisect_right(made, position)
        return following < len(made) and made[following] < until

    # Loops ------------------------------------------------------------------------------------------------------

    def _repeat(self, loop: Repeat, position: int) -> list[str]:
        """The lines of a loop, with the assignments before it."""
        entering = [self.called[local] for local in loop.carried]
        invariants = loop.invariants()  # every iteration reads them
        sequences = loop.steps.sequences if loop.steps is not None else ()
        through = [self.called[local] for local in sequences]
        # The lines before the loop assign the states and lists.  They must not reuse the names of the sequences, which
        # the loop header reads later.
        self._release((local for local in loop.carried if local not in {*invariants, *sequences}), position)
        slots = []
        for parameter, result, name in zip(loop.parameters, loop.results, entering):
            if parameter.name is None:
                self.wishes[parameter] = name
            slots.append(self._name(parameter, None, position, self.last.get(result, position)))
        listed = () if loop.steps is None else loop.steps.lists
        lists = [self._name(local, None, position, self.last.get(local, position)) for local in listed]
        self._release((local for local in sequences if local not in invariants), position)
        before = {name: set(holders) for name, holders in self.held.items() if holders}
        items = () if loop.steps is None else loop.steps.items
        variables = [self._name(local, None, position, position) for local in items]
        kept, names = ((), ()) if loop.steps is None else (loop.steps.kept, loop.steps.names)
        ends = (*loop.yields, *kept)
        body = _FunctionBody(
            nest(loop.body, ends, lambda local: _guess(local, self.called)),
            ends,
            self.called,
            self.held,
            self.reserved,
            self.note,
            self.indent + 1,
            (*loop.parameters, *items),
            {**dict(zip(kept, names)), **dict(zip(loop.yields, slots))},
        ).lines()
        for name, local in zip(lists, kept):
            body += lines_of("", method(name, "append", self.called[local]), self.indent + 1)
        handed_on = [self.called[local] for local in loop.yields]
        self.held.clear()
        self.held.update(before)
        self._release(invariants, position)
        for slot, parameter, result in zip(slots, loop.parameters, loop.results):
            self.held[slot].discard(parameter)
            self.called[result] = slot
            if result in self.last:
                self.held[slot].add(result)
        header = (loop.targets, loop.iterable) if loop.steps is None else loop.steps.header(through, variables)
        body += _moved(slots, handed_on, self.indent + 1)
        before_it = _moved(slots, entering, self.indent)
        before_it += [f"{' ' * 4 * self.indent}{name} = []" for name in lists]
        return [*before_it, *loop_header(*header, self.indent), *body] if body else before_it


def _candidates(wish: str | None, own: str | None, step: Step | None, place: int) -> Iterator[str]:
    hint = identifier(step.names[min(place, len(step.names) - 1)]) if step is not None else "x"
    if wish is not None:
        yield wish
    if own is not None:
        yield own
    if step is None or not (step.light or len(step.results) > 1):
        yield from COMMON
    yield hint
    number = 2
    while True:
        yield f"{own or hint}_{number}"
        number += 1


def _moved(targets: Sequence[str], sources: Sequence[str], indent: int) -> list[str]:
    """The assignment `a, b = c, d` for the pairs of target and source with different names."""
    pairs = [(target, source) for target, source in zip(targets, sources) if target != source]
    if not pairs:
        return []
    left, right = (", ".join(names) for names in zip(*pairs))
    return assignment(left, right, indent)
