"""Which passes there are, and a pass from its name and options.

`importlib.metadata` takes long to import, and is imported where it is used: most texts that are checked name no pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archc.diagnostics import error
from archc.passmanager.base import REGISTERED, Pass
from archc.passmanager.spellings import pass_help
from archc.types.attributes import AttributeProblem, bind

GROUP = "archc.passes"
"""The entry-point group in which packages announce their passes."""


def pass_names() -> list[str]:
    """The names of all passes; none of them is imported for it."""
    from importlib.metadata import entry_points

    return sorted({*REGISTERED, *(entry.name for entry in entry_points(group=GROUP))})


def known_passes() -> dict[str, type[Pass]]:
    """All passes by name: those of the entry-point group `archc.passes`, and those defined in this process.

    Raises:
        ArchcError: the package of one cannot be imported (`pass-not-loadable`).
    """
    return {name: load_pass(name) for name in pass_names()}


def load_pass(name: str) -> type[Pass]:
    """One of `pass_names`; what is broken in others does no harm.

    Raises:
        ArchcError: it cannot be imported (`pass-not-loadable`).
    """
    from importlib.metadata import entry_points

    if name in REGISTERED:
        return REGISTERED[name]
    for entry in entry_points(group=GROUP, name=name):
        reason = "defining it gives no pass of that name"
        try:
            entry.load()
        except (ImportError, AttributeError) as failure:
            reason = str(failure)
        if name not in REGISTERED:
            raise error(
                "pass-not-loadable",
                f"the pass `{name}` cannot be loaded from `{entry.value}`: {reason}",
                help="install the package that has it again, or remove it",
            )
    return REGISTERED[name]


def make_pass(name: str, positional: Sequence[Any] = (), named: Mapping[str, Any] | None = None) -> Pass:
    """A pass by name with its options.

    Raises:
        AttributeProblem: an unknown pass (code `unknown-pass`), or options that do not fit.
        ArchcError: it cannot be imported (`pass-not-loadable`).
    """
    # Reading the entry points takes milliseconds, and a pipeline may have a thousand passes.
    if name not in REGISTERED and name not in (passes := pass_names()):
        raise AttributeProblem("unknown-pass", f"there is no pass `{name}`", None, pass_help(name, passes))
    made = bind(load_pass(name), f"`{name}`", positional, named or {}, "option")
    made.check()
    return made
