"""Edge routing: ports at the vertices, and tracks between the rows.

Ports are the x coordinates at which segments leave and enter vertices.  A track is the y coordinate of a horizontal
line between two rows.  Values whose horizontal lines would overlap have different tracks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping

from archc.drawing.coordinates import entering_offset, leaving_offset
from archc.drawing.geometry import Geometry
from archc.drawing.layering import LayeredGraph, Segment, Vertex

_NEAR = 5.0
"""Distance below which two vertical lines look like one."""
Net = tuple[str, int]
"""A value, as the key of its source and the number of the result; the lines of one value may overlap."""


class Tracks:
    """The tracks in each gap between two rows.

    Attributes:
        counts: the number of tracks below each row.
        track: the track number of each segment with a horizontal part; numbers count from the top of the gap.
    """

    def __init__(self, graph: LayeredGraph, ports: Ports):
        self.ports = ports
        self.counts: list[int] = []
        self.track: dict[Segment, int] = {}
        by_row: list[list[Segment]] = [[] for _ in graph.rows]
        for segment in graph.segments:
            by_row[segment.source.rank].append(segment)
        for segments in by_row:
            self.counts.append(self._assign(segments))

    def _turns(self, segment: Segment) -> bool:
        return segment not in self.ports.sideways and self.ports.leaving[segment] != self.ports.entering[segment]

    def _assign(self, segments: list[Segment]) -> int:
        """Assign the tracks of one gap; return their number."""
        nets: dict[Net, list[Segment]] = {}
        for segment in segments:
            if self._turns(segment):
                nets.setdefault(segment.net, []).append(segment)
        spans = {net: self._interval(own) for net, own in nets.items()}
        above = self._above(nets)
        placed: dict[Net, int] = {}
        for net in _ordered(spans, above):
            low, high = spans[net]
            least = max((placed[other] + 1 for other in above[net] if other in placed), default=0)
            used = {
                number
                for other, number in placed.items()
                if spans[other][0] < high + _NEAR and low - _NEAR < spans[other][1]
            }
            number = least
            while number in used:
                number += 1
            placed[net] = number
            for segment in nets[net]:
                self.track[segment] = number
        return max(placed.values(), default=-1) + 1

    def _interval(self, segments: list[Segment]) -> tuple[float, float]:
        ends = [self.ports.leaving[segment] for segment in segments] + [
            self.ports.entering[segment] for segment in segments
        ]
        return min(ends), max(ends)

    def _above(self, nets: dict[Net, list[Segment]]) -> dict[Net, set[Net]]:
        """For each net, the nets whose tracks must be above the net's own track.

        If a net ends at an x coordinate at which another net starts, their vertical lines overlap unless the track of
        the other net is above.
        """
        starts = sorted({(self.ports.leaving[segment], net) for net, segments in nets.items() for segment in segments})
        places = [start for start, _ in starts]
        found: dict[Net, set[Net]] = {}
        for net, segments in nets.items():
            ends = [self.ports.entering[segment] for segment in segments]
            spans = [(bisect_right(places, end - _NEAR), bisect_left(places, end + _NEAR)) for end in ends]
            found[net] = {other for low, high in spans for _, other in starts[low:high]} - {net}
        return found


def _ordered(spans: dict[Net, tuple[float, float]], above: dict[Net, set[Net]]) -> list[Net]:
    """The nets in the order of tracks, from the top; cycles of `above` are broken."""
    left = sorted(spans, key=lambda net: (spans[net][1] - spans[net][0], net))
    found: list[Net] = []
    done: set[Net] = set()
    while left:
        net = next((net for net in left if above[net] <= done), left[0])
        found.append(net)
        done.add(net)
        left.remove(net)
    return found


_EDGE = 10.0
"""Minimum distance between the end of a line and the corner of a box."""
_APART = 10.0
_BAR_END = 14.0
_STRAIGHT = 0.75


class Ports:
    """The ends of all segments of a panel.

    Attributes:
        leaving, entering: the x coordinates at which a segment leaves its row and enters the next row.
        sideways: the segments that enter a circle from the side, at the height of its center.
    """

    def __init__(self, graph: LayeredGraph, inner: Mapping[str, Geometry]):
        self.graph, self.inner = graph, inner
        self.leaving: dict[Segment, float] = {}
        self.entering: dict[Segment, float] = {}
        self.sideways: set[Segment] = set()
        for row in graph.rows:
            for vertex in row:
                self._enter(vertex)
            for vertex in row:
                self._leave(vertex)

    def _leave(self, vertex: Vertex) -> None:
        outlets: dict[tuple[str, int], list[Segment]] = {}
        for segment in vertex.below:
            outlets.setdefault(segment.net, []).append(segment)
        if vertex.node is None or vertex.node.inner is not None or len(outlets) == 1:
            for segment in vertex.below:
                self.leaving[segment] = vertex.x + leaving_offset(segment, self.inner)
            return
        # Several values are ordered by the mean position of their targets.
        nets = sorted(
            outlets, key=lambda net: (sum(segment.target.x for segment in outlets[net]) / len(outlets[net]), net[1])
        )
        wanted = [sum(segment.target.x for segment in outlets[net]) / len(outlets[net]) for net in nets]
        for net, x in zip(nets, _spread(wanted, vertex.left + _EDGE, vertex.right - _EDGE)):
            for segment in outlets[net]:
                self.leaving[segment] = x

    def _enter(self, vertex: Vertex) -> None:
        node = vertex.node
        if node is None or not vertex.above:
            for segment in vertex.above:
                self.entering[segment] = vertex.x
            return
        if node.inner is not None:
            for segment in vertex.above:
                self._finish(segment, vertex.x + entering_offset(segment, self.inner))
            return
        if node.kind == "symbol":
            self._enter_circle(vertex)
            return
        segments = sorted(vertex.above, key=lambda segment: (self.leaving[segment], segment.net))
        if node.kind == "bar":
            self._draw_out(vertex, segments)
        if len(segments) == 1:
            x = self.leaving[segments[0]]
            inside = vertex.left + _EDGE <= x <= vertex.right - _EDGE
            self._finish(segments[0], x if inside and node.kind != "input" else vertex.x)
            return
        wanted = [self.leaving[segment] for segment in segments]
        for segment, x in zip(segments, _spread(wanted, vertex.left + _EDGE, vertex.right - _EDGE)):
            self._finish(segment, x)

    def _finish(self, segment: Segment, x: float) -> None:
        start = self.leaving[segment]
        self.entering[segment] = start if abs(start - x) < _STRAIGHT else x

    def _enter_circle(self, vertex: Vertex) -> None:
        """Draw at most one line into each side of a circle, and all other lines into its top.

        A line enters from a side if it starts far enough from the circle, and no vertex of the row is in the way.
        """
        taken: set[bool] = set()
        for segment in sorted(vertex.above, key=lambda segment: (abs(self.leaving[segment] - vertex.x), segment.net)):
            x = self.leaving[segment]
            right = x > vertex.x
            if abs(x - vertex.x) >= vertex.width and right not in taken and self._free(vertex, x):
                taken.add(right)
                self.sideways.add(segment)
                self.entering[segment] = x
            else:
                self._finish(segment, vertex.x)

    def _free(self, vertex: Vertex, x: float) -> bool:
        """Return whether a horizontal line from x reaches a circle without crossing other vertices of the row."""
        low, high = min(x, vertex.x) - _EDGE, max(x, vertex.x) + _EDGE
        return all(other is vertex or other.right < low or other.left > high for other in self.graph.rows[vertex.rank])

    def _draw_out(self, vertex: Vertex, segments: list[Segment]) -> None:
        """Widen a bar to the ends of all its segments, but not beyond its neighbours."""
        row = self.graph.rows[vertex.rank]
        number = row.index(vertex)
        low = row[number - 1].right + _BAR_END if number else float("-inf")
        high = row[number + 1].left - _BAR_END if number + 1 < len(row) else float("inf")
        vertex.left = min(vertex.left, max(low, min(self.leaving[segment] for segment in segments) - _BAR_END))
        vertex.right = max(vertex.right, min(high, max(self.leaving[segment] for segment in segments) + _BAR_END))


def _spread(wanted: list[float], low: float, high: float) -> list[float]:
    """Coordinates near `wanted`, in the same order and between `low` and `high`.

    Neighbouring coordinates are at least `_APART` apart, or spaced equally if there is too little room.
    """
    apart = min(_APART, (high - low) / (len(wanted) - 1)) if len(wanted) > 1 else 0.0
    places = [min(max(x, low), high) for x in wanted]
    for number in range(1, len(places)):
        places[number] = max(places[number], places[number - 1] + apart)
    limit = high
    for number in range(len(places) - 1, -1, -1):
        places[number] = min(places[number], limit)
        limit = places[number] - apart
    return places
