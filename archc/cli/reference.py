"""Generate the reference pages: operators, dtypes, passes, diagnostics, the command line and Python.

    python -m archc.cli.reference [docs/reference]

The pages have the operators and passes of archc, without those of installed packages.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from archc.cli.command_line_page import command_line_page
from archc.cli.descriptions import PRESERVES, axis_text, dtypes_json, operator_json, pass_json
from archc.cli.explanations import GROUPS, explanations
from archc.cli.python_page import python_page

_OPERATORS = """\
# Operators

Look up here all {count} operators of the language, by family. `archc ops NAME` shows the same in a terminal.

A signature names the size of every axis: in `x[*b, i], weight[o, i] -> y[*b, o]`, the last axes of `x` and `weight`
have the same size `i`. `*b` is any number of axes, `~s` is any number of axes that broadcast, and `conv(h)` is the
result size of a convolution on an axis of size `h`.

An attribute with the note "axis of `x`" is the number of an axis of `x`. Axes are counted from 0, and negative numbers
count from the end: -1 is the last axis. `archc check` refuses an axis that does not exist.

Passes read the [traits](#traits) of an operator. Parameters are initialized as PyTorch initializes them. The page is
generated from the classes in `archc/ops/` by `make reference`.
"""

_TRAITS = """\
A trait is a property of an operator that passes read. The class of an operator declares it
([add an operator](../how-to/add-an-operator.md)). In "impure if `dropout`", the operator has the trait if its attribute
`dropout` is not 0.
"""

_DTYPES = """\
# Dtypes

Look up here which dtypes the operands of an operator may have, and in which dtype the operator is computed. Each cell
is tested against a reference in f64, or in i64 (`tests/ops/test_dtypes.py`).

| cell | PyTorch | ONNX Runtime on the CPU |
|---|---|---|
| ✓ | computes in the dtype of the column | computes in the dtype of the column |
| f32, i32, … | computes in the dtype of the column | computes in the dtype of the cell, and casts the results back |
| PyTorch | computes in the dtype of the column | has no form that is exact enough: refused (`no-onnx-form`) |
| = | the operand must have the dtype of another operand: of `q` in the row "`k` as `q`" | as for PyTorch |
| empty | refused (`dtype-mismatch`) | as for PyTorch |

The rows "`mask` as `q`" are an exception: the dtype of a mask is bool or the dtype of `q`.

A cell such as f32 means that ONNX Runtime has no kernel for the dtype of the column, or that the kernel would round
intermediate results. Parameters have the dtype of the operands if it is a floating-point dtype, otherwise f32. The row
of an operator without operands is about its attribute `dtype`.

Integer overflow wraps around in PyTorch, and in ONNX Runtime except for two operators. ONNX Runtime computes `sum` of
integers in f64, and also `pow` of integers if the exponent is a tensor or a size. In f64, integers beyond 2⁵³ are
rounded, and integers beyond the range of the dtype do not wrap around.

The page is generated from the classes in `archc/ops/` by `make reference`.
"""

_PASSES = """\
# Passes

Look up here the passes and their options. A pipeline names passes with their options:
`--passes "lowrank(energy = 0.95, on = 'fc*'), quant"` on the command line,
`pipeline edge = lowrank(energy = 0.95, on = "fc*") -> quant` in a file. After every pass the graph is verified and the
error at the outputs is measured. A pipeline in which a pass comes too late, such as `quant, lowrank`, is refused, and
the diagnostic has a valid order. `archc passes NAME` shows the same as this page. The page is generated from the
classes in `passes/` by `make reference`.

## Selectors

The options `on` and `keep` of a pass select layers: one glob, or several in a tuple.

| selector | selected layers |
|---|---|
| `fc*` | every layer of the model whose name begins with `fc` |
| `h.*.up` | the layer `up` of every block `h.0`, `h.1`, … |
| `**.query` | every layer `query`, at any depth |
| `h.3` | all layers of the block `h.3` |
| `kind:linear` | every layer with the operator `linear` |
| `kind:conv*` | every layer with an operator whose name begins with `conv` |

`*` and `?` do not match a dot. With `keep = ("head", "kind:embedding")`, the layer `head` and all embeddings are
excluded. A selector that matches no layer is the error
[`selector-matches-nothing`](diagnostics.md#selector-matches-nothing).
"""

_DIAGNOSTICS = """\
# Diagnostics

Look up here the meaning of a diagnostic and how to resolve it, by its code: the word in brackets after `error` or
`warning`. There are {count} codes. `archc explain CODE` prints the same in a terminal. The examples are tested: each
gives a diagnostic of its code, and its correction gives no diagnostic. The page is generated from
`archc/cli/codes/` by `make reference`.
"""


def pages() -> dict[str, str]:
    """The pages by file name."""
    return {
        "operators.md": operators_page(),
        "dtypes.md": dtypes_page(),
        "passes.md": passes_page(),
        "command-line.md": command_line_page(),
        "python.md": python_page(),
        "diagnostics.md": diagnostics_page(),
    }


def operators_page() -> str:
    """All operators that archc itself defines, by family."""
    from archc.declaration import OPERATORS

    shipped = [cls for cls in OPERATORS.values() if cls.__module__.startswith("archc.ops.")]
    families: dict[str, list[dict[str, Any]]] = {}
    for cls in sorted(shipped, key=lambda cls: (cls.family, cls.name)):
        families.setdefault(cls.family, []).append(operator_json(cls))
    contents = [
        f"- {_title(family)}: " + ", ".join(f"[`{one['name']}`](#{one['name']})" for one in members)
        for family, members in families.items()
    ]
    described = [one for members in families.values() for one in members]
    sections = ["\n".join(contents), "## Traits", _TRAITS.rstrip(), _traits(described)]
    for family, members in families.items():
        sections.append(f"## {_title(family)}")
        sections += map(_operator, members)
    return "\n\n".join([_OPERATORS.format(count=len(shipped)).rstrip(), *sections]) + "\n"


def dtypes_page() -> str:
    """Table of the operators that archc itself defines: a row for each operand, a column for each dtype."""
    from archc.declaration import OPERATORS
    from archc.types.tensor_type import DType

    shipped = [cls for cls in OPERATORS.values() if cls.__module__.startswith("archc.ops.")]
    lines = [f"| operator | operand | {' | '.join(DType)} |", f"|---|---|{':-:|' * len(DType)}"]
    for cls in sorted(shipped, key=lambda cls: cls.name):
        for row in dtypes_json(cls):
            cells = [_cell(dtype, row["onnx"]) if row["accepted"] else "=" for dtype in DType]
            operand = f"`{row['operand']}`" if row["operand"] else ""
            like = f" as `{row['like']}`" if row["like"] else ""
            lines.append(f"| [`{cls.name}`](operators.md#{cls.name}) | {operand}{like} | {' | '.join(cells)} |")
    return "\n\n".join([_DTYPES.rstrip(), "\n".join(lines)]) + "\n"


def _cell(dtype: str, onnx: dict[str, str | None]) -> str:
    """Cell of the table of dtypes for one dtype."""
    if dtype not in onnx:
        return ""
    return "✓" if onnx[dtype] == dtype else onnx[dtype] or "PyTorch"


def passes_page() -> str:
    """All passes that archc itself defines."""
    from archc.passmanager import known_passes

    shipped = [cls for cls in known_passes().values() if cls.__module__.startswith("archc.passes.")]
    return "\n\n".join([_PASSES.rstrip(), *map(_pass, map(pass_json, shipped))]) + "\n"


def diagnostics_page() -> str:
    """All diagnostic codes by group, each with a heading of its own as the anchor of links."""
    groups = explanations()
    contents = []
    for group, members in groups.items():
        links = ", ".join(f"[`{one.code}`](#{one.code})" for one in members)
        contents.append(f"- [{GROUPS[group]}](#{_anchor(GROUPS[group])}): {links}")
    sections = ["\n".join(contents)]
    for group, members in groups.items():
        sections.append(f"## {GROUPS[group]}")
        for one in members:
            sections += [f"### {one.code}", f"*{one.severity.capitalize()}: {one.summary}.*", one.body]
    count = sum(map(len, groups.values()))
    return "\n\n".join([_DIAGNOSTICS.format(count=count).rstrip(), *sections]) + "\n"


def _anchor(title: str) -> str:
    """The anchor that GitHub gives to a heading of letters and spaces."""
    return title.lower().replace(" ", "-")


def _traits(operators: Iterable[dict[str, Any]]) -> str:
    """Table of the traits of some operators, with their meanings."""
    meanings = {trait["name"]: trait["doc"] for one in operators for trait in one["traits"]}
    rows = (f"| {name} | {meaning} |" for name, meaning in sorted(meanings.items()))
    return "\n".join(("| trait | meaning |", "|---|---|", *rows))


def _operator(described: dict[str, Any]) -> str:
    parts = [f"### {described['name']}", described["doc"]]
    lines = [line for line in (described["signature"], described["example"]) if line]
    parts.append("\n".join(["```", *lines, "```"]))
    parts += _attributes(described["attributes"])
    parts += _parameters(described["parameters"])
    parts += _dtypes(described["dtypes"])
    if described["traits"]:
        parts.append(f"Traits: {', '.join(trait['text'] for trait in described['traits'])}.")
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
        notes += [axis_text(info)] if axis_text(info) else []
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


def _dtypes(rows: list[dict[str, Any]]) -> list[str]:
    texts = (f"`{row['operand']}`: {row['text']}" if row["operand"] else row["text"] for row in rows)
    return [f"Dtypes: {'. '.join(texts)}."] if rows else []


def _title(family: str) -> str:
    return family.replace("_", " ").capitalize()


def main() -> None:
    """Write the pages into the folder that the command line names."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference")
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
