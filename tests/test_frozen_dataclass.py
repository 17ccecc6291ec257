"""`frozen_dataclass`: its classes behave as those of `dataclass(frozen=True)`."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.frozen_dataclass import frozen_by_identity, frozen_dataclass


@frozen_dataclass
class Lazy:
    first: int
    second: str = "b"
    third: float = dataclasses.field(default=0.5, compare=False)


@dataclasses.dataclass(frozen=True)
class Eager:
    first: int
    second: str = "b"
    third: float = dataclasses.field(default=0.5, compare=False)


@frozen_dataclass
class Child(Lazy):
    fourth: bool = dataclasses.field(default=True, kw_only=True)


@frozen_dataclass
class Checked:
    value: int

    def __post_init__(self) -> None:
        if self.value < 0:
            raise ValueError


values = st.tuples(st.integers(-1, 1), st.sampled_from("ab"), st.sampled_from([0.5, 1.5]))


@given(values, values)
def test_equality_and_hash_are_those_of_a_dataclass(
    left: tuple[int, str, float], right: tuple[int, str, float]
) -> None:
    assert (Lazy(*left) == Lazy(*right)) == (Eager(*left) == Eager(*right))
    if Lazy(*left) == Lazy(*right):
        assert hash(Lazy(*left)) == hash(Lazy(*right))


@given(values)
def test_fields_replace_and_repr_are_those_of_a_dataclass(given: tuple[int, str, float]) -> None:
    assert dataclasses.astuple(Lazy(*given)) == given
    assert dataclasses.replace(Lazy(*given), first=7) == Lazy(7, *given[1:])
    assert repr(Lazy(*given)) == repr(Eager(*given)).replace("Eager", "Lazy")


def test_defaults_and_names() -> None:
    assert Lazy(1) == Lazy(first=1, second="b")
    with pytest.raises(TypeError, match="first"):
        Lazy()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="surplus"):
        Lazy(1, surplus=2)  # type: ignore[call-arg]


def test_a_child_has_the_fields_of_both() -> None:
    assert Child(1, fourth=False) != Child(1)
    assert Child(1) != Lazy(1)
    with pytest.raises(TypeError):
        Child(1, "b", 0.5, True)  # type: ignore[misc]


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Lazy(1).first = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del Lazy(1).first


def test_post_init_runs() -> None:
    with pytest.raises(ValueError):
        Checked(-1)


@frozen_by_identity
class Unequal:
    values: list[int] = dataclasses.field(default_factory=list)


def test_each_record_has_a_default_of_its_own() -> None:
    assert Unequal().values == []
    assert Unequal().values is not Unequal().values
    assert Unequal([1]).values == Unequal(values=[1]).values == [1]


def test_records_without_equality_equal_themselves_alone() -> None:
    record = Unequal()
    assert record == record
    assert record != Unequal()
    assert len({record, Unequal()}) == 2


def test_the_signature_is_that_of_a_dataclass() -> None:
    assert inspect.signature(Lazy) == inspect.signature(Eager).replace(return_annotation=inspect.Signature.empty)
    assert list(inspect.signature(Child).parameters) == ["first", "second", "third", "fourth"]
