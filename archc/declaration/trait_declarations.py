"""Checks of traits that name indices of the signature, or attributes that select axes.

A wrong name would have no effect: `prune` would remove elements along an axis that the author wanted to keep.
"""

from __future__ import annotations

from collections.abc import Iterator

from archc.declaration.traits import HasTraits, Indices, Rigid
from archc.types.signature import Index, Spread, parse_signature


def check_indices(cls: type[HasTraits], signature: str) -> None:
    """Check that the traits of an operator class name indices of its signature.

    Args:
        signature: the signature of all instances of the class.

    Raises:
        ValueError: a trait names an index that the signature does not have.
    """
    for trait in cls.all_traits():
        if not isinstance(trait, Indices):
            continue
        known = sorted(set(_index_names(signature)))
        for name in trait.indices:
            if not any(type(trait)(name).covers(index) or name.startswith(f"{index}.") for index in known):
                raise ValueError(
                    f'the trait "{trait}" of `{cls.__name__}` names the index `{name}`, but the signature {signature!r}'
                    f" has the indices {', '.join(known) or '(none)'}"
                )


def check_axis(cls: type[HasTraits], axes: set[str]) -> None:
    """Check that `Rigid(axis=...)` of an operator class names an attribute that selects axes.

    Args:
        axes: the attributes that are declared with `axis=`.

    Raises:
        ValueError: the attribute is declared without `axis=`.
    """
    for trait in cls.all_traits():
        if isinstance(trait, Rigid) and trait.axis is not None and trait.axis not in axes:
            raise ValueError(
                f'the trait "{trait}" of `{cls.__name__}` names `{trait.axis}`, which must be declared with'
                f' `attribute(axis="x")`, for an operand `x`'
            )


def _index_names(signature: str) -> Iterator[str]:
    parsed = parse_signature(signature)
    for pattern in (*parsed.operands, *parsed.results):
        for axis in pattern.axes:
            yield from (factor.name for factor in axis.factors if isinstance(factor, (Index, Spread)))
