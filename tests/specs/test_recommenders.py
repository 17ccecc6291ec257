"""Recommender specs, compared with the formulas of their papers in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import archc
from archc.codegen import onnx
from archc.codegen.torch.load import load_module
from archc.types.storage import Int8
from tests.specs import recommending
from tests.specs.recommending import DeepFM, pair_products
from tests.specs.recurrent import Weight, in_double
from tests.specs.siblings import SPECS, sibling
from tests.specs.twins import assert_close

NAMES = ("wide_deep", "deepfm", "two_tower")


@dataclass(frozen=True)
class Built:
    """Emitted programs of a text, and their weights."""

    module: nn.Module
    onnx_file: Path
    weights: Mapping[str, Tensor]

    @property
    def weight(self) -> Weight:
        return in_double(self.weights)

    def follows(self, expected: Mapping[str, np.ndarray], inputs: Mapping[str, Tensor]) -> None:
        """Check that the outputs in PyTorch and in ONNX Runtime are as expected."""
        with torch.no_grad():
            results = self.module(*inputs.values())
        found = dict(zip(expected, (results,) if isinstance(results, Tensor) else results, strict=True))
        arrays = onnx.run(self.onnx_file, {name: tensor.numpy() for name, tensor in inputs.items()})
        for name, wanted in expected.items():
            assert_close(name, found[name].double(), torch.from_numpy(wanted))
            assert_close(name, torch.from_numpy(arrays[name]).double(), torch.from_numpy(wanted))
            assert len(wanted) == 1 or wanted.std(0).max() > 0.05 * np.abs(wanted).max(), "it depends on the inputs"


def build(source: Path | str, values: Mapping[str, Any], folder: Path) -> Built:
    """Compile a text with seeded weights that are large enough that each weight changes the outputs."""
    graph = archc.parse(source, values=values)
    weights = {
        path: noise(*weight.shape, seed=number) / weight.shape[-1] ** 0.5
        for number, (path, weight) in enumerate(graph.weights.items())
    }
    save_file(weights, folder / "weights.safetensors")
    compiled = archc.compile(source, values=values, weights=folder / "weights.safetensors")
    compiled.write(folder, emit=("torch", "onnx"))
    module = load_module(folder / f"{compiled.name}.py").load()
    return Built(module, folder / f"{compiled.name}.onnx", weights)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ids(*shape: int, below: int, seed: int = 0) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))


def small(spec: str) -> dict[str, Any]:
    return dict(sibling(SPECS / f"{spec}.arch"))


# Wide & Deep and DeepFM ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["wide_deep", "deepfm"])
def test_a_logit_follows_the_formulas(spec: str, tmp_path: Path) -> None:
    values = small(spec)
    both = build(SPECS / f"{spec}.arch", values, tmp_path)
    for batch in (6, 1, 17):
        inputs = {
            "ids": ids(batch, values["fields"], below=values["vocab"], seed=batch),
            "x": noise(batch, values["numbers"], seed=batch),
        }
        formula = getattr(recommending, spec)
        samples = zip(inputs["ids"].numpy(), inputs["x"].double().numpy(), strict=True)
        both.follows({"logit": np.stack([formula(both.weight, values, *sample) for sample in samples])}, inputs)


def test_training_deepfm_has_the_gradients_of_torch(tmp_path: Path) -> None:
    values = {**small("deepfm"), "dropout": 0.0}
    both = build(SPECS / "deepfm.arch", values, tmp_path)
    values.pop("dropout")
    reference = DeepFM(**values)
    reference.load(both.weights)
    clicks = (ids(40, 5, below=11), noise(40, 3)), ids(40, 1, below=2, seed=9).float()
    for model in (reference, both.module):
        nn.functional.binary_cross_entropy_with_logits(model.train()(*clicks[0]), clicks[1]).backward()
    expected = reference.gradients()
    own = dict(both.module.named_parameters())
    assert own.keys() == expected.keys()
    for path, parameter in own.items():
        assert parameter.grad is not None and expected[path].abs().max() > 0
        assert_close(path, parameter.grad, expected[path])


# Two towers ---------------------------------------------------------------------------------------------------


def users_and_items(users: int, length: int, items: int) -> dict[str, Tensor]:
    mask = torch.arange(length) < length - torch.arange(users)[:, None]  # the last users have no items
    return {
        "watched": ids(users, length, below=40, seed=users),
        "mask": mask,
        "user": ids(users, 3, below=11, seed=1),
        "item": ids(items, below=40, seed=2),
        "traits": ids(items, 2, below=11, seed=3),
    }


@pytest.mark.parametrize(("users", "length", "items"), [(6, 4, 6), (2, 9, 5), (1, 1, 1)])
def test_two_towers_follow_the_formulas(users: int, length: int, items: int, tmp_path: Path) -> None:
    values = small("two_tower")
    both = build(SPECS / "two_tower.arch", values, tmp_path)
    inputs = users_and_items(users, length, items)
    expected = recommending.two_tower(both.weight, values, *(tensor.numpy() for tensor in inputs.values()))
    both.follows(dict(zip(("user_vector", "item_vector", "scores"), expected, strict=True)), inputs)


def test_training_two_towers_has_the_gradients_of_the_formulas(tmp_path: Path) -> None:
    """Gradients of the loss with in-batch negatives agree with differences of the formulas."""
    values = small("two_tower")
    both = build(SPECS / "two_tower.arch", values, tmp_path)
    inputs = users_and_items(8, 9, 8)
    before = recommending.batch_softmax(both.module(*inputs.values())[2])
    before.backward()
    for path, parameter in both.module.named_parameters():
        slope = difference(both, inputs, path)
        assert parameter.grad is not None
        flat = parameter.grad.flatten().double()
        assert abs(float(flat[flat.abs().argmax()]) - slope) <= 1e-3 * abs(slope), path


def difference(both: Built, inputs: Mapping[str, Tensor], path: str, step: float = 1e-5) -> float:
    """Compute the derivative of the loss by one element of a weight, from the formulas.

    The element is the one with the largest gradient in the emitted module.
    """
    grad = dict(both.module.named_parameters())[path].grad
    assert grad is not None
    place = int(grad.abs().argmax())
    losses = []
    for sign in (1, -1):
        moved = {name: tensor.double() for name, tensor in both.weights.items()}
        moved[path] = moved[path].clone()
        moved[path].view(-1)[place] += sign * step
        arrays = (tensor.numpy() for tensor in inputs.values())
        scores = recommending.two_tower(in_double(moved), small("two_tower"), *arrays)[2]
        losses.append(float(recommending.batch_softmax(torch.from_numpy(scores))))
    return (losses[0] - losses[1]) / (2 * step)


# Factorization machines ---------------------------------------------------------------------------------------


def test_pairs_are_all_pairs(tmp_path: Path) -> None:
    text = """
        import "std/factorization.arch" as fm
        model m { input v: f32[N, 7, 5]  output y: f32[N, 1] = v -> fm.Pairs }
    """
    both = build(text, {}, tmp_path)
    for batch in (4, 1):
        v = noise(batch, 7, 5, seed=batch)
        expected = np.array([[pair_products(list(one))] for one in v.double().numpy()])
        both.follows({"y": expected}, {"v": v})


def test_a_factorization_machine_sums_over_all_pairs(tmp_path: Path) -> None:
    text = """
        import "std/factorization.arch" as fm
        model m { input x: f32[N, 9]  output y: f32[N, 1] = x -> fm: fm.FactorizationMachine(4) }
    """
    both = build(text, {}, tmp_path)
    w, w0 = both.weight("fm.first.weight")[0], both.weight("fm.first.bias")
    v = both.weight("fm.second.directions.weight")
    for batch in (5, 12):
        x = noise(batch, 9, seed=batch) * (noise(batch, 9, seed=50) > 0)
        expected = [
            w0 + w @ one + sum(v[i] @ v[j] * one[i] * one[j] for i in range(9) for j in range(i + 1, 9))
            for one in x.double().numpy()
        ]
        both.follows({"y": np.stack(expected)}, {"x": x})


# Passes -------------------------------------------------------------------------------------------------------

PASSES = ("lowrank, quant", "prune(0.5, scheme = 'channel')", "prune(0.5)", "simplify, fold", "quant, partition(2)")


@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize("spec", NAMES)
def test_passes_leave_a_model_that_runs_and_prints(spec: str, passes: str, tmp_path: Path) -> None:
    compiled = archc.compile(SPECS / f"{spec}.arch", passes=passes, values=small(spec))
    report = compiled.write(tmp_path, check=True)
    assert {"torch", "onnxruntime"} <= report["check"]["errors"].keys()
    assert archc.parse(archc.print_graph(compiled.graph)) == compiled.graph


def test_quant_stores_the_tables_as_integers() -> None:
    compiled = archc.compile(SPECS / "deepfm.arch", passes="quant")
    (report,) = compiled.passes
    tables = [weight.storage for path, weight in compiled.graph.weights.items() if "table" in path]
    assert tables == [Int8(axis=0), Int8(axis=0)] and report.after.bytes < 0.5 * report.before.bytes
