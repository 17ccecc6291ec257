"""A scene as a self-contained SVG with a background, without scripts or embedded fonts."""

from __future__ import annotations

from dataclasses import dataclass, field

from archc.codegen.templates import template
from archc.drawing import style
from archc.drawing.geometry import Box, Geometry, Path, Point
from archc.drawing.layout import TITLE, Card, Page, make_page
from archc.drawing.scene import BoxRow, Scene
from archc.drawing.style import HEADER, LABEL, SHAPE_ROW, SMALL, TEXT, badges_width, row_height, row_width, text_width

_ROUND = 7.0
"""The radius of a line's corner."""
_BADGE = 6.5


@dataclass
class SvgElement:
    """An SVG element: its name, its attributes in order, and its text."""

    name: str
    attributes: dict[str, str]
    spans: list[tuple[str, str]] = field(default_factory=list)
    """Texts with their CSS classes."""


def draw_svg(scene: Scene) -> str:
    """The SVG of a scene as text."""
    page = make_page(scene)
    painter = _Painter(page)
    for number, card in enumerate(page.cards):
        painter.card(card, number)
    return template("archc.drawing", "picture.svg.jinja").render(
        width=_number(page.width),
        height=_number(page.height),
        title=_clean(scene.title),
        shapes=painter.shapes,
        style=style,
        sizes={"label": _number(LABEL), "text": _number(TEXT), "small": _number(SMALL)},
    )


class _Painter:
    def __init__(self, page: Page):
        self.page = page
        self.shapes: list[SvgElement] = []
        self.colours = {card.panel.title: style.block_colours(number) for number, card in enumerate(page.cards)}

    def card(self, card: Card, number: int) -> None:
        """Draw a panel with its border and title."""
        self._rect(card.x, card.y, card.width, card.height, 8, style.CARD, style.BORDER)
        if number:
            fill, line = self.colours[card.panel.title]
            self._rect(card.x + 10, card.y + 9, 5, 14, 2, fill, line)
        note = card.panel.note if number else self.page.scene.note
        spans = [("b", card.panel.title), *([("s", note)] if note else [])]
        self._text(card.x + (22 if number else 14), card.y + TITLE / 2 + 5, spans, "start")
        self._geometry(card.geometry, card.x, card.width)

    # Panels -----------------------------------------------------------------------------------------------

    def _geometry(self, geometry: Geometry, x: float, width: float) -> None:
        for band in geometry.bands:
            first, last = band.stages
            self._rect(x + 1, band.y, width - 2, band.height, 0, style.stage_colour(first + last))
            name = f"stage {first}" if first == last else f"stages {first}–{last}"
            self._text(x + 10, band.y + 15, [("s", name)], "start")
            devices = self.page.scene.devices
            device = devices[first] if first == last and first < len(devices) else None
            if device is not None:
                self._text(x + 10, band.y + 28, [("s", device)], "start")
        for box in geometry.boxes:
            if box.inner is not None:
                self._frame(box)
        for path in geometry.paths:
            self._path(path)
        for box in geometry.boxes:
            if box.inner is None:
                self._box(box)

    def _frame(self, box: Box) -> None:
        (row,) = box.node.rows
        fill, line = self._colour(row)
        if box.node.repeat:
            self._sheets(box, fill, line)
        self._rect(box.x, box.y, box.width, box.height, 6, style.CARD, line)
        self._rect(box.x, box.y, box.width, HEADER, 6, fill, line)
        spans = [*([("b", row.label)] if row.label else []), ("t", row.text)]
        self._text(box.x + 10, box.y + HEADER / 2 + 4, spans, "start")
        self._badges(box, HEADER / 2)
        assert box.inner is not None
        self._geometry(box.inner, box.x, box.width)

    def _path(self, path: Path) -> None:
        kind = "k" if path.edge.back else "e"
        attributes = {"class": kind, "d": rounded(path.points)}
        if path.arrow:
            attributes["marker-end"] = "url(#b)" if path.edge.back else "url(#a)"
        self.shapes.append(SvgElement("path", attributes))

    # Nodes ------------------------------------------------------------------------------------------------

    def _box(self, box: Box) -> None:
        node = box.node
        middle = box.x + box.width / 2
        if node.kind == "symbol":
            centre = {"cx": _number(middle), "cy": _number(box.y + box.height / 2), "r": _number(box.height / 2)}
            self.shapes.append(SvgElement("circle", {**centre, "fill": style.CARD, "stroke": style.INK}))
            self._text(middle, box.y + box.height / 2 + 5, [("m", node.rows[0].text)])
            return
        if node.kind in ("input", "output"):
            self._rect(box.x, box.y, box.width, box.height, box.height / 2, style.PAGE, style.FAINT)
            (row,) = node.rows
            spans = [("b", row.label), *([("t", row.text)] if row.text else [])]
            self._text(middle, box.y + box.height / 2 + 4, spans)
            return
        if node.kind == "bar":
            fill, line = style.family_colours(node.rows[0].family)
            self._rect(box.x, box.y, box.width, box.height, 3, fill, line)
            spans = [("l", node.rows[0].text), *([("s", node.shape)] if node.shape else [])]
            self._text(middle, box.y + box.height / 2 + 3.5, spans)
            self._badges(box, box.height / 2)
            return
        self._rows(box)

    def _rows(self, box: Box) -> None:
        """Draw a box of rows; the first row gives the border its colour."""
        node = box.node
        first = node.rows[0]
        fill, line = self._colour(first)
        if node.repeat:
            self._sheets(box, fill, line)
        self._rect(box.x, box.y, box.width, box.height, 5, style.CARD, "none")
        y = box.y
        for number, row in enumerate(node.rows):
            height = row_height(row)
            ends = (number == 0, number == len(node.rows) - 1 and not node.shape)
            self.shapes.append(
                SvgElement("path", {"d": _strip(box.x, y, box.width, height, ends), "fill": self._colour(row)[0]})
            )
            self._row(box, row, y + height / 2, number == 0)
            y += height
        if node.shape:
            self._text(box.x + box.width / 2, y + SHAPE_ROW / 2 + 3.5, [("s", node.shape)])
        self._rect(box.x, box.y, box.width, box.height, 5, "none", line)

    def _row(self, box: Box, row: BoxRow, y: float, is_first: bool) -> None:
        letters = "l" if row.light else "t"
        spans = [*([("c" if row.light else "b", row.label)] if row.label else []), (letters, row.text)]
        middle = box.x + box.width / 2 - (badges_width(box.node) / 2 if is_first else 0.0)
        if row.storage:
            width = text_width(row.storage, SMALL) + 8
            start = middle + row_width(row) / 2 - width
            self._rect(start, y - 7, width, 14, 3, style.CARD, style.STORED[1])
            self._text(start + width / 2, y + 3.5, [("s", row.storage)])
            middle -= (width + 6) / 2
        self._text(middle, y + 4, spans)
        if is_first:
            self._badges(box, row_height(row) / 2)

    def _badges(self, box: Box, height: float) -> None:
        """Draw the repetition count and the marks of a node, at the right."""
        x = box.right - 5
        if box.node.repeat:
            self._text(x, box.y + height + 4, [("b", f"× {box.node.repeat}")], "end")
            x -= text_width(f"× {box.node.repeat}", LABEL, bold=True) + 4
        for mark in reversed(box.node.marks):
            centre = {"cx": _number(x - _BADGE), "cy": _number(box.y + height), "r": _number(_BADGE)}
            self.shapes.append(SvgElement("circle", {**centre, "fill": style.BACK}))
            self._text(x - _BADGE, box.y + height + 3.5, [("n", str(mark))])
            x -= 2 * _BADGE + 2

    def _sheets(self, box: Box, fill: str, line: str) -> None:
        """Draw two shifted rectangles in the background of a repeated box."""
        for shift in (6.0, 3.0):
            self._rect(box.x + shift, box.y + shift, box.width, box.height, 5, fill, line)

    def _colour(self, row: BoxRow) -> tuple[str, str]:
        if row.storage:
            return style.STORED
        if row.family == "block":
            return self.colours.get(row.block, style.block_colours(0))
        return style.family_colours(row.family)

    # Shapes -----------------------------------------------------------------------------------------------

    def _rect(self, x: float, y: float, width: float, height: float, r: float, fill: str, line: str = "none") -> None:
        place = {"x": x, "y": y, "width": width, "height": height, **({"rx": r} if r else {})}
        colours = {"fill": fill, **({"stroke": line} if line != "none" else {})}
        self.shapes.append(SvgElement("rect", {**{name: _number(value) for name, value in place.items()}, **colours}))

    def _text(self, x: float, y: float, spans: list[tuple[str, str]], anchor: str = "middle") -> None:
        attributes = {"x": _number(x), "y": _number(y)}
        if anchor != "middle":
            attributes["text-anchor"] = anchor
        self.shapes.append(SvgElement("text", attributes, [(kind, _clean(text)) for kind, text in spans]))


def rounded(points: list[Point]) -> str:
    """A polyline with rounded corners, as the attribute `d` of a path."""
    corners = [points[0]]
    for before, point, after in zip(points, points[1:], points[2:]):
        level = before[1] == point[1] == after[1] or before[0] == point[0] == after[0]
        if not level and point not in (before, after):
            corners.append(point)
    corners.append(points[-1])
    text = f"M{_pair(corners[0])}"
    for before, point, after in zip(corners, corners[1:], corners[2:]):
        radius = min(_ROUND, _distance(before, point) / 2, _distance(point, after) / 2)
        text += f"L{_pair(_towards(point, before, radius))}Q{_pair(point)} {_pair(_towards(point, after, radius))}"
    return f"{text}L{_pair(corners[-1])}"


def _strip(x: float, y: float, width: float, height: float, ends: tuple[bool, bool]) -> str:
    """The attribute `d` of the path of a row: a rectangle with the rounded corners of its box."""
    top, bottom = (5.0 if end else 0.0 for end in ends)
    arcs = {True: "a5 5 0 0 1 ", False: ""}
    right_top = f"h{_number(width - 2 * top)}{arcs[ends[0]]}{'5 5' if top else ''}"
    right_bottom = f"v{_number(height - top - bottom)}{arcs[ends[1]]}{'-5 5' if bottom else ''}"
    left_bottom = f"h{_number(-(width - 2 * bottom))}{arcs[ends[1]]}{'-5-5' if bottom else ''}"
    left_top = f"v{_number(-(height - top - bottom))}{arcs[ends[0]]}{'5-5' if top else ''}"
    return f"M{_pair((x + top, y))}{right_top}{right_bottom}{left_bottom}{left_top}z"


def _distance(one: Point, other: Point) -> float:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])  # lines are horizontal or vertical


def _towards(point: Point, other: Point, distance: float) -> Point:
    length = _distance(point, other) or 1.0
    return (
        point[0] + (other[0] - point[0]) * distance / length,
        point[1] + (other[1] - point[1]) * distance / length,
    )


def _pair(point: Point) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(number: float) -> str:
    text = f"{number:.1f}"
    return "0" if text in ("0.0", "-0.0") else text.removesuffix(".0")


def _clean(text: str) -> str:
    """A text in which characters that XML forbids are replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
