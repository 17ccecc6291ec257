"""A scene as Mermaid, which pages on GitHub and many editors draw by themselves."""

from __future__ import annotations

from archc.drawing import palette
from archc.drawing.flat import edges_of, node_lines, panel_title
from archc.drawing.scene import Node, Panel, Scene

_SHAPES = {
    "input": ('(["', '"])'),
    "output": ('(["', '"])'),
    "layer": ('["', '"]'),
    "symbol": ('(("', '"))'),
    "bar": ('[["', '"]]'),
}


def draw_mermaid(scene: Scene) -> str:
    """The picture as the text of a file."""
    lines = ["flowchart TD"]
    families: dict[str, list[str]] = {}
    for number, panel in enumerate(scene.panels):
        name = f"p{number}"
        lines.append(f'    subgraph {name}["{_escaped(panel_title(panel))}"]')
        _body(panel, f"{name}_", lines, families, 2)
        lines.append("    end")
    for number, (family, names) in enumerate(sorted(families.items())):
        fill, line = palette.STORED if family == "stored" else palette.family(family)
        lines.append(f"    classDef c{number} fill:{fill},stroke:{line},color:{palette.INK}")
        lines.append(f"    class {','.join(names)} c{number}")
    return "\n".join(lines) + "\n"


def _body(panel: Panel, prefix: str, lines: list[str], families: dict[str, list[str]], depth: int) -> None:
    indent = "    " * depth
    for node in panel.nodes:
        name = f"{prefix}{node.key}"
        text = "<br>".join(map(_escaped, node_lines(node)))
        if node.inner is not None:
            lines.append(f'{indent}subgraph {name}["{text}"]')
            _body(node.inner, f"{name}_", lines, families, depth + 1)
            lines.append(f"{indent}end")
            continue
        begin, end = _SHAPES[node.kind]
        lines.append(f"{indent}{name}{begin}{text}{end}")
        if node.kind in ("layer", "bar"):
            families.setdefault(_family(node), []).append(name)
    for source, target, back in edges_of(panel, prefix):
        lines.append(f"{indent}{source} {'-.->' if back else '-->'} {target}")


def _family(node: Node) -> str:
    return "stored" if node.rows[0].storage else node.rows[0].family


def _escaped(text: str) -> str:
    """A text in quotes; Mermaid has HTML's entities, with another sign before them."""
    return "".join(c if c.isalnum() or c in " _.,:()[]=×+−÷·…→" else f"#{ord(c)};" for c in text)
