"""A graph folded back into the definitions of its text: what the printer and the PyTorch emitter lay out.

The graph is flat; people are not.  A `Outline` has a definition for the model and one for each kind of block,
each with all its instances side by side.  Statement k of a definition stands for the k-th node (or use of an
inner definition) of *every* instance, so whoever lays it out can see which attributes differ between instances
and must become arguments.

`archc.codegen.outline.build` makes programs; the data types here say no more than what both consumers need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from archc.ir.graph import Node, Scope
from archc.types.extent_solver import Extent
from archc.types.tensor_type import TensorType


@dataclass(eq=False)
class Local:
    """A tensor within a definition.

    Attributes:
        name: the user's name for it, or None for a value that the text does not name.
        type: its type in the first instance.
        axes: for an input, what the text calls the sizes of its axes (or the numbers that they are); None where it
            does not tell.
        uses: how often statements and outputs of this definition read it.
    """

    type: TensorType
    name: str | None = None
    uses: int = 0
    axes: tuple[str | int, ...] | None = None


@dataclass(eq=False)
class Member:
    """A layer that a definition owns: a node with a name or with weights, or an instance of an inner definition.

    Attributes:
        name: the path below the definition's own: `conv1`, `h.0`, `attn.query` (the last where `attn` could not be
            folded into a definition of its own, and its layers are used from here).
        shared: used by more than one statement (a layer declared once and used twice).
    """

    name: str
    shared: bool = False


@dataclass(eq=False)
class OperatorStep:
    """An operator at work.

    Attributes:
        nodes: the node that this statement stands for in each instance, all of one operator class.
        operands, results: the tensors it reads and makes.
        member: the layer, where the node has a name; None for a plain function.
    """

    nodes: tuple[Node, ...]
    operands: tuple[Local, ...]
    results: tuple[Local, ...]
    member: Member | None = None


@dataclass(eq=False)
class BlockStep:
    """An inner definition at work.

    Attributes:
        definition: what is used.
        instances: which instance of `definition` it is (a number into its `instances`), for each of ours.
    """

    definition: BlockDefinition
    instances: tuple[int, ...]
    member: Member
    operands: tuple[Local, ...]
    results: tuple[Local, ...]


@dataclass(eq=False)
class Loop:
    """Statements repeated over the elements of lists of members: `for i in 0..12 { x = x -> h[i]: Block }`.

    All iterations have the same shape: operators, wiring, and names of members but for the number.  There are as many
    as in the instance that has most; in the others, the last one stands for those that they lack.

    Attributes:
        lists: the names of the lists of members (`h`), each with elements up to first + count - 1.
        first: the number of the element that the first iteration uses.
        counts: how many iterations there are in each instance of the definition.
        iterations: the statements of each iteration, over locals of its own; all alike.
        carried: the tensors that enter the first iteration, in order.
        parameters: for each iteration, the locals that the carried tensors are within it.
        yields: for each iteration, the locals that it hands to the next one.
        results: what the last iteration's yields are called after the loop.
    """

    lists: tuple[str, ...]
    iterations: tuple[tuple[Statement, ...], ...]
    carried: tuple[Local, ...]
    parameters: tuple[tuple[Local, ...], ...]
    yields: tuple[tuple[Local, ...], ...]
    results: tuple[Local, ...]
    first: int
    counts: tuple[int, ...]

    @property
    def count(self) -> int:
        """The iterations of the longest instance."""
        return len(self.iterations)

    @property
    def bodies(self) -> tuple[tuple[Statement, ...], ...]:
        """The statements within it, one body for each iteration."""
        return self.iterations

    @bodies.setter
    def bodies(self, bodies: tuple[tuple[Statement, ...], ...]) -> None:
        self.iterations = bodies

    @property
    def uniform(self) -> bool:
        """Whether all iterations use the same definitions; a pass may have left them different ones."""
        used = [tuple(s.definition for s in iteration if isinstance(s, BlockStep)) for iteration in self.iterations]
        return all(definitions == used[0] for definitions in used)


@dataclass(eq=False)
class Recurrence:
    """The steps of a scan: `scan x_t in x, h = h0 { ... }`.

    Attributes:
        enter: where a step begins; its results are a mark for its end, the pieces of the sequences, the states.
        exit: where a step ends; its operands are that mark, each state with what it becomes, and what is kept.
        body: the statements of a step.
    """

    enter: OperatorStep
    exit: OperatorStep
    body: tuple[Statement, ...]
    member: None = None

    @property
    def bodies(self) -> tuple[tuple[Statement, ...], ...]:
        """The statements within it, as one body."""
        return (self.body,)

    @bodies.setter
    def bodies(self, bodies: tuple[tuple[Statement, ...], ...]) -> None:
        (self.body,) = bodies

    @property
    def _sequence_count(self) -> int:
        return self.enter.nodes[0].op.scan_parts

    @property
    def _state_count(self) -> int:
        return self.exit.nodes[0].op.scan_parts

    @property
    def sequences(self) -> tuple[Local, ...]:
        """What it goes through, and `items` what that is in a step."""
        return self.enter.operands[: self._sequence_count]

    @property
    def items(self) -> tuple[Local, ...]:
        return self.enter.results[1 : 1 + self._sequence_count]

    @property
    def first_states(self) -> tuple[Local, ...]:
        """What the states are at first; `states` within a step, `next_states` after it, `last_states` at last."""
        return self.enter.operands[self._sequence_count :]

    @property
    def states(self) -> tuple[Local, ...]:
        return self.enter.results[1 + self._sequence_count :]

    @property
    def next_states(self) -> tuple[Local, ...]:
        return self.exit.operands[2 : 2 + 2 * self._state_count : 2]

    @property
    def last_states(self) -> tuple[Local, ...]:
        return self.exit.results[: self._state_count]

    @property
    def kept(self) -> tuple[Local, ...]:
        """What is kept of each step; `stacked` of all steps together."""
        return self.exit.operands[1 + 2 * self._state_count :]

    @property
    def stacked(self) -> tuple[Local, ...]:
        return self.exit.results[self._state_count :]

    @property
    def operands(self) -> tuple[Local, ...]:
        """What it reads from around it."""
        made = {*self.exit.results, *(local for inner in (self.enter, *self.body) for local in all_results(inner))}
        return tuple(dict.fromkeys(local for local in all_reads(self) if local not in made))

    @property
    def results(self) -> tuple[Local, ...]:
        return self.exit.results


Statement = OperatorStep | BlockStep | Loop | Recurrence
CompoundStatement = (Loop, Recurrence)
"""The statements that have others within them, in `bodies`."""


def operands_of(statement: Statement) -> tuple[Local, ...]:
    """The tensors that a statement begins with; those that a loop's iterations read besides are not among them."""
    return statement.carried if isinstance(statement, Loop) else statement.operands


def all_reads(statement: Statement) -> Iterator[Local]:
    """Every reading of a tensor by a statement and the statements within it, and by what these hand on."""
    if isinstance(statement, Recurrence):
        for inner in (statement.enter, *statement.body, statement.exit):
            yield from all_reads(inner)
        return
    yield from operands_of(statement)
    if isinstance(statement, Loop):
        for iteration, yields in zip(statement.iterations, statement.yields, strict=True):
            for inner in iteration:
                yield from all_reads(inner)
            yield from yields


def executed_steps(statements: Iterable[Statement]) -> Iterator[OperatorStep | BlockStep]:
    """Operators and uses of blocks in the order of execution, including both ends of each scan."""
    for statement in statements:
        if isinstance(statement, Recurrence):
            yield statement.enter
            yield from executed_steps(statement.body)
            yield statement.exit
        elif isinstance(statement, Loop):
            for iteration in statement.iterations:
                yield from executed_steps(iteration)
        else:
            yield statement


def all_results(statement: Statement) -> Iterator[Local]:
    """The results of a statement and of the statements within it, and what these are given."""
    yield from statement.results
    if isinstance(statement, Recurrence):
        yield from statement.enter.results
    if isinstance(statement, Loop):
        yield from (local for parameters in statement.parameters for local in parameters)
    if isinstance(statement, CompoundStatement):
        for body in statement.bodies:
            for inner in body:
                yield from all_results(inner)


@dataclass(frozen=True)
class Tie:
    """A weight that is another layer's, as paths below the definition's own.

    Attributes:
        weight: where it is used (`head.weight`).
        source: whose it is (`wte.weight`).
    """

    weight: str
    source: str


@dataclass(eq=False)
class BlockDefinition:
    """The model, or a kind of block.

    Attributes:
        name: unique in the program, and an identifier; the block's own, lengthened where its uses had to be told apart.
        scopes: the scope of each instance; its length is the number of instances.
        doc: the comment above it in the text.
        inputs, outputs: the tensors that enter and leave.
        sizes: for each name that the axes of the inputs have, the size that it stands for in each instance.
        output_names: the outputs' names; all are known for the model, a block may have None.
        body: the statements, in order.
        rows: the operators and uses of blocks in the order of execution, before any of them became a loop.
        ties: the weights of members, or of members' members, that are one and the same; a weight that a definition
            shares with one outside stands among the ties of the innermost definition that holds both.
    """

    name: str
    scopes: tuple[Scope, ...]
    doc: str = ""
    inputs: tuple[Local, ...] = ()
    outputs: tuple[Local, ...] = ()
    sizes: Mapping[str, tuple[Extent, ...]] = field(default_factory=dict)
    output_names: tuple[str | None, ...] = ()
    body: tuple[Statement, ...] = ()
    rows: tuple[OperatorStep | BlockStep, ...] = ()
    ties: tuple[Tie, ...] = ()


@dataclass(eq=False)
class Occurrence:
    """A use of a definition at its place in the graph; a layer that is used twice has two.

    Attributes:
        items: for each row of the definition, the node or the use of a block at this place.
    """

    definition: BlockDefinition
    items: tuple[Node | Occurrence, ...]


def count_uses(definition: BlockDefinition) -> None:
    """Count how often each local is read: by statements, as what a loop begins with and hands on, as output."""
    for local in definition.outputs:
        local.uses += 1
    for statement in definition.body:
        for local in all_reads(statement):
            local.uses += 1


@dataclass(eq=False)
class Outline:
    """A model's definitions, inner ones first; the last one is the model itself, with a single instance.

    Attributes:
        whole: the use of the model's definition, which contains all others.
    """

    definitions: list[BlockDefinition]
    whole: Occurrence

    @property
    def model(self) -> BlockDefinition:
        return self.definitions[-1]

    def nodes(self, rows: Mapping[BlockDefinition, Sequence[OperatorStep | BlockStep]]) -> list[Node]:
        """The nodes of the graph, given the order in which the rows of each definition are executed."""
        order: dict[BlockDefinition, list[int]] = {}
        for definition, own in rows.items():
            places = {row: place for place, row in enumerate(definition.rows)}
            order[definition] = [places[row] for row in own]
        found: dict[Node, None] = {}
        waiting: list[Node | Occurrence] = [self.whole]
        while waiting:
            item = waiting.pop()
            if isinstance(item, Occurrence):
                waiting += (item.items[place] for place in reversed(order[item.definition]))
            else:
                found.setdefault(item)
        return list(found)
