"""Groups of block uses with equal structure.

Each group becomes one definition of the outline, such as a class of the emitted PyTorch module.  Each use gets a
`StructureKey`: operators, wiring, and the names of layers and weights relative to the path of the use.  Uses with equal
keys form a group.  Attributes of a layer may differ within a group if they can be arguments of the definition.

A block use applies a layer.  Several uses can apply the same layer, with the same weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from archc.codegen.outline.argument_names import block_sizes, operator_with_block_sizes
from archc.codegen.outline.definitions import Tie
from archc.codegen.outline.folding import BlockUse, fold, levels
from archc.codegen.outline.repetition import Extension, StepSequence, StepSummary, extensions
from archc.declaration.base import Operator, formula_of
from archc.ir.graph import Graph, Node, Order, Scope, Value
from archc.ir.scans import scan_end, scan_parts
from archc.types.attributes import attributes
from archc.types.storage import Dense

ANY = object()
"""In a key, replaces every value that can be an argument: `3`, `(1, 7)` or "same"."""

OperatorKey = Callable[[Node, Operator], Hashable]
"""A function that returns the key of a node and its operator.

The sizes in the operator have the names of the block.  Nodes of two block uses can become one statement of a definition
only if their keys are equal.
"""


@dataclass(eq=False)
class UseGroup:
    """Block uses with one definition.

    Attributes:
        uses: all uses.
        instances: the first use of each layer, by the path of the layer.
        outputs: positions in `UseStructure.values` of the values that are used outside the block.
        ties: see `BlockDefinition`.
    """

    uses: list[UseStructure] = field(default_factory=list)
    instances: dict[str, UseStructure] = field(default_factory=dict)
    outputs: tuple[int, ...] = ()
    ties: tuple[Tie, ...] = ()


@dataclass(eq=False)
class UseStructure:
    """The structure of a block use.

    Attributes:
        scope: the scope of the use.
        items: the nodes and the inner block uses.
        rows: for each item, its name and a key of its structure without operands.
        inputs: the values from outside: first the block's inputs in their order, then other values in the order of
            first use.  If the uses of a block are `block(x, x)` and `block(x, memory)`, the first use has x twice in
            `inputs`, so that both uses have two inputs.
        positions: for each value of `inputs`, its position among the block's inputs; None for the other values.
        values: the results of the items, in order.
        ties: the ties between weights of layers inside; see `Tie`.
        unresolved: ties to weights outside, as pairs of the path inside the use and the path of the stored weight.
        group: the uses with the same structure.
        lengths: the lengths of lists of layers, if they differ between uses of the group.  The last elements of a
            shorter list are repeated in `items`, `rows` and `values`, up to the longest length.
    """

    scope: Scope
    items: list[Node | UseStructure] = field(default_factory=list)
    rows: list[tuple[str | None, Hashable]] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    positions: list[int | None] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    ties: tuple[Tie, ...] = ()
    unresolved: tuple[tuple[str, str], ...] = ()
    group: UseGroup = field(default_factory=UseGroup)
    lengths: Mapping[str, int] = field(default_factory=dict)

    def stretch(self, stretch: Extension) -> None:
        """Repeat the last elements of lists, up to the lengths in the longest use of the group."""
        made = {item: item.results if isinstance(item, Node) else item.outputs for item in self.items}
        self.items = [self.items[position] for position in stretch.positions]
        self.rows = [self.rows[position] for position in stretch.positions]
        self.values = [value for item in self.items for value in made[item]]
        self.lengths = stretch.lengths

    @property
    def outputs(self) -> list[Value]:
        """The values that are used outside the block."""
        return [self.values[position] for position in self.group.outputs]

    def relative(self, path: str) -> str:
        """A path relative to this use."""
        return path[len(self.scope.path) + 1 :] if self.scope.path else path


class StructureKey(NamedTuple):
    """The structure of a block use as a key; uses with equal keys are instances of one definition.

    Attributes:
        wiring: the operands of each item, as numbers: k for value k of the use, -1 - k for input k.
        rows, ties: see `UseStructure`.
    """

    definition: str
    wiring: tuple[tuple[int, ...], ...]
    rows: tuple[tuple[str | None, Hashable], ...]
    ties: tuple[Tie, ...]


def align(graph: Graph, order: Mapping[Node, Order], key: OperatorKey, self_contained: bool) -> list[UseGroup]:
    """Group the block uses of a graph by structure; inner groups first, the model last.

    Args:
        order: see `fold`.
        self_contained: if True, a block that shares a weight with a layer outside gets no definition.  The definition
            around the block contains the statements of the block.
    """
    apart = _leaking(graph) if self_contained else set()
    while True:
        uses = fold(graph, order, apart)
        aligner = _Aligner(graph, key, _resized(uses))
        for level in levels(uses):
            aligner.align_level(level)
            if aligner.apart:
                break
        else:
            return aligner.groups
        apart |= aligner.apart


class _Aligner:
    """Groups block uses level by level, inner uses first.

    Attributes:
        apart: the paths of layers to inline, because two uses of the layer differ in structure.
        resized: the paths of layers that are used with inputs of different sizes.
    """

    def __init__(self, graph: Graph, key: OperatorKey, resized: set[str]):
        self.graph = graph
        self.key = key
        self.groups: list[UseGroup] = []
        self.structures: dict[BlockUse, UseStructure] = {}
        self.apart: set[str] = set()
        self.resized = resized

    def align_level(self, uses: list[BlockUse]) -> None:
        """Group the block uses of one level; the block uses inside them have groups already."""
        alike: dict[StructureKey, list[BlockUse]] = defaultdict(list)
        for use in uses:
            structure, form = self._describe(use)
            self.structures[use] = structure
            alike[form].append(use)
        self._join_repeated(alike)
        stretched = self._join_lengths(alike)
        keys: dict[str, set[StructureKey]] = defaultdict(set)
        for form, members in alike.items():
            for use in members:
                keys[use.scope.path].add(form)
        for members in alike.values():
            group = UseGroup()
            escaping: set[int] = set()
            for use in members:
                structure = self.structures[use]
                path = use.scope.path
                # All uses of one layer must have the same structure.
                if len(keys[path]) > 1:
                    self.apart.add(path)
                if use in stretched:
                    structure.stretch(stretched[use])
                structure.group = group
                group.uses.append(structure)
                group.instances.setdefault(path, structure)
                last = {value: n for n, value in enumerate(structure.values)}
                escaping.update(n for value, n in last.items() if value in use.escaping)
            if group.uses:
                group.outputs = tuple(sorted(escaping))
                group.ties = group.uses[0].ties
                self.groups.append(group)

    def _join_lengths(self, alike: dict[StructureKey, list[BlockUse]]) -> dict[BlockUse, Extension]:
        """Join uses that differ only in the lengths of lists of layers; return the extension of each use.

        The longest use becomes the first of its group.
        """
        blocks: dict[str, list[StructureKey]] = defaultdict(list)
        for form, members in alike.items():
            if members and not form.ties:
                blocks[form.definition].append(form)
        found: dict[BlockUse, Extension] = {}
        for forms in blocks.values():
            structures = [self._structure(form, alike[form]) for form in forms] if len(forms) > 1 else []
            stretched = extensions(structures)
            for number, stretch in stretched.items():
                found |= dict.fromkeys(alike[forms[number]], stretch)
            for number, stretch in stretched.items():
                if number != stretch.longest:
                    alike[forms[stretch.longest]] += alike[forms[number]]
                    alike[forms[number]] = []
        return found

    def _structure(self, form: StructureKey, uses: list[BlockUse]) -> StepSequence:
        rows: list[StepSummary] = []
        number = 0
        for item, (name, kind), operands in zip(self.structures[uses[0]].items, form.rows, form.wiring, strict=True):
            count = len(item.results if isinstance(item, Node) else item.outputs)
            end = scan_end(item.op) if isinstance(item, Node) else ""
            repeated = (kind, iteration_key(item)) if isinstance(item, Node) else kind
            rows.append(StepSummary(name, repeated, operands, range(number, number + count), end))
            number += count
        outputs = {n for use in uses for n, value in enumerate(self.structures[use].values) if value in use.escaping}
        return StepSequence(form.definition, rows, [kind for _, kind in form.rows], outputs)

    def _join_repeated(self, alike: dict[StructureKey, list[BlockUse]]) -> None:
        """Join uses with one tensor for two inputs, `block(x, x)`, with uses such as `block(x, memory)`.

        In the graph of `block(x, x)`, an operator that uses x could use either input.  The graph of `block(x, memory)`
        shows which input the operator uses.
        """
        for form, members in list(alike.items()):
            for use in list(members):
                structure = self.structures[use]
                received = structure.scope.inputs
                if len(set(received)) == len(received):
                    continue
                fitting = (
                    known for known, others in alike.items() if others and self._fits(structure, form, others[0], known)
                )
                model = next(fitting, None)
                if model is not None:
                    structure.positions = self.structures[alike[model][0]].positions
                    structure.inputs = [received[place] for place in structure.positions if place is not None]
                    members.remove(use)
                    alike[model].append(use)

    def _fits(self, structure: UseStructure, form: StructureKey, other: BlockUse, other_form: StructureKey) -> bool:
        """Return whether `block(x, x)` can be an instance of the same definition as `block(x, memory)`.

        True if replacing `memory` by x in the key of `block(x, memory)` gives the key of `block(x, x)`.

        Args:
            structure, form: the use `block(x, x)` and its key.
            other, other_form: the use `block(x, memory)` and its key.
        """
        model, received = self.structures[other], structure.scope.inputs
        if (form.definition, form.rows, form.ties) != (other_form.definition, other_form.rows, other_form.ties):
            return False
        distinct = len(set(model.scope.inputs)) == len(model.scope.inputs) == len(received)
        places = [position for position in model.positions if position is not None]
        if not distinct or len(places) < len(model.positions):
            return False
        own = {value: -position for position, value in enumerate(structure.inputs, 1)}
        numbers = {-number: own.get(received[place]) for number, place in enumerate(places, 1)}
        return form.wiring == tuple(tuple(numbers.get(n, n) for n in operands) for operands in other_form.wiring)

    def _describe(self, use: BlockUse) -> tuple[UseStructure, StructureKey]:
        structure = UseStructure(use.scope)
        structure.items = [self.structures[item] if isinstance(item, BlockUse) else item for item in use.items]
        structure.inputs = _received(structure)
        places = {value: place for place, value in reversed(list(enumerate(structure.scope.inputs)))}
        structure.positions = [places.get(value) for value in structure.inputs]
        numbers = {value: -position for position, value in enumerate(structure.inputs, 1)}
        wiring: list[tuple[int, ...]] = []
        for item in structure.items:
            wiring.append(tuple(numbers[value] for value in _operands(item)))
            for value in item.results if isinstance(item, Node) else item.outputs:
                numbers[value] = len(structure.values)
                structure.values.append(value)
            structure.rows.append(self._row(item, structure))
        foreign = dict.fromkeys(pair for item in structure.items for pair in self._foreign(item))
        inside = [pair for pair in foreign if _inside(pair[1], structure.scope)]
        structure.ties = tuple(Tie(structure.relative(own), structure.relative(actual)) for own, actual in inside)
        structure.unresolved = tuple(pair for pair in foreign if not _inside(pair[1], structure.scope))
        return structure, StructureKey(use.scope.definition, tuple(wiring), tuple(structure.rows), structure.ties)

    def _foreign(self, item: Node | UseStructure) -> Iterable[tuple[str, str]]:
        """The tied weights of an item, as pairs of the path inside the use and the path of the stored weight."""
        if isinstance(item, UseStructure):
            return item.unresolved
        if item.path is None:
            return ()
        own = ((f"{item.path}.{parameter}", path) for parameter, path in item.weights.items())
        return (pair for pair in own if pair[0] != pair[1])

    def _row(self, item: Node | UseStructure, structure: UseStructure) -> tuple[str | None, Hashable]:
        if isinstance(item, UseStructure):
            return structure.relative(item.scope.path), item.group
        member = None if item.path is None else structure.relative(item.path)
        weights: list[Hashable] = []
        for parameter, path in item.weights.items():
            if path == f"{item.path}.{parameter}":
                # An attribute such as `bias` determines whether the layer has a dense parameter.
                storage = self.graph.weights[path].storage
                weights += [(parameter, storage)] if storage != Dense() else []
            else:
                # A tied weight: `item` uses the weight of another layer.  If `item` has a name, the tie is in `ties` of
                # the block that contains both layers, so the key needs no path.  If `item` has no name, no `ties` have
                # the path, so the key must contain it.
                weights.append((parameter, path if member is None else None, parameter in item.transposed))
        types = tuple((value.type.dtype, value.type.rank) for value in item.operands)
        op = self._in_own_sizes(item.op, structure.scope)
        options = scan_parts(op) if scan_end(op) else self.key(item, op)
        return member, (type(item.op), tuple(weights), options, types, len(item.results))

    def _in_own_sizes(self, op: Operator, scope: Scope) -> Operator:
        """The operator with its sizes in terms of the block; in terms of the model for a layer in `resized`."""
        if scope.parent is None:
            return op
        return operator_with_block_sizes(op, {} if scope.path in self.resized else block_sizes(scope))


def _received(structure: UseStructure) -> list[Value]:
    """The values that a use gets from outside: the block's inputs, then others in the order of first use."""
    made = {value for item in structure.items for value in (item.results if isinstance(item, Node) else item.outputs)}
    used = dict.fromkeys(value for item in structure.items for value in _operands(item) if value not in made)
    known = [value for value in dict.fromkeys(structure.scope.inputs) if value in used]
    return list(dict.fromkeys((*known, *used)))


def _operands(item: Node | UseStructure) -> Sequence[Value]:
    return item.operands if isinstance(item, Node) else item.inputs


def _resized(uses: Iterable[BlockUse]) -> set[str]:
    """The paths of the layers that are used with inputs of different sizes."""
    sizes: dict[str, Mapping[str, Any]] = {}
    return {use.scope.path for use in uses if sizes.setdefault(use.scope.path, use.scope.sizes) != use.scope.sizes}


def _leaking(graph: Graph) -> set[str]:
    """The paths of the uses of blocks that share a weight with a layer outside."""
    found: set[str] = set()
    for node in graph.nodes():
        for parameter, path in node.weights.items():
            own = f"{node.path}.{parameter}"
            if path != own:
                around = [set(_prefixes(own)), set(_prefixes(path))]
                found |= around[0] ^ around[1]
    return found


def _prefixes(path: str) -> Iterable[str]:
    parts = path.split(".")
    return (".".join(parts[:k]) for k in range(1, len(parts)))


def text_key(node: Node, op: Operator) -> Hashable:
    """Key for the language: constants in attributes may become arguments of a block.

    This does not hold for operators that print other arguments than their attributes.  The two sides of a formula keep
    their places: `x - 2` and `2 - x` have different keys.
    """
    if type(op).arguments is not Operator.arguments:
        return op
    kind = formula_of(op)
    sides = [side is None for side in op.sides() or ()] if kind is not None else ()
    return kind, tuple(sides), tuple(_constants_hidden(info.of(op)) for info in attributes(type(op)))


def _constants_hidden(value: Any) -> Hashable:
    """An attribute with a marker for each constant in it; the sizes in a tuple remain."""
    if isinstance(value, tuple) and not is_argument(value):
        return tuple(map(_constants_hidden, value))
    return ANY if is_argument(value) else value


def iteration_key(node: Node) -> Hashable:
    """Key that is equal for the nodes of one statement in all iterations of a loop.

    The iterations have the same functions, and only their layers may differ.
    """
    return node.op if node.name is None and not scan_end(node.op) else None


def is_argument(value: Any) -> bool:
    """Return whether a value can be an argument: a number, a string, a boolean, or a tuple of them."""
    if isinstance(value, tuple):
        return all(is_argument(item) for item in value)
    return type(value) in (int, float, bool, str)


def _inside(path: str, scope: Scope) -> bool:
    return not scope.path or path.startswith(f"{scope.path}.")
