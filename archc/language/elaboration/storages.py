"""Storage formats of weights in a text: `int8`, `int4(group = 32)`, `fake_quantized(int8)`, `f16`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archc.diagnostics import Span
from archc.language.elaboration.context import Elaboration, Instance
from archc.types.attribute_types import convert
from archc.types.attributes import AttributeProblem, attributes, bind
from archc.types.storage import NarrowFloat, Storage
from archc.types.tensor_type import DType


def make_storage(
    elaboration: Elaboration,
    instance: Instance,
    storage: type[Storage],
    span: Span,
    positional: Sequence[Any] = (),
    named: Mapping[str, Any] | None = None,
) -> Storage:
    """The storage format with the arguments of a call; a format as an argument needs no parentheses.

    Raises:
        Failed: the arguments do not fit; the reason is reported.
    """
    infos = {info.name: info for info in attributes(storage)}
    formats = {name for name, info in infos.items() if convert(NarrowFloat(DType.f16), info.type)[0]}
    slots = [name for name, info in infos.items() if not info.keyword]

    def argument(name: str, value: Any) -> Any:
        return (as_storage if name in formats else _called)(elaboration, instance, value, span)

    arguments = [argument(slots[k] if k < len(slots) else "", value) for k, value in enumerate(positional)]
    keywords = {name: argument(name, value) for name, value in (named or {}).items()}
    try:
        return bind(storage, f"`{storage.name}`", arguments, keywords)
    except AttributeProblem as problem:
        elaboration.report(instance, problem.code, problem.message, span, help=problem.help)


def as_storage(elaboration: Elaboration, instance: Instance, value: Any, span: Span) -> Any:
    """A storage format for the name of a format or of a dtype; any other value unchanged."""
    return NarrowFloat(value) if isinstance(value, DType) else _called(elaboration, instance, value, span)


def _called(elaboration: Elaboration, instance: Instance, value: Any, span: Span) -> Any:
    is_name = isinstance(value, type) and issubclass(value, Storage)
    return make_storage(elaboration, instance, value, span) if is_name else value
