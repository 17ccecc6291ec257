"""Order of passes: a wrong order is refused before any pass runs.

The attributes `needs` and `ends` of the passes determine the valid orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import archc
from archc.diagnostics import ArchcError, Diagnostic
from archc.driver.pipelines import parse_passes
from archc.passes.lowrank import LowRank
from archc.passes.prune import Prune
from archc.passes.quant import Quant
from archc.passmanager import FLOAT_WEIGHTS, UNDIVIDED
from archc.passmanager.base import REGISTERED
from archc.passmanager.order import misplaced

TEXT = "model net { input x: f32[N, 8]  output y = x -> fc1: linear(8) -> relu -> fc2: linear(4) }"


@dataclass(frozen=True)
class Remembering(archc.Pass):
    """Pass that records its label when it runs."""

    name = "test_remembering"
    ran = []  # one list for all subclasses

    label: str = archc.attribute("")

    def run(self, graph: archc.Graph, context: archc.Context) -> None:
        self.ran.append(self.label)


@dataclass(frozen=True)
class Painting(Remembering):
    """Pass that needs a state that archc does not define."""

    name = "test_painting"
    needs = (UNDIVIDED, "a wall without paper")


@dataclass(frozen=True)
class Papering(Remembering):
    """Pass that ends the state that `Painting` needs."""

    name = "test_papering"
    ends = ("a wall without paper",)


@dataclass(frozen=True)
class Splitting(Remembering):
    """Pass that needs the state `UNDIVIDED` and ends it."""

    name = "test_splitting"
    ends = (UNDIVIDED,)


# Other tests list all registered passes and must not find these.
for made in (Remembering, Painting, Papering, Splitting):
    del REGISTERED[made.name]


def refused(passes: Sequence[archc.Pass] | str) -> Diagnostic:
    Remembering.ran.clear()
    with pytest.raises(ArchcError) as failure:
        archc.compile(TEXT, passes=passes)
    (found,) = failure.value.diagnostics
    assert not Remembering.ran
    return found


def test_states_of_user_defined_passes_are_checked() -> None:
    found = refused([Remembering("a"), Papering("b"), Painting("c")])
    assert (found.code, found.message) == (
        "pass-order",
        "`test_painting` needs a wall without paper, but the earlier pass `test_papering` ends that state",
    )
    assert found.help == (
        'write `test_remembering(label = "a") -> test_painting(label = "c") -> test_papering(label = "b")`'
    )
    archc.compile(TEXT, passes=[Remembering("a"), Painting("c"), Papering("b")])
    assert Remembering.ran == ["a", "c", "b"]


def test_passes_need_an_undivided_graph_by_default() -> None:
    for other in (Remembering("a"), Quant(), LowRank(), Prune(0.5)):
        assert misplaced([other, Splitting("b")]) is None
        found = misplaced([Splitting("b"), other])
        assert found is not None and found.state == UNDIVIDED and found.reordered == (other, Splitting("b"))


def test_help_if_no_order_works() -> None:
    assert refused([Splitting("a"), Splitting("b")]).help == "no order works: remove one of the two"


@pytest.mark.parametrize(
    "passes", ["quant, quant", "quant(on = fc1), quant(on = fc2)", "quant, simplify", "prune(0.5), quant"]
)
def test_valid_orders(passes: str) -> None:
    assert len(archc.compile(TEXT, passes=passes).passes) == 2


@pytest.mark.parametrize("late", ["lowrank", "fold", "prune(0.5)", 'prune(0.5, scheme = "channel")'])
def test_passes_that_need_float_weights_are_refused_after_quant(late: str) -> None:
    found = refused(f"quant, {late}")
    assert found.code == "pass-order" and found.span is not None
    name = late.partition("(")[0]
    assert found.message == f"`{name}` needs {FLOAT_WEIGHTS}, but the earlier pass `quant` ends that state"
    assert found.span.text == late
    assert found.notes[0].span is not None and found.notes[0].span.text == "quant"
    assert found.help == f"write `{late} -> quant`"


def test_the_place_is_in_the_file_where_the_pipeline_is() -> None:
    text = f"{TEXT}\npipeline inner = quant -> simplify\npipeline late = inner -> lowrank(rank = 2)\n"
    with pytest.raises(ArchcError) as failure:
        archc.compile(text, passes="late")
    (found,) = failure.value.diagnostics
    assert found.span is not None and (found.span.line, found.span.text) == (3, "lowrank(rank = 2)")
    assert found.notes[0].span is not None and found.notes[0].span.line == 2
    assert found.help == "write `lowrank(rank = 2) -> quant -> simplify`"


def test_nothing_is_written(tmp_path: Path) -> None:
    from archc.cli import main

    (tmp_path / "net.arch").write_text(TEXT)
    assert main(["compile", str(tmp_path / "net.arch"), "--passes", "quant, lowrank", "-o", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()


KINDS = [Remembering(), Painting(), Papering(), Splitting(), Quant(), LowRank()]


@given(st.lists(st.sampled_from(KINDS), max_size=5))
def test_a_suggested_order_is_valid_and_is_found_if_one_exists(passes: list[archc.Pass]) -> None:
    found = misplaced(passes)
    if found is None:
        return
    some_order = any(misplaced(order) is None for order in permutations(passes))
    assert (found.reordered is not None) == some_order
    if found.reordered is not None:
        assert misplaced(found.reordered) is None
        assert sorted(map(repr, found.reordered)) == sorted(map(repr, passes))


def test_options_of_passes_that_python_made_are_checked() -> None:
    found = refused([Remembering("a"), Prune(1.5)])
    assert (found.code, found.message) == ("bad-option", "`sparsity` of `prune` must be from 0 to below 1, got 1.5")


def test_pipelines_of_text_are_checked_when_they_are_read() -> None:
    with pytest.raises(ArchcError, match="pass-order"):
        parse_passes("quant, fold")
