"""Descriptions of operators and passes for the terminal and for JSON, derived from their classes."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from archc.types.attributes import AttributeInfo, attributes, value_text

if TYPE_CHECKING:
    from archc.declaration.base import Operator
    from archc.declaration.traits import Trait
    from archc.passmanager import Pass


PRESERVES = {
    "exact": "preserves the function exactly",
    "rounding": "preserves the function up to rounding",
    "approximate": "preserves the function up to an error, which is measured",
}
"""The text for each value of `Pass.preserves`."""


def summary(cls: type) -> str:
    """The first sentence of a class's docstring, which may run over several lines."""
    paragraph = " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())
    return re.split(r"(?<! al)\. (?=\W*[A-Z])", paragraph)[0].removesuffix(".")


def operator_json(cls: type[Operator]) -> dict[str, Any]:
    """Complete description of an operator, as a JSON object."""
    from archc.cli.operator_spellings import spellings

    return {
        "name": cls.name,
        "family": cls.family,
        "summary": summary(cls),
        "doc": inspect.getdoc(cls) or "",
        "signature": cls.signature or None,
        "attributes": [
            {**described, "axis": info.axis} for described, info in zip(attributes_json(cls), attributes(cls))
        ],
        "parameters": parameters_json(cls),
        "dtypes": dtypes_json(cls),
        "traits": traits_json(cls),
        "example": cls.example or None,
        **spellings(cls),
    }


def pass_json(cls: type[Pass]) -> dict[str, Any]:
    """Complete description of a pass, as a JSON object."""
    return {
        "name": cls.name,
        "summary": summary(cls),
        "doc": inspect.getdoc(cls) or "",
        "preserves": cls.preserves,
        "options": attributes_json(cls),
        "example": cls.example or None,
    }


def attributes_json(cls: type) -> list[dict[str, Any]]:
    """Attributes of an operator or options of a pass."""
    return [
        {
            "name": info.name,
            "type": info.type_text,
            "required": info.required,
            "default": None if info.required else default_text(info),
            "keyword": info.keyword,
            "doc": info.doc,
        }
        for info in attributes(cls)
    ]


def axis_text(described: dict[str, Any]) -> str:
    """Text for an attribute that selects axes: `axis of x`; empty for any other attribute and for options."""
    if described.get("axis") is None:
        return ""
    return f"{'axes' if 'tuple' in described['type'] else 'axis'} of `{described['axis']}`"


def default_text(info: AttributeInfo) -> str | None:
    """The default as text of the language; None for the default None, which is not shown."""
    return None if info.default is None else value_text(info.default)


def parameters_json(cls: type[Operator]) -> list[dict[str, Any]]:
    """Shape, kind and initialization of each parameter; shapes have the indices of the signature."""
    from archc.types.signature import parse_signature

    patterns = {pattern.name: pattern for pattern in parse_signature(cls.signature).operands} if cls.signature else {}
    return [
        {
            "name": name,
            "shape": [str(axis) for axis in patterns[name].axes] if name in patterns else None,
            "trainable": parameter.trainable,
            "initializer": _initializer_text(parameter.initializer),
        }
        for name, parameter in cls.parameters.items()
    ]


def dtypes_json(cls: type[Operator]) -> list[dict[str, Any]]:
    """Accepted dtypes of each operand, and the dtypes in which ONNX Runtime computes."""
    from archc.declaration.dtype_table import dtype_rows, row_text

    return [
        {
            "operand": row.operand or None,
            "like": row.like or None,
            "accepted": [dtype.value for dtype in row.onnx],
            "onnx": {dtype.value: computed and computed.value for dtype, computed in row.onnx.items()},
            "text": row_text(row),
        }
        for row in dtype_rows(cls)
    ]


def traits_json(cls: type[Operator]) -> list[dict[str, str]]:
    """Name, text and meaning of each trait; the text contains its data, as in "rigid `t`, `s`"."""
    return [{"name": trait.name, "text": str(trait), "doc": _meaning(trait)} for trait in cls.all_traits()]


def _meaning(trait: Trait) -> str:
    """One sentence with the meaning of a trait."""
    from archc.declaration.traits import ConditionalFlag, Flag

    flag = trait.flag if isinstance(trait, ConditionalFlag) else trait
    return flag.doc if isinstance(flag, Flag) else f"{summary(type(flag))}."


def _initializer_text(initializer: Any) -> str:
    """Text of an initializer: the name of its constructor, with the arguments."""
    name = initializer.__qualname__.partition(".")[0]
    given = inspect.getclosurevars(initializer).nonlocals if inspect.isfunction(initializer) else {}
    values = (", ".join(value) if isinstance(value, tuple) else str(value) for value in given.values())
    return f"{name}({', '.join(values)})" if given else name
