"""Where nodes stand from left to right: the third step of a layered drawing.

A linear program: chains are straight, forks and joins stand in the middle of what they fork into and join, unless one
of two ways is the longer and goes straight on, and lanes keep their line.  Where there are very many lanes,
places are sought that are less good and found sooner.
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
"""How much it matters that a chain is straight, that forks stand in the middle, that lanes are straight, and that
lines are short."""
_STIFF = 1e4
"""How much more it matters that lanes are straight where squares are summed: or each gives way in every row."""
_MANY_DUMMIES = 2000
"""What the linear program takes a second for; its time grows with the square and more."""


def assign_coordinates(rows: LayeredGraph, inner: Mapping[str, Geometry]) -> None:
    """Give each item its `x`, from 0.

    Args:
        inner: what is in frames, by the keys of their nodes.
    """
    many = sum(item.node is None for item in rows.items()) > _MANY_DUMMIES
    for item, x in (_by_sweeps(rows, inner) if many else _by_linear_program(rows, inner)).items():
        item.x = float(round(x))
        item.left, item.right = item.x - item.width / 2, item.x + item.width / 2


def _by_linear_program(rows: LayeredGraph, inner: Mapping[str, Geometry]) -> dict[Vertex, float]:
    """The best places."""
    program = LinearProgram()
    place = {item: program.variable(cost=1e-4) for item in rows.items()}
    end = program.variable(cost=0.2)
    for row in rows.rows:
        for left, right in pairwise(row):
            program.apart(place[left], place[right], _distance(left, right))
        for item in row:
            program.at_least({place[item]: 1.0}, item.width / 2)
            program.apart(place[item], end, item.width / 2)
    for link in rows.links:
        offset = leaving_offset(link, inner) - entering_offset(link, inner)
        program.near({place[link.source]: 1.0, place[link.target]: -1.0}, offset, _weight(link))
    below, above = _longest(rows, down=True), _longest(rows, down=False)
    for item in rows.items():
        for others, heights in ((_below(item), below), (_above(item), above)):
            if item.node is None or item.node.inner is not None or len(others) < 2:
                continue
            main = _main(others, heights, rows)
            if main is not None:
                program.near({place[item]: 1.0, place[main]: -1.0}, 0.0, _CHAIN)
            else:
                first, last = _outermost(others, rows)
                program.near({place[item]: 1.0, place[first]: -0.5, place[last]: -0.5}, 0.0, _MIDDLE)
    values = program.solve()
    return {item: values[number] for item, number in place.items()}


def _by_sweeps(rows: LayeredGraph, inner: Mapping[str, Geometry]) -> dict[Vertex, float]:
    """Good places, where the linear program would take minutes."""
    distances = {row[0]: row[0].width / 2 for row in rows.rows if row}
    for row in rows.rows:
        distances.update((right, _distance(left, right)) for left, right in pairwise(row))
    pulls = []
    for link in rows.links:
        offset = leaving_offset(link, inner) - entering_offset(link, inner)
        weight = _weight(link) * (_STIFF if link.source.node is None and link.target.node is None else 1.0)
        pulls.append(Attraction(link.source, link.target, offset, weight))
    return swept_positions(rows.rows, distances, pulls)


def _distance(left: Vertex, right: Vertex) -> float:
    """How far the middles of two neighbours are apart at least."""
    return (left.width + right.width) / 2 + _gap(left, right)


def _gap(left: Vertex, right: Vertex) -> float:
    return _BETWEEN_BOXES if left.node is not None and right.node is not None else _BESIDE_LANES


def _boxes(links: list[Segment], below: bool) -> list[Segment]:
    """The links that have a node at their other end."""
    return [link for link in links if (link.target if below else link.source).node is not None]


def _below(item: Vertex) -> list[Vertex]:
    """What an item forks into."""
    return [link.target for link in _boxes(item.below, True)]


def _above(item: Vertex) -> list[Vertex]:
    """What an item joins; a bar reaches over lanes too."""
    links = item.above if item.node is not None and item.node.kind == "bar" else _boxes(item.above, False)
    return [link.source for link in links]


def _main(others: list[Vertex], heights: Mapping[Vertex, int], rows: LayeredGraph) -> Vertex | None:
    """Of two ways on, the one that is the longer, and of several that one where it is in between.

    A trunk goes straight on where something small branches off.
    """
    longest = max(heights[item] for item in others)
    found = [item for item in others if heights[item] == longest]
    outermost = _outermost(others, rows) if len(others) > 2 else ()
    return found[0] if len(found) == 1 and found[0] not in outermost else None


def _longest(rows: LayeredGraph, down: bool) -> dict[Vertex, int]:
    """How many nodes the longest way on from each item has, downwards or upwards."""
    found: dict[Vertex, int] = {}
    for row in reversed(rows.rows) if down else rows.rows:
        for item in row:
            following = [link.target for link in item.below] if down else [link.source for link in item.above]
            found[item] = max((found[other] for other in following), default=0) + (item.node is not None)
    return found


def _outermost(items: list[Vertex], rows: LayeredGraph) -> tuple[Vertex, Vertex]:
    row = rows.rows[items[0].rank]
    ordered = sorted(set(items), key=row.index)
    return ordered[0], ordered[-1]


def _weight(link: Segment) -> float:
    """How much it matters that a link is straight."""
    source, target = link.source, link.target
    if source.node is None and target.node is None:
        return _DUMMY_WEIGHT
    if source.node is None:
        return _CHAIN / 2 if not _boxes(target.above, False) and len(target.above) == 1 else _SHORT
    if target.node is None:
        return _CHAIN / 2 if not _boxes(source.below, True) and len(source.below) == 1 else _SHORT
    alone = len(_below(source)) == 1 and len(_above(target)) == 1
    return _CHAIN if alone else _SHORT


def leaving_offset(link: Segment, inner: Mapping[str, Geometry]) -> float:
    """How far right of the middle of its source a link begins, which only a frame tells beforehand."""
    node = link.source.node
    if node is None or node.inner is None:
        return 0.0
    return _offset(inner[node.key], node.exits[link.net[1]], link.source.width)


def entering_offset(link: Segment, inner: Mapping[str, Geometry]) -> float:
    """How far right of the middle of its target a link ends."""
    node = link.target.node
    if node is None or node.inner is None:
        return 0.0
    return _offset(inner[node.key], node.entries[link.entry], link.target.width)


def _offset(geometry: Geometry, key: str, width: float) -> float:
    box = geometry.box(key)
    return box.x + box.width / 2 - width / 2


_SWEEPS = 4
"""How often rows are gone through, up and down again."""

_Side = tuple[Vertex, float, float]
"""How an item is pulled from one side: by what, how far from it the item wants to be, and how much that matters."""


class Attraction(NamedTuple):
    """Two items of neighbouring rows, the upper one first, that want to be apart by `offset`."""

    source: Vertex
    target: Vertex
    offset: float
    weight: float


def swept_positions(
    rows: Sequence[Sequence[Vertex]], distances: Mapping[Vertex, float], pulls: Sequence[Attraction]
) -> dict[Vertex, float]:
    """The places of all items.

    Args:
        distances: how far each item is at least from the one that is left of it; the first ones from 0.
    """
    places: dict[Vertex, float] = {}
    for row in rows:
        x = 0.0
        for item in row:
            x += distances[item]
            places[item] = x
    above: dict[Vertex, list[_Side]] = defaultdict(list)
    below: dict[Vertex, list[_Side]] = defaultdict(list)
    for source, target, offset, weight in pulls:
        above[target].append((source, offset, weight))
        below[source].append((target, -offset, weight))
    upwards = {item: _stronger(below[item], above[item]) for item in places}
    downwards = {item: _stronger(above[item], below[item]) for item in places}
    for _ in range(_SWEEPS):
        for row in reversed(rows):
            _fit(row, distances, upwards, places)
        for row in rows:
            _fit(row, distances, downwards, places)
    least = min((places[row[0]] - distances[row[0]] for row in rows if row), default=0.0)
    return {item: x - least for item, x in places.items()}


def _stronger(before: Sequence[_Side], behind: Sequence[_Side]) -> Sequence[_Side]:
    """What an item goes by: the rows before, but where its line begins, how that goes on."""
    strongest = [max((weight for _, _, weight in side), default=0.0) for side in (before, behind)]
    return before if strongest[0] >= strongest[1] else behind


def _fit(
    row: Sequence[Vertex],
    distances: Mapping[Vertex, float],
    pulling: Mapping[Vertex, Sequence[_Side]],
    places: dict[Vertex, float],
) -> None:
    """Move the items of a row, which keep their order, to where they are pulled."""
    pools: list[tuple[float, float, int]] = []  # place less the least distances, weight, number of items
    offset = 0.0
    for item in row:
        offset += distances[item]
        own = pulling.get(item, ())
        weight = sum(one[2] for one in own)
        wanted = sum((places[other] + apart) * one for other, apart, one in own) / weight if own else places[item]
        pool = (wanted - offset, weight or 0.01, 1)
        while pools and pools[-1][0] > pool[0]:
            left = pools.pop()
            both = left[1] + pool[1]
            pool = ((left[0] * left[1] + pool[0] * pool[1]) / both, both, left[2] + pool[2])
        pools.append(pool)
    starts = [start for start, _, count in pools for _ in range(count)]
    offset = 0.0
    for item, start in zip(row, starts, strict=True):
        offset += distances[item]
        places[item] = start + offset
