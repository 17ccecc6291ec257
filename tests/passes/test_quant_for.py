"""`quant` for targets: int8 is used where it is faster in the emitted targets, or in those of `for`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from archc.codegen.target import Target
from archc.diagnostics import ArchcError
from archc.driver.latency import facts_on
from archc.driver.pipelines import parse_passes
from archc.passes.quant import Quant
from archc.passmanager.calibration import Calibration
from archc.passmanager.run import run_passes
from archc.targets.arch import ARCH
from archc.targets.onnx import ONNX
from archc.targets.registry import BUILT_IN
from archc.targets.torch import TORCH
from tests.passes.graphs import mlp, remarks


@pytest.mark.parametrize(("emitted", "option", "found"), [
    (BUILT_IN, None, "weight"),
    ([ONNX], None, "static"),
    ([ARCH], None, "weight"),
    ([ONNX], "torch", "weight"),
    ([TORCH], "onnx", "static"),
    ([ONNX], ("onnx", "torch"), "weight"),
])  # fmt: skip
def test_int8_pays_in_all_targets_of_the_compilation_or_of_for(
    emitted: Sequence[Target], option: str | tuple[str, ...] | None, found: str
) -> None:
    graph = mlp(400, 400, 400)
    calibration = Calibration(graph)
    (report,) = run_passes(graph, [Quant(for_=option)], calibration, targets=facts_on(calibration, emitted))
    assert remarks(report, "rewrote")["fc1"].startswith(found)
    assert all(remark.startswith(found) for remark in remarks(report, "rewrote").values())


def test_for_is_an_option_although_it_is_a_keyword() -> None:
    (step,) = parse_passes('quant(for = ("onnx", "torch"))')
    assert step == Quant(for_=("onnx", "torch")) and str(step) == 'quant(for = ("onnx", "torch"))'
    assert parse_passes('quant(for = "onnx", keep = "head")') == [Quant(for_="onnx", keep="head")]


@pytest.mark.parametrize("name", ["onx", "arch"])
def test_for_takes_targets_with_integer_kernels(name: str) -> None:
    graph = mlp(8, 8, 8)
    facts = facts_on(Calibration(graph), BUILT_IN)
    with pytest.raises(ArchcError, match=f'`for` names the target "{name}"') as failure:
        list(run_passes(graph, [Quant(for_=name)], Calibration(graph), targets=facts))
    assert failure.value.diagnostics[0].help == ("did you mean `onnx`?" if name == "onx" else 'give "torch" or "onnx"')


def test_for_names_at_least_one_target() -> None:
    graph = mlp(8, 8, 8)
    facts = facts_on(Calibration(graph), BUILT_IN)
    with pytest.raises(ArchcError, match="`for` names no target"):
        list(run_passes(graph, [Quant(for_=())], Calibration(graph), targets=facts))
