"""Where the items of very large panels stand: a cheaper way than the linear program, and less straight.

Rows are gone through up and down.  In each, items come as near as they can to what they are connected to in the row
before, in the sense of least squares, by pooling neighbours that are in one another's way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from archc.drawing.ranks import Item

_SWEEPS = 4
"""How often rows are gone through, up and down again."""

_Side = tuple[Item, float, float]
"""How an item is pulled from one side: by what, how far from it the item wants to be, and how much that matters."""


class Pull(NamedTuple):
    """Two items of neighbouring rows, the upper one first, that want to be apart by `offset`."""

    source: Item
    target: Item
    offset: float
    weight: float


def settle(rows: Sequence[Sequence[Item]], distances: Mapping[Item, float], pulls: Sequence[Pull]) -> dict[Item, float]:
    """The places of all items.

    Args:
        distances: how far each item is at least from the one that is left of it; the first ones from 0.
    """
    places: dict[Item, float] = {}
    for row in rows:
        x = 0.0
        for item in row:
            x += distances[item]
            places[item] = x
    above: dict[Item, list[_Side]] = defaultdict(list)
    below: dict[Item, list[_Side]] = defaultdict(list)
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
    row: Sequence[Item],
    distances: Mapping[Item, float],
    pulling: Mapping[Item, Sequence[_Side]],
    places: dict[Item, float],
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
