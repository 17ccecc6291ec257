"""A scene as Graphviz' DOT."""

from __future__ import annotations

from archc.drawing import palette
from archc.drawing.flat import edges_of, node_lines, panel_title
from archc.drawing.scene import Node, Panel, Scene

_SHAPES = {
    "input": "shape=box, style=rounded",
    "output": "shape=box, style=rounded",
    "symbol": "shape=circle, margin=0, width=0.3",
}


def draw_dot(scene: Scene) -> str:
    """The picture as the text of a file."""
    lines = [
        f"digraph {_quoted(scene.title)} {{",
        '    node [fontname="sans-serif", fontsize=11, shape=box, height=0.3];',
        f'    edge [color="{palette.LINE}", arrowsize=0.7];',
        '    graph [fontname="sans-serif", fontsize=12, labeljust=l];',
    ]
    for number, panel in enumerate(scene.panels):
        lines.append(f"    subgraph cluster_p{number} {{")
        lines.append(f"        label={_quoted(panel_title(panel))};")
        _body(panel, f"p{number}_", lines, 2)
        lines.append("    }")
    return "\n".join([*lines, "}"]) + "\n"


def _body(panel: Panel, prefix: str, lines: list[str], depth: int) -> None:
    indent = "    " * depth
    for node in panel.nodes:
        name = f"{prefix}{node.key}"
        text = _quoted("\n".join(node_lines(node)))
        if node.inner is not None:
            lines.append(f"{indent}subgraph cluster_{name} {{")
            lines.append(f"{indent}    label={text};")
            _body(node.inner, f"{name}_", lines, depth + 1)
            lines.append(f"{indent}}}")
            continue
        lines.append(f"{indent}{name} [label={text}, {_look(node)}];")
    for source, target, back in edges_of(panel, prefix):
        look = f' [style=dashed, constraint=false, color="{palette.BACK}"]' if back else ""
        lines.append(f"{indent}{source} -> {target}{look};")


def _look(node: Node) -> str:
    if node.kind in _SHAPES:
        return _SHAPES[node.kind]
    fill, line = palette.STORED if node.rows[0].storage else palette.family(node.rows[0].family)
    return f'style=filled, fillcolor="{fill}", color="{line}"'


def _quoted(text: str) -> str:
    """A string of DOT: quotes and backslashes with a backslash, lines apart by `\\n`."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
