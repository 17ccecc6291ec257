"""Depth pruning: one fitted layer in place of residual blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archc
from archc.analysis.cost import cost
from archc.compression.pruning import ridge_map
from archc.interpreter.evaluate import evaluate, evaluate_all
from archc.ir.graph import Graph
from archc.passes import _depth_candidates
from archc.passes.prune import Prune
from archc.passmanager import make_pass
from archc.passmanager.calibration import Calibration
from archc.passmanager.run import run_passes
from archc.types.attributes import AttributeProblem
from archc.weights.tensor import ArrayTensor
from tests.passes.graphs import remarks, run

TEXT = """
model net {
    input x: f32[N, T <= 16, 3]
    input image: f32[N, 2, 8, 8]
    s = x -> stem: linear(8)
    for i in 0..4 { s = s -> blocks[i]: Block(24) }
    y = image -> conv: conv2d(6, 3, padding = 1)
    for i in 0..2 { y = y -> stages[i]: Stage }
    output a = s -> head: linear(4)
    output b = y -> mean((2, 3)) -> last: linear(4)
}

block Block(hidden) {
    input x: f32[B, T, D]
    output x + (x -> up: linear(hidden) -> relu -> down: linear(8)) -> norm: layer_norm
}

block Stage {
    input x: f32[N, C, H, W]
    output x + (x -> conv1: conv2d(6, 3, padding = 1) -> relu -> conv2: conv2d(6, 3, padding = 1)) -> relu
}
"""
GENERATOR = np.random.default_rng(0)
Arrays = dict[str, np.ndarray]
SIZES = {"T": 5}


def samples(count: int = 48) -> Arrays:
    return {
        "x": GENERATOR.standard_normal((count, 5, 3)).astype(np.float32),
        "image": GENERATOR.standard_normal((count, 2, 8, 8)).astype(np.float32),
    }


def compiled(passes: str = "", data: Arrays | None = None) -> Any:
    return archc.compile(TEXT, passes=passes, calib=data)


def output(graph: Graph, inputs: Arrays) -> dict[str, torch.Tensor]:
    return evaluate(graph, {name: torch.from_numpy(array) for name, array in inputs.items()})


def layers(graph: Graph) -> list[str]:
    return [path for path in graph.layers() if path not in ("stem", "conv", "head", "last")]


@pytest.mark.parametrize("budget", ["0.5", "macs = 0.8", "params = 1700", "bytes = 0.8"])
def test_a_budget_is_kept_and_the_programs_agree(budget: str, tmp_path: Path) -> None:
    before = cost(compiled().graph, SIZES)
    found = archc.compile(TEXT, passes=f'prune({budget}, scheme = "depth")', calib=samples(), emit="onnx")
    check = found.write(tmp_path, emit="torch,onnx,arch", check=True)["check"]
    assert max(check["errors"].values()) < 1e-5
    after = cost(found.graph, SIZES)
    if budget.startswith("params"):
        assert after.parameters <= 1700
    elif budget.startswith("bytes"):
        compiled().write(tmp_path / "before", emit="onnx", check=False)
        size, original = ((folder / "net.onnx").stat().st_size for folder in (tmp_path, tmp_path / "before"))
        assert 0.6 * original < size <= 0.8 * original
    else:
        share = 0.8 if "0.8" in budget else 0.5
        assert after.multiply_adds <= share * before.multiply_adds
    again = archc.compile(tmp_path / "net.arch", weights=tmp_path / "net.safetensors")
    assert again.graph == found.graph
    assert {*found.graph.weights} == {*found.graph.stored_tensors()}
    kept = [path for path in layers(found.graph) if "shortcut" not in path]
    assert {*kept} < {*layers(compiled().graph)}  # under the same paths


def test_the_text_has_the_new_layers(tmp_path: Path) -> None:
    compiled('prune(macs = 0.8, scheme = "depth", on = "stages.*")', samples()).write(tmp_path, emit="arch")
    text = (tmp_path / "net.arch").read_text()
    assert "x -> shortcut: conv2d(6, 1) -> relu" in text
    assert "for i in 0..4 { s = s -> blocks[i]: Block }" in text


def residual(shift: float) -> Graph:
    """Return a chain of two blocks.

    Args:
        shift: bias of the hidden units of the first block; where it is large, the block is affine.
    """
    found: Graph = archc.compile(
        """
        model net {
            input x: f32[N, 4]
            a = x + (x -> up: linear(8) -> relu -> down: linear(4))
            output y = a + (a -> up2: linear(8) -> relu -> down2: linear(4))
        }
        """
    ).graph
    assert found.tensors is not None
    for path in ("up.weight", "down.weight"):
        found.tensors.set(path, ArrayTensor(2 * found.weight_values(path)))
    found.tensors.set("up.bias", ArrayTensor(np.full(8, shift, np.float32)))
    return found


def test_an_affine_block_is_replaced_without_loss() -> None:
    graph = residual(10.0)
    x = GENERATOR.standard_normal((200, 4)).astype(np.float32)
    expected = output(graph, {"x": x})["y"]
    (report,) = run(graph, Prune(macs=0.7, scheme="depth"), data={"x": x})
    assert layers(graph) == ["shortcut", "up2", "down2"]
    assert torch.allclose(output(graph, {"x": x})["y"], expected, atol=1e-3)
    assert {*remarks(report, "rewrote")} == {"up", "down"}
    (note,) = [remark for remark in report.remarks if "predicted_error" in remark.figures]
    assert note.figures["predicted_error"] < 1e-8
    assert remarks(report, "left") == dict.fromkeys(("up2", "down2"), "within the budget, its block can stay")


def test_later_layers_are_fitted_to_the_entries_that_they_get(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second map compensates the error of the first: least squares give the same one."""
    graph, original = (residual(0.0) for _ in range(2))
    x = GENERATOR.standard_normal((400, 4)).astype(np.float32)
    monkeypatch.setattr(ridge_map, "RIDGES", (1e-8,))
    monkeypatch.setattr(_depth_candidates, "MOST_REGIONS", 2)  # one layer cannot replace both blocks
    run(graph, Prune(macs=0.4, scheme="depth"), data={"x": x})
    assert layers(graph) == ["shortcut", "shortcut2"]
    before = evaluate_value(original, "a", x)
    after = x @ graph.weight_values("shortcut.weight").T + graph.weight_values("shortcut.bias")
    target = output(original, {"x": x})["y"].double().numpy()
    found = graph.weight_values("shortcut2.weight")
    assert np.abs(found - least_squares(after, target)).max() < 0.02
    assert np.abs(found - least_squares(before, target)).max() > 0.1


def evaluate_value(graph: Graph, name: str, x: np.ndarray) -> np.ndarray:
    """Return a value of the graph by its name."""
    return next(t.numpy() for value, t in evaluate_all(graph, {"x": torch.from_numpy(x)}) if value.name == name)


def least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the weight of the affine map from x to y."""
    solution, *_ = np.linalg.lstsq(np.hstack([x, np.ones((len(x), 1))]).astype(np.float64), y)
    weight: np.ndarray = solution[:-1].T
    return weight


def test_blocks_that_do_nothing_are_removed() -> None:
    """Without an effect of the branch, the identity loses nothing, and costs less than a layer."""
    original = compiled()
    for number in range(4):
        for name in ("weight", "bias"):
            path = f"blocks.{number}.down.{name}"
            shape = original.graph.weights[path].shape
            original.graph.tensors.set(path, ArrayTensor(np.zeros(shape, np.float32)))
    data = samples()
    expected = output(original.graph, data)["a"]
    (report,) = run(original.graph, Prune(params=0.5, scheme="depth", on="blocks.*"), data=data)
    assert not [path for path in layers(original.graph) if path.endswith(("up", "down", "shortcut"))]
    assert torch.allclose(output(original.graph, data)["a"], expected, atol=1e-5)
    assert "nothing" in remarks(report, "rewrote")["blocks.0.up"]


def test_selected_layers_only() -> None:
    found = compiled('prune(macs = 0.8, scheme = "depth", keep = "stages.1.*")', samples())
    assert [path for path in layers(found.graph) if "stages.1" in path] == ["stages.1.conv1", "stages.1.conv2"]
    assert remarks(found.passes[0], "left")["stages.1.conv1"] == "not selected"


def test_a_graph_without_blocks_has_a_warning() -> None:
    found = archc.compile(
        "model net { input x: f32[N, 4]  output x -> fc1: linear(8) -> relu -> fc2: linear(3) }",
        passes='prune(macs = 0.5, scheme = "depth")',
        calib={"x": GENERATOR.standard_normal((20, 4)).astype(np.float32)},
    )
    assert [warning.code for warning in found.diagnostics.found] == ["pass-without-effect"]
    assert "in no block" in remarks(found.passes[0], "left")["fc1"]


def test_a_model_within_the_budget_stays() -> None:
    found = compiled('prune(macs = 1.0, scheme = "depth")', samples())
    assert found.graph == compiled().graph


def test_a_budget_that_is_too_small_is_refused() -> None:
    with pytest.raises(archc.ArchcError) as caught:
        compiled('prune(macs = 10, scheme = "depth")', samples())
    (problem,) = caught.value.diagnostics
    assert problem.code == "budget-too-small"
    least = int(problem.help.split("= ")[1].split("`")[0])
    found = compiled(f'prune(macs = {least}, scheme = "depth")', samples())
    assert cost(found.graph, SIZES).multiply_adds == least


def test_trained_weights_need_data() -> None:
    graph = residual(0.0)
    with pytest.raises(archc.ArchcError, match="needs-calibration"):
        list(run_passes(graph, [Prune(0.5, scheme="depth")], Calibration(graph, trained=True)))
    list(run_passes(graph, [Prune(0.5, scheme="depth")], Calibration(graph, trained=False)))
    assert "shortcut" in graph.layers()


@pytest.mark.parametrize("options", [{"method": "magnitude"}, {"pattern": "2:4"}, {"method": "wanda"}])
def test_options_of_other_schemes_are_refused(options: dict[str, Any]) -> None:
    arguments = [] if "pattern" in options else [0.5]
    with pytest.raises(AttributeProblem, match='scheme = "depth"'):
        make_pass("prune", arguments, {"scheme": "depth", **options})
