"""Generate the reference page of the Python interface from docstrings.

The page has the names that `archc` exports, and names for extensions that are imported from modules of archc.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from archc.cli.descriptions import summary
from archc.declaration.traits import ConditionalFlag, Flag, Indices, Trait

_HEAD = """\
# Python interface

Look up here the names of `import archc`, with their signatures. The parameters of the functions have the
names of the [command line](command-line.md)'s options. The last sections have names of modules for [operators and
passes of your own](../how-to/extending.md). `make reference` generates this page from the docstrings.

"""

_SECTIONS = {
    "Compile a model": ("parse", "compile", "Compiled", "shrink", "Shrunk", "draw", "print_graph"),
    "Errors": ("ArchcError", "Diagnostic", "Diagnostics"),
    "The graph": ("Graph", "Node", "Value", "TensorType", "DType"),
    "Targets": ("Target", "Runtime", "ModelToEmit", "register_target"),
    "Operators": ("Operator", "operator", "OperatorError", "Parameter", "attribute", "AttributeProblem", "traits"),
    "Passes": ("Pass", "Context", "select", "make_operator"),
}
_MODULES: dict[str, tuple[str, tuple[str, ...]]] = {
    "Initializers of parameters": (
        "archc.declaration.parameter",
        ("kaiming_uniform", "uniform_fan_in", "normal", "zeros", "ones", "constant"),
    ),
    "Patterns": (
        "archc.ir.match",
        (
            *("match", "match_value", "pattern", "one_of", "any_value", "result_of", "all_of", "unless"),
            *("chain_before", "chain_after", "Condition", "NoObstacle", "NoMatch"),
        ),
    ),
    "Changes of a graph": ("archc.ir.rewriter", ("Rewriter",)),
}
"""Sections of modules: the module, and its names that extensions use."""

_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
_IMPLICIT = ("self", "cls")
_PLAIN = (str, bytes, int, float, tuple, frozenset, type(None))


def python_page() -> str:
    """Reference page of all exported names, and of the modules for extensions."""
    import archc

    grouped = [name for names in _SECTIONS.values() for name in names]
    assert sorted(grouped) == sorted(archc.__all__), "give every exported name a section of the page"
    sections = [(title, "archc", names) for title, names in _SECTIONS.items()]
    sections += [(title, *module) for title, module in _MODULES.items()]
    contents = [
        f"- {title}: " + ", ".join(f"[`{name}`](#{_anchor(f'{home}.{name}')})" for name in names)
        for title, home, names in sections
    ]
    parts = [_HEAD.rstrip(), "\n".join(contents)]
    for title, home, names in sections:
        module = importlib.import_module(home)
        parts.append(f"## {title}")
        if title in _MODULES:
            parts.append(_text(module))
        for name in names:
            parts += _entry(f"{home}.{name}", getattr(module, name))
            parts += _method_details(getattr(module, name)) if title in _MODULES else ()
    return "\n\n".join(parts) + "\n"


def _anchor(heading: str) -> str:
    return heading.lower().replace(".", "")


def _entry(name: str, value: Any) -> Iterator[str]:
    """Sections of one name: signature, docstring, methods."""
    yield f"### {name}"
    if inspect.ismodule(value):
        yield _text(value)
        yield "\n".join(["| name | meaning |", "|---|---|", *_traits(value)])
        return
    if not inspect.isclass(value):
        yield f"```python\n{_signature(name, value)}\n```"
        yield _text(value)
        return
    if dataclasses.is_dataclass(value) and dataclasses.fields(value):
        yield f"```python\n{_signature(name, value)}\n```"
    yield _text(value)
    methods = list(_methods(value))
    if methods:
        yield "\n".join(["| method | |", "|---|---|", *methods])


def _method_details(value: Any) -> Iterator[str]:
    """Sections of the methods of a class whose docstrings have more than one paragraph."""
    for name, member in vars(value).items() if inspect.isclass(value) else ():
        if inspect.isfunction(member) and not name.startswith("_") and "\n\n" in (inspect.getdoc(member) or ""):
            yield f"#### {value.__name__}.{name}"
            yield _text(member)


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
        keyword = keyword or one.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_POSITIONAL)
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
