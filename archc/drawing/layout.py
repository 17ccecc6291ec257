"""A panel laid out: rows, orders, columns, lines; what is in a frame first."""

from __future__ import annotations

from archc.drawing.columns import place_columns
from archc.drawing.geometry import Band, Box, Geometry, Path, Point
from archc.drawing.metrics import HEADER, SYMBOL, badges_width, node_size, row_width
from archc.drawing.ports import Ports
from archc.drawing.ranks import Item, Link, Rows, arrange, band_numbers
from archc.drawing.routing import Tracks
from archc.drawing.scene import Edge, Node, Panel

_GAP, _BEFORE_TRACKS, _BEHIND_TRACKS, _TRACK = 18.0, 9.0, 13.0, 8.0
_FRAME = 10.0
"""Between the sides of a frame and what is in it."""
_BELOW_HEADER = 8.0
_BAND_LABEL = 62.0
_BACK = 10.0
"""Between the lines that lead back, and from them to all else."""
_WIDEST_ALIKE = 300.0


def lay_out(panel: Panel, framed: bool = False) -> Geometry:
    """Where everything of a panel is, from the corner (0, 0).

    Args:
        framed: it is in a frame.
    """
    inner = {node.key: lay_out(node.inner, framed=True) for node in panel.nodes if node.inner is not None}
    rows = arrange(panel, framed)
    sizes = {node.key: _size(node, inner) for node in panel.nodes}
    _make_alike(rows, sizes)
    for item in rows.items():
        item.width = 0.0 if item.node is None else sizes[item.node.key][0]
    for key, geometry in inner.items():
        geometry.move((sizes[key][0] - geometry.width) / 2, HEADER + _BELOW_HEADER)
    place_columns(rows, inner)
    ports = Ports(rows, inner)
    return _Placing(panel, rows, sizes, inner, ports, Tracks(rows, ports)).geometry()


def _size(node: Node, inner: dict[str, Geometry]) -> tuple[float, float]:
    if node.inner is None:
        return node_size(node)
    title = max(map(row_width, node.rows)) + badges_width(node) + 2 * _FRAME
    geometry = inner[node.key]
    width = max(geometry.width + 2 * _FRAME, title)
    return 2.0 * -(-width // 2), geometry.height + HEADER + _BELOW_HEADER + _FRAME


def _make_alike(rows: Rows, sizes: dict[str, tuple[float, float]]) -> None:
    """Let all boxes that stand alone in their rows be equally wide."""
    alone = [row for row in rows.rows if sum(item.node is not None for item in row) == 1]
    boxes = [item.node.key for row in alone for item in row if item.node is not None and item.node.kind == "layer"]
    widest = max((sizes[key][0] for key in boxes if sizes[key][0] <= _WIDEST_ALIKE), default=0.0)
    for key in boxes:
        sizes[key] = max(sizes[key][0], widest), sizes[key][1]


class _Placing:
    """Gives rows their heights, and lines their corners."""

    def __init__(
        self,
        panel: Panel,
        rows: Rows,
        sizes: dict[str, tuple[float, float]],
        inner: dict[str, Geometry],
        ports: Ports,
        tracks: Tracks,
    ):
        self.panel, self.rows, self.sizes, self.inner, self.ports, self.tracks = (
            panel,
            rows,
            sizes,
            inner,
            ports,
            tracks,
        )
        self.backs = [edge for edge in panel.edges if edge.back]
        self.tops: list[float] = []
        self.bottoms: list[float] = []
        y = _BACK * (len(self.backs) + 1) if self.backs else 0.0
        for row, count in zip(rows.rows, tracks.counts):
            height = max((self.sizes[item.node.key][1] for item in row if item.node is not None), default=0.0)
            self.tops.append(y)
            self.bottoms.append(y + height)
            y += height + (_BEFORE_TRACKS + _BEHIND_TRACKS + _TRACK * (count - 1) if count else _GAP)

    def geometry(self) -> Geometry:
        boxes = [self._box(item) for item in self.rows.items() if item.node is not None]
        right = max([item.right for item in self.rows.items()], default=0.0)
        left = min([item.left for item in self.rows.items()], default=0.0)
        bottom = self.bottoms[-1] if self.bottoms else 0.0
        found = Geometry(right, bottom, boxes)
        found.paths = [Path(edge, self._corners(links)) for edge, links in self.rows.routes]
        for number, edge in enumerate(self.backs):
            found.paths.append(Path(edge, self._back(found, edge, number, right, bottom)))
        if self.backs:
            found.width += _BACK * (len(self.backs) + 1)
            found.height += _BACK * (len(self.backs) + 1)
        if self.panel.banded:
            found.bands = self._bands()
            left -= _BAND_LABEL
        found.move(-left, 0.0)
        found.width -= left
        self._stubs(found)
        return found

    def _box(self, item: Item) -> Box:
        node = item.node
        assert node is not None
        height = self.sizes[node.key][1]
        middle = (self.tops[item.rank] + self.bottoms[item.rank]) / 2
        box = Box(node, item.left, middle - height / 2, item.right - item.left, height, self.inner.get(node.key))
        if box.inner is not None:
            box.inner.move(box.x, box.y)
        return box

    def _corners(self, links: list[Link]) -> list[Point]:
        """The corners of an edge, from the bottom of its source to the top of its target."""
        first = links[0].source
        points: list[Point] = [(self.ports.leaving[links[0]], self._edge(first, below=True))]
        for link in links:
            start, end = self.ports.leaving[link], self.ports.entering[link]
            if link in self.tracks.track:
                y = self.bottoms[link.source.rank] + _BEFORE_TRACKS + _TRACK * self.tracks.track[link]
                points += [(start, y), (end, y)]
        last = links[-1]
        if last in self.ports.sideways:
            x = self.ports.leaving[last]
            side = last.target.x + (SYMBOL / 2 if x > last.target.x else -SYMBOL / 2)
            y = (self.tops[last.target.rank] + self.bottoms[last.target.rank]) / 2
            return [*points, (x, y), (side, y)]
        return [*points, (self.ports.entering[last], self._edge(last.target, below=False))]

    def _edge(self, item: Item, below: bool) -> float:
        assert item.node is not None
        middle, half = (self.tops[item.rank] + self.bottoms[item.rank]) / 2, self.sizes[item.node.key][1] / 2
        return middle + half if below else middle - half

    def _back(self, found: Geometry, edge: Edge, number: int, right: float, bottom: float) -> list[Point]:
        """From the end of a step around everything to the beginning of the next."""
        source, target = found.box(edge.source), found.box(edge.target)
        start, end = source.right - _BACK, target.right - _BACK
        lane = right + _BACK * (number + 1)
        low, high = bottom + _BACK * (number + 1), self.tops[0] - _BACK * (number + 1)
        return [(start, source.bottom), (start, low), (lane, low), (lane, high), (end, high), (end, target.y)]

    def _stubs(self, found: Geometry) -> None:
        """Lines from the ends within frames to where the frames' own lines begin."""
        for box in found.boxes:
            if box.inner is None:
                continue
            used = {edge.outlet for edge in self.panel.edges if edge.source == box.node.key}
            for outlet in sorted(used):
                end = box.inner.box(box.node.exits[outlet])
                x = end.x + end.width / 2
                stub = Edge(end.node.key, end.node.key)
                box.inner.paths.append(Path(stub, [(x, end.bottom), (x, box.bottom)], arrow=False))

    def _bands(self) -> list[Band]:
        numbers = band_numbers(self.panel)
        rank = {item.node.key: item.rank for item in self.rows.items() if item.node is not None}
        spans: dict[int, tuple[int, int]] = {}
        stages: dict[int, tuple[int, int]] = {}
        for node in self.panel.nodes:
            number = numbers[node.key]
            first, last = spans.get(number, (rank[node.key], rank[node.key]))
            spans[number] = min(first, rank[node.key]), max(last, rank[node.key])
            low, high = stages.get(number, node.stage)
            stages[number] = min(low, node.stage[0]), max(high, node.stage[1])
        return [
            Band(stages[number], self.tops[first] - 6, self.bottoms[last] - self.tops[first] + 12)
            for number, (first, last) in sorted(spans.items())
        ]
