"""Calibration data: checks of the user's data, division into batches, and random inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import archc
from archc.diagnostics import ArchcError
from archc.driver.binding import bind_fresh
from archc.passmanager.calibration import BATCH, MAXIMUM_SAMPLES, Calibration, read_calibration
from archc.weights.dtype_conversion import from_torch
from archc.weights.load import arrays_of

GRAPH = archc.parse("model m { input x: f32[N, 4]  output y = x + 1 }")


def lengths(text: str, **shapes: tuple[int, ...]) -> list[list[int]]:
    graph = archc.parse(f"model m {{ {text} }}")
    arrays = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    calibration = Calibration(graph, read_calibration(graph, arrays))
    return [[len(tensor) for tensor in batch.values()] for batch in calibration.batches()]


def test_batches_hold_every_sample_once() -> None:
    data = np.arange(100 * 4, dtype=np.float32).reshape(100, 4)
    batches = [batch["x"] for batch in Calibration(GRAPH, {"x": data}).batches()]
    assert [len(batch) for batch in batches] == [32, 32, 32, 4] and BATCH == 32
    assert torch.cat(batches).numpy().tolist() == data.tolist()


def test_the_number_of_samples_is_limited() -> None:
    batches = list(Calibration(GRAPH, {"x": np.ones((5000, 4), np.float32)}).batches())
    assert sum(len(batch["x"]) for batch in batches) == MAXIMUM_SAMPLES


def test_only_a_batch_axis_is_cut() -> None:
    two = "input x: f32[N, 2]  input y: f32[N, 3]  output a = x + 1  output b = y + 1"
    assert lengths(two, x=(40, 2), y=(40, 3)) == [[32, 32], [8, 8]]
    assert lengths(two.replace("y: f32[N", "y: f32[M"), x=(40, 2), y=(50, 3)) == [[40, 50]]
    assert lengths("input x: f32[N, N]  output a = x + 1", x=(40, 40)) == [[40]]
    assert lengths(
        "input x: f32[N]  input y: f32[N, 2*N]  output a = x + 1  output b = y + 1", x=(40,), y=(40, 80)
    ) == [[40, 40]]
    assert lengths("input x: f32[40, 2]  output a = x + 1", x=(40, 2)) == [[40]]


def test_random_inputs_come_from_the_seed() -> None:
    one, again, other = (next(Calibration(GRAPH, seed=seed).batches())["x"] for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert not Calibration(GRAPH).real and Calibration(GRAPH, {}).real


def test_bf16_inputs() -> None:
    graph = archc.parse("model m { input x: bf16[N, 4]  output y = x -> fc: linear(2) }")
    bind_fresh(graph, 0)
    assert Calibration(graph).outputs(graph)["y"].dtype is torch.bfloat16
    arrays = read_calibration(graph, {"x": np.ones((3, 4), np.float32)})
    assert Calibration(graph, arrays).outputs(graph)["y"].shape == (3, 2)


@pytest.mark.parametrize(
    "array", [np.ones((8, 4), np.float32)[::-1], np.ones((8, 4), ">f4"), np.ones((4, 8)).T, np.ones((8, 4), np.float16)]
)
def test_any_layout_and_precision_is_accepted(array: np.ndarray) -> None:
    (batch,) = Calibration(GRAPH, read_calibration(GRAPH, {"x": array})).batches()
    assert batch["x"].dtype is torch.float32 and batch["x"].tolist() == [[1.0] * 4] * 8


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"x": np.ones((2, 4)), "z": np.ones(2)}, "calibration-surplus"),
        ({}, "calibration-missing"),
        ({"x": np.ones((2, 4), np.int64)}, "calibration-dtype"),
        ({"x": np.full((2, 4), np.nan)}, "calibration-not-finite"),
        ({"x": np.ones((0, 4))}, "calibration-empty"),
        ({"x": np.ones((2, 5))}, "calibration-shape"),
        ({"x": np.ones((2, 4, 1))}, "calibration-shape"),
    ],
)
def test_data_that_do_not_fit(arrays: dict[str, Any], code: str) -> None:
    with pytest.raises(ArchcError) as failure:
        read_calibration(GRAPH, arrays)
    assert failure.value.diagnostics[0].code == code


def test_integers_beyond_an_embedding() -> None:
    graph = archc.parse("model m { input k: i64[N, T <= 6]  output y = k -> e: embedding(5, 2) }")
    read_calibration(graph, {"k": np.array([[0, 4]])})
    for wrong in ([[0, 5]], [[-1, 0]]):
        with pytest.raises(ArchcError, match="accepts integers from 0 to 4"):
            read_calibration(graph, {"k": np.array(wrong)})
    with pytest.raises(ArchcError, match="`T` must be at most 6, got 7 in `k`"):
        read_calibration(graph, {"k": np.zeros((1, 7), np.int64)})


def test_places_beyond_the_end_of_an_axis() -> None:
    """Invalid indices in the data are refused before a run; invalid computed indices fail in the run."""
    text = "model m {{ input x: f32[N, T]  input k: i64[3]  output y = (x, {places}) -> index_select(1) }}"
    graph = archc.parse(text.format(places="k"))
    data = {"x": np.ones((2, 5)), "k": np.array([0, 4, 4])}
    read_calibration(graph, data)
    with pytest.raises(ArchcError, match="holds integers from 0 to 5, but the model accepts integers from 0 to 4"):
        read_calibration(graph, {**data, "k": np.array([0, 4, 5])})
    with pytest.raises(ArchcError, match="holds integers from 0 to 4, but the model accepts integers from 0 to 2"):
        read_calibration(archc.parse(text.format(places="k * 2")), data)
    graph = archc.parse(text.format(places="k * k"))
    for calibration in (Calibration(graph, read_calibration(graph, data)), Calibration(graph)):
        with pytest.raises(ArchcError, match="cannot run on") as failure:
            calibration.outputs(graph)
        assert [diagnostic.code for diagnostic in failure.value.diagnostics] == ["calibration-failed"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("dtype", "array"),
    [
        ("f32", np.full((2, 4), -1e300)),
        ("f16", np.full((2, 4), 1e5, np.float32)),
        ("bf16", np.full((2, 4), 1e39)),
        ("bf16", np.full((2, 4), 3.4e38, np.float32)),
    ],
)
def test_finite_data_that_overflow_the_dtype_of_the_input(dtype: str, array: np.ndarray) -> None:
    graph = archc.parse(f"model m {{ input x: {dtype}[N, 4]  output y = x + 1 }}")
    with pytest.raises(ArchcError, match=f"which overflows {dtype}") as refused:
        read_calibration(graph, {"x": array})
    assert refused.value.diagnostics[0].code == "calibration-not-finite"


@pytest.mark.parametrize("dtype", ["bf16", "f32", "f16"])
def test_bf16_data(dtype: str) -> None:
    text = f"model m {{ input x: {dtype}[N, 8]  output y = x -> fc: linear(4) }}"
    data = torch.randn(4, 8).to(torch.bfloat16)
    compiled = archc.compile(text, passes="quant(least = 1)", calib={"x": data})
    assert compiled.calibration == "the given data"
    arrays = read_calibration(archc.parse(text), {"x": from_torch(data)})
    (batch,) = Calibration(archc.parse(text), arrays).batches()
    assert torch.equal(batch["x"].float(), data.float())


@pytest.mark.parametrize("scalar", [np.array(2.0), np.float32(2), torch.tensor(2.0)])
def test_an_input_without_axes_has_one_value_for_all_samples(scalar: Any) -> None:
    text = "model m { input x: f32[N, 8]  input s: f32[]  output y = x * s -> fc: linear(4) }"
    data = {"x": np.random.default_rng(0).standard_normal((100, 8)), "s": scalar}
    assert archc.compile(text, passes="quant(least = 1)", calib=data).calibration == "the given data"
    graph = archc.parse(text)
    batches = list(Calibration(graph, read_calibration(graph, arrays_of(data, "calib"))).batches())
    assert [len(batch["x"]) for batch in batches] == [32, 32, 32, 4]
    assert all(batch["s"].shape == () and batch["s"] == 2 for batch in batches)
