"""Bar charts of `report.html`: the geometry of the bars, which the template draws as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from archc.frozen_dataclass import frozen_dataclass

MOST_BARS = 60
"""Maximum number of layers in a chart; a chart of more layers would be unreadable and large."""
WIDTH, LABEL, NUMBER = 960.0, 250.0, 150.0
"""Width of a chart, of the names at its left, and of the numbers at its right, in pixels."""
BAR, GAP = 9.0, 7.0
"""Height of a bar, and space between two layers."""
LONGEST_LABEL = 36


@frozen_dataclass
class Bar:
    """A bar: its kind (a CSS class), its position and its width."""

    kind: str
    y: float
    width: float


@frozen_dataclass
class ChartRow:
    """The bars of a layer, with the name of the layer and a text at the right."""

    label: str
    text: str
    middle: float
    bars: tuple[Bar, ...]


@frozen_dataclass
class Chart:
    """A bar chart with one row for each layer; bars begin at `left`."""

    title: str
    rows: tuple[ChartRow, ...]
    height: float
    width: float = WIDTH
    left: float = LABEL
    bar: float = BAR


def bar_chart(title: str, kinds: Sequence[str], rows: Sequence[tuple[str, Sequence[float], str]]) -> Chart | None:
    """A chart with one bar of each kind in each row; None without rows.

    Args:
        kinds: CSS classes of the bars.
        rows: for each layer its name, the numbers of its bars, and the text at the right.
    """
    if not rows:
        return None
    largest = max(max(numbers) for _, numbers, _ in rows)
    scale = (WIDTH - LABEL - NUMBER) / largest if largest > 0 else 0.0
    step = BAR * len(kinds) + GAP
    drawn = []
    for row, (label, numbers, text) in enumerate(rows):
        y = row * step + GAP / 2
        bars = (
            Bar(kind, round(y + k * BAR, 1), round(max(0.0, number) * scale, 1))
            for k, (kind, number) in enumerate(zip(kinds, numbers, strict=True))
        )
        drawn.append(ChartRow(_shortened(label), text, round(y + BAR * len(kinds) / 2, 1), tuple(bars)))
    return Chart(title, tuple(drawn), round(step * len(rows), 1))


def _shortened(label: str) -> str:
    """A name of at most `LONGEST_LABEL` characters; an ellipsis replaces the middle of a longer name."""
    half = LONGEST_LABEL // 2
    return label if len(label) <= LONGEST_LABEL else f"{label[: half - 1]}…{label[-half:]}"
