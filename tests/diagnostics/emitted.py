"""The codes of all diagnostics that the source can emit, collected from its syntax trees."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

COMPOSED = {
    "{}-{}": (  # `weights.npz.Archive`: the use of an archive, and the error in it
        *("weights-truncated", "weights-malformed", "weights-dtype"),
        *("calibration-truncated", "calibration-malformed", "calibration-dtype", "calibration-too-large"),
    ),
    "too-many-{}": ("too-many-mistakes", "too-many-warnings"),
    "too-many-{}s": ("too-many-attributes", "too-many-options"),
    "unknown-{}": ("unknown-attribute", "unknown-option"),
    "duplicate-{}": ("duplicate-attribute", "duplicate-option"),
    "{}-not-loadable": ("operator-not-loadable", "pass-not-loadable", "target-not-loadable"),
    "missing-{}": ("missing-attribute", "missing-option"),
}
"""Codes that the source composes, by their f-strings with `{}` for the parts that vary."""

PARTS = {"too-large"}
"""Constants that look like codes, and are parts of composed ones."""

_CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")


def emitted() -> dict[str, str]:
    """For each code, a place in the source that emits it."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in _files()}
    positions: dict[str, set[int]] = {}
    for tree in trees.values():
        for name, position in _takers(tree):
            positions.setdefault(name, set()).add(position)
    found: dict[str, str] = {}
    for path, tree in trees.items():
        for node, code in _codes(tree, positions):
            if code not in PARTS:
                found.setdefault(code, f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def _files() -> Iterator[Path]:
    for room in ("archc", "passes"):
        yield from sorted((ROOT / room).rglob("*.py"))


def _takers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Names of functions and classes with a parameter `code`, and its position in calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            fields = [ast.unparse(part.target) for part in node.body if isinstance(part, ast.AnnAssign)]
            if "code" in fields:
                yield node.name, fields.index("code")
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name == "__init__" and "code" in _parameters(part):
                    position = _parameters(part).index("code")
                    yield node.name, position
                    yield "cls", position
        elif isinstance(node, ast.FunctionDef) and "code" in _parameters(node) and node.name != "__init__":
            yield node.name, _parameters(node).index("code")


def _parameters(function: ast.FunctionDef) -> list[str]:
    """Parameters of a function without `self` and `cls`."""
    names = [one.arg for one in function.args.args]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def _codes(tree: ast.AST, positions: dict[str, set[int]]) -> Iterator[tuple[ast.expr, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given = [node.args[k] for k in sorted(positions.get(name, ())) if k < len(node.args)]
            given += [word.value for word in node.keywords if word.arg == "code"]
            for argument in given:
                for code in _texts(argument):
                    yield argument, code
        elif isinstance(node, ast.Tuple) and [isinstance(part, ast.Constant) for part in node.elts[:2]] == [
            True,
            False,
        ]:
            for code in _texts(node.elts[0]):  # the first arguments of `error`, or a row of a table of codes
                yield node, code


def _texts(node: ast.expr) -> list[str]:
    """The codes in an expression: a constant, both branches of a choice, or the forms of an f-string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value] if _CODE.fullmatch(node.value) else []
    if isinstance(node, ast.IfExp):
        return _texts(node.body) + _texts(node.orelse)
    if isinstance(node, ast.JoinedStr):
        form = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)  # type: ignore[misc]
        return list(COMPOSED.get(form, [f"{form} (list it in `COMPOSED`)"] if re.fullmatch(r"[a-z{}-]+", form) else []))
    return []
