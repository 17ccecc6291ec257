"""Panels on a page: the model first, and the blocks in columns beside it and below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archc.drawing.geometry import Geometry
from archc.drawing.layout import lay_out
from archc.drawing.metrics import LABEL, SMALL, text_width
from archc.drawing.scene import Panel, Scene

TITLE = 30.0
"""The height of a panel's title."""
PADDING = 14.0
_BETWEEN = 14.0
_WIDEST = 860.0
"""What a page may measure from side to side, unless a single panel is wider: more would be hard to read in a text."""


@dataclass(eq=False)
class Card:
    """A panel with its frame, at its place on the page."""

    panel: Panel
    geometry: Geometry
    x: float
    y: float
    width: float
    height: float


@dataclass(eq=False)
class Page:
    """A whole picture."""

    scene: Scene
    width: float
    height: float
    cards: list[Card]


def make_page(scene: Scene) -> Page:
    """Lay out all panels of a scene, and put them on a page."""
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
    """Try pages of several widths, keep the one that is read best, and return its size."""
    least = max(card.width for card in cards) + 2 * _BETWEEN
    widths = [least + 20 * step for step in range(int(max(0.0, _WIDEST - least) / 20) + 1)]
    best = min(widths, key=lambda width: _cost(_fill(cards, width)))
    return _fill(cards, best)


def _fill(cards: Sequence[Card], limit: float) -> tuple[float, float]:
    """Put cards into a page of a width, the first one first, then whichever goes highest; the size of the page."""
    ground = [(_BETWEEN, limit, _BETWEEN)]  # from the left to the right, and what is free below
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
    """The highest place for a card, and there the one farthest left, as (y, x)."""
    limit, width = ground[-1][1], card.width + _BETWEEN
    lefts = [left for left, _, _ in ground if left + width <= limit] or [_BETWEEN]
    return min((max(depth for a, b, depth in ground if a < left + width and b > left), left) for left in lefts)


def _cost(size: tuple[float, float]) -> float:
    """How hard a page is to read: how high it is once it has been scaled to fit into a text."""
    width, height = size
    scale = max(1.0, width / _WIDEST)
    return height / scale * scale**4 + 0.1 * width
