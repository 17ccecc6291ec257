"""SVG files: well-formed for all names, and equal in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings

import archc
from archc.drawing.compose import compose
from archc.drawing.scene import BoxRow, Edge, Panel, Scene, SceneNode
from archc.drawing.style import text_width
from archc.drawing.svg import draw_svg, rounded
from tests.drawing.panels import scenes
from tests.drawing.scenes import scene_of

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*.arch"))
SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    """All texts in a picture."""
    return [span.text or "" for span in ElementTree.fromstring(svg).iter(f"{SVG}tspan")]


def of_names(*names: str) -> Scene:
    """A scene with a name in every place that has a text."""
    nodes = [
        SceneNode("a", "input", (BoxRow(names[0], names[0]),)),
        SceneNode(
            "b", "layer", (BoxRow(names[0], names[0], storage=names[0]),), shape=names[0], repeat="2", marks=(1, 2)
        ),
        SceneNode("c", "output", (BoxRow(names[0], names[0]),)),
    ]
    return Scene(names[0], names[0], [Panel(names[0], names[0], nodes, [Edge("a", "b"), Edge("b", "c")])])


HOSTILE = [
    '"quotes" & <tags>',
    "]]>",
    "</svg><script>alert(1)</script>",
    "naïve 模型 🧠",
    "a\tb\nc\x00\x1b\ud800",
    "w" * 300,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_escaped(name: str) -> None:
    svg = draw_svg(of_names(name))
    tree = ElementTree.fromstring(svg)
    assert {element.tag for element in tree.iter()} <= {
        f"{SVG}{tag}" for tag in ("svg", "title", "style", "defs", "marker", "path", "rect", "circle", "text", "tspan")
    }
    readable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    assert texts(svg).count(readable) == 2 + 2 + 4 + 2  # texts of the panel, and of the three nodes
    svg.encode("utf-8")


def test_a_very_long_name_makes_its_box_wider() -> None:
    svg = draw_svg(of_names("w" * 300))
    width = float(ElementTree.fromstring(svg).attrib["width"])
    assert width > text_width("w" * 300, 11)


def test_names_of_a_model_that_are_too_long_are_cut() -> None:
    svg = draw_svg(scene_of(f"model m {{ input x: f32[N, 8]  output y = x -> {'long' * 24}: linear(8) }}"))
    assert "…" in next(text for text in texts(svg) if text.startswith("longlong"))
    assert float(ElementTree.fromstring(svg).attrib["width"]) < 500


@given(scenes())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_random_scenes_give_xml(scene: Scene) -> None:
    ElementTree.fromstring(draw_svg(scene))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_a_spec_makes_a_picture_that_a_page_can_show(spec: Path) -> None:
    graph = archc.parse(spec)
    svg = draw_svg(compose(graph))
    tree = ElementTree.fromstring(svg)
    assert len(svg.encode()) < 60_000
    assert float(tree.attrib["width"]) <= 1100
    written = texts(svg)
    assert graph.name in written and {value.name for value in graph.inputs} | set(graph.outputs) <= set(written)


def test_texts_fit_into_their_boxes_by_the_widths_of_a_wide_font() -> None:
    """No row is wider than its box, with a long operator or a long name."""
    from archc.drawing.style import node_size, row_width

    for row in (
        BoxRow("conv2d(64, 3)", "conv1"),
        BoxRow("x" * 50),
        BoxRow("", "M" * 20),
        BoxRow("a", "b", storage="int8"),
    ):
        assert node_size(SceneNode("n", "layer", (row,), repeat="12", marks=(1,)))[0] > row_width(row)


def test_corners_are_round_and_nothing_else() -> None:
    assert rounded([(0, 0), (0, 10), (0, 30)]) == "M0 0L0 30"
    assert rounded([(0, 0), (0, 30), (40, 30)]) == "M0 0L0 23Q0 30 7 30L40 30"
    assert rounded([(0, 0), (0, 4), (40, 4)]) == "M0 0L0 2Q0 4 2 4L40 4"


def test_the_same_bytes_in_every_process() -> None:
    program = (
        "import sys, archc\nfrom pathlib import Path\nfrom archc.cli.draw import written\n"
        "from archc.drawing.compose import compose\n"
        "for name in ('translator', 'ssd300', 'clip'):\n"
        "    scene = compose(archc.parse(Path(sys.argv[1]) / f'{name}.arch'), 1)\n"
        "    for kind in ('.svg', '.mmd', '.dot'): sys.stdout.write(written(scene, kind))\n"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", program, str(SPECS[0].parent)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "4242")
    }
    assert len(made) == 1 and len(made.pop()) > 100_000
