"""Printed text of operators, passes and storages: parsing the text gives an equal object."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import archc
from archc.declaration.base import OPERATORS, Operator
from archc.diagnostics import Diagnostics, Source
from archc.driver.pipelines import parse_passes, value_of
from archc.language.printing.printer import print_graph
from archc.language.syntax import tree
from archc.language.syntax.parser import parse_value
from archc.passmanager import Pass, known_passes
from archc.types.attributes import AttributeInfo, AttributeProblem, attributes
from archc.types.dims import SymbolicDim
from archc.types.storage import Dense, Int8, Masked, Storage
from archc.types.tensor_type import DType

NAMED = sorted(name for name, op in OPERATORS.items() if op.formula != "index")
"""Operators that are written by name; `tests/ops/test_index.py` tests those of `x[:, 0]`."""
PASSES = sorted(known_passes())

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
numbers = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 1e22, 1e-7, float("inf"), -0.5])


def values(wanted: Any) -> st.SearchStrategy[Any]:
    """Random values of the type of an attribute."""
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        return st.one_of([values(option) for option in get_args(wanted) if option is not SymbolicDim])
    if origin is Literal:
        return st.sampled_from(get_args(wanted))
    if origin is tuple:
        items = get_args(wanted)
        if len(items) == 2 and items[1] is Ellipsis:
            return st.lists(values(items[0]), max_size=3).map(tuple)
        return st.tuples(*map(values, items))
    plain: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-3, 9),
        float: numbers,
        str: texts,
        DType: st.sampled_from(list(DType)),
        type(None): st.none(),
    }
    return plain[wanted]


def instances(cls: type) -> st.SearchStrategy[Any]:
    """Instances with a random subset of their optional attributes."""

    def of(info: AttributeInfo) -> st.SearchStrategy[Any]:
        if cls.__name__ == "Rearrange" and info.name == "sizes":  # pairs of an axis name and a size
            names = st.lists(st.sampled_from(["h", "w2", "head_size"]), unique=True)
            return names.flatmap(lambda chosen: st.tuples(*(st.tuples(st.just(n), st.integers(1, 9)) for n in chosen)))
        return values(info.type)

    infos = attributes(cls)
    required = {info.field: of(info) for info in infos if info.required}
    optional = {info.field: of(info) for info in infos if not info.required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda given: cls(**given))


def read(text: str) -> Operator:
    """Build the operator of a call; arguments are bound as in elaboration."""
    found = Diagnostics()
    expression = parse_value(Source(text), found)
    found.check()
    positional: list[Any] = []
    named: dict[str, Any] = {}
    if isinstance(expression, tree.Call):
        for argument in expression.arguments:
            value = value_of(argument.value)
            if argument.name is None:
                positional.append(value)
            else:
                named[argument.name] = value
        expression = expression.callee
    assert isinstance(expression, tree.Name)
    return OPERATORS[expression.name].from_arguments(positional, named)


def same(one: Any, other: Any) -> bool:
    """Return whether objects are equal; unlike in Python, 1 differs from `true`, and 0.0 from -0.0."""
    return repr(one) == repr(other)


@pytest.mark.parametrize("name", NAMED)
@settings(max_examples=4, deadline=None, phases=[Phase.generate])
@given(data=st.data())
def test_an_operator_reads_back(name: str, data: st.DataObject) -> None:
    op = data.draw(instances(OPERATORS[name]))
    assert same(read(str(op)), op)


@pytest.mark.parametrize("name", PASSES)
@settings(max_examples=8, deadline=None, phases=[Phase.generate])
@given(data=st.data())
def test_a_pass_reads_back(name: str, data: st.DataObject) -> None:
    step: Pass = data.draw(instances(known_passes()[name]))
    try:
        step.check()
    except AttributeProblem:
        return
    assert same(parse_passes(str(step)), [step])


@pytest.mark.parametrize("storage", [Dense(), Masked(), Int8(), Int8(0), Int8(1)], ids=str)
def test_a_storage_reads_back(storage: Storage) -> None:
    graph = archc.parse(f"model m {{ input x: f32[N, 4]  output y = x -> fc: linear(4, weight = {storage}) }}")
    assert graph.weights["fc.weight"].storage == storage
    assert archc.parse(print_graph(graph)) == graph


def test_arguments_by_position_come_first() -> None:
    text = "model net { input x: f64[N, 4]  output y = x + full((4,), -1.5, dtype = f64) }"
    graph = archc.parse(text)
    assert "full((4,), -1.5, dtype = f64)" in print_graph(graph)
    assert archc.parse(print_graph(graph)) == graph
