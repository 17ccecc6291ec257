"""Attributes: binding of arguments, diagnostics that name the wrong argument, and printed text."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.diagnostics import Diagnostics, Source
from archc.driver.pipelines import value_of
from archc.language.syntax import tree
from archc.language.syntax.parser import parse_pipeline, parse_value
from archc.types.attributes import (
    AttributeProblem,
    arguments_text,
    attribute,
    attributes,
    bind,
    string_literal,
    value_text,
)
from archc.types.dims import SymbolicDim, symbol
from archc.types.tensor_type import DType


@dataclass(frozen=True)
class Sample:
    """Class with one attribute of each type."""

    size: int = attribute(doc="a size", index="o", phrase="output features")
    window: int | tuple[int, ...] = attribute()
    ratio: float = attribute(0.5)
    name: str | None = attribute(None)
    mode: Literal["zeros", "same"] = attribute("zeros")
    _: KW_ONLY
    flag: bool = attribute(False, keyword=True)
    dtype: DType = attribute(DType.f32, keyword=True)


SAMPLES = st.builds(
    Sample,
    size=st.integers(-(2**63) + 1, 2**63 - 1),
    window=st.integers(-9, 9) | st.lists(st.integers(-9, 9), max_size=3).map(tuple),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    name=st.text(st.characters(exclude_categories=["Cs"])),
    mode=st.sampled_from(["zeros", "same"]),
    flag=st.booleans(),
    dtype=st.sampled_from(DType),
)


def read(text: str) -> Sample:
    """Parse an instance from text, as the options of a pass in a pipeline."""
    diagnostics = Diagnostics()
    (stage,) = parse_pipeline(Source(text), diagnostics)
    diagnostics.check()
    values = [(argument.name, value_of(argument.value)) for argument in stage.arguments]
    positional = [value for name, value in values if name is None]
    return bind(Sample, "`sample`", positional, {name: value for name, value in values if name is not None})


@given(SAMPLES)
def test_printed_arguments_give_an_equal_instance(sample: Sample) -> None:
    assert read(f"sample({', '.join(arguments_text(sample))})") == sample


def test_defaults_are_left_out_and_required_ones_go_by_position() -> None:
    assert arguments_text(Sample(3, (1, 2))) == ["3", "(1, 2)"]
    assert arguments_text(Sample(3, 1, ratio=1.0, flag=True)) == ["3", "1", "ratio = 1.0", "flag = true"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (-3, "-3"),
        (1e-5, "1e-05"),
        (DType.f16, "f16"),
        ('a"b\n\x00', '"a\\"b\\n\\u{0}"'),
        ((), "()"),
        ((1,), "(1,)"),
        ([1, (2, "x")], '[1, (2, "x")]'),
        (symbol("N") * 2 + 1, "2*N + 1"),
    ],
)
def test_values_as_the_language_writes_them(value: object, text: str) -> None:
    assert value_text(value) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_string_reads_back(text: str) -> None:
    diagnostics = Diagnostics()
    node = parse_value(Source(string_literal(text)), diagnostics)
    diagnostics.check()
    assert isinstance(node, tree.String) and node.value == text


@pytest.mark.parametrize(
    ("positional", "named", "code", "argument"),
    [
        ((3, 1, 0.5, None, "same", True), {}, "too-many-attributes", 5),
        ((3,), {}, "missing-attribute", None),
        ((3, 1), {"ration": 1.0}, "unknown-attribute", "ration"),
        ((3, 1), {"size": 1}, "duplicate-attribute", "size"),
        ((3, "x"), {}, "wrong-type", 1),
        ((True, 1), {}, "wrong-type", 0),
        ((3, (1, 2.5)), {}, "wrong-type", 1),
        ((3, 1), {"ratio": True}, "wrong-type", "ratio"),
        ((3, 1), {"mode": "sames"}, "wrong-type", "mode"),
        ((3, 1), {"name": DType.f32}, "wrong-type", "name"),
        ((3, 1), {"dtype": "f32"}, "wrong-type", "dtype"),
        ((symbol("N"), 1), {}, "wrong-type", 0),
    ],
)
def test_arguments_that_do_not_fit(
    positional: tuple[Any, ...], named: dict[str, Any], code: str, argument: str | int | None
) -> None:
    with pytest.raises(AttributeProblem) as problem:
        bind(Sample, "`sample`", positional, named)
    assert (problem.value.code, problem.value.argument) == (code, argument)


def test_a_near_name_or_choice_is_suggested() -> None:
    for named, way in (({"rato": 1.0}, "did you mean `ratio`?"), ({"mode": "sames"}, "did you mean `same`?")):
        with pytest.raises(AttributeProblem) as problem:
            bind(Sample, "`sample`", (3, 1), named)
        assert problem.value.help == way


@dataclass(frozen=True)
class Choices:
    """Class with attributes of words."""

    form: Literal["int8", "f16", "bf16", "f8e4m3", "f8e5m2"] | None = attribute(None)
    plan: Literal["static", "dynamic"] = attribute("static")
    width: int = attribute(0)


@pytest.mark.parametrize(
    ("named", "way"),
    [
        ({"form": "f8"}, "did you mean `f8e4m3` or `f8e5m2`?"),
        ({"plan": "dyn"}, "did you mean `dynamic`?"),
        ({"form": 8}, "did you mean `int8`?"),
        ({"form": "16"}, "did you mean `f16` or `bf16`?"),
        ({"form": "dynamic"}, 'did you mean `plan = "dynamic"`?'),
        ({"plan": DType.f16}, 'did you mean `form = "f16"`?'),
        ({"width": "static"}, 'did you mean `plan = "static"`?'),
        ({"width": "8"}, "remove the quotes: `8`"),
        ({"form": "f"}, None),
        ({"form": 7}, None),
        ({"form": True}, None),
    ],
)
def test_choices_that_a_wrong_value_may_mean_are_suggested(named: dict[str, Any], way: str | None) -> None:
    with pytest.raises(AttributeProblem) as problem:
        bind(Choices, "`choices`", (), named)
    assert problem.value.help == way


def test_a_number_in_quotes_is_told_to_leave_them_out() -> None:
    for positional, way in ((("3", 1), "remove the quotes: `3`"), (("0.5", 1), None), (("three", 1), None)):
        with pytest.raises(AttributeProblem) as problem:
            bind(Sample, "`sample`", positional, {})
        assert problem.value.help == way


def test_an_integer_is_a_number_and_a_list_a_tuple() -> None:
    made = bind(Sample, "`sample`", (3, [1, 2]), {"ratio": 1})
    assert made.window == (1, 2) and type(made.ratio) is float


def test_properties_of_attributes() -> None:
    size, window, *_, dtype = attributes(Sample)
    assert (size.doc, size.index, size.phrase, size.required) == ("a size", "o", "output features", True)
    assert window.type_text == "an integer or a tuple of integers"
    assert (dtype.keyword, dtype.default, dtype.required) == (True, DType.f32, False)


def test_a_size_is_an_integer_or_symbolic() -> None:
    @dataclass(frozen=True)
    class Sized:
        size: int | SymbolicDim = attribute()

    Sized.__annotations__ = {"size": int | SymbolicDim}  # names in annotations of a local class are not resolved
    assert bind(Sized, "`sized`", (symbol("N"),), {}).size == symbol("N")
    assert attributes(Sized)[0].type_text == "a size"


def test_a_leading_attribute_is_given_by_position() -> None:
    @dataclass(frozen=True)
    class Leading:
        share: float | None = attribute(None, leading=True)
        mode: Literal["zeros", "same"] | None = attribute(None, leading=True)

    assert arguments_text(Leading(0.5)) == ["0.5"]
    assert arguments_text(Leading(0.5, "same")) == ["0.5", '"same"']
    assert arguments_text(Leading(mode="same")) == ['mode = "same"']
