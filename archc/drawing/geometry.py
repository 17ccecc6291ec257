"""Where everything of a picture is, in pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archc.drawing.scene import Edge, SceneNode

Point = tuple[float, float]


@dataclass(eq=False)
class Box:
    """A node at its place; for a frame, `inner` is what is in it, relative to the same corner as the box itself."""

    node: SceneNode
    x: float
    y: float
    width: float
    height: float
    inner: Geometry | None = None

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height


@dataclass(eq=False)
class Path:
    """An edge at its place: horizontal and vertical lines from corner to corner.

    Attributes:
        arrow: whether it ends in one.
    """

    edge: Edge
    points: list[Point]
    arrow: bool = True


@dataclass(eq=False)
class Band:
    """The nodes of some stages, from side to side."""

    stages: tuple[int, int]
    y: float
    height: float


@dataclass(eq=False)
class Geometry:
    """A panel at its place; `x` and `y` are its corner, all else is relative to what these are relative to."""

    width: float
    height: float
    boxes: list[Box] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)

    def move(self, x: float, y: float) -> None:
        """Move everything."""
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
        """This, and what is in its frames."""
        yield self
        for box in self.boxes:
            if box.inner is not None:
                yield from box.inner.within()
