"""Checks of the declaration of an operator from outside archc, when its class is defined.

The checks of traits, which also hold for archc's own operators, are in `archc.declaration.trait_declarations`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from archc.declaration.dtypes import DTypes
from archc.declaration.parameter import Parameter
from archc.declaration.type_inference import Typed
from archc.diagnostics import did_you_mean
from archc.types.attribute_declarations import all_fields, check_attributes, check_name
from archc.types.signature import Pattern, Signature, SignatureSyntaxError, parse_signature
from archc.types.tensor_type import DType

_SETS = "write a set of `archc.declaration.dtypes`, such as `FLOATS`, or a mapping such as `{'x': FLOATS}`"


def check_operator(cls: type[Typed], base: type) -> None:
    """Check the name, signature, parameters, dtypes, attributes and example of an operator class.

    Args:
        base: the base class of all operators.

    Raises:
        ValueError: the declaration has a mistake; the message names the class and the correction.
    """
    if cls.formula is None:
        check_name(cls)
    check_attributes(cls, base)
    fixed = cls.signature_for is Typed.signature_for
    signature = _signature(cls, required=fixed)
    operands = [pattern.name for pattern in signature.operands] if fixed else None
    _check_parameters(cls, operands)
    data = None if operands is None else [name for name in operands if name not in cls.parameters]
    _check_dtypes(cls, data)
    _check_kernels(cls)
    if fixed:
        _check_indices(cls, signature)
    _check_example(cls)


def _signature(cls: type[Typed], required: bool) -> Signature:
    text = cls.signature
    if not isinstance(text, str):
        raise ValueError(f'`signature` of `{cls.__name__}` is {text!r}; write a text such as "x[*s] -> y[*s]"')
    if not text:
        if required:
            raise ValueError(f'`{cls.__name__}` has no signature; write one, such as `signature = "x[*s] -> y[*s]"`')
        return Signature((), ())
    try:
        return parse_signature(text)
    except SignatureSyntaxError as mistake:
        if "->" not in text:
            raise ValueError(
                f"the signature {text!r} of `{cls.__name__}` has no result; write it after the operands, as in"
                f' "{text} -> y[*s]"'
            ) from None
        raise ValueError(
            f'`{cls.__name__}` has a wrong signature: {mistake}; write it like "x[*b, i], weight[o, i] -> y[*b, o]"'
        ) from None


def _check_parameters(cls: type[Typed], operands: Sequence[str] | None) -> None:
    """Check that `parameters` maps operands of the signature to instances of `Parameter`."""
    if not isinstance(cls.parameters, Mapping):
        raise ValueError(
            f"`parameters` of `{cls.__name__}` is {cls.parameters!r}; write a mapping from operands to parameters, such"
            " as `{'weight': archc.Parameter(ones)}`"
        )
    for name, parameter in cls.parameters.items():
        if not isinstance(parameter, Parameter):
            raise ValueError(
                f"the parameter `{name}` of `{cls.__name__}` is {parameter!r}; write `archc.Parameter(ones)`, with an"
                " initializer of `archc.declaration.parameter`"
            )
        if operands is not None and name not in operands:
            way = did_you_mean(name, operands) or f"add it to the operands, as in {f'{name}[d]'!r}"
            raise ValueError(
                f"the parameter `{name}` of `{cls.__name__}` is not in the signature {cls.signature!r}; {way}"
            )


def _check_dtypes(cls: type[Typed], operands: Sequence[str] | None) -> None:
    """Check that `dtypes` is a set, or maps operands to sets and to names of other operands."""
    declared: Any = cls.dtypes
    if isinstance(declared, DTypes):
        return
    if not isinstance(declared, Mapping):
        raise ValueError(f"`dtypes` of `{cls.__name__}` is {declared!r}; {_SETS}")
    for name, accepted in declared.items():
        like, *own = accepted if isinstance(accepted, tuple) else (accepted,)
        if isinstance(accepted, DTypes):
            like = name
        if not isinstance(like, str) or [type(one) for one in own] not in ([], [DTypes]):
            raise ValueError(f"`dtypes` of `{cls.__name__}` gives `{name}` the dtypes {accepted!r}; {_SETS}")
        for operand in (name, like):
            if operands is not None and operand not in operands:
                known = ", ".join(f"`{one}`" for one in operands) or "(none)"
                way = did_you_mean(operand, operands) or f"the operands are {known}"
                raise ValueError(
                    f"`dtypes` of `{cls.__name__}` names `{operand}`, which is no operand of the signature"
                    f" {cls.signature!r}; {way}"
                )


def _check_kernels(cls: type[Typed]) -> None:
    """Check that `onnx_dtypes` is a set of dtypes, or maps operands to such sets."""
    declared: Any = cls.onnx_dtypes
    for known in declared.values() if isinstance(declared, Mapping) else (declared,):
        if not isinstance(known, (set, frozenset)) or not all(isinstance(dtype, DType) for dtype in known):
            raise ValueError(
                f"`onnx_dtypes` of `{cls.__name__}` is {declared!r}; write a set of `archc.declaration.dtypes`, such as"
                " `ONNX_FLOATS`, or a mapping such as `{'x': ONNX_FLOATS}`"
            )


def _check_indices(cls: type[Typed], signature: Signature) -> None:
    """Check that operands or attributes give the extent of each index, and that attributes name indices."""
    patterns = (*signature.operands, *signature.results)
    every = list(dict.fromkeys(index for pattern in patterns for index in pattern.indices))
    given = {name: declared.metadata.get("index") for name, declared in all_fields(cls).items()}
    for name, index in given.items():
        if index is not None and index not in every:
            way = " or ".join(f"`index={one!r}`" for one in every) or "a signature with this index"
            raise ValueError(
                f"`{name}` of `{cls.__name__}` is declared with index={index!r}, which is not in the signature"
                f" {cls.signature!r}; write {way}"
            )
    if cls.extents is not Typed.extents:
        return

    def is_data(pattern: Pattern) -> bool:
        return pattern in signature.operands and pattern.name not in cls.parameters

    known = {index for pattern in patterns if is_data(pattern) for index in pattern.indices} | set(given.values())
    for pattern in patterns:
        for index in pattern.indices:
            if index not in known:
                raise ValueError(
                    f"no operand and no attribute of `{cls.__name__}` gives the size of `{index}` in"
                    f" `{pattern}` of the signature {cls.signature!r}; declare an attribute, such as"
                    f" `{index}: int = archc.attribute(index={index!r})`, or write `{index}` in an operand"
                )


def _check_example(cls: type[Typed]) -> None:
    """Check that an example of the class itself uses the operator."""
    example: Any = vars(cls).get("example", "")
    wanted = cls.name if cls.formula is None else ""
    if not isinstance(example, str) or (example and not re.search(rf"\b{re.escape(wanted)}\b", example)):
        way = did_you_mean(wanted, re.findall(r"\w+", str(example)))
        raise ValueError(
            f"`example` of `{cls.__name__}` is {example!r}, which does not use the operator; write `{wanted}`"
            + (f" for `{way.split('`')[1]}`" if way else f', as in "x -> {wanted}"')
        )
