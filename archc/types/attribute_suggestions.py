"""Suggestions for the value of an attribute that is not of its type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from archc.diagnostics import abbreviated, did_you_mean
from archc.types.attribute_types import choices, convert
from archc.types.tensor_type import DType

_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")


def choice_help(value: Any, wanted: Any, types: Mapping[str, Any]) -> str | None:
    """Return help with the choice that a wrong value probably means, or None.

    The value may be a word of another attribute, a misspelt or abbreviated choice, or the only number in the name of
    a choice: `quant(dynamic)`, `quant(int9)`, `quant(f8)`, `quant(4)`.

    Args:
        wanted: type of the attribute.
        types: types of all attributes by name.
    """
    if isinstance(value, DType):
        value = value.value
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    word, known = str(value), choices(wanted)
    for name, type in types.items():
        if word in choices(type):
            return f'did you mean `{name} = "{word}"`?'
    if word.isdecimal():
        return _meant([choice for choice in known if re.findall("[0-9]+", choice) == [word]])
    return did_you_mean(word, known) or _meant(abbreviated(word, known))


def _meant(found: Iterable[str]) -> str | None:
    """Return help with the possible choices; None if there is none."""
    names = " or ".join(f"`{choice}`" for choice in found)
    return f"did you mean {names}?" if names else None


def unquoted(value: Any, wanted: Any) -> str | None:
    """Return help for a number or Boolean in quotes; None for any other value."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    inside: Any = {"true": True, "false": False}.get(text)
    if _NUMBER.fullmatch(text):
        inside = float(text) if "." in text else int(text)
    return f"remove the quotes: `{text}`" if inside is not None and convert(inside, wanted)[0] else None
