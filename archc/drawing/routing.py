"""The lines between rows: each value that has to go sideways does so on a track of its own."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping

from archc.drawing.coordinates import entering_offset, leaving_offset
from archc.drawing.geometry import Geometry
from archc.drawing.layering import LayeredGraph, Segment, Vertex

_NEAR = 5.0
"""Two upright lines nearer than this look like one."""
Net = tuple[str, int]


class Tracks:
    """The tracks in each gap between two rows.

    Attributes:
        counts: how many there are below each row.
        track: of each link that goes sideways, counted from the top of its gap.
    """

    def __init__(self, rows: LayeredGraph, ports: Ports):
        self.ports = ports
        self.counts: list[int] = []
        self.track: dict[Segment, int] = {}
        by_row: list[list[Segment]] = [[] for _ in rows.rows]
        for link in rows.links:
            by_row[link.source.rank].append(link)
        for links in by_row:
            self.counts.append(self._assign(links))

    def _turns(self, link: Segment) -> bool:
        return link not in self.ports.sideways and self.ports.leaving[link] != self.ports.entering[link]

    def _assign(self, links: list[Segment]) -> int:
        """Share out the tracks of one gap, and return how many it takes."""
        nets: dict[Net, list[Segment]] = {}
        for link in links:
            if self._turns(link):
                nets.setdefault(link.net, []).append(link)
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
            for link in nets[net]:
                self.track[link] = number
        return max(placed.values(), default=-1) + 1

    def _interval(self, links: list[Segment]) -> tuple[float, float]:
        ends = [self.ports.leaving[link] for link in links] + [self.ports.entering[link] for link in links]
        return min(ends), max(ends)

    def _above(self, nets: dict[Net, list[Segment]]) -> dict[Net, set[Net]]:
        """What must turn above each net: what comes down where that goes on down."""
        starts = sorted({(self.ports.leaving[link], net) for net, links in nets.items() for link in links})
        places = [start for start, _ in starts]
        found: dict[Net, set[Net]] = {}
        for net, links in nets.items():
            ends = [self.ports.entering[link] for link in links]
            spans = [(bisect_right(places, end - _NEAR), bisect_left(places, end + _NEAR)) for end in ends]
            found[net] = {other for low, high in spans for _, other in starts[low:high]} - {net}
        return found


def _ordered(spans: dict[Net, tuple[float, float]], above: dict[Net, set[Net]]) -> list[Net]:
    """From the top track down; where two must each be above the other, one of them is not."""
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
"""How near to the corner of a box a line may end."""
_APART = 10.0
_BAR_END = 14.0
_STRAIGHT = 0.75


class Ports:
    """The ends of all links of a panel.

    Attributes:
        leaving: where a link leaves its row; entering: where it enters the next one;
        sideways: the links that enter a circle from the side, at the height of its middle.
    """

    def __init__(self, rows: LayeredGraph, inner: Mapping[str, Geometry]):
        self.rows, self.inner = rows, inner
        self.leaving: dict[Segment, float] = {}
        self.entering: dict[Segment, float] = {}
        self.sideways: set[Segment] = set()
        for row in rows.rows:
            for item in row:
                self._enter(item)
            for item in row:
                self._leave(item)

    def _leave(self, item: Vertex) -> None:
        outlets: dict[tuple[str, int], list[Segment]] = {}
        for link in item.below:
            outlets.setdefault(link.net, []).append(link)
        if item.node is None or item.node.inner is not None or len(outlets) == 1:
            for link in item.below:
                self.leaving[link] = item.x + leaving_offset(link, self.inner)
            return
        # Several values: side by side in the order of where they go.
        nets = sorted(
            outlets, key=lambda net: (sum(link.target.x for link in outlets[net]) / len(outlets[net]), net[1])
        )
        wanted = [sum(link.target.x for link in outlets[net]) / len(outlets[net]) for net in nets]
        for net, x in zip(nets, _spread(wanted, item.left + _EDGE, item.right - _EDGE)):
            for link in outlets[net]:
                self.leaving[link] = x

    def _enter(self, item: Vertex) -> None:
        node = item.node
        if node is None or not item.above:
            for link in item.above:
                self.entering[link] = item.x
            return
        if node.inner is not None:
            for link in item.above:
                self._finish(link, item.x + entering_offset(link, self.inner))
            return
        if node.kind == "symbol":
            self._enter_circle(item)
            return
        links = sorted(item.above, key=lambda link: (self.leaving[link], link.net))
        if node.kind == "bar":
            self._draw_out(item, links)
        if len(links) == 1:
            x = self.leaving[links[0]]
            inside = item.left + _EDGE <= x <= item.right - _EDGE
            self._finish(links[0], x if inside and node.kind != "input" else item.x)
            return
        wanted = [self.leaving[link] for link in links]
        for link, x in zip(links, _spread(wanted, item.left + _EDGE, item.right - _EDGE)):
            self._finish(link, x)

    def _finish(self, link: Segment, x: float) -> None:
        start = self.leaving[link]
        self.entering[link] = start if abs(start - x) < _STRAIGHT else x

    def _enter_circle(self, item: Vertex) -> None:
        """One line from each side at most, where nothing stands in between; the others from above."""
        taken: set[bool] = set()
        for link in sorted(item.above, key=lambda link: (abs(self.leaving[link] - item.x), link.net)):
            x = self.leaving[link]
            right = x > item.x
            if abs(x - item.x) >= item.width and right not in taken and self._free(item, x):
                taken.add(right)
                self.sideways.add(link)
                self.entering[link] = x
            else:
                self._finish(link, item.x)

    def _free(self, item: Vertex, x: float) -> bool:
        """Whether nothing else in the row of a circle is in the way of a line that comes from the side."""
        low, high = min(x, item.x) - _EDGE, max(x, item.x) + _EDGE
        return all(other is item or other.right < low or other.left > high for other in self.rows.rows[item.rank])

    def _draw_out(self, item: Vertex, links: list[Segment]) -> None:
        """Let a bar reach over all that it joins, as far as its neighbours leave room."""
        row = self.rows.rows[item.rank]
        number = row.index(item)
        low = row[number - 1].right + _BAR_END if number else float("-inf")
        high = row[number + 1].left - _BAR_END if number + 1 < len(row) else float("inf")
        item.left = min(item.left, max(low, min(self.leaving[link] for link in links) - _BAR_END))
        item.right = max(item.right, min(high, max(self.leaving[link] for link in links) + _BAR_END))


def _spread(wanted: list[float], low: float, high: float) -> list[float]:
    """Places near to those wanted, in their order, within limits and apart."""
    apart = min(_APART, (high - low) / (len(wanted) - 1)) if len(wanted) > 1 else 0.0
    places = [min(max(x, low), high) for x in wanted]
    for number in range(1, len(places)):
        places[number] = max(places[number], places[number - 1] + apart)
    limit = high
    for number in range(len(places) - 1, -1, -1):
        places[number] = min(places[number], limit)
        limit = places[number] - apart
    return places
