"""Output metric: equal to the closed form for linear models, and predictive of measured errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import archc.compression.calibration.output_metric as module
from archc.compression.calibration.layer_statistics import layer_statistics
from archc.compression.calibration.output_metric import output_metric
from archc.compression.quantization.rounding_loss import RoundingEffect, RoundingLoss
from archc.interpreter.evaluate import evaluate
from archc.ir.rewriter import Rewriter
from archc.types.dims import symbol
from archc.types.storage import Int4, Int8, NarrowFloat
from archc.types.tensor_type import DType, TensorType
from tests.passes.graphs import Build, mlp


def test_a_linear_model_has_the_metric_of_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAWS", 400)
    build = Build()
    hidden = build.layer("linear", build.input(6), 5, name="a")
    graph = build.done(build.layer("linear", hidden, 3, name="b"))
    x = torch.randn(64, 6)
    output = evaluate(graph, {"x": x})["y0"]
    node = graph.layers()["a"]
    found = output_metric(graph, [node], [{"x": x[:40]}, {"x": x[40:]}])[node]
    weight = torch.from_numpy(graph.weight_values("b.weight").copy()).double()
    wanted = weight.T @ weight / 3 / output.square().mean()
    # The outputs are divided by their root mean square in each batch.
    assert torch.allclose(found.matrix, wanted, rtol=0.2, atol=0.05 * float(wanted.diagonal().max()))
    assert [len(rows) for rows in found.relevant] == [40, 24] and all(rows.all() for rows in found.relevant)


def test_rows_without_an_effect_are_not_relevant() -> None:
    build = Build()
    x = build.rewriter.input("x", TensorType(DType.f32, (symbol("N"), 3, 4)))
    y = build.layer("linear", x, 4, name="a")
    mask = build.layer("parameter", (3, 1), name="mask")
    graph = build.done(build.layer("sum", build.layer("mul", y, mask), 1))
    path = graph.layers()["mask"].weights["weight"]
    Rewriter(graph).set_weight(path, np.array([[1], [0], [2]], np.float32))
    node = graph.layers()["a"]
    found = output_metric(graph, [node], [{"x": torch.randn(5, 3, 4)}])[node]
    assert found.relevant[0].reshape(5, 3).tolist() == [[True, False, True]] * 5


@pytest.mark.parametrize("storage", [Int4(group=8), Int8(0), NarrowFloat(DType.bf16)], ids=str)
def test_the_loss_predicts_the_error_of_the_outputs(storage: Int4 | Int8 | NarrowFloat) -> None:
    """The predicted loss of rounding a layer is within a factor of 3 of the measured one."""
    graph = mlp(16, 32, 24, 8)
    batches = [{"x": torch.randn(64, 16)} for _ in range(4)]
    node = graph.layers()["fc1"]
    metrics = output_metric(graph, [node], batches)
    statistics = layer_statistics(graph, batches, metrics)[node]
    values = graph.weight_values("fc1.weight")
    loss = RoundingLoss(torch.from_numpy(values.copy()), statistics, metrics[node].matrix)
    loss.__dict__["_gain"] = RoundingEffect(1.0, 1.0)  # rounding to nearest, without GPTQ
    before = [evaluate(graph, batch)["y0"] for batch in batches]
    bias = graph.weight_values("fc1.bias")
    Rewriter(graph).set_storage("fc1.weight", storage)
    error = graph.weight_values("fc1.weight") - values
    Rewriter(graph).set_weight("fc1.bias", bias - error @ np.mean([b["x"].mean(0).numpy() for b in batches], 0))
    after = [evaluate(graph, batch)["y0"] for batch in batches]
    pairs = zip(before, after)
    measured = float(np.mean([((a - b).square().mean() / a.square().mean()) for a, b in pairs]))
    assert measured / 3 < loss.of(storage) < measured * 3
