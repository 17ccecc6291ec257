"""Python source of emitted modules: code copied from `archc.runtime`, and a syntax check.

`library` returns a runtime module as a file of its own, for the folder of an emitted module.  `copied` returns
definitions of a runtime module, with all module-level definitions that they refer to, in the order of the file: they
become a part of an emitted module.  Both leave out these lines:

- a statement below a comment `# if: NAME`, unless NAME is a feature of the program;
- blocks `if TYPE_CHECKING:`;
- the comments `# type: ignore` and `# fmt: skip`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterable, Iterator
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


def copied(module: str, names: Iterable[str], features: Collection[str] = ()) -> str:
    """The source of definitions of a runtime module, and of all definitions that they refer to.

    Args:
        module: the name of the module in `archc.runtime`.
        names: the definitions that the program refers to.
        features: the features of the program, from `FEATURES`.

    Raises:
        KeyError: the module does not define a name.
    """
    source = _source(module)
    selected: set[str] = set()
    wanted = set(names)
    while wanted != selected:
        selected = wanted
        wanted = selected | {
            name for each in selected for name in source.references(source.definitions[each], features)
        }
    return "".join(
        source.text(definition, features) for name, definition in source.definitions.items() if name in selected
    )


def library(module: str) -> str:
    """The source of a runtime module as a file of its own, which imports torch and nothing of archc."""
    source = _source(module)
    parts = [source.head, *(source.text(definition, FEATURES) for definition in source.definitions.values())]
    return compiled("".join(parts), module)


def exported(module: str) -> tuple[str, ...]:
    """The names in `__all__` of a runtime module; emitted classes may refer to these names."""
    return _source(module).exported


@frozen_dataclass
class _Definition:
    """A module-level definition; its lines include the comments and blank lines before it."""

    statement: ast.stmt
    start: int
    end: int


class _RuntimeSource:
    """The source text of a runtime module, by definition."""

    def __init__(self, text: str):
        self.lines = text.splitlines(keepends=True)
        self.definitions: dict[str, _Definition] = {}
        self.exported: tuple[str, ...] = ()
        self.head = ""  # the docstring, the imports and `__all__`
        end = 0
        for statement in ast.parse(text).body:
            name = _defined(statement)
            start, end = end, statement.end_lineno or 0
            if name == "__all__" and isinstance(statement, ast.Assign):
                self.exported = tuple(ast.literal_eval(statement.value))
                self.head = "".join(self.lines[:end]).replace("TYPE_CHECKING, ", "")
            elif name is not None:
                self.definitions[name] = _Definition(statement, start, end)
        conditions = {found[1] for line in self.lines if (found := _CONDITION.fullmatch(line))}
        assert conditions <= FEATURES, f"conditions on unknown features: {conditions - FEATURES}"

    def references(self, definition: _Definition, features: Collection[str]) -> Iterator[str]:
        """The other definitions that a definition refers to."""
        left_out = set(self._left_out(definition.statement, features))
        for node in ast.walk(definition.statement):
            if isinstance(node, ast.Name) and node.id in self.definitions and node.lineno not in left_out:
                yield node.id

    def text(self, definition: _Definition, features: Collection[str]) -> str:
        """The lines of a definition, blank lines before it included."""
        left_out = set(self._left_out(definition.statement, features))
        numbered = enumerate(self.lines[definition.start : definition.end], definition.start + 1)
        kept = (line for number, line in numbered if number not in left_out and not _CONDITION.fullmatch(line))
        return "".join(_DIRECTIVE.sub("", line) for line in kept)

    def _left_out(self, statement: ast.stmt, features: Collection[str]) -> Iterator[int]:
        """The numbers of the lines within a statement that the copy leaves out."""
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
