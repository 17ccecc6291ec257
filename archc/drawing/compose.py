"""Conversion of a graph to a scene: a panel for the model, and a panel for each block that it uses."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import count

from archc.analysis.cost import cost
from archc.codegen.outline.build import outline
from archc.codegen.outline.definitions import (
    BlockDefinition,
    BlockStep,
    CompoundStatement,
    Local,
    Loop,
    OperatorStep,
    Outline,
    Recurrence,
    Statement,
    all_reads,
    all_results,
)
from archc.declaration.traits import CONCATENATES
from archc.diagnostics import did_you_mean, error
from archc.drawing.instances import (
    Peer,
    Peers,
    StageFinder,
    iterations,
    nodes_of,
    result_types,
    scopes_of,
    sizes_of,
    steps,
    used_instances,
)
from archc.drawing.labels import cut, is_symbol, layer_row, member_label, range_text, shape_text, sign, use_text
from archc.drawing.scene import BoxRow, Edge, Kind, Panel, Scene, SceneNode, fold_chains
from archc.ir.graph import Graph
from archc.ir.stages import entered_stage


def compose(graph: Graph, depth: int = 0, opened: Collection[str] = ()) -> Scene:
    """The scene of a model.

    Args:
        depth: the number of levels of blocks to expand in place.
        opened: names of blocks to expand in place at any level.

    Raises:
        ArchcError: a name of `opened` is no block of the model (`unknown-block`), or the stages are inconsistent.
    """
    program = outline(graph, self_contained=True, mixed_loops=False)
    _check(program, opened)
    book = SceneContext(graph, depth, frozenset(opened))
    panels: dict[BlockDefinition, Panel] = {}
    waiting = [program.model]
    for definition in waiting:  # grows during the loop
        panels[definition] = book.panel(definition, definition is program.model)
        waiting += [inner for inner in book.closed if inner not in waiting]
    figures = cost(graph)
    note = f"{figures.parameters:,} parameters" if figures.parameters else ""
    return Scene(graph.name, note, list(panels.values()), book.stages.devices)


class SceneContext:
    """State that the panels of a scene share.

    Attributes:
        stages: finds the stage of each node.
        marks: the numbers that `mark_shared` gives to nodes.
        closed: the blocks that need a panel of their own.
    """

    def __init__(self, graph: Graph, depth: int, opened: frozenset[str]):
        self.graph, self.depth, self.opened = graph, depth, opened
        self.stages = StageFinder(graph)
        self.marks = count(1)
        self.closed: dict[BlockDefinition, None] = {}

    def panel(self, definition: BlockDefinition, is_model: bool) -> Panel:
        """The panel of a definition, for all its instances."""
        instances = tuple(range(len(definition.scopes)))
        note = "" if is_model else f"{len(instances)} uses" if len(instances) > 1 else "1 use"
        panel = Panel(definition.name, note, banded=is_model and self.stages.count > 1)
        PanelBuilder(self, definition, panel, level=0, is_model=is_model).draw_definition(instances)
        return panel

    def opens(self, definition: BlockDefinition, level: int) -> bool:
        """Return whether a block is expanded in place, inside `level` other expanded blocks."""
        return level < self.depth or bool(self.opened & _names(definition))


def _names(definition: BlockDefinition) -> set[str]:
    """The names of a definition: its title, and the name of the block in the text."""
    return {definition.name, definition.scopes[0].definition}


def _check(program: Outline, opened: Collection[str]) -> None:
    known = [name for definition in program.definitions[:-1] for name in sorted(_names(definition))]
    for name in opened:
        if name not in known:
            listed = ", ".join(f"`{one}`" for one in dict.fromkeys(known))
            way = did_you_mean(name, known) or (f"it uses {listed}" if known else "it uses no blocks")
            raise error("unknown-block", f"`{program.model.name}` has no block `{name}`", help=way)


LETTERS = "ijkmn"
"""Names of loop indices, from the outermost loop."""


class PanelBuilder:
    """Adds the nodes and edges of a definition to a panel.

    Args:
        level: the number of expanded blocks around the panel.
        loops: the outer loops in the same definition, each with the name of its index.
    """

    def __init__(
        self,
        book: SceneContext,
        definition: BlockDefinition,
        panel: Panel,
        level: int,
        is_model: bool = False,
        loops: Sequence[tuple[Loop, str]] = (),
    ):
        self.book, self.definition, self.panel, self.level, self.is_model = book, definition, panel, level, is_model
        self.loops = list(loops)
        self.places: dict[Local, tuple[str, int]] = {}
        self.members: dict[str, str] = {}  # the first node of each layer
        self.repeated: dict[str, list[str]] = {}  # all nodes of each layer

    def draw_definition(self, instances: tuple[int, ...]) -> None:
        """Draw a definition for some of its instances."""
        for local in self.definition.inputs:
            self._begin(local, self._input_text(local))
        self._draw([[Peer(statement, instances)] for statement in self.definition.body])
        for name, local in zip(self.definition.output_names, self.definition.outputs):
            text = shape_text([local.type], {}) if self.is_model else ""
            self._end(local, name or local.name or "output", text)
        mark_shared(self)
        fold_chains(self.panel)

    def _input_text(self, local: Local) -> str:
        if self.is_model:
            return cut(str(local.type))
        return cut(" × ".join(map(str, local.axes))) if local.axes and None not in local.axes else ""

    def _draw(self, rows: Sequence[Peers]) -> None:
        for peers in rows:
            statement = peers[0].statement
            if isinstance(statement, OperatorStep):
                self._apply(statement, peers)
            elif isinstance(statement, BlockStep):
                self._use(statement, peers)
            elif isinstance(statement, Loop):
                self._loop(statement, peers)
            else:
                self._scan(statement, peers)

    # Nodes and edges --------------------------------------------------------------------------------------

    def _add(self, kind: Kind, rows: Sequence[BoxRow], peers: Peers = (), **more: object) -> SceneNode:
        key = f"{'e' if kind in ('input', 'output') else 'n'}{len(self.panel.nodes)}"
        node = SceneNode(key, kind, tuple(rows), stage=self.book.stages.of(peers))
        self.panel.nodes.append(replace(node, **more))  # type: ignore[arg-type]  # fields of `SceneNode`
        return self.panel.nodes[-1]

    def _connect(self, locals_: Sequence[Local], node: SceneNode) -> None:
        for entry, local in enumerate(locals_):
            source, outlet = self.places[local]
            self.panel.edges.append(Edge(source, node.key, outlet, entry if node.inner is not None else 0))

    def _made(self, node: SceneNode, results: Sequence[Local]) -> None:
        read = [local for local in results if local.uses]
        node.outlets = max(1, len(read)) if node.inner is None else len(results)
        for number, local in enumerate(results if node.inner is not None else read):
            self.places[local] = (node.key, number)

    def _begin(self, local: Local, text: str = "") -> SceneNode:
        node = self._add("input", [BoxRow(text, cut(local.name or "x"))])
        self.places[local] = (node.key, 0)
        return node

    def _end(self, local: Local, name: str, text: str = "") -> SceneNode:
        source = self.places[local][0]
        node = self._add("output", [BoxRow(text, cut(name))])
        node.stage = (self.panel.node(source).stage[1],) * 2
        self._connect([local], node)
        return node

    def _show(self, statements: Sequence[Statement], node: SceneNode) -> None:
        """Record that a node shows the layers in some statements."""
        for name in (name for statement in statements for name in names_in(statement)):
            self.members.setdefault(name, node.key)
            self.repeated.setdefault(name, []).append(node.key)

    def _shape(self, peers: Peers, operands: Sequence[Local]) -> str:
        """The text of the shape of the first result; empty if the only operand has the same shape."""
        statement = peers[0].statement
        own = result_types(peers, 0)
        same = len(operands) == 1 and statement.results[0].type.shape == operands[0].type.shape
        return "" if same else shape_text(own, sizes_of(self.definition, peers))

    # Statements -------------------------------------------------------------------------------------------

    def _apply(self, apply: OperatorStep, peers: Peers) -> None:
        nodes = nodes_of(peers)
        op = nodes[0].op
        if entered_stage(op) is not None and self.panel.banded:  # the bands already show the stages
            self.places[apply.results[0]] = self.places[apply.operands[0]]
            return
        if is_symbol(nodes[0]):
            node = self._add("symbol", [BoxRow(sign(op.symbol))], peers)
        else:
            label = "" if apply.member is None else member_label(apply.member.name, self.loops)
            row = layer_row(nodes, label, self.book.graph.weights)
            kind: Kind = "bar" if op.has(CONCATENATES) and len(apply.operands) > 1 else "layer"
            shape = self._shape(peers, apply.operands)
            node = self._add(kind, [row], peers, shape=shape)
        self._show([apply], node)
        self._connect(apply.operands, node)
        self._made(node, apply.results)

    def _use(self, use: BlockStep, peers: Peers) -> None:
        inner = use.definition
        label = member_label(use.member.name, self.loops)
        alone = _single(inner)
        if alone is not None:
            nodes = nodes_of([Peer(alone, used_instances(peers))])
            row = layer_row(nodes, label, self.book.graph.weights)
            node = self._add("layer", [row], peers, shape=self._shape(peers, use.operands))
        elif self.book.opens(inner, self.level):
            row = BoxRow(use_text(inner.name, scopes_of(peers)), label, "block")
            panel = Panel(inner.name)
            PanelBuilder(self.book, inner, panel, self.level + 1).draw_definition(used_instances(peers))
            node = self._frame(panel, row, peers)
        else:
            self.book.closed[inner] = None
            row = BoxRow(use_text(inner.name, scopes_of(peers)), label, "block", block=inner.name)
            node = self._add("layer", [row], peers, shape=self._shape(peers, use.operands))
        self._show([use], node)
        self._connect(use.operands, node)
        self._made(node, use.results)

    def _frame(self, panel: Panel, row: BoxRow, peers: Peers, **more: object) -> SceneNode:
        ends = {kind: tuple(node.key for node in panel.nodes if node.kind == kind) for kind in ("input", "output")}
        more = {"entries": ends["input"], "exits": ends["output"], **more}
        return self._add("frame", [row], peers, inner=panel, **more)

    def _within(self, title: str, loops: Sequence[tuple[Loop, str]] = ()) -> PanelBuilder:
        """A builder for the panel inside a statement of this definition."""
        return PanelBuilder(self.book, self.definition, Panel(title), self.level, loops=[*self.loops, *loops])

    def _loop(self, loop: Loop, peers: Peers) -> None:
        letter = LETTERS[len(self.loops) % len(LETTERS)]
        last = loop.first + loop.count
        inside = self._within(f"for {letter} in {loop.first}..{last}", [(loop, letter)])
        free = _free(loop)
        for local, outer in zip((*loop.parameters[0], *free), (*loop.carried, *free)):
            inside._begin(replace(local, name=local.name or outer.name) if local is not outer else local)
            inside.places[local] = (inside.panel.nodes[-1].key, 0)
        inside._draw(iterations(peers))
        for local, result in zip(loop.yields[0], loop.results):
            inside._end(local, result.name or local.name or "output")
        mark_shared(inside)
        fold_chains(inside.panel)
        repeat = range_text(
            [statement.counts[one] for statement, own in peers for one in own if isinstance(statement, Loop)]
        )
        core = [node for node in inside.panel.nodes if node.kind not in ("input", "output")]
        if len(core) == 1 and core[0].kind in ("layer", "frame") and len(loop.results) == 1:
            self._stack(loop, peers, free, inside.panel, core[0], f"[{letter}]", repeat)
            return
        title = ", ".join(f"{name}[{letter}]" for name in loop.lists)
        row = BoxRow(f"for {letter} in {loop.first}..{last}", cut(title), "loop")
        node = self._frame(inside.panel, row, peers, repeat=repeat)
        for body in loop.iterations:
            self._show(body, node)
        self._connect((*loop.carried, *free), node)
        self._made(node, loop.results)

    def _stack(
        self, loop: Loop, peers: Peers, free: Sequence[Local], panel: Panel, core: SceneNode, letter: str, repeat: str
    ) -> None:
        """Draw a loop over a single node as this node with the number of iterations, without a frame."""
        numbers = f"[{loop.first}..{loop.first + loop.count}]"
        rows = [replace(row, label=row.label.replace(letter, numbers)) for row in core.rows]
        more = {"inner": core.inner, "entries": core.entries, "exits": core.exits}
        node = self._add(core.kind, rows, peers, repeat=repeat, marks=core.marks, **more)
        node.shape = "" if core.kind == "frame" else self._shape(peers, loop.carried)
        for body in loop.iterations:
            self._show(body, node)
        ends = [end.key for end in panel.nodes if end.kind == "input"]
        for end, local in zip(ends, (*loop.carried, *free), strict=True):
            source, outlet = self.places[local]
            for edge in panel.edges:
                if edge.source == end and edge.target == core.key:
                    self.panel.edges.append(Edge(source, node.key, outlet, edge.entry))
        node.outlets = core.outlets
        for edge in panel.edges:
            if edge.source == core.key:
                self.places[loop.results[0]] = (node.key, edge.outlet)

    def _scan(self, scan: Recurrence, peers: Peers) -> None:
        inside = self._within("scan")
        around = [*scan.sequences, *scan.first_states]
        free = _free(scan)
        for local in (*scan.items, *scan.states, *free):
            inside._begin(local)
        inside._draw(steps(peers))
        for state, following, last in zip(scan.states, scan.next_states, scan.last_states):
            end = inside._end(following, state.name or last.name or "state")
            inside.panel.edges.append(Edge(end.key, inside.places[state][0], back=True))
        for kept, stacked in zip(scan.kept, scan.stacked):
            inside._end(kept, f"yield {stacked.name or kept.name or 'y'}")
        mark_shared(inside)
        fold_chains(inside.panel)
        names = ", ".join(local.name or "x" for local in scan.items)
        node = self._frame(inside.panel, BoxRow(f"for each {names}", "scan", "scan"), peers)
        self._show(scan.body, node)
        self._connect((*around, *free), node)
        self._made(node, scan.results)


def _free(nest: Loop | Recurrence) -> list[Local]:
    """The values from outside that the body of a loop or scan uses under their own names.

    The body uses a carried value through a parameter, and a sequence through its items.  If the body also uses the
    carried value or the sequence itself, it is included here, and enters the frame twice.
    """
    made = set(all_results(nest))
    read = [local for statement in nest.bodies[0] for local in all_reads(statement)]
    read += nest.yields[0] if isinstance(nest, Loop) else nest.exit.operands
    return [local for local in dict.fromkeys(read) if local not in made]


def _single(definition: BlockDefinition) -> OperatorStep | None:
    """The only operator of a block, which is drawn in place of the block; None for other blocks."""
    alone = definition.body[0] if len(definition.body) == 1 else None
    plain = (
        isinstance(alone, OperatorStep) and alone.operands == definition.inputs and alone.results == definition.outputs
    )
    return alone if plain and isinstance(alone, OperatorStep) else None


def mark_shared(draft: PanelBuilder) -> None:
    """Give the same number to all nodes that share a weight; to be called before `fold_chains`."""
    together = [list(dict.fromkeys(keys)) for keys in draft.repeated.values()]
    for tie in draft.definition.ties:
        holders = [_holder(draft.members, path) for path in (tie.source, tie.weight)]
        together.append([holder for holder in holders if holder is not None])
    groups: dict[str, set[str]] = {}  # for each node, the nodes that share a weight with it
    for keys in together:
        joined = set(keys).union(*(groups.get(key, ()) for key in keys))
        groups.update((key, joined) for key in joined)
    done: set[str] = set()
    for node in draft.panel.nodes:
        group = groups.get(node.key, set())
        if len(group) > 1 and node.key not in done:
            number = next(draft.book.marks)
            for key in sorted(group):
                draft.panel.node(key).marks = (number,)
            done |= group


def _holder(members: dict[str, str], path: str) -> str | None:
    """The node of the layer that owns a weight: the layer whose name is the longest prefix of the path."""
    while path:
        if path in members:
            return members[path]
        path = path.rpartition(".")[0]
    return None


def names_in(statement: Statement) -> list[str]:
    """The names of the layers in a statement."""
    if isinstance(statement, CompoundStatement):
        return [name for body in statement.bodies for inner in body for name in names_in(inner)]
    assert isinstance(statement, (OperatorStep, BlockStep))
    return [] if statement.member is None else [statement.member.name]
