"""Mermaid and DOT texts: the expected text of a small model, and closed quotes for all names."""

from __future__ import annotations

import re

import pytest

from archc.drawing.text_formats import draw_dot, draw_mermaid
from tests.drawing.scenes import scene_of
from tests.drawing.test_svg import HOSTILE, of_names

SMALL = """
block Layer { input x: f32[B, D]
    output x + (x -> up: linear(8) -> relu -> down: linear(D)) }
model net { input x: f32[N, 4]
    for i in 0..3 { x = x -> h[i]: Layer }
    output y = x -> head: linear(2) }
"""

SCAN = """
model m { input x: f32[B, T, 8]
    scan x_t in x, h = zeros((B, 8)) { h = x_t + h }
    output last = h }
"""


def test_mermaid() -> None:
    assert (
        draw_mermaid(scene_of(SMALL))
        == """\
flowchart TD
    subgraph p0["net"]
        p0_e0(["x: f32[N, 4]"])
        p0_n1["h[0..3]: Layer × 3"]
        p0_n2["head: linear(2)<br>N × 2"]
        p0_e3(["y: N × 2"])
        p0_e0 --> p0_n1
        p0_n1 --> p0_n2
        p0_n2 --> p0_e3
    end
    subgraph p1["Layer (3 uses)"]
        p1_e0(["x: B × D"])
        p1_n1["up: linear(8)<br>relu<br>N × 8"]
        p1_n3["down: linear(4)<br>N × 4"]
        p1_n4(("+"))
        p1_e5(["output"])
        p1_e0 --> p1_n1
        p1_n1 --> p1_n3
        p1_e0 --> p1_n4
        p1_n3 --> p1_n4
        p1_n4 --> p1_e5
    end
    classDef c0 fill:#eef0f4,stroke:#aeb6c2,color:#1f2933
    class p0_n1 c0
    classDef c1 fill:#d5f0df,stroke:#5fae80,color:#1f2933
    class p0_n2,p1_n1,p1_n3 c1
"""
    )


def test_dot() -> None:
    assert (
        draw_dot(scene_of(SCAN))
        == """\
digraph "m" {
    node [fontname="sans-serif", fontsize=11, shape=box, height=0.3];
    edge [color="#6b7685", arrowsize=0.7];
    graph [fontname="sans-serif", fontsize=12, labeljust=l];
    subgraph cluster_p0 {
        label="m";
        p0_e0 [label="x: f32[B, T, 8]", shape=box, style=rounded];
        p0_n1 [label="zeros((B, 8))\\nB × 8", style=filled, fillcolor="#eef0f4", color="#aeb6c2"];
        subgraph cluster_p0_n2 {
            label="scan: for each x_t";
            p0_n2_e0 [label="x_t", shape=box, style=rounded];
            p0_n2_e1 [label="h", shape=box, style=rounded];
            p0_n2_n2 [label="+", shape=circle, margin=0, width=0.3];
            p0_n2_e3 [label="h", shape=box, style=rounded];
            p0_n2_e0 -> p0_n2_n2;
            p0_n2_e1 -> p0_n2_n2;
            p0_n2_n2 -> p0_n2_e3;
            p0_n2_e3 -> p0_n2_e1 [style=dashed, constraint=false, color="#b4552d"];
        }
        p0_e3 [label="last: B × 8", shape=box, style=rounded];
        p0_e0 -> p0_n2_e0;
        p0_n1 -> p0_n2_e1;
        p0_n2_e3 -> p0_e3;
    }
}
"""
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_names_do_not_leave_their_quotes(name: str) -> None:
    scene = of_names(name)
    mermaid = draw_mermaid(scene)
    assert len(mermaid.splitlines()) == len(draw_mermaid(of_names("plain")).splitlines())
    assert all(line.count('"') in (0, 2) for line in mermaid.splitlines())
    assert not re.search(r"[<&](?!br>)", mermaid)
    dot = draw_dot(scene)
    assert len(dot.split("\n")) == len(draw_dot(of_names("plain")).split("\n"))
    strings = re.sub(r'"(?:[^"\\\n]|\\.)*"', "S", dot)
    assert '"' not in strings and strings == re.sub(r'"(?:[^"\\\n]|\\.)*"', "S", draw_dot(of_names("plain")))
