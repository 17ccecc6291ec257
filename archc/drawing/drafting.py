"""The nodes and edges of one panel, from the statements of a definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from archc.codegen.outline.program import Apply, Definition, Local, Loop, Recurrence, Statement, Use, made_by, reads_of
from archc.drawing.instances import (
    Peer,
    Peers,
    iterations,
    nodes_of,
    result_types,
    scopes_of,
    sizes_of,
    steps,
    used_instances,
)
from archc.drawing.marks import mark_shared, names_in
from archc.drawing.rows import is_symbol, layer_row, member_label
from archc.drawing.scene import Edge, Kind, Node, Panel, Row
from archc.drawing.stacks import fold_chains
from archc.drawing.wording import cut, range_text, shape_text, sign, use_text

if TYPE_CHECKING:
    from archc.drawing.compose import Book

LETTERS = "ijkmn"
"""What the numbers of loops within loops are called."""


class Draft:
    """Draws into one panel.

    Args:
        level: how many open blocks are around it.
        loops: the loops around it in the same definition, with what their numbers are called.
    """

    def __init__(
        self,
        book: Book,
        definition: Definition,
        panel: Panel,
        level: int,
        is_model: bool = False,
        loops: Sequence[tuple[Loop, str]] = (),
    ):
        self.book, self.definition, self.panel, self.level, self.is_model = book, definition, panel, level, is_model
        self.loops = list(loops)
        self.places: dict[Local, tuple[str, int]] = {}
        self.members: dict[str, str] = {}  # the node that shows a layer
        self.repeated: dict[str, list[str]] = {}  # the nodes of each layer that is declared once and used twice

    def draw_definition(self, instances: tuple[int, ...]) -> None:
        """Draw all that a definition has in some of its instances."""
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
            if isinstance(statement, Apply):
                self._apply(statement, peers)
            elif isinstance(statement, Use):
                self._use(statement, peers)
            elif isinstance(statement, Loop):
                self._loop(statement, peers)
            else:
                self._scan(statement, peers)

    # Nodes and edges --------------------------------------------------------------------------------------

    def _add(self, kind: Kind, rows: Sequence[Row], peers: Peers = (), **more: object) -> Node:
        key = f"{'e' if kind in ('input', 'output') else 'n'}{len(self.panel.nodes)}"
        node = Node(key, kind, tuple(rows), stage=self.book.stages.of(peers))
        self.panel.nodes.append(replace(node, **more))  # type: ignore[arg-type]  # fields of `Node`
        return self.panel.nodes[-1]

    def _connect(self, locals_: Sequence[Local], node: Node) -> None:
        for entry, local in enumerate(locals_):
            source, outlet = self.places[local]
            self.panel.edges.append(Edge(source, node.key, outlet, entry if node.inner is not None else 0))

    def _made(self, node: Node, results: Sequence[Local]) -> None:
        read = [local for local in results if local.uses]
        node.outlets = max(1, len(read)) if node.inner is None else len(results)
        for number, local in enumerate(results if node.inner is not None else read):
            self.places[local] = (node.key, number)

    def _begin(self, local: Local, text: str = "") -> Node:
        node = self._add("input", [Row(text, cut(local.name or "x"))])
        self.places[local] = (node.key, 0)
        return node

    def _end(self, local: Local, name: str, text: str = "") -> Node:
        source = self.places[local][0]
        node = self._add("output", [Row(text, cut(name))])
        node.stage = (self.panel.node(source).stage[1],) * 2
        self._connect([local], node)
        return node

    def _show(self, statements: Sequence[Statement], node: Node) -> None:
        """Take note that a node shows the layers of some statements."""
        for name in (name for statement in statements for name in names_in(statement)):
            self.members.setdefault(name, node.key)
            self.repeated.setdefault(name, []).append(node.key)

    def _shape(self, peers: Peers, operands: Sequence[Local]) -> str:
        """The shape of the first result, where it differs from that of what comes in."""
        statement = peers[0].statement
        own = result_types(peers, 0)
        same = len(operands) == 1 and statement.results[0].type.shape == operands[0].type.shape
        return "" if same else shape_text(own, sizes_of(self.definition, peers))

    # Statements -------------------------------------------------------------------------------------------

    def _apply(self, apply: Apply, peers: Peers) -> None:
        nodes = nodes_of(peers)
        op = nodes[0].op
        if op.enters_stage() is not None and self.panel.banded:  # the edge into another band says as much
            self.places[apply.results[0]] = self.places[apply.operands[0]]
            return
        if is_symbol(nodes[0]):
            node = self._add("symbol", [Row(sign(op.symbol))], peers)
        else:
            label = "" if apply.member is None else member_label(apply.member.name, self.loops)
            row = layer_row(nodes, label, self.book.graph.weights)
            kind: Kind = "bar" if op.concatenates and len(apply.operands) > 1 else "layer"
            shape = self._shape(peers, apply.operands)
            node = self._add(kind, [row], peers, shape=shape)
        self._show([apply], node)
        self._connect(apply.operands, node)
        self._made(node, apply.results)

    def _use(self, use: Use, peers: Peers) -> None:
        inner = use.definition
        label = member_label(use.member.name, self.loops)
        alone = _single(inner)
        if alone is not None:
            nodes = nodes_of([Peer(alone, used_instances(peers))])
            row = layer_row(nodes, label, self.book.graph.weights)
            node = self._add("layer", [row], peers, shape=self._shape(peers, use.operands))
        elif self.book.opens(inner, self.level):
            row = Row(use_text(inner.name, scopes_of(peers)), label, "block")
            panel = Panel(inner.name)
            Draft(self.book, inner, panel, self.level + 1).draw_definition(used_instances(peers))
            node = self._frame(panel, row, peers)
        else:
            self.book.closed[inner] = None
            row = Row(use_text(inner.name, scopes_of(peers)), label, "block", block=inner.name)
            node = self._add("layer", [row], peers, shape=self._shape(peers, use.operands))
        self._show([use], node)
        self._connect(use.operands, node)
        self._made(node, use.results)

    def _frame(self, panel: Panel, row: Row, peers: Peers, **more: object) -> Node:
        ends = {kind: tuple(node.key for node in panel.nodes if node.kind == kind) for kind in ("input", "output")}
        more = {"entries": ends["input"], "exits": ends["output"], **more}
        return self._add("frame", [row], peers, inner=panel, **more)

    def _within(self, title: str, loops: Sequence[tuple[Loop, str]] = ()) -> Draft:
        """A draft of what stands within a statement of this definition."""
        return Draft(self.book, self.definition, Panel(title), self.level, loops=[*self.loops, *loops])

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
        row = Row(f"for {letter} in {loop.first}..{last}", cut(title), "loop")
        node = self._frame(inside.panel, row, peers, repeat=repeat)
        for body in loop.iterations:
            self._show(body, node)
        self._connect((*loop.carried, *free), node)
        self._made(node, loop.results)

    def _stack(
        self, loop: Loop, peers: Peers, free: Sequence[Local], panel: Panel, core: Node, letter: str, repeat: str
    ) -> None:
        """Draw a loop that does one thing again and again as that thing, with how often."""
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
        node = self._frame(inside.panel, Row(f"for each {names}", "scan", "scan"), peers)
        self._show(scan.body, node)
        self._connect((*around, *free), node)
        self._made(node, scan.results)


def _free(nest: Loop | Recurrence) -> list[Local]:
    """What the body of a loop or scan reads from around it, besides what it is handed.

    What it is handed at first, or goes through, may be read so as well: then it comes in twice.
    """
    made = set(made_by(nest))
    read = [local for statement in nest.bodies[0] for local in reads_of(statement)]
    read += nest.yields[0] if isinstance(nest, Loop) else nest.exit.operands
    return [local for local in dict.fromkeys(read) if local not in made]


def _single(definition: Definition) -> Apply | None:
    """The operator that is all there is in a block; it is drawn in the place of its use."""
    alone = definition.body[0] if len(definition.body) == 1 else None
    plain = isinstance(alone, Apply) and alone.operands == definition.inputs and alone.results == definition.outputs
    return alone if plain and isinstance(alone, Apply) else None
