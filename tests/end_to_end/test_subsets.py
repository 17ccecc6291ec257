"""Subsets of the passes in all allowed orders: programs and stages agree with the graph."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

import archc
from archc.codegen import onnx
from archc.codegen.torch.load import load_module
from archc.diagnostics import ArchcError
from archc.driver.pipelines import parse_passes
from archc.interpreter.evaluate import evaluate
from archc.passmanager.comparison import largest_error
from archc.passmanager.order import misplaced
from benchmarks import digits as job

PASSES = ("lowrank", 'prune(0.5, scheme = "channel")', "prune(0.5)", "quant(least = 0)", "partition(stages = 2)")
ORDERS = [order for count in range(1, len(PASSES) + 1) for order in permutations(PASSES, count)]
LATEST = "quant(least = 0)", "partition(stages = 2)"


def is_allowed(order: tuple[str, ...]) -> bool:
    """Return whether an order is allowed: `quant` after all passes except `partition`, which is last."""
    late = [one for one in order if one in LATEST]
    return late == sorted(late, key=LATEST.index) and order[len(order) - len(late) :] == tuple(late)


def programs(folder: Path, names: Sequence[str]) -> list[Callable[[np.ndarray], np.ndarray]]:
    """Functions that run a chain of programs on images: the first in PyTorch, the second in ONNX Runtime."""
    modules = [load_module(folder / f"{name}.py").load() for name in names]

    def in_torch(images: np.ndarray) -> np.ndarray:
        values: tuple[torch.Tensor, ...] = (torch.from_numpy(images),)
        with torch.inference_mode():
            for module in modules:
                results = module(*values)
                values = results if isinstance(results, tuple) else (results,)
        return values[0].numpy()

    def in_onnxruntime(images: np.ndarray) -> np.ndarray:
        values = {"image": images}
        for name in names:
            values = onnx.run(folder / f"{name}.onnx", values, exact=True)
        return values["logits"]

    return [in_torch, in_onnxruntime]


def stages(folder: Path) -> list[str]:
    """The names of the two written stages."""
    names = [f"cnn_stage{stage['stage']}" for stage in json.loads((folder / "report.json").read_text())["stages"]]
    assert len(names) == 2
    return names


QUICK = (1, 2, len(PASSES))
"""Lengths of the orders whose tests are not slow."""
ALLOWED_ORDERS = [
    pytest.param(order, marks=() if len(order) in QUICK else pytest.mark.slow) for order in filter(is_allowed, ORDERS)
]


@pytest.mark.parametrize("order", ALLOWED_ORDERS, ids=", ".join)
def test_programs_agree(order: tuple[str, ...], trained: Path, digits: job.Digits, tmp_path: Path) -> None:
    calibration = {"image": digits.train_images[:128].numpy()}
    compiled = archc.compile(job.SPEC, passes=", ".join(order), weights=trained, calibration=calibration)
    for report in compiled.passes:
        assert any(remark.kind == "rewrote" for remark in report.remarks) or "prune(0.5)" in order[:-1]
    compiled.write(tmp_path)
    images = digits.test_images[:100]
    expected = evaluate(compiled.graph, {"image": images})
    runs = programs(tmp_path, ["cnn"])
    if "partition(stages = 2)" in order:
        runs += programs(tmp_path, stages(tmp_path))
    for run in runs:
        found = run(images.numpy())
        tolerance = 0.05 if any(step.startswith("quant") for step in order) else 1e-5
        assert largest_error(expected, {"logits": torch.from_numpy(found)}) < tolerance
        assert np.mean(found.argmax(1) == expected["logits"].numpy().argmax(1)) >= 0.98
    printed = archc.parse(archc.print_graph(compiled.graph))
    assert printed == compiled.graph


@pytest.mark.parametrize("order", [order for order in ORDERS if not is_allowed(order)], ids=", ".join)
def test_other_orders_are_refused_with_an_allowed_order(order: tuple[str, ...]) -> None:
    with pytest.raises(ArchcError) as failure:
        parse_passes(", ".join(order))
    (found,) = failure.value.diagnostics
    assert found.code == "pass-order" and found.help is not None
    corrected = parse_passes(found.help.removeprefix("write `").removesuffix("`"))
    assert misplaced(corrected) is None and sorted(map(str, corrected)) == sorted(map(str, order))
