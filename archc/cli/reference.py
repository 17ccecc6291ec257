"""The reference pages `docs/operators.md` and `docs/passes.md`, made of what `archc ops` and `archc passes` know.

    python -m archc.cli.reference [docs]

Only what comes with archc is on them, not what else is installed on the machine.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from archc.cli.describe import PRESERVES, operator_json, pass_json

_OPERATORS = """\
# Operators

All {count} operators of the language, by family. `archc ops NAME` shows the same in a terminal. A signature names the
index of every axis; one operand's axis and another's of the same index have the same size, and a result's axis has the
size of what its index is. Parameters are initialized as PyTorch initializes them. The page is generated from the
classes in `archc/ops/` by `make reference`.
"""

_PASSES = """\
# Passes

A pipeline names passes with their options: `--passes "lowrank(energy = 0.95, on = 'fc*'), quant"` on the command line,
`pipeline edge = lowrank(energy = 0.95, on = "fc*") -> quant` in a file. After every pass the graph is verified and the
error at the outputs is measured. A pipeline in which a pass comes too late, such as `quant, lowrank`, is refused, with
an order that will do. `archc passes NAME` shows the same as this page, which is generated from the classes in `passes/`
by `make reference`.
"""


def pages() -> dict[str, str]:
    """The pages by file name."""
    return {"operators.md": operators_page(), "passes.md": passes_page()}


def operators_page() -> str:
    """All operators of archc's own, by family."""
    from archc.ops import OPERATORS

    shipped = [cls for cls in OPERATORS.values() if cls.__module__.startswith("archc.ops.")]
    families: dict[str, list[dict[str, Any]]] = {}
    for cls in sorted(shipped, key=lambda cls: (cls.family, cls.name)):
        families.setdefault(cls.family, []).append(operator_json(cls))
    contents = [
        f"- {_title(family)}: " + ", ".join(f"[`{one['name']}`](#{one['name']})" for one in members)
        for family, members in families.items()
    ]
    sections = ["\n".join(contents)]
    for family, members in families.items():
        sections.append(f"## {_title(family)}")
        sections += map(_operator, members)
    return "\n\n".join([_OPERATORS.format(count=len(shipped)).rstrip(), *sections]) + "\n"


def passes_page() -> str:
    """All passes of archc's own."""
    from archc.passmanager import known_passes

    shipped = [cls for cls in known_passes().values() if cls.__module__.startswith("archc.passes.")]
    return "\n\n".join([_PASSES.rstrip(), *map(_pass, map(pass_json, shipped))]) + "\n"


def _operator(described: dict[str, Any]) -> str:
    parts = [f"### {described['name']}", described["doc"]]
    lines = [line for line in (described["signature"], described["example"]) if line]
    parts.append("\n".join(["```", *lines, "```"]))
    parts += _attributes(described["attributes"])
    parts += _parameters(described["parameters"])
    spelled = []
    if described["torch"]:
        spelled.append(f"PyTorch: `{described['torch_module'] or described['torch']}`")
    if described["onnx"]:
        nodes = Counter(described["onnx"]).items()
        names = (f"`{name}` ×{times}" if times > 1 else f"`{name}`" for name, times in nodes)
        spelled.append(f"ONNX: {', '.join(names)}")
    return "\n\n".join([*parts, *([". ".join(spelled) + "."] if spelled else [])])


def _pass(described: dict[str, Any]) -> str:
    parts = [f"## {described['name']}", f"*{PRESERVES[described['preserves']].capitalize()}.* {described['doc']}"]
    parts += _attributes(described["options"])
    if described["example"]:
        parts.append(f"```\n{described['example']}\n```")
    return "\n\n".join(parts)


def _attributes(attributes: list[dict[str, Any]]) -> list[str]:
    lines = []
    for info in attributes:
        default = f" = {info['default']}" if info["default"] is not None else ""
        notes = ["required"] if info["required"] else []
        notes += ["by name only"] if info["keyword"] else []
        note = f" ({', '.join(notes)})" if notes else ""
        doc = f": {info['doc']}" if info["doc"] else ""
        lines.append(f"- `{info['name']}: {info['type']}{default}`{note}{doc}")
    return ["\n".join(lines)] if lines else []


def _parameters(parameters: list[dict[str, Any]]) -> list[str]:
    texts = []
    for info in parameters:
        shape = "" if info["shape"] is None else f"[{', '.join(info['shape'])}]"
        texts.append(f"`{info['name']}{shape}`" + ("" if info["trainable"] else " (a buffer)"))
    return [f"Owns {', '.join(texts)}."] if texts else []


def _title(family: str) -> str:
    return family.replace("_", " ").capitalize()


def main() -> None:
    """Write the pages into the folder that the command line names."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
