"""Order of `lowrank`, `prune` and `quant`: the programs compute what the graph computes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archc
from archc.diagnostics import ArchcError, Diagnostics
from archc.ir.graph import Graph
from tests.fuzz import programs
from tests.fuzz.rounding import reference

SPECS = Path(__file__).resolve().parents[2] / "specs"
SIZES: Mapping[str, Mapping[str, Any]] = {
    "speaker_encoder": {"bands": 8, "hidden": 24, "depth": 2, "width": 16},
    "cnn": {"width": 8, "hidden": 32},
    "gpt2": {"width": 32, "depth": 2, "heads": 4, "vocab": 60},
    "minilm": {"width": 32, "depth": 2, "heads": 4, "vocab": 60},
    "resnet18": {"width": 8, "classes": 10},
}
PASSES = {
    "lowrank": "lowrank(rank = 4)",
    "elements": "prune(0.5)",
    "channels": 'prune(0.3, scheme = "channel", multiple = 1)',
    "int8": 'quant(format = "int8", least = 0)',
    "int4": 'quant(format = "int4", group = 16)',
}
INTEGERS = ("int8", "int4")
TRIPLES = [("lowrank", prune, integers) for prune in ("elements", "channels") for integers in INTEGERS]
ORDERS = [*permutations(PASSES, 2), *chain.from_iterable(permutations(names) for names in TRIPLES)]
Order = tuple[str, ...]


def refused(order: Order) -> bool:
    """Return whether a pass that needs weights in floats comes after one that stores integers."""
    return any(
        name not in INTEGERS and not {*order[:position]}.isdisjoint(INTEGERS) for position, name in enumerate(order)
    )


def idle(order: Order) -> int:
    """Number of passes without effect: factors would lose the mask, and integers are not quantized again."""
    masked = "elements" in order and "lowrank" in order and order.index("elements") < order.index("lowrank")
    return masked + order.count("int8") + order.count("int4") - any(name in INTEGERS for name in order)


def data(spec: str, count: int, seed: int) -> dict[str, np.ndarray]:
    """Random samples of a spec."""
    chance = np.random.default_rng(seed)
    tokens = chance.integers(0, 60, (count, 7))
    match spec:
        case "cnn":
            return {"image": chance.normal(size=(count, 1, 28, 28)).astype(np.float32)}
        case "resnet18":
            return {"image": chance.normal(size=(count, 3, 40, 40)).astype(np.float32)}
        case "speaker_encoder":
            return {"mels": np.exp(chance.normal(size=(count, 9, 8))).astype(np.float32)}
        case "minilm":
            return {"tokens": tokens, "mask": np.arange(7) < chance.integers(2, 8, (count, 1))}
    return {"tokens": tokens}


def pipeline(order: Order) -> str:
    return " -> ".join(PASSES[name] for name in order)


def check_programs(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> None:
    """Compare PyTorch, and ONNX Runtime at each optimization level, with the interpreter."""
    case = reference(graph, inputs)
    model = programs.onnx_bytes(graph)
    found = {"torch": programs.run_torch(programs.torch_model(graph), graph, inputs)}
    for level in programs.LEVELS:
        if not programs.saturates(model, level):
            found[level] = programs.run_onnx(programs.session(model, level), inputs)
    for program, outputs in found.items():
        for name in case.expected:
            assert case.difference(name, outputs[name]) is None, program


def check_order(spec: str, order: Order) -> None:
    diagnostics = Diagnostics()
    compiled = archc.compile(
        SPECS / f"{spec}.arch",
        values=SIZES[spec],
        passes=pipeline(order),
        calib=data(spec, 16, seed=0),
        diagnostics=diagnostics,
    )
    without_effect = [warning for warning in diagnostics.warnings if warning.code == "pass-without-effect"]
    assert len(without_effect) == idle(order)
    assert all("stored as" in warning.notes[0].text for warning in without_effect)
    assert archc.parse(archc.print_graph(compiled.graph)) == compiled.graph
    check_programs(compiled.graph, {name: torch.from_numpy(each) for name, each in data(spec, 3, seed=1).items()})


ALLOWED = [order for order in ORDERS if not refused(order)]


@pytest.mark.parametrize("order", ALLOWED, ids="-".join)
def test_all_orders_on_a_recurrent_model(order: Order) -> None:
    check_order("speaker_encoder", order)


@pytest.mark.slow
@pytest.mark.parametrize("order", [*((name,) for name in PASSES), *ALLOWED], ids="-".join)
@pytest.mark.parametrize("spec", [spec for spec in SIZES if spec != "speaker_encoder"])
def test_all_orders_on_other_models(spec: str, order: Order) -> None:
    check_order(spec, order)


def test_other_orders_are_refused_with_an_order_that_works() -> None:
    wrong = [order for order in ORDERS if refused(order)]
    assert wrong
    for order in wrong:
        with pytest.raises(ArchcError) as problem:
            archc.compile(SPECS / "cnn.arch", values=SIZES["cnn"], passes=pipeline(order))
        (diagnostic,) = problem.value.diagnostics
        assert diagnostic.code == "pass-order"
        texts = [pipeline(other) for other in ALLOWED if {*other} == {*order}]
        assert any(diagnostic.help == f"write `{text}`" for text in texts), diagnostic.help
