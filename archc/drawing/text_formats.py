"""A scene as Mermaid or DOT, for programs with their own layout.

GitHub and many editors render Mermaid; Graphviz renders DOT.  A frame, a node with an inner panel, becomes a subgraph.
The edges of a frame are connected to nodes inside the frame.
"""

from __future__ import annotations

from collections.abc import Iterator

from archc.drawing import style
from archc.drawing.scene import Panel, Scene, SceneNode

_MERMAID_SHAPES = {
    "input": ('(["', '"])'),
    "output": ('(["', '"])'),
    "layer": ('["', '"]'),
    "symbol": ('(("', '"))'),
    "bar": ('[["', '"]]'),
}


def draw_mermaid(scene: Scene) -> str:
    """The Mermaid flowchart of a scene."""
    lines = ["flowchart TD"]
    families: dict[str, list[str]] = {}
    for number, panel in enumerate(scene.panels):
        name = f"p{number}"
        lines.append(f'    subgraph {name}["{_escaped(panel_title(panel))}"]')
        _mermaid_body(panel, f"{name}_", lines, families, 2)
        lines.append("    end")
    for number, (family, names) in enumerate(sorted(families.items())):
        fill, line = style.STORED if family == "stored" else style.family_colours(family)
        lines.append(f"    classDef c{number} fill:{fill},stroke:{line},color:{style.INK}")
        lines.append(f"    class {','.join(names)} c{number}")
    return "\n".join(lines) + "\n"


def _mermaid_body(panel: Panel, prefix: str, lines: list[str], families: dict[str, list[str]], depth: int) -> None:
    indent = "    " * depth
    for node in panel.nodes:
        name = f"{prefix}{node.key}"
        text = "<br>".join(map(_escaped, node_lines(node)))
        if node.inner is not None:
            lines.append(f'{indent}subgraph {name}["{text}"]')
            _mermaid_body(node.inner, f"{name}_", lines, families, depth + 1)
            lines.append(f"{indent}end")
            continue
        begin, end = _MERMAID_SHAPES[node.kind]
        lines.append(f"{indent}{name}{begin}{text}{end}")
        if node.kind in ("layer", "bar"):
            families.setdefault(_family(node), []).append(name)
    for source, target, back in edges_of(panel, prefix):
        lines.append(f"{indent}{source} {'-.->' if back else '-->'} {target}")


def _family(node: SceneNode) -> str:
    return "stored" if node.rows[0].storage else node.rows[0].family


def _escaped(text: str) -> str:
    """A text for a quoted Mermaid string, in which special characters are entities such as `#34;`."""
    return "".join(c if c.isalnum() or c in " _.,:()[]=×+−÷·…→" else f"#{ord(c)};" for c in text)


_DOT_SHAPES = {
    "input": "shape=box, style=rounded",
    "output": "shape=box, style=rounded",
    "symbol": "shape=circle, margin=0, width=0.3",
}


def draw_dot(scene: Scene) -> str:
    """The DOT graph of a scene."""
    lines = [
        f"digraph {_quoted(scene.title)} {{",
        '    node [fontname="sans-serif", fontsize=11, shape=box, height=0.3];',
        f'    edge [color="{style.LINE}", arrowsize=0.7];',
        '    graph [fontname="sans-serif", fontsize=12, labeljust=l];',
    ]
    for number, panel in enumerate(scene.panels):
        lines.append(f"    subgraph cluster_p{number} {{")
        lines.append(f"        label={_quoted(panel_title(panel))};")
        _dot_body(panel, f"p{number}_", lines, 2)
        lines.append("    }")
    return "\n".join([*lines, "}"]) + "\n"


def _dot_body(panel: Panel, prefix: str, lines: list[str], depth: int) -> None:
    indent = "    " * depth
    for node in panel.nodes:
        name = f"{prefix}{node.key}"
        text = _quoted("\n".join(node_lines(node)))
        if node.inner is not None:
            lines.append(f"{indent}subgraph cluster_{name} {{")
            lines.append(f"{indent}    label={text};")
            _dot_body(node.inner, f"{name}_", lines, depth + 1)
            lines.append(f"{indent}}}")
            continue
        lines.append(f"{indent}{name} [label={text}, {_look(node)}];")
    for source, target, back in edges_of(panel, prefix):
        look = f' [style=dashed, constraint=false, color="{style.BACK}"]' if back else ""
        lines.append(f"{indent}{source} -> {target}{look};")


def _look(node: SceneNode) -> str:
    if node.kind in _DOT_SHAPES:
        return _DOT_SHAPES[node.kind]
    fill, line = style.STORED if node.rows[0].storage else style.family_colours(node.rows[0].family)
    return f'style=filled, fillcolor="{fill}", color="{line}"'


def _quoted(text: str) -> str:
    """A quoted string of DOT: quotes and backslashes are escaped, line breaks are `\\n`."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def node_lines(node: SceneNode) -> list[str]:
    """The lines of text of a node."""
    marks = "".join(f" ({mark})" for mark in node.marks)
    lines = []
    for number, row in enumerate(node.rows):
        name = ": ".join(part for part in (row.label, row.text) if part)
        stored = f" [{row.storage}]" if row.storage else ""
        repeat = f" × {node.repeat}" if node.repeat and not number else ""
        lines.append(f"{name}{stored}{repeat}{marks if not number else ''}")
    return [*lines, node.shape] if node.shape else lines


def panel_title(panel: Panel) -> str:
    """The title of a panel with its note."""
    return f"{panel.title} ({panel.note})" if panel.note else panel.title


def edges_of(panel: Panel, prefix: str) -> Iterator[tuple[str, str, bool]]:
    """The edges of a panel, without those of inner panels: source, target, and True for a back edge."""
    nodes = {node.key: node for node in panel.nodes}
    for edge in panel.edges:
        source, target = nodes[edge.source], nodes[edge.target]
        begin, end = f"{prefix}{edge.source}", f"{prefix}{edge.target}"
        if source.inner is not None:
            begin += f"_{source.exits[edge.outlet]}"
        if target.inner is not None:
            end += f"_{target.entries[edge.entry]}"
        yield begin, end, edge.back
