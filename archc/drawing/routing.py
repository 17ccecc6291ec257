"""The lines between rows: each value that has to go sideways does so on a track of its own."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from archc.drawing.ports import Ports
from archc.drawing.ranks import Link, Rows

_NEAR = 5.0
"""Two upright lines nearer than this look like one."""
Net = tuple[str, int]


class Tracks:
    """The tracks in each gap between two rows.

    Attributes:
        counts: how many there are below each row.
        track: of each link that goes sideways, counted from the top of its gap.
    """

    def __init__(self, rows: Rows, ports: Ports):
        self.ports = ports
        self.counts: list[int] = []
        self.track: dict[Link, int] = {}
        by_row: list[list[Link]] = [[] for _ in rows.rows]
        for link in rows.links:
            by_row[link.source.rank].append(link)
        for links in by_row:
            self.counts.append(self._assign(links))

    def _turns(self, link: Link) -> bool:
        return link not in self.ports.sideways and self.ports.leaving[link] != self.ports.entering[link]

    def _assign(self, links: list[Link]) -> int:
        """Share out the tracks of one gap, and return how many it takes."""
        nets: dict[Net, list[Link]] = {}
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

    def _interval(self, links: list[Link]) -> tuple[float, float]:
        ends = [self.ports.leaving[link] for link in links] + [self.ports.entering[link] for link in links]
        return min(ends), max(ends)

    def _above(self, nets: dict[Net, list[Link]]) -> dict[Net, set[Net]]:
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
