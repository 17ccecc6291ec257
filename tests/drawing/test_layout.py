"""Layouts of pictures: the laws of `tests/drawing/laws.py` hold for every spec and for random scenes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

import archc
from archc.drawing import coordinates
from archc.drawing.compose import compose
from archc.drawing.geometry import Box, Geometry
from archc.drawing.geometry import Path as Line
from archc.drawing.layering import LinearProgram
from archc.drawing.layout import lay_out, make_page
from archc.drawing.scene import BoxRow, Edge, Panel, Scene, SceneNode
from archc.drawing.svg import draw_svg
from tests.drawing.laws import merged_lines, panel_violations, violations
from tests.drawing.panels import scenes
from tests.drawing.scenes import scene_of

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*.arch"))


@pytest.mark.parametrize("depth", [0, 1, 9])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_nothing_overlaps(spec: Path, depth: int) -> None:
    page = make_page(compose(archc.parse(spec), depth))
    assert violations(page) == []
    assert [line for card in page.cards for line in merged_lines(card.geometry)] == []


@given(scenes())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_nothing_overlaps_in_random_scenes(scene: Scene) -> None:
    assert violations(make_page(scene)) == []


def test_broken_laws_are_found() -> None:
    """Overlapping boxes, a line through a box, a line that ends early, an oblique line, a box outside."""
    boxes = [Box(SceneNode(key, "layer", (BoxRow(key),)), 0, y, 50, 20) for key, y in (("a", 0), ("b", 40), ("c", 80))]
    room = (0.0, 0.0, 60.0, 100.0)

    def found(*lines: Line, moved: float = 0.0) -> list[str]:
        boxes[1].y = 40 + moved
        return panel_violations(Geometry(60, 100, list(boxes), list(lines)), room, "m")

    edge = Edge("a", "c")
    around = Line(edge, [(45, 20), (45, 30), (55, 30), (55, 70), (45, 70), (45, 80)])
    assert found(around) == []
    assert found(Line(edge, [(20, 20), (20, 80)])) == ["m: a to c goes through b"]
    assert found(moved=-30) == ["m: b and a overlap"]
    assert any("does not touch c" in text for text in found(Line(edge, [(45, 20), (45, 30)])))
    assert any("askew" in text for text in found(Line(edge, [(45, 20), (55, 30), (55, 85), (50, 85)])))
    assert found(moved=200) == ["m: b leaves its room"]


def chain(*edges: tuple[str, str], **kinds: str) -> Geometry:
    """The layout of a small panel."""
    keys = dict.fromkeys(key for edge in edges for key in edge)
    nodes = [SceneNode(key, kinds.get(key, "layer"), (BoxRow(key),)) for key in keys]  # type: ignore[arg-type]
    return lay_out(Panel("m", nodes=nodes, edges=[Edge(*edge) for edge in edges]))


def middle(geometry: Geometry, key: str) -> float:
    box = geometry.box(key)
    return box.x + box.width / 2


def test_a_chain_is_straight_and_a_skip_passes_beside_it() -> None:
    geometry = chain(("x", "a"), ("a", "b"), ("b", "s"), ("x", "s"), ("s", "y"), s="symbol", x="input", y="output")
    assert len({middle(geometry, key) for key in "xabsy"}) == 1
    (skip,) = (path for path in geometry.paths if (path.edge.source, path.edge.target) == ("x", "s"))
    assert max(x for x, _ in skip.points) > geometry.box("a").right
    circle = geometry.box("s")
    assert skip.points[-1] == (circle.right, circle.y + circle.height / 2)  # the skip ends at its side
    (main,) = (path for path in geometry.paths if (path.edge.source, path.edge.target) == ("b", "s"))
    assert main.points[0][0] == main.points[-1][0]


def test_branches_are_centered_and_a_bar_spans_them() -> None:
    edges = [("x", key) for key in "abc"] + [(key, "j") for key in "abc"] + [("j", "y")]
    geometry = chain(*edges, j="bar", x="input", y="output")
    assert middle(geometry, "x") == pytest.approx((middle(geometry, "a") + middle(geometry, "c")) / 2, abs=1)
    bar = geometry.box("j")
    assert bar.x < middle(geometry, "a") and bar.right > middle(geometry, "c")
    into = [path for path in geometry.paths if path.edge.target == "j"]
    assert all(path.points[0][0] == path.points[-1][0] for path in into)


def test_lines_of_a_skip_over_many_rows_are_straight() -> None:
    names = [f"n{number}" for number in range(12)]
    geometry = chain(*pairwise(names), (names[0], names[-1]))
    (skip,) = (path for path in geometry.paths if path.edge.target == names[-1] and path.edge.source == names[0])
    assert len({x for x, _ in skip.points}) <= 3


def test_boxes_alone_in_their_rows_are_equally_wide() -> None:
    geometry = chain(("a", "a much longer name"), ("a much longer name", "c"))
    assert len({box.width for box in geometry.boxes}) == 1


@pytest.mark.parametrize("many", [0, 2000])
def test_many_lines_over_many_rows(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coordinates that are computed without the linear program obey the laws, too."""
    monkeypatch.setattr(coordinates, "_MANY_DUMMIES", many)
    for depth in (0, 9):
        for spec in ("unet", "ssd300", "whisper", "densenet121"):
            page = make_page(compose(archc.parse(SPECS[0].parent / f"{spec}.arch"), depth))
            assert violations(page) == []


def test_a_picture_of_very_many_lines_takes_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer reads all earlier ones, so the number of lanes is quadratic."""
    sizes: list[int] = []
    solve = LinearProgram.solve
    monkeypatch.setattr(LinearProgram, "solve", lambda program: (sizes.append(len(program._rows)), solve(program))[1])
    scene = scene_of(
        "model m { input x: f32[N, 8]\n xs = (x,)\n"
        " for i in 0..50 { xs = xs + (xs -> concat(1) -> l[i]: linear(8),) }\n output y = xs -> concat(1) }"
    )
    text = draw_svg(scene)
    (size,) = sizes  # one program, for the rows; with so many lanes, no linear program computes the columns
    assert size < 2000
    assert len(text) < 500_000  # lanes are straight
