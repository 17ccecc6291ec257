"""The layout of panels, inner ones first, and of a page of panels.

The steps of a panel are layering and ordering (`layering`), x coordinates (`coordinates`), and edge routing
(`routing`).  The y coordinates are sums of the heights of rows, and of the tracks between rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archc.drawing.coordinates import assign_coordinates
from archc.drawing.geometry import Band, Box, Geometry, Path, Point
from archc.drawing.layering import LayeredGraph, Segment, Vertex, band_numbers, layered_graph
from archc.drawing.routing import Ports, Tracks
from archc.drawing.scene import Edge, Panel, Scene, SceneNode
from archc.drawing.style import HEADER, LABEL, SMALL, SYMBOL, badges_width, node_size, row_width, text_width

_GAP, _BEFORE_TRACKS, _AFTER_TRACKS, _TRACK = 18.0, 9.0, 13.0, 8.0
_FRAME = 10.0
"""Distance between the sides of a frame and its content."""
_BELOW_HEADER = 8.0
_BAND_LABEL = 62.0
_BACK = 10.0
"""Distance between back edges, and between back edges and other parts."""
_WIDEST_ALIKE = 300.0


def lay_out(panel: Panel, framed: bool = False) -> Geometry:
    """The layout of a panel, with its corner at (0, 0).

    Args:
        framed: True if the panel is inside a frame.
    """
    inner = {node.key: lay_out(node.inner, framed=True) for node in panel.nodes if node.inner is not None}
    graph = layered_graph(panel, framed)
    sizes = {node.key: _size(node, inner) for node in panel.nodes}
    _equalize_widths(graph, sizes)
    for vertex in graph.vertices():
        vertex.width = 0.0 if vertex.node is None else sizes[vertex.node.key][0]
    for key, geometry in inner.items():
        geometry.move((sizes[key][0] - geometry.width) / 2, HEADER + _BELOW_HEADER)
    assign_coordinates(graph, inner)
    ports = Ports(graph, inner)
    return _PanelLayout(panel, graph, sizes, inner, ports, Tracks(graph, ports)).geometry()


def _size(node: SceneNode, inner: dict[str, Geometry]) -> tuple[float, float]:
    if node.inner is None:
        return node_size(node)
    title = max(map(row_width, node.rows)) + badges_width(node) + 2 * _FRAME
    geometry = inner[node.key]
    width = max(geometry.width + 2 * _FRAME, title)
    return 2.0 * -(-width // 2), geometry.height + HEADER + _BELOW_HEADER + _FRAME


def _equalize_widths(graph: LayeredGraph, sizes: dict[str, tuple[float, float]]) -> None:
    """Give boxes that are alone in their rows equal widths."""
    alone = [row for row in graph.rows if sum(vertex.node is not None for vertex in row) == 1]
    boxes = [
        vertex.node.key for row in alone for vertex in row if vertex.node is not None and vertex.node.kind == "layer"
    ]
    widest = max((sizes[key][0] for key in boxes if sizes[key][0] <= _WIDEST_ALIKE), default=0.0)
    for key in boxes:
        sizes[key] = max(sizes[key][0], widest), sizes[key][1]


class _PanelLayout:
    """Computes the heights of rows and the corners of edges."""

    def __init__(
        self,
        panel: Panel,
        graph: LayeredGraph,
        sizes: dict[str, tuple[float, float]],
        inner: dict[str, Geometry],
        ports: Ports,
        tracks: Tracks,
    ):
        self.panel, self.graph, self.sizes, self.inner, self.ports, self.tracks = (
            panel,
            graph,
            sizes,
            inner,
            ports,
            tracks,
        )
        self.backs = [edge for edge in panel.edges if edge.back]
        self.tops: list[float] = []
        self.bottoms: list[float] = []
        y = _BACK * (len(self.backs) + 1) if self.backs else 0.0
        for row, count in zip(graph.rows, tracks.counts):
            height = max((self.sizes[vertex.node.key][1] for vertex in row if vertex.node is not None), default=0.0)
            self.tops.append(y)
            self.bottoms.append(y + height)
            y += height + (_BEFORE_TRACKS + _AFTER_TRACKS + _TRACK * (count - 1) if count else _GAP)

    def geometry(self) -> Geometry:
        """The finished layout."""
        boxes = [self._box(vertex) for vertex in self.graph.vertices() if vertex.node is not None]
        right = max([vertex.right for vertex in self.graph.vertices()], default=0.0)
        left = min([vertex.left for vertex in self.graph.vertices()], default=0.0)
        bottom = self.bottoms[-1] if self.bottoms else 0.0
        found = Geometry(right, bottom, boxes)
        found.paths = [Path(edge, self._corners(segments)) for edge, segments in self.graph.routes]
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

    def _box(self, vertex: Vertex) -> Box:
        node = vertex.node
        assert node is not None
        height = self.sizes[node.key][1]
        middle = (self.tops[vertex.rank] + self.bottoms[vertex.rank]) / 2
        box = Box(node, vertex.left, middle - height / 2, vertex.right - vertex.left, height, self.inner.get(node.key))
        if box.inner is not None:
            box.inner.move(box.x, box.y)
        return box

    def _corners(self, segments: list[Segment]) -> list[Point]:
        """The corners of an edge, from the bottom of its source to the top of its target."""
        first = segments[0].source
        points: list[Point] = [(self.ports.leaving[segments[0]], self._edge(first, below=True))]
        for segment in segments:
            start, end = self.ports.leaving[segment], self.ports.entering[segment]
            if segment in self.tracks.track:
                y = self.bottoms[segment.source.rank] + _BEFORE_TRACKS + _TRACK * self.tracks.track[segment]
                points += [(start, y), (end, y)]
        last = segments[-1]
        if last in self.ports.sideways:
            x = self.ports.leaving[last]
            side = last.target.x + (SYMBOL / 2 if x > last.target.x else -SYMBOL / 2)
            y = (self.tops[last.target.rank] + self.bottoms[last.target.rank]) / 2
            return [*points, (x, y), (side, y)]
        return [*points, (self.ports.entering[last], self._edge(last.target, below=False))]

    def _edge(self, vertex: Vertex, below: bool) -> float:
        assert vertex.node is not None
        middle, half = (self.tops[vertex.rank] + self.bottoms[vertex.rank]) / 2, self.sizes[vertex.node.key][1] / 2
        return middle + half if below else middle - half

    def _back(self, found: Geometry, edge: Edge, number: int, right: float, bottom: float) -> list[Point]:
        """The corners of a back edge, around all other parts."""
        source, target = found.box(edge.source), found.box(edge.target)
        start, end = source.right - _BACK, target.right - _BACK
        lane = right + _BACK * (number + 1)
        low, high = bottom + _BACK * (number + 1), self.tops[0] - _BACK * (number + 1)
        return [(start, source.bottom), (start, low), (lane, low), (lane, high), (end, high), (end, target.y)]

    def _stubs(self, found: Geometry) -> None:
        """Add lines from the outputs inside frames to the lower sides of the frames."""
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
        rank = {vertex.node.key: vertex.rank for vertex in self.graph.vertices() if vertex.node is not None}
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


TITLE = 30.0
"""The height of a panel's title."""
PADDING = 14.0
_BETWEEN = 14.0
_WIDEST = 860.0
"""Largest width of a page, unless a single panel is wider; wider pages are scaled down in documents."""


@dataclass(eq=False)
class Card:
    """A panel with its border, placed on the page."""

    panel: Panel
    geometry: Geometry
    x: float
    y: float
    width: float
    height: float


@dataclass(eq=False)
class Page:
    """A placed picture: the panels of a scene on a page."""

    scene: Scene
    width: float
    height: float
    cards: list[Card]


def make_page(scene: Scene) -> Page:
    """Lay out all panels of a scene and place them on a page."""
    cards: list[Card] = []
    for panel in scene.panels:
        geometry = lay_out(panel)
        title = text_width(panel.title, LABEL, bold=True) + text_width(panel.note, SMALL) + 30
        if not cards:
            title += text_width(scene.note, SMALL)
        width = max(geometry.width, title) + 2 * PADDING
        cards.append(Card(panel, geometry, 0.0, 0.0, width, geometry.height + TITLE + 2 * PADDING))
    width, height = _arrange(cards)
    for card in cards:
        inside = card.width - 2 * PADDING
        card.geometry.move(card.x + PADDING + (inside - card.geometry.width) / 2, card.y + TITLE + PADDING)
    return Page(scene, width, height, cards)


def _arrange(cards: Sequence[Card]) -> tuple[float, float]:
    """Place the cards on a page, and return the size of the page.

    Several widths of the page are tried; the page with the least `_cost` is chosen.
    """
    least = max(card.width for card in cards) + 2 * _BETWEEN
    widths = [least + 20 * step for step in range(int(max(0.0, _WIDEST - least) / 20) + 1)]
    best = min(widths, key=lambda width: _cost(_fill(cards, width)))
    return _fill(cards, best)


def _fill(cards: Sequence[Card], limit: float) -> tuple[float, float]:
    """Place the first card, then repeatedly the card with the highest free position; return the page size."""
    ground = [(_BETWEEN, limit, _BETWEEN)]  # intervals of x, each with the y from which it is free
    waiting = list(cards)
    while waiting:
        choices = waiting if len(waiting) < len(cards) else waiting[:1]
        (y, x), card = min(((_place(ground, card), card) for card in choices), key=lambda choice: choice[0][0])
        waiting.remove(card)
        card.x, card.y = x, y
        right = x + card.width + _BETWEEN
        kept = [(a, min(b, x), depth) for a, b, depth in ground if a < x]
        kept += [(x, right, y + card.height + _BETWEEN)]
        kept += [(max(a, right), b, depth) for a, b, depth in ground if b > right]
        ground = kept
    return max(card.x + card.width for card in cards) + _BETWEEN, max(card.y + card.height for card in cards) + _BETWEEN


def _place(ground: Sequence[tuple[float, float, float]], card: Card) -> tuple[float, float]:
    """The highest free position for a card as (y, x); of equally high positions, the leftmost."""
    limit, width = ground[-1][1], card.width + _BETWEEN
    lefts = [left for left, _, _ in ground if left + width <= limit] or [_BETWEEN]
    return min((max(depth for a, b, depth in ground if a < left + width and b > left), left) for left in lefts)


def _cost(size: tuple[float, float]) -> float:
    """The cost of a page: mainly its height, with a penalty if documents must scale the page down."""
    width, height = size
    scale = max(1.0, width / _WIDEST)
    return height * scale**3 + 0.1 * width
