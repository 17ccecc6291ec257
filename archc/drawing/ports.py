"""Where lines leave and enter boxes, and which come to a circle from its side."""

from __future__ import annotations

from collections.abc import Mapping

from archc.drawing.columns import entering_offset, leaving_offset
from archc.drawing.geometry import Geometry
from archc.drawing.ranks import Item, Link, Rows

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

    def __init__(self, rows: Rows, inner: Mapping[str, Geometry]):
        self.rows, self.inner = rows, inner
        self.leaving: dict[Link, float] = {}
        self.entering: dict[Link, float] = {}
        self.sideways: set[Link] = set()
        for row in rows.rows:
            for item in row:
                self._enter(item)
            for item in row:
                self._leave(item)

    def _leave(self, item: Item) -> None:
        outlets: dict[tuple[str, int], list[Link]] = {}
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

    def _enter(self, item: Item) -> None:
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

    def _finish(self, link: Link, x: float) -> None:
        start = self.leaving[link]
        self.entering[link] = start if abs(start - x) < _STRAIGHT else x

    def _enter_circle(self, item: Item) -> None:
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

    def _free(self, item: Item, x: float) -> bool:
        """Whether nothing else in the row of a circle is in the way of a line that comes from the side."""
        low, high = min(x, item.x) - _EDGE, max(x, item.x) + _EDGE
        return all(other is item or other.right < low or other.left > high for other in self.rows.rows[item.rank])

    def _draw_out(self, item: Item, links: list[Link]) -> None:
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
