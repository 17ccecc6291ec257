"""Checks after each pass: a valid graph, and an error within the declared limit (`preserves`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import archc
from archc.cli.reports.pass_report import explanation
from archc.diagnostics import ArchcError, Diagnostics
from archc.ops.arithmetic import Neg
from archc.passmanager.base import REGISTERED
from archc.passmanager.comparison import PART, largest_error

TEXT = "model net { input x: f32[N, 8]  output y = x -> fc1: linear(8) -> relu -> fc2: linear(4) }"


@dataclass(frozen=True)
class Doubling(archc.Pass):
    """Pass that multiplies a bias by a factor."""

    name = "test_doubling"
    preserves = "approximate"

    factor: float = archc.attribute(2.0)

    def run(self, graph: archc.Graph, context: archc.Context) -> None:
        with np.errstate(over="ignore"):
            context.rewriter.set_weight("fc2.bias", graph.weight_values("fc2.bias") * np.float32(self.factor))


@dataclass(frozen=True)
class ExactDoubling(Doubling):
    """Pass that declares itself exact, although it doubles a bias."""

    name = "test_exact_doubling"
    preserves = "exact"


@dataclass(frozen=True)
class Undeclared(archc.Pass):
    """Pass that does not declare `preserves`, and multiplies a bias by a factor."""

    name = "test_undeclared"

    factor: float = archc.attribute(2.0)

    def run(self, graph: archc.Graph, context: archc.Context) -> None:
        Doubling.run(self, graph, context)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Renaming(archc.Pass):
    """Pass that renames the output."""

    name = "test_renaming"

    def run(self, graph: archc.Graph, context: archc.Context) -> None:
        graph.outputs["z"] = graph.outputs.pop("y")


@dataclass(frozen=True)
class Cutting(archc.Pass):
    """Pass that removes the operands of a layer."""

    name = "test_cutting"

    def run(self, graph: archc.Graph, context: archc.Context) -> None:
        next(node for node in graph.nodes() if node.path == "fc2").operands = ()


@dataclass(frozen=True)
class Failing(archc.Pass):
    """Pass that raises an error."""

    name = "test_failing"

    def run(self, graph: archc.Graph, context: archc.Context) -> None:
        raise ZeroDivisionError("by 0")


@dataclass(frozen=True)
class Shifting(archc.Pass):
    """Pass that declares itself exact and changes the outputs by a relative error of `share`."""

    name = "test_shifting"
    preserves = "exact"

    share: float = archc.attribute(0.0)

    def run(self, graph: archc.Graph, context: archc.Context) -> None:
        for path in ("fc2.weight", "fc2.bias"):
            values = graph.weight_values(path).astype(np.float64) * (1 + self.share)
            context.rewriter.set_weight(path, values.astype(np.float32))


@dataclass(frozen=True)
class Rounding(Shifting):
    """Pass that declares rounding errors and changes the outputs by a relative error of `share`."""

    name = "test_rounding"
    preserves = "rounding"


@dataclass(frozen=True)
class Silent(archc.Pass):
    """Pass that adds no remark; with `negate`, it inserts two negations after the first layer."""

    name = "test_silent"

    negate: bool = archc.attribute(True)

    def run(self, graph: archc.Graph, context: archc.Context) -> None:
        if self.negate:
            (layer,) = (node for node in graph.nodes() if node.path == "fc1")
            users, negated = graph.consumers(layer.result), layer.result
            for _ in range(2):
                negated = context.rewriter.add(Neg(), (negated,), near=layer).result
            context.rewriter.replace_uses(layer.result, negated, users)


# Other tests list all registered passes and must not find these.
for made in (Doubling, ExactDoubling, Undeclared, Renaming, Cutting, Failing, Shifting, Rounding, Silent):
    del REGISTERED[made.name]


def message(passes: list[archc.Pass]) -> str:
    with pytest.raises(ArchcError) as failure:
        archc.compile(TEXT, passes=passes)
    (found,) = failure.value.diagnostics
    assert found.code == "pass-broke-graph"
    return found.message


def test_the_error_for_an_invalid_graph_names_the_pass() -> None:
    assert message([Doubling(), Cutting()]).startswith("the pass `test_cutting` left the graph invalid: fc2 ")


def test_a_pass_cannot_change_inputs_and_outputs() -> None:
    assert message([Renaming()]) == "the pass `test_renaming` changed the output `y` of the model"


def test_the_declared_error_is_checked() -> None:
    (report,) = archc.compile(TEXT, passes=[Doubling()]).passes
    assert report.error > 0.01
    assert message([ExactDoubling()]) == (
        "the pass `test_exact_doubling` promises to preserve the function exactly, "
        f"and changed the outputs by {report.error:.2%}"
    )


@pytest.mark.parametrize(("factor", "preserves"), [(2.0, "approximate"), (1.001, "rounding")])
def test_a_pass_that_promised_nothing_is_told_the_default(factor: float, preserves: str) -> None:
    with pytest.raises(ArchcError) as failure:
        archc.compile(TEXT, passes=[Undeclared(factor)])
    (found,) = failure.value.diagnostics
    assert found.message.startswith(f"the pass `{Undeclared(factor)}` changed the outputs by ")
    assert found.message.endswith('but a pass that declares no `preserves` has the default "exact"')
    assert found.help == f'if the change is intended, declare `preserves = "{preserves}"` in the class `Undeclared`'


@pytest.mark.parametrize(("step", "kept", "broken"), [(Shifting, 2e-6, 1e-4), (Rounding, 0.01, 0.2)])
def test_the_declared_error_has_a_tolerance(step: type[Shifting], kept: float, broken: float) -> None:
    """`exact` allows rounding errors of reordered sums; `rounding` allows errors of up to 5 %."""
    (report,) = archc.compile(TEXT, passes=[step(kept)]).passes
    assert report.error == pytest.approx(kept, rel=0.1)
    assert "promises to preserve the function" in message([step(broken)])


def test_a_bug_in_a_pass_says_which_pass_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArchcError, match="`run` of the pass `test_failing` failed: ZeroDivisionError: by 0"):
        archc.compile(TEXT, passes=[Doubling(), Failing()])
    monkeypatch.setattr(Failing, "__module__", "archc.passes.failing")  # a bug of archc itself
    with pytest.raises(ZeroDivisionError) as bug:
        archc.compile(TEXT, passes=[Doubling(), Failing()])
    assert bug.value.__notes__ == ["while the pass `test_failing` ran"]


def test_the_error_of_each_pass_and_of_all_before_it() -> None:
    reports = archc.compile(TEXT, passes=[Doubling(), Doubling(0.5)]).passes
    assert reports[0].total_error == reports[0].error > 0
    assert reports[1].error > 0 and reports[1].total_error == 0


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        ([3.0, 4.0], [3.0, 4.5], 0.1),
        ([0.0, 0.0], [0.0, 0.5], 0.5),
        ([1.0, 2.0], [1.0, float("nan")], float("inf")),
        ([1.0, 2.0], [1.0, float("inf")], float("inf")),
        ([1.0, float("inf")], [1.0, float("-inf")], float("inf")),
        ([4.0, float("nan")], [5.0, float("nan")], 0.25),
        ([4.0, float("inf")], [5.0, float("inf")], 0.25),
    ],
)
def test_errors_of_infinite_and_nan_outputs(before: list[float], after: list[float], error: float) -> None:
    assert largest_error({"y": torch.tensor(before)}, {"y": torch.tensor(after)}) == pytest.approx(error)


def test_an_infinite_error_is_refused() -> None:
    with pytest.raises(ArchcError, match=r"makes the weight `fc2\.bias` infinite or NaN") as refused:
        archc.compile(TEXT, passes=[Doubling(1e39)])
    assert refused.value.diagnostics[0].code == "pass-not-finite"
    text = TEXT.replace("fc2: linear(4)", "fc2: linear(4) -> square")
    with pytest.raises(ArchcError, match="makes outputs infinite or NaN") as refused:
        archc.compile(text, passes=[Doubling(1e36)])
    assert refused.value.diagnostics[0].code == "pass-not-finite"


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (Silent(), "changed the graph without a remark: 3 → 5 nodes"),
        (Shifting(1e-6), "changed the graph without a remark: 3 nodes before and after"),
        (Silent(negate=False), "nothing to do"),
    ],
)
def test_the_explanation_of_a_pass_without_remarks(step: archc.Pass, told: str) -> None:
    found = Diagnostics()
    reports = archc.compile(TEXT, passes=[step], diagnostics=found).passes
    assert explanation(reports).splitlines()[1:] == [f"  {told}"]
    assert [one.code for one in found.warnings] == (["pass-without-effect"] if told == "nothing to do" else [])


def test_the_error_of_a_large_output_is_that_of_all_its_parts() -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(2 * PART + 7, generator=generator)
    after = before + 0.1 * torch.rand(before.shape, generator=generator)
    exact = float((after.double() - before.double()).norm() / before.double().norm())
    assert largest_error({"y": before}, {"y": after}) == pytest.approx(exact, rel=1e-12)
    after[-1] = math.nan  # in the last part
    assert largest_error({"y": before}, {"y": after}) == math.inf
