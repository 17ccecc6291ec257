"""Python source of emitted modules: code copied from `archc.runtime`, and a syntax check.

`library` returns a runtime module as a file of its own, for the folder of an emitted module.  `copied` returns
definitions of a runtime module, with all module-level definitions that they refer to, in the order of the file: they
become a part of an emitted module.  Definitions that a runtime module imports from another one are copied, too.
Both functions leave out these lines:

- a statement below a comment `# if: NAME`, unless NAME is a feature of the program;
- blocks `if TYPE_CHECKING:`;
- the comments `# type: ignore` and `# fmt: skip`.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Literal

from archc.frozen_dataclass import frozen_dataclass

WriteBeside = Callable[[str, str], str | None]
"""A function that writes a text file beside an emitted file, and returns the name of the file.

The arguments are a name, which begins with `archc_`, and the text.  The function returns another name if the folder
already has a different file of the given name, which other emitted files import.  It returns None, and writes nothing,
if the emitted file must import no other file.
"""

Activations = Literal["functions", "modules"]
"""The form of activations in a PyTorch module: `F.relu(x)`, or a module `nn.ReLU` for each use."""

_CONDITION = re.compile(r"\s*# if: (\w+)\n?")
_DIRECTIVE = re.compile(r"\s*# (?:type: ignore\[[\w-]+\]|fmt: skip)")
FEATURES = frozenset({"stages"})
"""The features of a program that a comment `# if:` may name."""


def compiled(source: str, name: str) -> str:
    """Compile the source of a module as a check, and return it unchanged.

    Args:
        name: the name of the module, for the message.

    Raises:
        RuntimeError: the source does not compile; this is always a bug of the emitter.
    """
    try:
        compile(source, f"{name}.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as mistake:
        raise RuntimeError(f"the module emitted for `{name}` does not compile: {mistake}") from mistake
    return source


def copied(modules: Mapping[str, Iterable[str]], features: Collection[str] = ()) -> str:
    """The source of definitions of runtime modules, and of all definitions that they refer to.

    Args:
        modules: for each module of `archc.runtime`, by its name, the definitions that the program refers to.
        features: the features of the program, from `FEATURES`.

    Raises:
        KeyError: a module does not define a name.
    """
    found: dict[str, str] = {}
    for module, names in modules.items():
        found |= _source(module).copied(names, features)
    return "".join(found.values())


@cache
def library(module: str) -> str:
    """The source of a runtime module as a file of its own, which imports torch and nothing of archc."""
    source = _source(module)
    definitions = source.copied([*source.own, *source.exported], FEATURES)
    return compiled(source.head() + "".join(definitions.values()), module)


def exported(module: str) -> tuple[str, ...]:
    """The names in `__all__` of a runtime module; emitted classes may refer to these names."""
    return _source(module).exported


@frozen_dataclass
class _Definition:
    """A module-level definition; its lines include the comments and blank lines before it."""

    statement: ast.stmt
    lines: Sequence[str]
    start: int

    def text(self, features: Collection[str]) -> str:
        """The lines of a definition, blank lines before it included."""
        left_out = set(self.left_out(features))
        numbered = enumerate(self.lines[self.start : self.statement.end_lineno], self.start + 1)
        kept = (line for number, line in numbered if number not in left_out and not _CONDITION.fullmatch(line))
        return "".join(_DIRECTIVE.sub("", line) for line in kept)

    def left_out(self, features: Collection[str]) -> Iterator[int]:
        """The numbers of the lines that the copy leaves out."""
        return self._left_out(self.statement, features)

    def _left_out(self, statement: ast.stmt, features: Collection[str]) -> Iterator[int]:
        end = 0
        for inner in getattr(statement, "body", []):
            assert isinstance(inner, ast.stmt)
            start, end = end, inner.end_lineno or 0
            if self._is_copied(inner, features):
                yield from self._left_out(inner, features)
            else:
                yield from range(start + 1, end + 1)

    def _is_copied(self, statement: ast.stmt, features: Collection[str]) -> bool:
        if isinstance(statement, ast.If) and isinstance(statement.test, ast.Name):
            return statement.test.id != "TYPE_CHECKING"
        first = min((statement, *getattr(statement, "decorator_list", ())), key=lambda node: node.lineno).lineno
        condition = _CONDITION.fullmatch(self.lines[first - 2])
        return condition is None or condition[1] in features


class _RuntimeSource:
    """The source text of a runtime module, by definition.

    Attributes:
        definitions: the definitions of the module, after those of the runtime modules that it imports.
        own: the names that the module itself defines.
    """

    def __init__(self, text: str):
        self._lines = text.splitlines(keepends=True)
        self._imports = _Imports()
        self._docstring = self._exports = ""
        self.definitions: dict[str, _Definition] = {}
        self.own: list[str] = []
        self.exported: tuple[str, ...] = ()
        end = 0
        for statement in ast.parse(text).body:
            start, end = end, statement.end_lineno or 0
            self._read(statement, start)
        conditions = {found[1] for line in self._lines if (found := _CONDITION.fullmatch(line))}
        assert conditions <= FEATURES, f"conditions on unknown features: {conditions - FEATURES}"

    def _read(self, statement: ast.stmt, start: int) -> None:
        name, text = _defined(statement), "".join(self._lines[start : statement.end_lineno])
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith(_RUNTIME):
            other = _source((statement.module or "").removeprefix(_RUNTIME))
            self.definitions |= other.definitions
            self._imports.add_all(other._imports)
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            self._imports.add(statement)
        elif name == "__all__" and isinstance(statement, ast.Assign):
            self.exported, self._exports = tuple(ast.literal_eval(statement.value)), text
        elif name is not None:
            self.definitions[name] = _Definition(statement, self._lines, start)
            self.own.append(name)
        else:
            self._docstring += text

    def head(self) -> str:
        """The docstring, the imports and `__all__`."""
        return f"{self._docstring}\n{self._imports}{self._exports}"

    def copied(self, names: Iterable[str], features: Collection[str]) -> dict[str, str]:
        """The texts of definitions, and of all definitions that they refer to, in the order of the file."""
        selected: set[str] = set()
        wanted = set(names)
        while wanted != selected:
            selected = wanted
            wanted = selected | {name for each in selected for name in self._references(each, features)}
        return {name: each.text(features) for name, each in self.definitions.items() if name in selected}

    def _references(self, name: str, features: Collection[str]) -> Iterator[str]:
        """The other definitions that a definition refers to."""
        definition = self.definitions[name]
        left_out = set(definition.left_out(features))
        for node in ast.walk(definition.statement):
            if isinstance(node, ast.Name) and node.id in self.definitions and node.lineno not in left_out:
                yield node.id


class _Imports:
    """Import statements of several files, merged and sorted as the linter does, without `TYPE_CHECKING`."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.names: dict[str, set[str]] = defaultdict(set)

    def add(self, statement: ast.Import | ast.ImportFrom) -> None:
        if isinstance(statement, ast.Import):
            self.modules.add(ast.unparse(statement))
        else:
            self.names[statement.module or ""] |= {alias.name for alias in statement.names} - {"TYPE_CHECKING"}

    def add_all(self, other: _Imports) -> None:
        self.modules |= other.modules
        for module, names in other.names.items():
            self.names[module] |= names

    def __str__(self) -> str:
        def order(name: str) -> tuple[bool, bool, str]:  # constants, classes, functions
            return not name.isupper(), not name[0].isupper(), name

        lines = sorted(self.modules)
        lines += [
            f"from {module} import {', '.join(sorted(self.names[module], key=order))}" for module in sorted(self.names)
        ]
        parts = [
            [line for line in lines if (line.split()[1].partition(".")[0] == "torch") is torch]
            for torch in (False, True)
        ]
        return "\n".join("".join(f"{line}\n" for line in part) for part in parts)


_RUNTIME = "archc.runtime."


@cache
def _source(module: str) -> _RuntimeSource:
    return _RuntimeSource((files("archc.runtime") / f"{module}.py").read_text(encoding="utf-8"))


def _defined(statement: ast.stmt) -> str | None:
    """The name that a module-level statement defines."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return statement.name
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return None
