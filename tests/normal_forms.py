"""Normal forms of the files that archc writes: without comments, docstrings and messages."""

from __future__ import annotations

import ast
import io
import itertools
import json
import re
import tokenize
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

COMPILATION = rb"""(COMPILATION = "|"compilation":")[0-9a-f]{32}"""
"""Identifier of a compilation, in the programs of stages and in the metadata of their weights."""

MESSAGE = "…"
"""Replacement of messages."""


def normal_forms(name: str, content: bytes) -> dict[str, bytes]:
    """The parts of a written file that must not change, by entry name.

    Args:
        name: the file name, whose suffix selects the normal form; files of unknown kinds do not change.
    """
    # The identifier of a compilation is a hash of the printed graph, comments included.
    content = re.sub(COMPILATION, rb"\g<1>" + b"0" * 32, content)
    if name == "report.json":
        return {name: dump(normal_report(json.loads(content)))}
    suffix = Path(name).suffix
    if suffix == ".py":
        program, layout = normal_python(content.decode())
        return {name: program.encode(), f"{name} (layout)": layout.encode()}
    if suffix == ".arch":
        return {name: normal_arch(content.decode()).encode()}
    if suffix == ".onnx":
        return {name: normal_onnx(content)}
    return {name: content}


def normal_python(text: str) -> tuple[str, str]:
    """Two forms of a program without comments, docstrings and messages: without and with layout.

    The form with the layout has the lines of the text, without blank lines.  `ast.unparse` lays out a statement with a
    message, since the length of the message determines the line breaks in the text.
    """
    tree = ast.parse(text)
    normalizer = _Normalizer()
    normalizer.visit(tree)
    lines = text.splitlines(keepends=True)
    starts = [0, *itertools.accumulate(map(len, lines))]

    def place(line: int, column: int) -> int:
        """Index into the text of a position in the syntax tree, whose columns count bytes."""
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    cuts = [(place(*start), place(*end), new) for start, end, new in normalizer.rewritten]
    comments = [
        token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT
    ]
    for comment in comments:
        start = starts[comment.start[0] - 1] + comment.start[1]
        if not any(first <= start < end for first, end, _ in cuts):
            cuts.append((start, start + len(comment.string), ""))
    for start, end, new in sorted(cuts, reverse=True):
        text = text[:start] + new + text[end:]
    return ast.unparse(tree), _without_blank_lines(text)


class _Normalizer(ast.NodeTransformer):
    """Remove docstrings, and replace messages by a placeholder.

    Messages are the strings in `raise` and `assert` statements, in calls of `print`, `warn` and `error`, and in the
    arguments by which argparse takes help texts.

    Attributes:
        rewritten: start, end (line and column each) and new text of each removed or changed statement without a body.
    """

    HELP = {"help", "description", "epilog"}
    CALLS = {"print", "warn", "error"}

    def __init__(self) -> None:
        self.rewritten: list[tuple[tuple[int, int], tuple[int, int], str]] = []
        self._replacer = _Replacer()

    def visit(self, node: ast.AST) -> Any:
        before = self._replacer.count
        node = super().visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [statement for statement in body if not _is_idle(statement)]
            node.body = kept if kept or isinstance(node, ast.Module) else [ast.Pass()]  # type: ignore[attr-defined]
        elif isinstance(node, ast.stmt) and (_is_idle(node) or self._replacer.count > before):
            assert node.end_lineno is not None and node.end_col_offset is not None, "parsed statements have an end"
            new = "" if _is_idle(node) else ast.unparse(node)
            self.rewritten.append(((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset), new))
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return self._replacer.visit(node)  # type: ignore[no-any-return]

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = self._replacer.visit(node.msg) if node.msg is not None else None
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", None)
        if name in self.CALLS:
            node.args = [self._replacer.visit(argument) for argument in node.args]
        for keyword in node.keywords:
            if keyword.arg in self.HELP:
                keyword.value = self._replacer.message()
        return node


class _Replacer(ast.NodeTransformer):
    """Replace strings by a placeholder, and count them."""

    count = 0

    def message(self) -> ast.Constant:
        self.count += 1
        return ast.Constant(MESSAGE)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return self.message() if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return self.message()


def _is_idle(node: ast.AST) -> bool:
    """Return whether a statement is a docstring, also one of a variable, or the `pass` in its place."""
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )


def normal_arch(text: str) -> str:
    """The text without comments and blank lines."""
    tokens = re.compile(r""""(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\#[^\n]*""")
    return _without_blank_lines(tokens.sub(lambda match: "" if match[0].startswith("#") else match[0], text))


def _without_blank_lines(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line) + "\n"


def normal_onnx(content: bytes) -> bytes:
    """The model without its `doc_string` fields."""
    import onnx

    model = onnx.load_model_from_string(content)
    return model.SerializeToString(deterministic=True) if _clear_doc_strings(model) else content


def _clear_doc_strings(message: Any) -> bool:
    """Clear the `doc_string` fields of a message and of all messages in it; return whether there were any."""
    found = False
    for field, value in message.ListFields():
        if field.name == "doc_string":
            message.ClearField("doc_string")
            found = True
        elif field.message_type is not None:
            for each in value if isinstance(value, Iterable) else [value]:
                found |= _clear_doc_strings(each)
    return found


def normal_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report without sentences, places in the spec, and hashes of files.

    The files have normal forms of their own.
    """
    normal = {name: value for name, value in report.items() if name not in ("weights", "calibration")}
    normal["passes"] = [
        {**step, "remarks": [without(remark, "message", "notes", "help") for remark in step["remarks"]]}
        for step in report["passes"]
    ]
    normal["warnings"] = [[warning["severity"], warning["code"]] for warning in report["warnings"]]
    normal["check"] = sorted(report["check"])
    normal["files"] = list(report["files"])
    return normal


def normal_catalog(described: Any) -> Any:
    """The output of `archc ops --json` or `archc passes --json` without sentences."""
    if isinstance(described, list):
        return [normal_catalog(item) for item in described]
    if isinstance(described, dict):
        return {name: normal_catalog(value) for name, value in without(described, "doc", "summary", "text").items()}
    return described


def without(mapping: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name not in names}


def dump(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()
