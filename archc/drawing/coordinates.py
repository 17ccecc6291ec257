"""Coordinate assignment: the x coordinates of the vertices, the third step of a layered drawing.

A linear program keeps chains and long edges straight.  It centers a vertex between several neighbours, or aligns it
with the neighbour on the longest branch.

The time of the linear program grows more than quadratically with the number of dummy vertices (see `Vertex`).  So
graphs with very many dummy vertices are placed by sweeps over the rows, up and down.  In a sweep, each vertex moves to
the weighted mean of its neighbours in the previous row.  Vertices that would overlap move as one pool (the
pool-adjacent-violators algorithm for least squares with a fixed order).

A *frame* is a node with a drawing inside.  A *bar* is a node that concatenates several values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from archc.drawing.geometry import Geometry
from archc.drawing.layering import LayeredGraph, LinearProgram, Segment, Vertex

_BETWEEN_BOXES, _BESIDE_LANES = 24.0, 14.0
_CHAIN, _MIDDLE, _DUMMY_WEIGHT, _SHORT = 8.0, 4.0, 6.0, 0.5
"""Weights of straight chains, centered vertices, straight long edges, and other straight edges."""
_STIFF = 1e4
"""Factor of the weight of long edges in sweeps.

Without it, long edges would bend a little in every row.
"""
_MANY_DUMMIES = 2000
"""Number of dummy vertices at which the linear program takes a second."""


def assign_coordinates(graph: LayeredGraph, inner: Mapping[str, Geometry]) -> None:
    """Set the x coordinates of all vertices, from 0.

    Args:
        inner: the layout inside each frame, by the key of the frame.
    """
    many = sum(vertex.node is None for vertex in graph.vertices()) > _MANY_DUMMIES
    for vertex, x in (_by_sweeps(graph, inner) if many else _by_linear_program(graph, inner)).items():
        vertex.x = float(round(x))
        vertex.left, vertex.right = vertex.x - vertex.width / 2, vertex.x + vertex.width / 2


def _by_linear_program(graph: LayeredGraph, inner: Mapping[str, Geometry]) -> dict[Vertex, float]:
    """The coordinates with the least total cost."""
    program = LinearProgram()
    place = {vertex: program.variable(cost=1e-4) for vertex in graph.vertices()}
    end = program.variable(cost=0.2)
    for row in graph.rows:
        for left, right in pairwise(row):
            program.apart(place[left], place[right], _distance(left, right))
        for vertex in row:
            program.at_least({place[vertex]: 1.0}, vertex.width / 2)
            program.apart(place[vertex], end, vertex.width / 2)
    for segment in graph.segments:
        offset = leaving_offset(segment, inner) - entering_offset(segment, inner)
        program.near({place[segment.source]: 1.0, place[segment.target]: -1.0}, offset, _weight(segment))
    below, above = _longest(graph, down=True), _longest(graph, down=False)
    for vertex in graph.vertices():
        for others, heights in ((_below(vertex), below), (_above(vertex), above)):
            if vertex.node is None or vertex.node.inner is not None or len(others) < 2:
                continue
            main = _main(others, heights, graph)
            if main is not None:
                program.near({place[vertex]: 1.0, place[main]: -1.0}, 0.0, _CHAIN)
            else:
                first, last = _outermost(others, graph)
                program.near({place[vertex]: 1.0, place[first]: -0.5, place[last]: -0.5}, 0.0, _MIDDLE)
    values = program.solve()
    return {vertex: values[number] for vertex, number in place.items()}


def _by_sweeps(graph: LayeredGraph, inner: Mapping[str, Geometry]) -> dict[Vertex, float]:
    """Coordinates from sweeps, for graphs that are too large for the linear program."""
    distances = {row[0]: row[0].width / 2 for row in graph.rows if row}
    for row in graph.rows:
        distances.update((right, _distance(left, right)) for left, right in pairwise(row))
    pulls = []
    for segment in graph.segments:
        offset = leaving_offset(segment, inner) - entering_offset(segment, inner)
        weight = _weight(segment) * (_STIFF if segment.source.node is None and segment.target.node is None else 1.0)
        pulls.append(Attraction(segment.source, segment.target, offset, weight))
    return swept_positions(graph.rows, distances, pulls)


def _distance(left: Vertex, right: Vertex) -> float:
    """Least distance between the centers of two neighbours in a row."""
    return (left.width + right.width) / 2 + _gap(left, right)


def _gap(left: Vertex, right: Vertex) -> float:
    return _BETWEEN_BOXES if left.node is not None and right.node is not None else _BESIDE_LANES


def _boxes(segments: list[Segment], below: bool) -> list[Segment]:
    """The segments whose end below (or above) is a node, not a dummy."""
    return [segment for segment in segments if (segment.target if below else segment.source).node is not None]


def _below(vertex: Vertex) -> list[Vertex]:
    """The nodes below a vertex."""
    return [segment.target for segment in _boxes(vertex.below, True)]


def _above(vertex: Vertex) -> list[Vertex]:
    """The nodes above a vertex; for a bar, also the dummies above it."""
    segments = vertex.above if vertex.node is not None and vertex.node.kind == "bar" else _boxes(vertex.above, False)
    return [segment.source for segment in segments]


def _main(others: list[Vertex], heights: Mapping[Vertex, int], graph: LayeredGraph) -> Vertex | None:
    """The neighbour with which a vertex is aligned: the one on the longest branch, or None.

    The result is None if two branches tie for the longest.  It is also None if there are at least three neighbours, and
    the longest branch begins at the leftmost or the rightmost of them.  The alignment keeps a trunk straight at a
    vertex where a short branch leaves the trunk.
    """
    longest = max(heights[vertex] for vertex in others)
    found = [vertex for vertex in others if heights[vertex] == longest]
    outermost = _outermost(others, graph) if len(others) > 2 else ()
    return found[0] if len(found) == 1 and found[0] not in outermost else None


def _longest(graph: LayeredGraph, down: bool) -> dict[Vertex, int]:
    """The number of nodes on the longest path from each vertex, downwards or upwards."""
    found: dict[Vertex, int] = {}
    for row in reversed(graph.rows) if down else graph.rows:
        for vertex in row:
            following = (
                [segment.target for segment in vertex.below] if down else [segment.source for segment in vertex.above]
            )
            found[vertex] = max((found[other] for other in following), default=0) + (vertex.node is not None)
    return found


def _outermost(vertices: list[Vertex], graph: LayeredGraph) -> tuple[Vertex, Vertex]:
    row = graph.rows[vertices[0].rank]
    ordered = sorted(set(vertices), key=row.index)
    return ordered[0], ordered[-1]


def _weight(segment: Segment) -> float:
    """The weight with which a segment is kept straight."""
    source, target = segment.source, segment.target
    if source.node is None and target.node is None:
        return _DUMMY_WEIGHT
    if source.node is None:
        return _CHAIN / 2 if not _boxes(target.above, False) and len(target.above) == 1 else _SHORT
    if target.node is None:
        return _CHAIN / 2 if not _boxes(source.below, True) and len(source.below) == 1 else _SHORT
    alone = len(_below(source)) == 1 and len(_above(target)) == 1
    return _CHAIN if alone else _SHORT


def leaving_offset(segment: Segment, inner: Mapping[str, Geometry]) -> float:
    """Offset of the start of a segment from the center of its source; nonzero only for frames."""
    node = segment.source.node
    if node is None or node.inner is None:
        return 0.0
    return _offset(inner[node.key], node.exits[segment.net[1]], segment.source.width)


def entering_offset(segment: Segment, inner: Mapping[str, Geometry]) -> float:
    """Offset of the end of a segment from the center of its target; nonzero only for frames."""
    node = segment.target.node
    if node is None or node.inner is None:
        return 0.0
    return _offset(inner[node.key], node.entries[segment.entry], segment.target.width)


def _offset(geometry: Geometry, key: str, width: float) -> float:
    box = geometry.box(key)
    return box.x + box.width / 2 - width / 2


_SWEEPS = 4
"""Number of sweeps up and down."""

_Side = tuple[Vertex, float, float]
"""Attraction of a vertex to a vertex of an adjacent row, with the desired offset and the weight."""


class Attraction(NamedTuple):
    """A desired offset between vertices of adjacent rows, the upper one first."""

    source: Vertex
    target: Vertex
    offset: float
    weight: float


def swept_positions(
    rows: Sequence[Sequence[Vertex]], distances: Mapping[Vertex, float], pulls: Sequence[Attraction]
) -> dict[Vertex, float]:
    """The coordinates of all vertices, by sweeps.

    Args:
        distances: the least distance of each vertex from its left neighbour; for the first vertex of a row, from 0.
    """
    places: dict[Vertex, float] = {}
    for row in rows:
        x = 0.0
        for vertex in row:
            x += distances[vertex]
            places[vertex] = x
    above: dict[Vertex, list[_Side]] = defaultdict(list)
    below: dict[Vertex, list[_Side]] = defaultdict(list)
    for source, target, offset, weight in pulls:
        above[target].append((source, offset, weight))
        below[source].append((target, -offset, weight))
    upwards = {vertex: _stronger(below[vertex], above[vertex]) for vertex in places}
    downwards = {vertex: _stronger(above[vertex], below[vertex]) for vertex in places}
    for _ in range(_SWEEPS):
        for row in reversed(rows):
            _fit(row, distances, upwards, places)
        for row in rows:
            _fit(row, distances, downwards, places)
    least = min((places[row[0]] - distances[row[0]] for row in rows if row), default=0.0)
    return {vertex: x - least for vertex, x in places.items()}


def _stronger(before: Sequence[_Side], after: Sequence[_Side]) -> Sequence[_Side]:
    """The list with the strongest attraction; `before` if the strongest of both lists are equal."""
    strongest = [max((weight for _, _, weight in side), default=0.0) for side in (before, after)]
    return before if strongest[0] >= strongest[1] else after


def _fit(
    row: Sequence[Vertex],
    distances: Mapping[Vertex, float],
    pulling: Mapping[Vertex, Sequence[_Side]],
    places: dict[Vertex, float],
) -> None:
    """Move the vertices of a row, in their order, to their desired coordinates."""
    pools: list[tuple[float, float, int]] = []  # (coordinate minus `offset`, weight, number of vertices)
    offset = 0.0
    for vertex in row:
        offset += distances[vertex]
        own = pulling.get(vertex, ())
        weight = sum(one[2] for one in own)
        wanted = sum((places[other] + apart) * one for other, apart, one in own) / weight if own else places[vertex]
        pool = (wanted - offset, weight or 0.01, 1)
        while pools and pools[-1][0] > pool[0]:
            left = pools.pop()
            both = left[1] + pool[1]
            pool = ((left[0] * left[1] + pool[0] * pool[1]) / both, both, left[2] + pool[2])
        pools.append(pool)
    starts = [start for start, _, count in pools for _ in range(count)]
    offset = 0.0
    for vertex, start in zip(row, starts, strict=True):
        offset += distances[vertex]
        places[vertex] = start + offset
