"""Sensitivity of layers, compared with direct computations on the data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from archc.analysis.layers import layers_with_weights
from archc.compression.calibration.layer_statistics import layer_statistics
from archc.compression.calibration.output_metric import output_metric
from archc.compression.quantization.layer_sensitivity import LayerSensitivity, layer_sensitivities, worst_first
from archc.compression.quantization.rounding_loss import RoundingLoss, torch_from
from archc.compression.quantization.weight_formats import Format, storage_of
from archc.interpreter.evaluate import evaluate_all
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.passes._narrow_weights import store_weights
from archc.passes.quant import Quant
from archc.passmanager import Context
from archc.passmanager.calibration import Calibration
from archc.passmanager.run import run_passes
from archc.types.storage import Integers
from archc.types.tensor_type import DType
from tests.passes.graphs import Build, mlp
from tests.passes.test_narrow_weights import correlated, data, network

FORMATS: Sequence[Format] = ("int8", "int4", "int2", "f16")


def batches_for(graph: Graph, columns: int, samples: int = 256) -> list[dict[str, torch.Tensor]]:
    (value,) = graph.inputs
    return list(Calibration(graph, {value.name or "": correlated(samples, columns)}).batches())


def sensitivities(graph: Graph, columns: int, measure: int = 0) -> dict[str, LayerSensitivity]:
    found = layer_sensitivities(graph, batches_for(graph, columns), FORMATS, measure=measure)
    return {each.layer: each for each in found}


def values_after(graph: Graph, path: str, name: Format) -> np.ndarray:
    """Values of a weight that is rounded to nearest."""
    values = graph.weight_values(path)
    storage = storage_of(name, values, 0)
    return storage.decode(path, storage.encode(path, values), values.shape, DType.f32)


def outputs(graph: Graph, batches: Sequence[dict[str, torch.Tensor]]) -> torch.Tensor:
    (value,) = graph.outputs.values()
    return torch.cat([tensor for batch in batches for own, tensor in evaluate_all(graph, batch) if own is value])


def test_the_signal_to_noise_ratio_is_that_of_the_results_about_their_mean() -> None:
    graph = mlp(48, 64, 8)
    layer = next(iter(graph.layers()))
    x = correlated(256, 48)
    x = x - x.mean(0)
    weight = graph.weight_values(f"{layer}.weight")
    error = values_after(graph, f"{layer}.weight", "f16") - weight
    expected = 10 * math.log10(np.square(x @ weight.T).mean() / np.square(x @ error.T).mean())
    found = sensitivities(graph, 48)[layer].formats
    assert found["f16"].signal_to_noise == pytest.approx(expected, abs=0.1)
    ratios = [found[name].signal_to_noise or 0 for name in ("int2", "int4", "int8", "f16")]
    assert ratios == sorted(ratios) and ratios[0] < 30


def test_predictions_agree_with_measurements() -> None:
    graph = mlp(48, 64, 8)
    for each in sensitivities(graph, 48, measure=2).values():
        for name, effect in each.formats.items():
            assert effect.loss is not None and effect.measured is not None
            assert 0.4 < effect.measured / effect.loss < 2.5, (each.layer, name)


def test_predictions_of_int8_are_those_of_the_pass() -> None:
    """Errors of `quant(int8)`, which rounds embeddings to nearest and chooses other weights by GPTQ."""
    calibration = Calibration(network(), data(256))
    batches = list(calibration.batches())
    before = outputs(network(), batches).double()
    found = layer_sensitivities(network(), batches, ["int8"])
    for each in found:
        graph = network()
        list(run_passes(graph, [Quant("int8", scheme="weight", on=each.layer)], calibration))
        error = float((outputs(graph, batches) - before).square().mean() / before.square().mean())
        loss = each.formats["int8"].loss
        # The pass shrinks second moments, so it fits less to the calibration data than the prediction.
        assert loss is not None and 0.5 < error / loss < 1.6, each.layer
        assert graph.weights[f"{each.layer}.weight"].nbytes == each.formats["int8"].bytes
    assert len(found) == 6


@pytest.mark.parametrize("by_data", [True, False])
def test_predictions_are_those_of_weights_under_a_budget(by_data: bool) -> None:
    calibration = Calibration(network(), data(256))
    batches = list(calibration.batches())
    before = outputs(network(), batches).double()
    for path in ("fc", "wte"):
        graph = network()
        (layer,) = (layer for layer in layers_with_weights(graph) if layer.path == path)
        metrics = output_metric(graph, [layer.node], batches)
        (statistics,) = layer_statistics(graph, batches, metrics).values()
        weight = graph.weight_values(f"{path}.weight")
        to_nearest = () if by_data else (Integers,)
        loss = RoundingLoss(torch_from(weight), statistics, metrics[layer.node].matrix, to_nearest)
        for name in ("int8", "int4"):
            graph, storage = network(), storage_of(name, weight, 0)  # type: ignore[arg-type]
            (layer,) = (layer for layer in layers_with_weights(graph) if layer.path == path)
            context = Context(Rewriter(graph, by="quant"), calibration)
            store_weights(graph, context, {layer: {"weight": storage}}, by_data)
            error = float((outputs(graph, batches) - before).square().mean() / before.square().mean())
            assert 0.5 < error / loss.of(storage) < 2, (path, name)


def test_the_measured_loss_is_that_of_the_stored_layer() -> None:
    """A shared weight has no prediction, and is rounded to nearest in all its layers."""
    build = Build()
    shared = build.layer("linear", build.input(48), 48, name="shared")
    weights = {name: f"shared.{name}" for name in ("weight", "bias")}
    graph = build.done(build.layer("linear", shared, 48, name="again", weights=weights))
    batches = batches_for(graph, 48, samples=32)
    first, second = layer_sensitivities(graph, batches, FORMATS, measure=1)
    assert first.reason == "it shares its weight with `again`"
    assert (second.reason, second.bytes, second.formats) == ("its weight is counted for `shared`", 0, {})
    before = outputs(graph, batches).double()
    build.rewriter.set_weight("shared.weight", values_after(graph, "shared.weight", "int4"))
    error = (outputs(graph, batches) - before).square().mean() / before.square().mean()
    assert error > 1e-5
    assert first.formats["int4"].measured == pytest.approx(float(error), rel=1e-4)
    assert first.formats["int4"].loss is None


def test_the_graph_is_not_changed() -> None:
    graph = mlp(48, 64, 8)
    stored = {name: id(tensor) for name, tensor in (graph.tensors or {}).items()}
    sensitivities(graph, 48, measure=2)
    assert {name: id(tensor) for name, tensor in (graph.tensors or {}).items()} == stored


def test_the_worst_layers_are_measured() -> None:
    graph = mlp(48, 64, 8)
    found = sensitivities(graph, 48, measure=1)
    worst, *others = worst_first(list(found.values()), "int8")
    assert worst.formats["int8"].measured is not None
    assert [each.formats["int8"].measured for each in others] == [None] * len(others)
