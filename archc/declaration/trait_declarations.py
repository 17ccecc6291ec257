"""Checks of traits: names of indices and of attributes that select axes, and contradictions.

A wrong name would have no effect: `prune` would remove elements along an axis that the author wanted to keep.
"""

from __future__ import annotations

from archc.declaration.traits import POINTWISE, Blocks, HasTraits, Indices, Rigid, Trait, Unused
from archc.types.signature import parse_signature


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
        parsed = parse_signature(signature)
        known = sorted({index for one in (*parsed.operands, *parsed.results) for index in one.indices})
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


def check_consistency(cls: type[HasTraits]) -> None:
    """Check that no trait of an operator class excludes another one.

    Raises:
        ValueError: two traits contradict each other.
    """
    traits = {type(trait): trait for trait in cls.all_traits() if isinstance(trait, Indices)}
    rigid = traits.get(Rigid)
    if rigid is None:
        return
    if POINTWISE in cls.all_traits():
        raise _contradiction(cls, POINTWISE, rigid, "an element depends only on the elements at its position")
    for kind, why in ((Unused, "elements that affect no result can be removed"), (Blocks, "`prune` shrinks blocks")):
        other = traits.get(kind)
        if other is not None and set(rigid.indices) & set(other.indices):
            raise _contradiction(cls, other, rigid, why)


def _contradiction(cls: type[HasTraits], first: Trait, second: Trait, why: str) -> ValueError:
    return ValueError(f'the traits "{first}" and "{second}" of `{cls.__name__}` contradict each other: {why}')
