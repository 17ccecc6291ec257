"""Lazy tables of operators: the first lookup of an operator imports its module of `archc.ops`.

A model uses a dozen operators.  An import of all modules of `archc.ops` took a quarter of the time of `archc check`.
The table finds the module of an operator by searching the source files for classes and names, so there is no list of
operators to maintain.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T", bound=type)

_DECLARATION = re.compile(r'^class (\w+)\(|^    (?:name|symbol) = "([^"]+)"', re.MULTILINE)


class OperatorTable(MutableMapping[str, T], Generic[T]):
    """Operator classes by name or by symbol; the import of a module registers its classes."""

    def __init__(self) -> None:
        self._loaded: dict[str, T] = {}

    def __getitem__(self, key: str) -> T:
        if key not in self._loaded:
            for module in _families().get(key, ()):
                importlib.import_module(module)
        return self._loaded[key]

    def __setitem__(self, key: str, cls: T) -> None:
        """Register a class.

        Raises:
            ValueError: archc itself has an operator of that name or symbol; the meaning of a model must not depend on
                installed packages.
        """
        if cls.__module__ not in _modules() and key in self and self[key].__module__ in _modules():
            raise ValueError(f"`{key}` is an operator of archc itself: give `{cls.__name__}` another name")
        self._loaded[key] = cls

    def __delitem__(self, key: str) -> None:
        del self._loaded[key]

    def __iter__(self) -> Iterator[str]:
        self._load_all()
        return iter(self._loaded)

    def __len__(self) -> int:
        self._load_all()
        return len(self._loaded)

    def loaded(self) -> Mapping[str, T]:
        """The classes whose modules are imported."""
        return self._loaded

    def _load_all(self) -> None:
        for module in _modules():
            importlib.import_module(module)


def snake_case(name: str) -> str:
    """Name of the operator of a class: `conv2d` of `Conv2d`, `layer_norm` of `LayerNorm`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


@cache
def _modules() -> dict[str, Path]:
    """The modules of `archc.ops`, in the order of their names."""
    folder = Path(__file__).parents[1] / "ops"
    return {f"archc.ops.{path.stem}": path for path in sorted(folder.glob("*.py")) if path.stem[0] != "_"}


@cache
def _families() -> dict[str, list[str]]:
    """Modules that declare each name and symbol; classes that are not operators have unused entries."""
    found: dict[str, list[str]] = {}
    for module, path in _modules().items():
        for class_name, given in _DECLARATION.findall(path.read_text(encoding="utf-8")):
            found.setdefault(given or snake_case(class_name), []).append(module)
    return found
