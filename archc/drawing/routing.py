"""The lines between rows: each value that has to go sideways does so on a track of its own."""

from __future__ import annotations

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
        placed: dict[Net, int] = {}
        for net in self._ordered(nets):
            low, high = self._interval(nets[net])
            least = max((placed[other] + 1 for other in placed if self._above(nets[other], nets[net])), default=0)
            used = {
                number
                for other, number in placed.items()
                if (span := self._interval(nets[other]))[0] < high + _NEAR and low - _NEAR < span[1]
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

    def _above(self, one: list[Link], other: list[Link]) -> bool:
        """Whether one must turn above the other: it comes down where the other goes on down."""
        starts = {self.ports.leaving[link] for link in one}
        return any(abs(start - self.ports.entering[link]) < _NEAR for start in starts for link in other)

    def _ordered(self, nets: dict[Net, list[Link]]) -> list[Net]:
        """From the top track down; where two must each be above the other, one of them is not."""
        left = sorted(nets, key=lambda net: (self._reach(nets[net]), net))
        found: list[Net] = []
        while left:
            free = [net for net in left if not any(self._above(nets[o], nets[net]) for o in left if o != net)]
            found.append((free or left)[0])
            left.remove(found[-1])
        return found

    def _reach(self, links: list[Link]) -> float:
        low, high = self._interval(links)
        return high - low
