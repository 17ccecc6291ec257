"""Layering and ordering: the first two steps of a layered drawing.

The method is that of Sugiyama, Tagawa and Toda (1981).  Ranks minimize the total length of the edges, as in Gansner et
al., "A Technique for Drawing Directed Graphs" (1993).  Barycenters determine the order in each row.  Ranks and
coordinates are the solutions of linear programs, which scipy solves.  No library for layered drawing is used: igraph's
`layout_sugiyama`, for example, places points, not boxes.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from archc.drawing.scene import Edge, Panel, SceneNode


@dataclass(eq=False)
class Vertex:
    """A vertex of the layered graph: a node, or a dummy where a long edge crosses a row.

    Attributes:
        node: the node; None for a dummy.
        rank: the index of its row.
        above, below: the segments to the adjacent rows.
        x: the coordinate of the center, at which most segments end.  Routing may widen a vertex, but keeps x.
        left, right: the coordinates of the sides.
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
    """The part of an edge from one row to the next.

    Attributes:
        net: the value of the edge, as source and index of the result; segments with the same net may share lines.
        entry: if the target is a frame (a box that contains an inner panel), the index of the frame's input at which
            the segment ends; otherwise 0.
    """

    source: Vertex
    target: Vertex
    net: tuple[str, int]
    entry: int = 0


@dataclass(eq=False)
class LayeredGraph:
    """A panel as rows of vertices, from top to bottom.

    Attributes:
        routes: the forward edges, each with the segments of the edge.
    """

    rows: list[list[Vertex]]
    segments: list[Segment]
    routes: list[tuple[Edge, list[Segment]]]

    def vertices(self) -> list[Vertex]:
        """All vertices, row by row."""
        return [vertex for row in self.rows for vertex in row]


def layered_graph(panel: Panel, framed: bool = False) -> LayeredGraph:
    """The layered graph of a panel, without back edges.

    Args:
        framed: True if the panel is inside a frame; its outputs are then in the last row.
    """
    ranks = _ranks(panel, framed)
    vertices = {node.key: Vertex(node, ranks[node.key]) for node in panel.nodes}
    rows: list[list[Vertex]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
    for vertex in vertices.values():
        rows[vertex.rank].append(vertex)
    routes: list[tuple[Edge, list[Segment]]] = []
    segments: list[Segment] = []
    dummies: dict[tuple[tuple[str, int], int], Segment] = {}  # the segment into each dummy
    for edge in panel.edges:
        if edge.back:
            continue
        net = edge.source, edge.outlet
        last, target = vertices[edge.source], vertices[edge.target]
        route = []
        for rank in range(last.rank + 1, target.rank):
            if (net, rank) not in dummies:
                dummy = Vertex(None, rank)
                rows[rank].append(dummy)
                segments.append(_linked(Segment(last, dummy, net)))
                dummies[net, rank] = segments[-1]
            route.append(dummies[net, rank])
            last = route[-1].target
        segments.append(_linked(Segment(last, target, net, edge.entry)))
        routes.append((edge, [*route, segments[-1]]))
    _order(rows)
    return LayeredGraph(rows, segments, routes)


def _linked(segment: Segment) -> Segment:
    segment.source.below.append(segment)
    segment.target.above.append(segment)
    return segment


def _ranks(panel: Panel, framed: bool) -> dict[str, int]:
    """The ranks that minimize the total edge length, with inputs at the top and stages in order."""
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
    """The number of each node's band, from the top: by stage, but never above the band of a producer."""
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
    """Sort each row for few crossings: run several barycenter sweeps, and keep the best order."""
    position: dict[Vertex, int] = {}

    def note(row: Sequence[Vertex]) -> None:
        position.update((vertex, number) for number, vertex in enumerate(row))

    for row in rows:
        note(row)
    best, fewest = [list(row) for row in rows], _crossings(rows, position)
    for sweep in range(24):
        down = sweep % 2 == 0
        for row in rows[1:] if down else rows[-2::-1]:
            keys = {vertex: _barycenter(vertex, down, position) for vertex in row}
            # A vertex without neighbours in the previous row of the sweep keeps its position.  At equal keys, a dummy
            # is right of a box.
            row.sort(key=lambda vertex: (keys[vertex], vertex.node is None, position[vertex]))
            note(row)
        crossings = _crossings(rows, position)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    for row, found in zip(rows, best, strict=True):
        row[:] = found


def _barycenter(vertex: Vertex, down: bool, position: dict[Vertex, int]) -> float:
    """The mean position of a vertex's neighbours above or below; without neighbours, its own position."""
    segments = vertex.above if down else vertex.below
    places = [position[segment.source if down else segment.target] + segment.entry / 100 for segment in segments]
    if not places:
        return float(position[vertex])
    return sum(places) / len(places)


def _crossings(rows: Sequence[Sequence[Vertex]], position: dict[Vertex, int]) -> int:
    """The number of crossings, including crossings of segments that enter a frame in the wrong order."""
    count = 0
    by_rank: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        for vertex in row:
            for segment in vertex.below:
                end = position[segment.target] + segment.entry / 100
                by_rank[vertex.rank].append((position[vertex] + segment.net[1] / 100, end))
    for ends in by_rank.values():
        before: list[float] = []  # ends of the segments that begin further left
        for _, end in sorted(ends):
            count += len(before) - bisect_right(before, end)
            insort(before, end)
    return count


class LinearProgram:
    """A linear program over nonnegative variables, numbered from 0.

    Callers give variables small costs, so that fewer solutions are optimal.  The solution is the same on every run, but
    may change with another release of scipy.
    """

    def __init__(self) -> None:
        self._costs: list[float] = []
        self._rows: list[tuple[Mapping[int, float], float]] = []

    def variable(self, cost: float = 0.0) -> int:
        """Add a nonnegative variable; return its number."""
        self._costs.append(cost)
        return len(self._costs) - 1

    def at_least(self, terms: Mapping[int, float], bound: float) -> None:
        """Constrain a weighted sum to a lower bound."""
        self._rows.append((terms, bound))

    def apart(self, low: int, high: int, distance: float) -> None:
        """Constrain two variables to a least distance."""
        self.at_least({high: 1.0, low: -1.0}, distance)

    def pull(self, low: int, high: int, weight: float) -> None:
        """Minimize the difference `high` - `low`, which constraints must keep nonnegative."""
        self._costs[high] += weight
        self._costs[low] -= weight

    def near(self, terms: Mapping[int, float], constant: float, weight: float) -> None:
        """Minimize the absolute value of a weighted sum plus a constant."""
        size = self.variable(weight)
        self.at_least({size: 1.0, **{name: -factor for name, factor in terms.items()}}, constant)
        self.at_least({size: 1.0, **terms}, -constant)

    def solve(self) -> list[float]:
        """Solve the program; return the values of all variables."""
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
