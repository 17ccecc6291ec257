"""The data types of an outline: definitions, their statements and their instances.

A graph is flat.  An `Outline` has one definition for the model and one for each kind of block, with all instances of
the block side by side.  Statement k of a definition is the k-th node (or use of an inner definition) of *every*
instance.  So a printer or an emitter sees which attributes differ between instances; these become arguments.

`archc.codegen.outline.build` makes outlines.  The printer of the language, the PyTorch emitter and the drawings read
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Node, Scope
from archc.ir.scans import scan_parts
from archc.types.extent_solver import Extent
from archc.types.tensor_type import TensorType


@dataclass(eq=False)
class Local:
    """A tensor in a definition.

    Attributes:
        name: the user's name, or None for a value without a name in the text.
        type: its type in the first instance.
        axes: for an input, the size of each axis as a name or a number; None if the text does not declare the sizes.
        uses: number of uses by statements and outputs of this definition.
    """

    type: TensorType
    name: str | None = None
    uses: int = 0
    axes: tuple[str | int, ...] | None = None


@dataclass(eq=False)
class Member:
    """A layer of a definition: a node with a name or weights, or an instance of an inner definition.

    Attributes:
        name: the path relative to the definition: `conv1`, `h.0`, or `attn.query` if `attn` is inlined into this
            definition.
        shared: more than one statement uses the layer.
    """

    name: str
    shared: bool = False


@dataclass(eq=False)
class OperatorStep:
    """A statement that applies an operator.

    Attributes:
        nodes: the node of this statement in each instance, all of one operator class.
        operands, results: its tensors.
        member: the layer of a named node; None for a function.
    """

    nodes: tuple[Node, ...]
    operands: tuple[Local, ...]
    results: tuple[Local, ...]
    member: Member | None = None


@dataclass(eq=False)
class BlockStep:
    """A statement that applies an inner definition.

    Attributes:
        definition: the inner definition.
        instances: for each instance of the outer definition, the number of the instance of the inner one.
    """

    definition: BlockDefinition
    instances: tuple[int, ...]
    member: Member
    operands: tuple[Local, ...]
    results: tuple[Local, ...]


@dataclass(eq=False)
class Loop:
    """Statements repeated over lists of members: `for i in 0..12 { x = x -> h[i]: Block }`.

    All iterations have the same operators, wiring and member names, except for the number in the names.  The instances
    of the definition may differ in their number of iterations.  `iterations` then has the iterations of the longest
    instance.  For a shorter instance, the statements of the missing iterations have the nodes of its last iteration.

    Attributes:
        lists: the names of the lists of members (`h`), each with elements up to first + count - 1.
        first: the number of the element that the first iteration uses.
        counts: the number of iterations in each instance of the definition.
        activations: the names of lists of activations, which a backend adds; iteration k uses element k.
        iterations: the statements of each iteration, each with locals of its own.
        carried: the initial values of the carried tensors, which each iteration passes to the next one.
        parameters: for each iteration, the locals that hold the carried tensors at its start.
        yields: for each iteration, the locals that it passes to the next iteration.
        results: the locals after the loop, with the values that the last iteration yields.
    """

    lists: tuple[str, ...]
    iterations: tuple[tuple[Statement, ...], ...]
    carried: tuple[Local, ...]
    parameters: tuple[tuple[Local, ...], ...]
    yields: tuple[tuple[Local, ...], ...]
    results: tuple[Local, ...]
    first: int
    counts: tuple[int, ...]
    activations: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Largest number of iterations in an instance of the definition."""
        return len(self.iterations)

    @property
    def bodies(self) -> tuple[tuple[Statement, ...], ...]:
        """The nested statements, one body for each iteration."""
        return self.iterations

    @bodies.setter
    def bodies(self, bodies: tuple[tuple[Statement, ...], ...]) -> None:
        """Replace the nested statements."""
        self.iterations = bodies

    @property
    def uniform(self) -> bool:
        """Return whether all iterations use the same definitions; passes can make the definitions differ."""
        used = [tuple(s.definition for s in iteration if isinstance(s, BlockStep)) for iteration in self.iterations]
        return all(definitions == used[0] for definitions in used)


@dataclass(eq=False)
class Recurrence:
    """A scan with the statements of one step: `scan x_t in x, h = h0 { ... }`.

    Attributes:
        enter: the operator at the start of a step; its results are a token (a value that links `enter` and `exit`),
            the items of the sequences, and the states.
        exit: the operator at the end of a step; its operands are the token, pairs of a state and its next value, and
            the values to stack.
        body: the statements of a step.
    """

    enter: OperatorStep
    exit: OperatorStep
    body: tuple[Statement, ...]
    member: None = None

    @property
    def bodies(self) -> tuple[tuple[Statement, ...], ...]:
        """The nested statements, as one body."""
        return (self.body,)

    @bodies.setter
    def bodies(self, bodies: tuple[tuple[Statement, ...], ...]) -> None:
        """Replace the nested statements."""
        (self.body,) = bodies

    @property
    def _sequence_count(self) -> int:
        return scan_parts(self.enter.nodes[0].op)

    @property
    def _state_count(self) -> int:
        return scan_parts(self.exit.nodes[0].op)

    @property
    def sequences(self) -> tuple[Local, ...]:
        """The sequences over which the scan iterates."""
        return self.enter.operands[: self._sequence_count]

    @property
    def items(self) -> tuple[Local, ...]:
        """The elements of the sequences in a step."""
        return self.enter.results[1 : 1 + self._sequence_count]

    @property
    def first_states(self) -> tuple[Local, ...]:
        """The states before the first step."""
        return self.enter.operands[self._sequence_count :]

    @property
    def states(self) -> tuple[Local, ...]:
        """The states at the start of a step."""
        return self.enter.results[1 + self._sequence_count :]

    @property
    def next_states(self) -> tuple[Local, ...]:
        """The states at the end of a step."""
        return self.exit.operands[2 : 2 + 2 * self._state_count : 2]

    @property
    def last_states(self) -> tuple[Local, ...]:
        """The states after the last step."""
        return self.exit.results[: self._state_count]

    @property
    def kept(self) -> tuple[Local, ...]:
        """The values of a step that are stacked over all steps."""
        return self.exit.operands[1 + 2 * self._state_count :]

    @property
    def stacked(self) -> tuple[Local, ...]:
        """The stacked values after the scan, one for each of `kept`."""
        return self.exit.results[self._state_count :]

    @property
    def operands(self) -> tuple[Local, ...]:
        """The values from outside that the scan uses."""
        made = {*self.exit.results, *(local for inner in (self.enter, *self.body) for local in all_results(inner))}
        return tuple(dict.fromkeys(local for local in all_reads(self) if local not in made))

    @property
    def results(self) -> tuple[Local, ...]:
        """The last states and the stacked values."""
        return self.exit.results


Statement = OperatorStep | BlockStep | Loop | Recurrence
CompoundStatement = (Loop, Recurrence)
"""The classes of statements that contain other statements, in the attribute `bodies`."""


def operands_of(statement: Statement) -> tuple[Local, ...]:
    """The operands of a statement; for a loop only the carried tensors."""
    return statement.carried if isinstance(statement, Loop) else statement.operands


def all_reads(statement: Statement) -> Iterator[Local]:
    """Every use of a tensor by a statement, by nested statements, and by the yields of loops."""
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
    """Operators and uses of blocks in the order of execution, with both ends of each scan."""
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
    """The results of a statement and of nested statements, with the parameters of loops and scans."""
    yield from statement.results
    if isinstance(statement, Recurrence):
        yield from statement.enter.results
    if isinstance(statement, Loop):
        yield from (local for parameters in statement.parameters for local in parameters)
    if isinstance(statement, CompoundStatement):
        for body in statement.bodies:
            for inner in body:
                yield from all_results(inner)


@frozen_dataclass
class Tie:
    """A weight tied to a weight of another layer, as paths relative to the definition.

    Attributes:
        weight: the path of the weight that is tied (`head.weight`).
        source: the path of the weight that is stored (`wte.weight`).
    """

    weight: str
    source: str


@dataclass(eq=False)
class BlockDefinition:
    """The model, or a kind of block.

    Attributes:
        name: a unique identifier: the name of the block, with a suffix if the block has several definitions.
        scopes: the scope of each instance.
        doc: the comment before the definition in the text.
        inputs, outputs: its tensors.
        sizes: for each named size of the inputs, its value in each instance.
        output_names: the names of the model's outputs; None for each output of a block.
        body: the statements, in order.
        rows: the steps of `body` as a flat list, without loops and scans, in the order of execution.
        ties: the tied weights of members and of nested members.  If a weight of an inner block is tied to a weight
            outside this block, the tie belongs to the innermost definition that contains both weights.
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
    """A use of a definition at one place in the graph; a layer that is used twice has two occurrences.

    Attributes:
        items: for each row of the definition, the node or the occurrence at this place.
    """

    definition: BlockDefinition
    items: tuple[Node | Occurrence, ...]


def count_uses(definition: BlockDefinition) -> None:
    """Count the uses of each local: by statements, as carried tensors and yields of loops, and as outputs."""
    for local in definition.outputs:
        local.uses += 1
    for statement in definition.body:
        for local in all_reads(statement):
            local.uses += 1


@dataclass(eq=False)
class Outline:
    """The definitions of a model, inner ones first; the last is the model, with one instance.

    Attributes:
        whole: the occurrence of the model's definition, which contains all other occurrences.
    """

    definitions: list[BlockDefinition]
    whole: Occurrence

    @property
    def model(self) -> BlockDefinition:
        """The definition of the model."""
        return self.definitions[-1]

    def nodes(self, rows: Mapping[BlockDefinition, Sequence[OperatorStep | BlockStep]]) -> list[Node]:
        """The nodes of the graph, in the order that follows from an order of each definition's rows.

        Args:
            rows: the rows of each definition, in the order in which they are executed.
        """
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
