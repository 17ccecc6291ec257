"""Which row of a panel each node stands in, and in what order: the first two steps of a layered drawing.

(Sugiyama, Tagawa, Toda 1981; rows by the least total length of edges, as Gansner et al. 1993, "A Technique for Drawing
Directed Graphs", and orders by barycenters.)  Library code for it (igraph's `layout_sugiyama`) places points and not
boxes; rows and places here are linear programs of scipy's, and only the order is searched for.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from archc.drawing.scene import Edge, Panel, SceneNode


@dataclass(eq=False)
class Vertex:
    """What has a place in a row: a node, or the lane of a value that passes by.

    Attributes:
        node: None for a lane.
        above, below: what it is connected to in the rows beside its own.
        x: where most of its lines end: its middle, but for a bar that is drawn out.
        left, right: its sides.
    """

    node: SceneNode | None
    rank: int
    width: float = 0.0
    above: list[Segment] = field(default_factory=list)
    below: list[Segment] = field(default_factory=list)
    x: float = 0.0
    left: float = 0.0
    right: float = 0.0


@dataclass(eq=False)
class Segment:
    """A part of an edge, from one row to the next one.

    Attributes:
        net: the value that it carries: source and outlet; links of one net may share lines.
        entry: which value of a frame it is for the node that it ends in.
    """

    source: Vertex
    target: Vertex
    net: tuple[str, int]
    entry: int = 0


@dataclass(eq=False)
class LayeredGraph:
    """A panel in rows, from the top down.

    Attributes:
        routes: the edges that lead on, each with the links that it goes along.
    """

    rows: list[list[Vertex]]
    links: list[Segment]
    routes: list[tuple[Edge, list[Segment]]]

    def items(self) -> list[Vertex]:
        return [item for row in self.rows for item in row]


def layered_graph(panel: Panel, framed: bool = False) -> LayeredGraph:
    """Rows and orders; edges that lead back are left out.

    Args:
        framed: it is in a frame, at whose bottom its outputs stand.
    """
    ranks = _ranks(panel, framed)
    items = {node.key: Vertex(node, ranks[node.key]) for node in panel.nodes}
    rows: list[list[Vertex]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
    for item in items.values():
        rows[item.rank].append(item)
    routes: list[tuple[Edge, list[Segment]]] = []
    links: list[Segment] = []
    lanes: dict[tuple[tuple[str, int], int], Segment] = {}  # what leads into each lane
    for edge in panel.edges:
        if edge.back:
            continue
        net = edge.source, edge.outlet
        last, target = items[edge.source], items[edge.target]
        route = []
        for rank in range(last.rank + 1, target.rank):
            if (net, rank) not in lanes:
                lane = Vertex(None, rank)
                rows[rank].append(lane)
                links.append(_linked(Segment(last, lane, net)))
                lanes[net, rank] = links[-1]
            route.append(lanes[net, rank])
            last = route[-1].target
        links.append(_linked(Segment(last, target, net, edge.entry)))
        routes.append((edge, [*route, links[-1]]))
    _order(rows)
    return LayeredGraph(rows, links, routes)


def _linked(link: Segment) -> Segment:
    link.source.below.append(link)
    link.target.above.append(link)
    return link


def _ranks(panel: Panel, framed: bool) -> dict[str, int]:
    """Rows by the least total length of edges; inputs stand at the top, and stages one below the other."""
    program = LinearProgram()
    places = {node.key: program.variable(cost=0.001) for node in panel.nodes}
    for edge in panel.edges:
        if not edge.back:
            program.apart(places[edge.source], places[edge.target], 1)
            program.pull(places[edge.source], places[edge.target], 1)
    top, bottom = program.variable(), program.variable(cost=0.01)
    for node in panel.nodes:
        program.apart(top, places[node.key], 0)
        program.apart(places[node.key], bottom, 0)
        if node.kind == "input":
            program.apart(places[node.key], top, 0)
        if node.kind == "output" and framed:
            program.apart(bottom, places[node.key], 0)
    if panel.banded:
        bands = band_numbers(panel)
        limits = [program.variable() for _ in range(max(bands.values(), default=0) + 2)]
        for key, band in bands.items():
            program.apart(limits[band], places[key], 0)
            program.apart(places[key], limits[band + 1], 1)
    values = program.solve()
    return {key: round(values[place] - values[top]) for key, place in places.items()}


def band_numbers(panel: Panel) -> dict[str, int]:
    """The band of each node, counted from the top: by its stages, and never above what it needs."""
    spans = sorted({node.stage for node in panel.nodes}, key=lambda span: (sum(span), span))
    bands = {node.key: spans.index(node.stage) for node in panel.nodes}
    for _ in panel.nodes:
        lower = [edge for edge in panel.edges if not edge.back and bands[edge.source] > bands[edge.target]]
        if not lower:
            break
        for edge in lower:
            bands[edge.target] = max(bands[edge.target], bands[edge.source])
    used = sorted(set(bands.values()))
    return {key: used.index(band) for key, band in bands.items()}


def _order(rows: list[list[Vertex]]) -> None:
    """Sort each row so that few lines cross: sweeps down and up, and the best of them all."""
    position: dict[Vertex, int] = {}

    def note(row: Sequence[Vertex]) -> None:
        position.update((item, number) for number, item in enumerate(row))

    for row in rows:
        note(row)
    best, fewest = [list(row) for row in rows], _crossings(rows, position)
    for sweep in range(24):
        down = sweep % 2 == 0
        for row in rows[1:] if down else rows[-2::-1]:
            keys = {item: _barycenter(item, down, position) for item in row}
            # What has nothing on that side keeps its place; a lane goes right of a box.
            row.sort(key=lambda item: (keys[item], item.node is None, position[item]))
            note(row)
        crossings = _crossings(rows, position)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    for row, found in zip(rows, best, strict=True):
        row[:] = found


def _barycenter(item: Vertex, down: bool, position: dict[Vertex, int]) -> float:
    """The mean place of what an item is connected to on one side; its own place where that is nothing."""
    links = item.above if down else item.below
    places = [position[link.source if down else link.target] + link.entry / 100 for link in links]
    if not places:
        return float(position[item])
    return sum(places) / len(places)


def _crossings(rows: Sequence[Sequence[Vertex]], position: dict[Vertex, int]) -> int:
    """How many pairs of lines cross, with those counted that end in the wrong order in a frame."""
    count = 0
    by_rank: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        for item in row:
            for link in item.below:
                end = position[link.target] + link.entry / 100
                by_rank[item.rank].append((position[item] + link.net[1] / 100, end))
    for ends in by_rank.values():
        before: list[float] = []  # where lines end that begin further left, or in the same place and end further left
        for _, end in sorted(ends):
            count += len(before) - bisect_right(before, end)
            insort(before, end)
    return count


class LinearProgram:
    """A linear program in the making; variables are numbers from 0.

    Small costs of the variables themselves leave few solutions to choose from.  Where there are several, the one that
    is found is the same on every run, and may be another one with another release of scipy.
    """

    def __init__(self) -> None:
        self._costs: list[float] = []
        self._rows: list[tuple[Mapping[int, float], float]] = []

    def variable(self, cost: float = 0.0) -> int:
        """A new variable, not negative."""
        self._costs.append(cost)
        return len(self._costs) - 1

    def at_least(self, terms: Mapping[int, float], bound: float) -> None:
        """Demand that a weighted sum is at least so much."""
        self._rows.append((terms, bound))

    def apart(self, low: int, high: int, distance: float) -> None:
        """Demand that one variable is larger than another one by a distance."""
        self.at_least({high: 1.0, low: -1.0}, distance)

    def pull(self, low: int, high: int, weight: float) -> None:
        """Make the difference of two variables, which is known not to be negative, small."""
        self._costs[high] += weight
        self._costs[low] -= weight

    def near(self, terms: Mapping[int, float], constant: float, weight: float) -> None:
        """Make the absolute value of a weighted sum plus a constant small."""
        size = self.variable(weight)
        self.at_least({size: 1.0, **{name: -factor for name, factor in terms.items()}}, constant)
        self.at_least({size: 1.0, **terms}, -constant)

    def solve(self) -> list[float]:
        """The values of all variables."""
        import numpy as np
        from scipy.optimize import linprog
        from scipy.sparse import csr_array

        if not self._costs:
            return []
        data, rows, columns = [], [], []
        for number, (terms, _) in enumerate(self._rows):
            for name, factor in terms.items():
                rows.append(number)
                columns.append(name)
                data.append(-factor)
        matrix = csr_array((data, (rows, columns)), shape=(len(self._rows), len(self._costs)))
        bounds = [-bound for _, bound in self._rows]
        found = linprog(np.array(self._costs), A_ub=matrix, b_ub=np.array(bounds), bounds=(0, None), method="highs-ds")
        assert found.status == 0, found.message
        return [float(value) for value in found.x]
