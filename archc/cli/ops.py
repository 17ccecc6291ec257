"""`archc ops`: descriptions of the operators, derived from their classes."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING, Any

from archc.cli import options, output
from archc.cli.descriptions import axis_text, operator_json, summary
from archc.cli.plugins import load_plugins
from archc.diagnostics import Diagnostics, error

if TYPE_CHECKING:
    from archc.declaration.base import Operator

_EPILOG = """\
examples:
  archc ops                                   all operators, a line each
  archc ops conv2d                            signature, attributes, parameters, spellings, an example
  archc ops --load my_ops.py my_op            one of your own
"""


def add_parser(commands: Any) -> None:
    """Add the command and its options to the command line."""
    parser = commands.add_parser(
        "ops",
        help="list the operators of the language, or explain one",
        description="List the operators, or describe one.",
        epilog=_EPILOG,
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="the name of an operator")
    options.add_load(parser)
    options.add_json(parser, "the operators, or the operator NAME,")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from archc.declaration.registry import find_operator, known_operators
    from archc.language.syntax.foreign_names import operator_help

    found = Diagnostics()
    load_plugins(arguments.load, found)
    output.diagnostics(found)
    if arguments.name is None:
        if arguments.json:
            output.print_json({"operators": [operator_json(cls) for cls in known_operators().values()]})
        else:
            print(_list(list(known_operators().values())))
        return 0
    cls = find_operator(arguments.name)
    if cls is None:
        raise error(
            "unknown-operator",
            f"there is no operator `{arguments.name}`",
            help=operator_help(arguments.name) or "`archc ops` lists them",
        )
    described = operator_json(cls)
    if arguments.json:
        output.print_json(described)
    else:
        print(_page(described))
    return 0


def _list(operators: list[type[Operator]]) -> str:
    """All operators, a line each, below the names of their families."""
    families: dict[str, list[type[Operator]]] = {}
    for cls in sorted(operators, key=lambda cls: (cls.family, cls.name)):
        families.setdefault(cls.family, []).append(cls)
    width = max(len(cls.name) for cls in operators)
    return "\n\n".join(
        output.section(family, output.columns([[cls.name.ljust(width), summary(cls)] for cls in members], indent=2))
        for family, members in families.items()
    )


def _page(described: dict[str, Any]) -> str:
    """The description of one operator, as text."""
    sections = [f"{output.heading(described['name'])}  ({described['family']})\n\n{output.prose(described['doc'])}"]
    if described["signature"]:
        sections.append(output.section("signature", [described["signature"]]))
    if described["attributes"]:
        sections.append(output.section("attributes", attribute_lines(described["attributes"])))
    if described["parameters"]:
        sections.append(output.section("parameters", _parameter_lines(described["parameters"])))
    if described["dtypes"]:
        rows = [[f"{row['operand']}:" if row["operand"] else "", row["text"]] for row in described["dtypes"]]
        sections.append(output.section("dtypes", output.columns(rows, indent=2)))
    if described["traits"]:
        rows = [[trait["text"], trait["doc"]] for trait in described["traits"]]
        sections.append(output.section("traits", output.columns(rows, indent=2)))
    if described["torch"]:
        module = [described["torch_module"]] if described["torch_module"] else []
        sections.append(output.section("PyTorch", [*module, described["torch"]]))
    if described["onnx"]:
        nodes = Counter(described["onnx"])
        texts = (f"{name} ×{times}" if times > 1 else name for name, times in nodes.items())
        sections.append(output.section("ONNX", [", ".join(texts)]))
    if described["example"]:
        sections.append(output.section("example", [described["example"]]))
    return "\n\n".join(sections)


def attribute_lines(attributes: list[dict[str, Any]]) -> list[str]:
    """Two lines for each attribute or option: name, type and default, then the meaning."""
    lines = []
    for info in attributes:
        default = " (required)" if info["required"] else "" if info["default"] is None else f" = {info['default']}"
        lines.append(f"{info['name']}: {info['type']}{default}")
        notes = (info["doc"], axis_text(info), "by name only" if info["keyword"] else "")
        doc = "; ".join(text for text in notes if text)
        lines += [f"    {doc}"] if doc else []
    return lines


def _parameter_lines(parameters: list[dict[str, Any]]) -> list[str]:
    rows = []
    for info in parameters:
        shape = "" if info["shape"] is None else f"[{', '.join(info['shape'])}]"
        kind = "" if info["trainable"] else "buffer, not trained"
        rows.append([info["name"], shape, f"initializer: {info['initializer']}", kind])
    return output.columns(rows, indent=2)
