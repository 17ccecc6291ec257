"""Checks of the classes that a file of `--load` registers, after the file has run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from archc.diagnostics import ArchcError, Diagnostics, Source
from archc.extension_failure import is_outside


def registered() -> list[Any]:
    """The operators, passes and targets that are registered in this process.

    A module that is not imported has registered nothing, so this function imports no module of passes or targets.
    """
    operators, passes, targets = map(
        sys.modules.get, ("archc.declaration.base", "archc.passmanager.base", "archc.targets.registry")
    )
    return [
        *(operators.OPERATORS.loaded().values() if operators else ()),
        *(passes.REGISTERED.values() if passes else ()),
        *(targets.REGISTERED.values() if targets else ()),
    ]


def check_declaration(found: Any) -> None:
    """Check the decorator and the example of a registered class from outside archc.

    Raises:
        TypeError: the class declares attributes without a decorator.
        ValueError: the example is no text of the language.
    """
    if not isinstance(found, type) or not is_outside(found):
        return
    from archc.declaration.base import Operator
    from archc.language.syntax.parser import parse, parse_pipeline

    if issubclass(found, Operator):
        from archc.cli.operator_spellings import example_statement
        from archc.declaration.registry import check_complete as check_operator

        check_operator(found)
        _check_example(found, f"model example {{\n{example_statement(found.example)}\n}}", parse)
    else:
        from archc.passmanager.registry import check_complete as check_pass

        check_pass(found)  # type: ignore[arg-type]  # all other classes in the tables are passes
        _check_example(found, found.example, parse_pipeline)  # type: ignore[attr-defined]  # as above


def _check_example(cls: Any, text: str, parse: Callable[[Source, Diagnostics], object]) -> None:
    if not cls.example:
        return
    found = Diagnostics()
    try:
        parse(Source(text), found)
        found.check()
    except ArchcError as failure:
        reason = failure.diagnostics[0]
        way = f"; {reason.help}" if reason.help else ""
        raise ValueError(f"`example` of `{cls.__name__}` is {cls.example!r}: {reason.message}{way}") from None
