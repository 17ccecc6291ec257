"""Translation of the loops and scans of a class into steps (see `archc.codegen.torch.nesting`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from archc.codegen.outline.definitions import BlockStep, Local, Loop, OperatorStep, Recurrence, Statement
from archc.codegen.torch.class_plan import ClassDraft
from archc.codegen.torch.constructors import INDEX, element_texts
from archc.codegen.torch.expressions import Bases
from archc.codegen.torch.merge import check_same
from archc.codegen.torch.names import identifier, snake_case
from archc.codegen.torch.nesting import Repeat, ScanSteps, Step, results_of, texts_of


class LoopPlanner:
    """Translates the loops and scans of one class into steps.

    Args:
        body: function that translates the statements of a loop's body, given the loop variables in scope.
    """

    def __init__(self, draft: ClassDraft, body: Callable[[Sequence[Statement], Bases], list[Step | Repeat]]):
        self.draft, self.body = draft, body
        self.loop_variables: set[str] = set()

    def loop(self, loop: Loop, bases: Bases) -> list[Step | Repeat]:
        """Translate a loop to a `for` loop, or unroll it if its iterations differ in more than their layers.

        Raises:
            Mismatch: the instances of the class have different numbers of iterations, and the iterations have no
                common text.
        """
        counts = [loop.counts[k] for k in self.draft.instances]
        if any(count != counts[0] for count in counts):
            self._take_elements(loop, counts)
        elif loop.first and counts[0] == 2:
            return self._unrolled(loop, bases)  # a loop over the last two elements of a list saves no line
        for parameters, entering in zip(loop.parameters, (loop.carried, *loop.yields)):
            for slot, local in enumerate(parameters):
                if all(row[slot] is own[slot] for row, own in zip(loop.yields, loop.parameters)):
                    self.draft.renamed |= {local: entering[slot], loop.results[slot]: entering[slot]}
        starts = self._lists(loop)
        variables: dict[str, str] = {}
        for name in starts:
            variables[name] = self._loop_variable(name, loop, {*bases.values(), *variables.values()})
        first: list[Step | Repeat] = []
        texts: list[str] = []
        for number, iteration in enumerate(self.draft.iterations(loop)):
            elements = {f"{name}.{starts[name] + number}": variable for name, variable in variables.items()}
            steps = self.body(iteration, {**bases, **elements})
            if number == 0:
                first, texts = steps, texts_of(steps)
            elif texts_of(steps) != texts:
                check_same(counts)
                return self._unrolled(loop, bases)
            results = zip(results_of(first), results_of(steps), strict=True)
            self.draft.comments.silent.update(
                local for local, same in results if self.draft.types(local) != self.draft.types(same)
            )
        changing = [slot for slot, local in enumerate(loop.parameters[0]) if local not in self.draft.renamed]
        lists = ", ".join(
            self.draft.members.at(name).elements(self.draft.access(name, bases), start, start + counts[0])
            for name, start in starts.items()
        )
        over = f"zip({lists})" if len(variables) > 1 else lists or f"range({counts[0]})"
        targets = ", ".join(variables.values()) or "_"

        def picked(locals_: Sequence[Local]) -> tuple[Local, ...]:
            return tuple(locals_[slot] for slot in changing)

        return [
            Repeat(
                targets,
                over,
                first,
                tuple(self.draft.resolved(local) for local in picked(loop.carried)),
                picked(loop.parameters[0]),
                tuple(self.draft.resolved(local) for local in picked(loop.yields[0])),
                picked(loop.results),
            )
        ]

    def _lists(self, loop: Loop) -> dict[str, int]:
        """The lists of modules that a loop iterates over, with the number of the first element that it uses."""
        starts = {**dict.fromkeys(loop.lists, loop.first), **dict.fromkeys(loop.activations, 0)}
        return {name: start for name, start in starts.items() if name in self.draft.modules}

    def _take_elements(self, loop: Loop, counts: Sequence[int]) -> None:
        """Find a common constructor text for list elements, if the list lengths differ between instances."""
        starts = self._lists(loop)
        if not starts or any(self.draft.members.at(name).has_names for name in starts):
            check_same(counts)
        self.draft.arguments.reserve(INDEX)
        for row in zip(*map(steps_of, self.draft.iterations(loop))):
            if row[0].member is not None and row[0].member.name in self.draft.modules:
                calls = [self.draft.construction(statement) for statement in row]
                start = starts.get(row[0].member.name.rpartition(".")[0], loop.first)
                texts = element_texts(calls, counts, start, self.draft.arguments)
                self.draft.element_constructors |= zip(row, texts)
        for name, start in starts.items():
            lengths = tuple(str(start + count) for count in counts)
            arguments = self.draft.arguments
            self.draft.members.at(name).length = arguments.take(lengths, "depth", name if "depth" in arguments else "")

    def recurrence(self, scan: Recurrence, bases: Bases) -> list[Step | Repeat]:
        """The loop over the steps of a scan, and a `torch.stack` for each result with one element per step."""
        body = self.body(scan.body, bases)
        read = [(kept, stacked) for kept, stacked in zip(scan.kept, scan.stacked) if stacked.uses]
        lists = tuple(
            Local(kept.type, "outputs" if len(read) == 1 else f"{stacked.name or 'output'}_steps")
            for kept, stacked in read
        )
        for local, (kept, _) in zip(lists, read):
            self.draft.context.types[local] = self.draft.context.types[kept]
        steps = ScanSteps(
            sequences=tuple(map(self.draft.resolved, scan.sequences)),
            items=scan.items,
            kept=tuple(self.draft.resolved(kept) for kept, _ in read),
            lists=lists,
            names=tuple(kept.name or f"{stacked.name or 'y'}_t" for kept, stacked in read),
        )
        loop = Repeat(
            "",
            "",
            body,
            tuple(map(self.draft.resolved, scan.first_states)),
            scan.states,
            tuple(map(self.draft.resolved, scan.next_states)),
            (*scan.last_states, *lists),
            steps,
        )
        stacks = [
            Step((local,), (stacked,), lambda texts: f"torch.stack({texts[0]}, 1)")
            for local, (_, stacked) in zip(lists, read)
        ]
        return [loop, *stacks]

    def _unrolled(self, loop: Loop, bases: Bases) -> list[Step | Repeat]:
        """The steps of all iterations, one after the other."""
        steps: list[Step | Repeat] = []
        entering = loop.carried
        for iteration, parameters, yields in zip(self.draft.iterations(loop), loop.parameters, loop.yields):
            self.draft.renamed |= dict(zip(parameters, entering))
            steps += self.body(iteration, bases)
            entering = yields
        self.draft.renamed |= dict(zip(loop.results, entering))
        return steps

    def _loop_variable(self, name: str, loop: Loop, taken: Collection[str]) -> str:
        """A variable for the elements of a list, named after their block or after the list."""
        last = next((part for part in reversed(name.split(".")) if not part.isdigit()), "layer")
        singular = last[:-1] if len(last) > 3 and last.endswith("s") and not last.endswith("ss") else last
        for statement in loop.iterations[0]:
            if isinstance(statement, BlockStep) and statement.member.name == f"{name}.0":
                # `block` for the class `BasicBlock`
                singular = snake_case(statement.definition.scopes[0].definition).rpartition("_")[2]
        singular = identifier(singular)
        clashes = singular in self.draft.variables and singular not in self.loop_variables
        base = "layer" if len(singular) == 1 or clashes else singular
        # Loops that are not nested can share a variable.
        if base not in self.loop_variables or base in taken:
            base = self.draft.variables.take(base)
            self.loop_variables.add(base)
        return base


def steps_of(body: Sequence[Statement]) -> Iterator[OperatorStep | BlockStep]:
    """Yield the operators and block uses of a body, nested bodies included."""
    for statement in body:
        if isinstance(statement, (Loop, Recurrence)):
            for inner in statement.bodies:
                yield from steps_of(inner)
        else:
            yield statement
