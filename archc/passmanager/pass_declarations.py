"""Checks of the class variables and options of a pass from outside archc, when its class is defined."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from archc.diagnostics import did_you_mean
from archc.entry_points import EntryPoints
from archc.extension_failure import is_outside
from archc.types.attribute_declarations import all_fields, check_attributes, check_name
from archc.types.attributes import attribute_name


def check_pass(cls: Any, base: type, guarantees: Sequence[str]) -> None:
    """Check the declaration of a pass: its name, class variables, options, and the method `run`.

    Args:
        base: the base class of all passes.
        guarantees: the values of `preserves`.

    Raises:
        ValueError: the declaration has a mistake; the message names the class and the correction.
    """
    check_name(cls)
    if cls.preserves not in guarantees:
        known = ", ".join(f'"{one}"' for one in guarantees)
        way = did_you_mean(str(cls.preserves), guarantees) or f"write one of {known}"
        raise ValueError(f"`preserves` of `{cls.__name__}` is {cls.preserves!r}, which is no guarantee; {way}")
    for name in ("needs", "ends"):
        states = getattr(cls, name)
        if not isinstance(states, tuple) or not all(isinstance(state, str) for state in states):
            raise ValueError(
                f'`{name}` of `{cls.__name__}` is {states!r}; write a tuple of states, such as `{name} = ("float'
                ' weights",)`'
            )
    check_attributes(cls, base)
    _check_effects(cls, [attribute_name(field) for field in all_fields(cls)])
    if getattr(cls.run, "__isabstractmethod__", False):
        raise ValueError(
            f"`{cls.__name__}` has no method `run`; define `def run(self, graph, context)`, or write `class"
            f" {cls.__name__}(..., abstract=True)` for a base of passes"
        )


def _check_effects(cls: Any, options: Collection[str]) -> None:
    form = "write `{option: (other option, values)}`"
    effects = cls.effective_with
    if not isinstance(effects, Mapping):
        raise ValueError(f"`effective_with` of `{cls.__name__}` is {effects!r}; {form}")
    for option, condition in effects.items():
        if not (isinstance(condition, tuple) and len(condition) == 2 and isinstance(condition[1], tuple)):
            raise ValueError(f"`effective_with` of `{cls.__name__}` gives `{option}` {condition!r}; {form}")
        for name in (option, condition[0]):
            if name not in options:
                way = did_you_mean(str(name), options) or f"the options are {', '.join(options) or '(none)'}"
                raise ValueError(f"`effective_with` of `{cls.__name__}` names {name!r}, which is no option; {way}")


def check_name_is_free(cls: Any, registered: Mapping[str, type]) -> None:
    """Check that archc itself has no pass of the name.

    The meaning of a pipeline must not depend on extensions.

    Args:
        registered: the passes that Python has imported, by name.

    Raises:
        ValueError: archc has such a pass.
    """
    known = registered.get(cls.name)
    offered = EntryPoints("pass", registered).offer(cls.name) or ""
    if (known is not None and not is_outside(known)) or offered.startswith("archc."):
        raise ValueError(f"`{cls.name}` is a pass of archc itself: give `{cls.__name__}` another name")
