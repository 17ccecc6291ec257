"""Declarations of traits: inheritance, conditions, and mistakes in a class."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar, get_args

import pytest

import archc
from archc.declaration import OPERATORS
from archc.declaration.traits import (
    CLIPS,
    IMPURE,
    POINTWISE,
    SCHEMES,
    Blocks,
    Flag,
    Flexible,
    Quantizable,
    Rigid,
    Trait,
    Traits,
    Unused,
)
from archc.passes._schemes import Scheme

NO_TRAIT = "which is no trait; traits are such as `POINTWISE` and `Rigid('d')`"
SMOOTH = Flag("smooth", "The derivative is continuous.")


@archc.operator
class Base(archc.Operator, abstract=True):
    """An operator with a flag, a conditional flag and a trait with data."""

    signature = "x[*s] -> y[*s]"
    traits: ClassVar[Traits] = (POINTWISE, IMPURE.when("noise"), Quantizable("weight"))

    noise: float = archc.attribute(0.0)


@archc.operator
class Derived(Base, abstract=True):
    """An operator that adds flags of two packages, and replaces the trait with data."""

    traits = (CLIPS, SMOOTH, Quantizable("static", channel_axis=1))


def test_a_subclass_adds_traits_and_replaces_those_with_data() -> None:
    assert Derived().has(POINTWISE) and Derived().has(CLIPS) and Derived().has(SMOOTH)
    assert not Base().has(CLIPS) and not Base().has(SMOOTH)
    base, derived = Base().trait(Quantizable), Derived().trait(Quantizable)
    assert base is not None and base.schemes == ("weight",) and base.channel_axis == 0
    assert derived is not None and derived.schemes == ("static",) and derived.channel_axis == 1
    assert Derived().trait(Rigid) is None


def test_a_condition_is_an_attribute_of_the_instance() -> None:
    assert Derived(0.5).has(IMPURE) and not Derived().has(IMPURE)
    assert [str(trait) for trait in Derived.all_traits()] == [
        "pointwise",
        "impure if `noise`",
        "quantizable (static)",
        "clips",
        "smooth",
    ]


def test_a_name_covers_its_numbered_indices() -> None:
    rigid = Rigid("s", "d")
    assert all(map(rigid.covers, ("s", "s.0", "s.12", "d", "d1"))) and not rigid.covers("e") and not rigid.covers("sd")
    assert Rigid("s.0").covers("s.0") and not Rigid("s.0").covers("s.1")
    assert Flexible().covers("h") and not Blocks().covers("h")


@pytest.mark.parametrize(
    ("traits", "words"),
    [
        (POINTWISE, "`traits` of `Wrong` is not a tuple of traits; write `traits = (POINTWISE,)`"),
        ((POINTWISE, Rigid), f"`traits` of `Wrong` has the class Rigid, {NO_TRAIT}"),
        (("pointwise",), f"`traits` of `Wrong` has 'pointwise', {NO_TRAIT}"),
        ((IMPURE.when("nois"),), 'the trait "impure if `nois`" of `Wrong` names `nois`, which is not an attribute'),
        ((Rigid(axis="dim"),), 'the trait "rigid axis `dim`" of `Wrong` names `dim`, which is not an attribute'),
        ((CLIPS, CLIPS), '`traits` of `Wrong` has "clips" and "clips"; give one of them'),
        ((IMPURE, IMPURE.when("noise")), '`traits` of `Wrong` has "impure" and "impure if `noise`"; give one of them'),
        ((Rigid("s"), Rigid("s.0")), '`traits` of `Wrong` has "rigid `s`" and "rigid `s.0`"; give one of them'),
    ],
)
def test_a_wrong_declaration_is_an_error_of_the_class(traits: Any, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        type("Wrong", (Base,), {"traits": traits}, abstract=True)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("trait", "words"),
    [
        (Rigid("D"), "names the index `D`, but the signature 'x[*s] -> y[*s]' has the indices s"),
        (Unused("noise"), "names the index `noise`, but the signature"),
        (Rigid(axis="noise"), 'names `noise`, which must be declared with `attribute(axis="x")`'),
    ],
)
def test_a_wrong_name_of_an_index_or_an_axis_is_an_error_of_the_class(trait: Trait, words: str) -> None:
    """Without the error, `prune` would remove elements that the operator needs."""
    with pytest.raises(ValueError, match=re.escape(words)):
        type("Wrong", (Base,), {"traits": (trait,), "__module__": __name__})
    assert "wrong" not in OPERATORS


@pytest.mark.parametrize(
    ("traits", "words"),
    [
        ((POINTWISE, Rigid("d")), 'the traits "pointwise" and "rigid `d`" of `Wrong` contradict each other'),
        ((Rigid("d"), Unused("d")), 'the traits "unused `d`" and "rigid `d`" of `Wrong` contradict each other'),
        (
            (Rigid("d", "b"), Blocks("b")),
            'the traits "blocks `b`" and "rigid `d`, `b`" of `Wrong` contradict each other',
        ),
    ],
)
def test_contradictory_traits_are_an_error_of_the_class(traits: Traits, words: str) -> None:
    members = {"signature": "x[*b, d] -> y[*b, d]", "traits": traits, "__module__": __name__}
    with pytest.raises(ValueError, match=re.escape(words)):
        type("Wrong", (archc.Operator,), members)
    assert "wrong" not in OPERATORS


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: Quantizable("statik"), "`Quantizable` has no scheme 'statik'; did you mean `static`?"),
        (lambda: Quantizable("x"), "`Quantizable` has no scheme 'x'; the schemes are static, dynamic, weight"),
        (lambda: Quantizable("weight", "weight"), "the trait 'quantizable' names `weight` twice"),
        (lambda: Rigid("d", "d"), "the trait 'rigid' names `d` twice"),
    ],
)
def test_a_wrong_argument_of_a_trait_is_refused(declare: Callable[[], Trait], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        declare()
    assert str(caught.value) == words


def test_the_schemes_are_those_of_the_pass() -> None:
    assert get_args(Scheme) == SCHEMES


@pytest.mark.parametrize("asked", ["pointwise", Rigid, IMPURE.when("noise")])
def test_an_operator_is_asked_for_flags_only(asked: Any) -> None:
    with pytest.raises(TypeError, match="`has` takes a trait without data"):
        OPERATORS["softmax"]().has(asked)
