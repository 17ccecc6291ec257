"""`quant` on weights without an integer kernel, such as those of recurrent layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import archc
from archc.codegen.onnx import run
from archc.codegen.torch.load import load_module
from archc.driver.compiled import Compiled
from archc.types.storage import Dense, Int8
from tests.passes.graphs import remarks

RECURRENT = "model m {{ input x: f32[N, T, 6]  output y = x -> r: {layer} }}"
TABLE = "model m {{ input x: f32[N, {rows}]  layer w = parameter(({rows}, {columns}))  output y = (x, w()) -> matmul }}"
MODULES = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def in_127_steps(rows: torch.Tensor) -> torch.Tensor:
    """Round each row to multiples of 1/127 of its largest magnitude."""
    step = rows.abs().amax(1, keepdim=True) / 127
    return (rows / step).round() * step


def written(compiled: Compiled, folder: Path, x: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
    """Write the programs and return their outputs, from PyTorch and from ONNX Runtime."""
    compiled.write(folder, emit=("torch", "onnx"))
    with torch.no_grad():
        found = load_module(folder / f"{compiled.name}.py").load()(x)
    return found, run(folder / f"{compiled.name}.onnx", {"x": x.numpy()})["y"]


@pytest.mark.parametrize("scheme", ["static", "dynamic", "weight"])
@pytest.mark.parametrize("kind", MODULES)
def test_all_weights_of_a_recurrent_layer_become_integers(kind: str, scheme: str, tmp_path: Path) -> None:
    text = RECURRENT.format(layer=f"{kind}(5, 2, bidirectional = true)")
    compiled = archc.compile(text, passes=f'quant(scheme = "{scheme}")')
    graph, (report,) = compiled.graph, compiled.passes
    matrices = [path for path in graph.weights if path.startswith("r.weight")]
    assert len(matrices) == 8 and all(graph.weights[path].storage == Int8(axis=0) for path in matrices)
    assert report.after.bytes < report.before.bytes / 2
    assert remarks(report, "rewrote")["r"].startswith("weight: ")
    assert "8 weights" in remarks(report, "rewrote")["r"] and 0 < report.error < 0.02
    assert archc.parse(archc.print_graph(graph)) == graph

    expected = MODULES[kind](6, 5, 2, bidirectional=True, batch_first=True)
    plain = archc.compile(text).graph
    with torch.no_grad():
        for name, parameter in expected.named_parameters():
            values = torch.from_numpy(plain.weight_values(f"r.{name}"))
            parameter.copy_(in_127_steps(values) if "weight" in name else values)
        x = torch.randn((3, 7, 6), generator=torch.Generator().manual_seed(0))
        wanted = expected(x)[0]
    for found in written(compiled, tmp_path, x):
        torch.testing.assert_close(torch.as_tensor(found), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("rows", "columns", "axis"), [(64, 96, 1), (96, 64, 0), (2, 3, None)])
def test_a_parameter_has_scales_along_the_axis_with_the_least_error(
    rows: int, columns: int, axis: int | None, tmp_path: Path
) -> None:
    text = TABLE.format(rows=rows, columns=columns)
    spread = np.geomspace(1e-3, 1, (rows, columns)[axis or 0], dtype=np.float32)
    values = np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)
    values *= spread if axis == 1 else spread[:, None]
    compiled = archc.compile(text, passes="quant", weights=_file(tmp_path / "w.npz", {"w.weight": values}))
    (report,) = compiled.passes
    assert compiled.graph.weights["w.weight"].storage == Int8(axis=axis)
    x = torch.randn((3, rows), generator=torch.Generator().manual_seed(0))
    rounded = torch.from_numpy(values)
    rounded = in_127_steps(rounded.T).T if axis == 1 else in_127_steps(rounded if axis == 0 else rounded.reshape(1, -1))
    for found in written(compiled, tmp_path / "out", x):
        torch.testing.assert_close(torch.as_tensor(found), x @ rounded.reshape(rows, columns), atol=1e-4, rtol=1e-4)
    error = float((rounded.reshape(rows, columns) - torch.from_numpy(values)).norm() / np.linalg.norm(values))
    assert f"{error:.2%} error in the weight" in remarks(report, "rewrote")["w"]


def _file(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_a_vector_stays_with_a_remark() -> None:
    compiled = archc.compile(
        "model m { input x: f32[N, 8]  layer scale = parameter((8,))  output y = x * scale() -> n: rms_norm }",
        passes="quant",
    )
    (report,) = compiled.passes
    left = remarks(report, "left")
    assert "is a vector" in left["scale"] and left["n"] == "`rms_norm` has no integer form"
    assert all(weight.storage == Dense() for weight in compiled.graph.weights.values())


def test_one_weight_that_is_stored_as_integers_does_not_keep_the_others() -> None:
    text = RECURRENT.format(layer="lstm(5, weight_ih_l0 = int8(axis = 0))")
    compiled = archc.compile(text, passes="quant")
    (report,) = compiled.passes
    assert compiled.graph.weights["r.weight_hh_l0"].storage == Int8(axis=0)
    notes = [remark.message for remark in report.remarks if remark.kind == "note"]
    assert "its `weight_ih_l0` is stored as int8(axis = 0) already" in notes


def test_dynamic_stores_the_weights_of_convolutions(tmp_path: Path) -> None:
    text = """
    model m {
        input x: f32[N, 8, 12, 12]
        output y = x -> a: conv2d(16, 3) -> relu -> b: conv_transpose2d(4, 2) -> flatten -> c: linear(10)
    }
    """
    compiled = archc.compile(text, passes='quant(scheme = "dynamic")')
    (report,) = compiled.passes
    storages = {path: weight.storage for path, weight in compiled.graph.weights.items() if path.endswith("weight")}
    assert storages == {"a.weight": Int8(axis=0), "b.weight": Int8(axis=1), "c.weight": Int8(axis=0)}
    assert remarks(report, "note")["a"] == "`conv2d` has no integer kernels in the scheme `dynamic`"
    x = torch.randn((3, 8, 12, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = archc.compile(text)
        wanted, _ = written(plain, tmp_path / "plain", x)
    for found in written(compiled, tmp_path / "int8", x):
        assert (torch.as_tensor(found) - wanted).norm() / wanted.norm() < 0.03


@pytest.mark.parametrize("use", ["q -> mean(0)", "(x, q) -> matmul"])
def test_scales_of_a_weight_that_a_parameter_shares_are_along_the_axis_of_the_kernel(use: str, tmp_path: Path) -> None:
    compiled = archc.compile(
        f"""
        model m {{
            input x: f32[N, 8]
            layer p = parameter((8, 8))
            q = p()
            output y = x + ({use}) -> f: linear(8, weight = p.weight)
        }}
        """,
        passes="quant(least = 0)",
    )
    assert compiled.graph.weights["p.weight"].storage == Int8(0)
    compiled.write(tmp_path, check=True)
