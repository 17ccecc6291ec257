"""Generate the reference page of the Python interface from the names that `archc` exports."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from archc.cli.descriptions import summary
from archc.declaration.traits import ConditionalFlag, Flag, Indices, Trait

_HEAD = """\
# Python interface

Look up here the names of `import archc`, with their signatures. The parameters of the functions have the
names of the [command line](command-line.md)'s options. `make reference` generates this page from the docstrings.

"""

_SECTIONS = {
    "Compile a model": ("parse", "compile", "Compiled", "draw", "print_graph"),
    "Errors": ("ArchcError", "Diagnostic", "Diagnostics"),
    "The graph": ("Graph", "Node", "Value", "TensorType", "DType"),
    "Targets": ("Target", "Runtime", "ModelToEmit", "register_target"),
    "Operators": ("Operator", "operator", "OperatorError", "Parameter", "attribute", "traits"),
    "Passes": ("Pass", "Context"),
}

_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
_IMPLICIT = ("self", "cls")
_PLAIN = (str, bytes, int, float, tuple, frozenset, type(None))


def python_page() -> str:
    """Reference page of all exported names."""
    import archc

    grouped = [name for names in _SECTIONS.values() for name in names]
    assert sorted(grouped) == sorted(archc.__all__), "give every exported name a section of the page"
    contents = [
        f"- {title}: " + ", ".join(f"[`{name}`](#archc{name.lower()})" for name in names)
        for title, names in _SECTIONS.items()
    ]
    sections = [_HEAD.rstrip(), "\n".join(contents)]
    for title, names in _SECTIONS.items():
        sections.append(f"## {title}")
        for name in names:
            sections += _entry(name, getattr(archc, name))
    return "\n\n".join(sections) + "\n"


def _entry(name: str, value: Any) -> Iterator[str]:
    """Sections of one name: signature, docstring, methods."""
    yield f"### archc.{name}"
    if inspect.ismodule(value):
        yield _text(value)
        yield "\n".join(["| name | meaning |", "|---|---|", *_traits(value)])
        return
    if not inspect.isclass(value):
        yield f"```python\n{_signature(f'archc.{name}', value)}\n```"
        yield _text(value)
        return
    if dataclasses.is_dataclass(value) and dataclasses.fields(value):
        yield f"```python\n{_signature(f'archc.{name}', value)}\n```"
    yield _text(value)
    methods = list(_methods(value))
    if methods:
        yield "\n".join(["| method | |", "|---|---|", *methods])


def _traits(module: ModuleType) -> Iterator[str]:
    """Table rows for the flags and the classes of traits in a module."""
    for name, value in vars(module).items():
        if isinstance(value, Flag):
            yield f"| `{name}` | {value.doc} |"
        elif inspect.isclass(value) and issubclass(value, Trait) and value not in (Trait, ConditionalFlag, Indices):
            yield f"| `{_signature(name, value, inline=True)}` | {summary(value)}. |"


def _text(value: Any) -> str:
    return f"```text\n{inspect.getdoc(value) or ''}\n```"


def _methods(cls: type) -> Iterator[str]:
    """Table rows for the public methods and properties of a class, with those from its bases in archc."""
    bases = [base for base in cls.__mro__ if base.__module__.startswith("archc.")]
    members = {name: member for base in reversed(bases) for name, member in vars(base).items()}
    for name, member in members.items():
        if name.startswith("_") and name != "_repr_svg_":
            continue
        target = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if isinstance(target, property):
            spelled, doc = name, target.fget
        elif inspect.isfunction(target):
            spelled, doc = _signature(name, target, inline=True), target
        else:
            continue
        first = (inspect.getdoc(doc) or "").partition("\n\n")[0].replace("\n", " ")
        cells = (cell.replace("|", "\\|") for cell in (f"`{spelled}`", first))
        yield f"| {' | '.join(cells)} |"


def _signature(name: str, value: Any, inline: bool = False) -> str:
    """The signature of a function as text; a signature on one line has no annotations."""
    found = inspect.signature(value)
    parameters = [one for one in found.parameters.values() if not one.name.startswith("_")]
    if inline:
        return f"{name}({', '.join(_parameter(one, typed=False) for one in parameters if one.name not in _IMPLICIT)})"
    lines, keyword = [], False
    for one in parameters:
        if one.kind is inspect.Parameter.KEYWORD_ONLY and not keyword:
            lines.append("    *,")
            keyword = True
        lines.append(f"    {_parameter(one)},")
    returned = f" -> {found.return_annotation}" if isinstance(found.return_annotation, str) else ""
    return "\n".join([f"{name}(", *lines, f"){returned}"]) if lines else f"{name}(){returned}"


def _parameter(one: inspect.Parameter, typed: bool = True) -> str:
    star = _STARS.get(one.kind, "")
    annotation = f": {one.annotation}" if typed and isinstance(one.annotation, str) else ""
    if one.default is inspect.Parameter.empty:
        return f"{star}{one.name}{annotation}"
    default = repr(one.default) if isinstance(one.default, _PLAIN) else "..."
    return f"{star}{one.name}{annotation} = {default}" if annotation else f"{star}{one.name}={default}"
