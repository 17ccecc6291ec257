"""Coordinates of the parts of a picture, in pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archc.drawing.scene import Edge, SceneNode

Point = tuple[float, float]


@dataclass(eq=False)
class Box:
    """A placed node; `inner` is the layout inside a frame, in the same coordinates."""

    node: SceneNode
    x: float
    y: float
    width: float
    height: float
    inner: Geometry | None = None

    @property
    def right(self) -> float:
        """The coordinate of the right side."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The coordinate of the lower side."""
        return self.y + self.height


@dataclass(eq=False)
class Path:
    """A routed edge: a polyline of horizontal and vertical lines.

    Attributes:
        arrow: True if it ends with an arrowhead.
    """

    edge: Edge
    points: list[Point]
    arrow: bool = True


@dataclass(eq=False)
class Band:
    """A horizontal band with the nodes of a range of pipeline stages, given by its first and last stage."""

    stages: tuple[int, int]
    y: float
    height: float


@dataclass(eq=False)
class Geometry:
    """The layout of a panel, with coordinates relative to a common origin."""

    width: float
    height: float
    boxes: list[Box] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)

    def move(self, x: float, y: float) -> None:
        """Move all parts by an offset."""
        for box in self.boxes:
            box.x += x
            box.y += y
            if box.inner is not None:
                box.inner.move(x, y)
        for path in self.paths:
            path.points = [(a + x, b + y) for a, b in path.points]
        for band in self.bands:
            band.y += y

    def box(self, key: str) -> Box:
        """The box of a node."""
        return next(box for box in self.boxes if box.node.key == key)

    def within(self) -> Iterator[Geometry]:
        """Yield this layout and all layouts inside its frames."""
        yield self
        for box in self.boxes:
            if box.inner is not None:
                yield from box.inner.within()
