"""Laws of every picture: boxes do not overlap, and a line crosses no box."""

from __future__ import annotations

from itertools import pairwise

from archc.drawing.geometry import Box, Geometry, Path
from archc.drawing.layout import Page
from archc.drawing.style import HEADER

Rect = tuple[float, float, float, float]
SLACK = 0.6  # lines and boxes are rounded to whole pixels


def violations(page: Page) -> list[str]:
    """Descriptions of all places where a picture breaks a law."""
    found: list[str] = []
    cards = [(card.x, card.y, card.x + card.width, card.y + card.height) for card in page.cards]
    for number, one in enumerate(cards):
        if not inside(one, (0, 0, page.width, page.height)):
            found.append(f"{page.cards[number].panel.title} leaves the page")
        found += [f"cards {number} and {k} overlap" for k, other in enumerate(cards[:number]) if overlap(one, other)]
    for card, rect in zip(page.cards, cards, strict=True):
        found += panel_violations(card.geometry, rect, card.panel.title)
    return found


def panel_violations(geometry: Geometry, room: Rect, where: str) -> list[str]:
    """Descriptions of all places where a panel, or a panel in one of its frames, breaks a law."""
    found: list[str] = []
    boxes = {box.node.key: box for box in geometry.boxes}
    for box in geometry.boxes:
        if not inside(rect_of(box), room):
            found.append(f"{where}: {box.node.key} leaves its room")
    for number, box in enumerate(geometry.boxes):
        for other in geometry.boxes[:number]:
            if overlap(rect_of(box), rect_of(other)):
                found.append(f"{where}: {box.node.key} and {other.node.key} overlap")
    for path in geometry.paths:
        found += path_violations(path, boxes, room, where)
    for box in geometry.boxes:
        if box.inner is not None:
            below_title = (box.x, box.y + HEADER, box.right, box.bottom)
            found += panel_violations(box.inner, below_title, f"{where}/{box.node.key}")
    return found


def path_violations(path: Path, boxes: dict[str, Box], room: Rect, where: str) -> list[str]:
    """Descriptions of all places where a line breaks a law."""
    found: list[str] = []
    name = f"{where}: {path.edge.source} to {path.edge.target}"
    for start, end in pairwise(path.points):
        if start[0] != end[0] and start[1] != end[1]:
            found.append(f"{name} goes askew from {start} to {end}")
        segment = (min(start[0], end[0]), min(start[1], end[1]), max(start[0], end[0]), max(start[1], end[1]))
        if not inside(segment, room):
            found.append(f"{name} leaves its room at {segment}")
        for key, box in boxes.items():
            if overlap(segment, rect_of(box)):
                found.append(f"{name} goes through {key}")
    if path.arrow:
        for point, key in ((path.points[0], path.edge.source), (path.points[-1], path.edge.target)):
            box = boxes[key]
            if not (box.x - SLACK <= point[0] <= box.right + SLACK and box.y - SLACK <= point[1] <= box.bottom + SLACK):
                found.append(f"{name} does not touch {key}")
    return found


def rect_of(box: Box) -> Rect:
    return box.x, box.y, box.right, box.bottom


def overlap(one: Rect, other: Rect) -> bool:
    """Return whether two rectangles share more than their edges; `one` may be a line."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    wide = SLACK if one[2] - one[0] > SLACK else -SLACK
    high = SLACK if one[3] - one[1] > SLACK else -SLACK
    return across > wide and down > high


def inside(one: Rect, room: Rect) -> bool:
    low = one[0] >= room[0] - SLACK and one[1] >= room[1] - SLACK
    return low and one[2] <= room[2] + SLACK and one[3] <= room[3] + SLACK


def merged_lines(geometry: Geometry) -> list[str]:
    """Pairs of lines that run on top of each other, although their values and targets differ."""
    found: list[str] = []
    for inner in geometry.within():
        pieces = [
            (path, min(start[0], end[0]), min(start[1], end[1]), max(start[0], end[0]), max(start[1], end[1]))
            for path in inner.paths
            if path.arrow
            for start, end in pairwise(path.points)
        ]
        for number, (path, *one) in enumerate(pieces):
            for other_path, *other in pieces[:number]:
                edge, before = path.edge, other_path.edge
                if edge.target == before.target or (edge.source, edge.outlet) == (before.source, before.outlet):
                    continue
                across = min(one[2], other[2]) - max(one[0], other[0])
                down = min(one[3], other[3]) - max(one[1], other[1])
                if min(across, down) > -1 and max(across, down) > 2:
                    found.append(f"{edge.source} to {edge.target} runs along {before.source} to {before.target}")
    return found
