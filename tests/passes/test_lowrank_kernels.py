"""`lowrank` of convolutions: forms of their kernels, compared with convolutions of PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import archc
from archc.codegen import onnx
from archc.codegen.torch.load import load_module
from archc.compression.calibration.sequential import Approximation
from archc.compression.factorization.kernel_chain import KernelChain, chain_refitter, whitened_groups
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.passes.lowrank import LowRank
from archc.passmanager import make_pass
from archc.types.attributes import AttributeProblem
from tests.passes.graphs import Build, operators, remarks, run
from tests.passes.test_lowrank_by_data import correlated, error

FORMS = ("channel", "pointwise", "spatial", "tucker")
INPUTS, OUTPUTS = 12, 8
"""Channels of each group."""


def kernel_of(form: str, rank: int, groups: int, kernel: tuple[int, ...]) -> np.ndarray:
    """A kernel [groups, outputs, inputs, *kernel] that a form represents without an error."""
    generator = np.random.default_rng(5)
    letters = "hwd"[: len(kernel)]
    first, rest = letters[:1], letters[1:]
    factors = {
        "channel": ("gor", f"gri{letters}"),
        "pointwise": (f"gor{letters}", "gri"),
        "spatial": (f"gor{rest}", f"gri{first}"),
        "tucker": ("goq", f"gqr{letters}", "gri"),
    }[form]
    sizes = {"g": groups, "o": OUTPUTS, "i": INPUTS, "r": rank, "q": rank, **dict(zip(letters, kernel))}
    arrays = [generator.standard_normal([sizes[letter] for letter in each]) for each in factors]
    made: np.ndarray = np.einsum(f"{','.join(factors)}->goi{letters}", *arrays)
    return made / np.abs(made).max()


def weight_of(op: str, kernel: np.ndarray) -> np.ndarray:
    """The weight of a (transposed) convolution."""
    arranged = kernel.swapaxes(1, 2) if "transpose" in op else kernel
    return arranged.reshape(-1, *arranged.shape[2:]).astype(np.float32)


def in_torch(op: str, x: torch.Tensor, weight: np.ndarray, bias: torch.Tensor | None, **options: Any) -> torch.Tensor:
    result: torch.Tensor = getattr(functional, op)(x, torch.from_numpy(weight), bias, **options)
    return result


LAYERS: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ("conv1d", (20,), (5,), {"stride": 2, "padding": 2}),
    ("conv2d", (9, 10), (3, 5), {"stride": (2, 1), "padding": (1, 2)}),
    ("conv2d", (9, 10), (3, 3), {"padding": "same", "dilation": 2}),
    ("conv3d", (4, 5, 6), (2, 3, 2), {"stride": (1, 2, 1)}),
    ("conv_transpose1d", (9,), (4,), {"stride": 2, "padding": 1}),
    ("conv_transpose2d", (5, 6), (3, 4), {"stride": 2, "padding": (1, 0), "output_padding": 1}),
    ("conv_transpose3d", (2, 3, 2), (2, 2, 3), {"stride": (1, 2, 1), "dilation": 2}),
]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("op", "size", "kernel", "options"), LAYERS, ids=[f"{each[0]}-{each[2]}" for each in LAYERS])
@pytest.mark.parametrize("form", FORMS)
def test_convolutions_in_sequence_compute_the_same(
    form: str, op: str, size: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, Any], groups: int
) -> None:
    if form == "spatial" and len(kernel) == 1:
        pytest.skip("one axis has no spatial form")
    weight = weight_of(op, kernel_of(form, 2, groups, kernel))
    build = Build()
    given = kernel[0] if len(kernel) == 1 else kernel
    x = build.input(groups * INPUTS, *size)
    y = build.layer(op, x, groups * OUTPUTS, given, groups=groups, name="conv", **options)
    graph = build.done(y, weights={"conv.weight": weight})
    data = torch.randn(3, groups * INPUTS, *size, generator=torch.Generator().manual_seed(0))
    bias = torch.from_numpy(graph.weight_values("conv.bias"))
    expected = in_torch(op, data, weight, bias, groups=groups, **options)
    run(graph, LowRank(rank=2, form=form))
    assert len(graph) == (3 if form == "tucker" else 2)
    assert sum(value.parameters for value in graph.weights.values()) < weight.size
    assert torch.allclose(evaluate(graph, {"x": data})["y0"], expected, atol=1e-4 * float(expected.abs().max()))


TEXT = """
model net {{
    input x: f32[N, 24, 11, 10]
    output y = x -> conv: {layer}
}}
"""


@pytest.mark.parametrize(
    "layer",
    ["conv2d(16, 3, stride = 2, padding = 1, groups = 2)", "conv_transpose2d(16, (3, 4), stride = 2, groups = 2)"],
)
@pytest.mark.parametrize("form", FORMS)
def test_the_programs_agree_with_the_product_of_the_kernels(form: str, layer: str, tmp_path: Path) -> None:
    made = archc.compile(TEXT.format(layer=layer), passes=f'lowrank(rank = 3, form = "{form}")')
    made.write(tmp_path, emit=("torch", "onnx"))
    x = torch.randn(2, 24, 11, 10, generator=torch.Generator().manual_seed(1))
    y = x
    for node in made.graph.nodes():
        weights = {name: torch.tensor(made.graph.weight_values(path)) for name, path in node.weights.items()}
        options = {name: getattr(node.op, name) for name in ("stride", "padding", "groups")}
        y = in_torch(node.op.name, y, weights["weight"].numpy(), weights.get("bias"), **options)
    with torch.no_grad():
        assert torch.allclose(load_module(tmp_path / "net.py").load()(x), y, atol=1e-5)
    assert np.allclose(onnx.run(tmp_path / "net.onnx", {"x": x.numpy()})["y"], y.numpy(), atol=1e-5)


def images(op: str = "conv2d", groups: int = 1, **options: Any) -> Graph:
    """Two convolutions and a linear layer."""
    build = Build()
    y = build.layer("relu", build.layer("conv2d", build.input(16, 8, 8), 32, 3, padding=1, name="conv1"))
    y = build.layer("relu", build.layer(op, y, 32, 3, groups=groups, name="conv2", **options))
    return build.done(build.layer("linear", build.layer("flatten", y), 24, name="head"))


CONVOLUTIONS: Mapping[str, dict[str, Any]] = {
    "conv2d": {},
    "grouped": {"groups": 2},
    "transposed": {"op": "conv_transpose2d", "stride": 2},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_data_reduce_the_error_of_each_form(kind: str, form: str) -> None:
    data, held_out = {"x": correlated(96, 16, 8, 8)}, {"x": correlated(64, 16, 8, 8, seed=1)}
    original = images(**CONVOLUTIONS[kind])
    errors = []
    for method in (None, "svd"):
        made = images(**CONVOLUTIONS[kind])
        (report,) = run(made, LowRank(rank=5, form=form, on="conv*", method=method), data=data)
        assert {"conv1", "conv2"} == set(remarks(report, "rewrote"))
        errors.append(error(made, original, held_out))
    assert errors[0] < 0.9 * errors[1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["grouped", "transposed"])
def test_the_last_product_of_a_chain_gives_its_result(kind: str, form: str) -> None:
    graph = images(**CONVOLUTIONS[kind])
    node = next(node for node in graph.nodes() if node.name == "conv2")
    weight = graph.weight_values("conv2.weight")
    chosen = next(each for each in node.op.kernel_forms() if each.name == form)
    chain = KernelChain.of(node.op, whitened_groups(node.op, weight), chosen, (4,) * chosen.links)
    x = torch.randn(2, 32, 8, 8, generator=torch.Generator().manual_seed(2))
    options = {name: getattr(node.op, name) for name in ("stride", "padding", "groups")}
    expected = in_torch(node.op.name, x, chain.product.reshape(weight.shape).astype(np.float32), None, **options)
    mixed = torch.randn(32, 1, generator=torch.Generator().manual_seed(3))
    for made, scale in (
        (chain, torch.ones(32, 1)),
        (chain.with_last(chain.last_product.weight * mixed.numpy()), mixed),
    ):
        product = made.last_product
        rows = product.rows(x)
        assert rows is not None
        matrix = torch.from_numpy(product.weight).reshape(len(rows), -1, rows.shape[2])
        found = (rows @ matrix.mT).transpose(0, 1).flatten(1)
        assert torch.allclose(found, node.op.result_rows(expected) * scale.T, atol=1e-4)


def test_a_convolution_compensates_the_errors_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    data, held_out = {"x": correlated(96, 16, 8, 8)}, {"x": correlated(64, 16, 8, 8, seed=1)}
    errors = []
    for refitter in (chain_refitter, lambda chain: lambda problem: Approximation(chain, None)):
        monkeypatch.setattr("archc.passes._low_rank_factors.chain_refitter", refitter)
        made = images()
        run(made, LowRank(rank=5, form="tucker", on="conv*"), data=data)
        errors.append(error(made, images(), held_out))
    assert errors[0] < 0.95 * errors[1]


# Choice -----------------------------------------------------------------------------------------------------------


def exact_kernel(form: str) -> np.ndarray:
    """A kernel [32, 32, 5, 5], or [32, 16, 5, 5] with 2 groups for "tucker", of rank 8 in one form only."""
    generator = np.random.default_rng(8)
    subscripts, *shapes = {
        "channel": ("or,rihw->oihw", (32, 8), (8, 32, 5, 5)),
        "pointwise": ("orhw,ri->oihw", (32, 8, 5, 5), (8, 32)),
        "spatial": ("orw,rih->oihw", (32, 8, 5), (8, 32, 5)),
        "tucker": ("gop,gprhw,gri->goihw", (2, 16, 4), (2, 4, 4, 5, 5), (2, 4, 16)),
    }[form]
    kernel = np.einsum(subscripts, *(generator.standard_normal(shape) for shape in shapes))
    return (kernel / np.abs(kernel).max()).reshape(32, -1, 5, 5)


@pytest.mark.parametrize(("measure", "with_data"), [("macs", True), ("params", False)])
@pytest.mark.parametrize("form", FORMS)
def test_a_budget_chooses_the_form_that_loses_nothing(form: str, measure: str, with_data: bool) -> None:
    def make() -> Graph:
        build = Build()
        groups = 2 if form == "tucker" else 1
        y = build.layer("conv2d", build.input(32, 9, 9), 32, 5, groups=groups, name="conv")
        return build.done(y, weights={"conv.weight": exact_kernel(form)})

    samples = np.random.default_rng(0).standard_normal((24, 32, 9, 9)).astype(np.float32)
    made, share = make(), 0.2 if form == "tucker" else 0.45
    (report,) = run(made, LowRank(**{measure: share}), data={"x": samples} if with_data else None)
    (remark,) = [each for each in report.remarks if each.kind == "rewrote"]
    assert remark.figures.get("form", "channel") == form, remark.message
    assert error(made, make(), {"x": samples}) < 1e-2


def test_a_kernel_with_one_axis_has_no_spatial_form() -> None:
    build = Build()
    y = build.layer("conv2d", build.input(32, 40, 1), 32, (9, 1), name="conv")
    (report,) = run(build.done(y), LowRank(rank=2, form="spatial"))
    assert remarks(report, "left") == {"conv": "its kernel has no form `spatial`"}


@pytest.mark.parametrize("options", [{"ratio": 0.25}, {"energy": 0.5}, {"rank": 4}], ids=str)
def test_ranks_of_groups_are_equal_and_follow_from_the_options(options: dict[str, float]) -> None:
    build = Build()
    y = build.layer("conv2d", build.input(64, 9, 9), 64, 3, groups=2, name="conv")
    graph = build.done(y)
    weight = graph.weight_values("conv.weight")
    spectra = sum(np.linalg.svd(part.reshape(32, -1), compute_uv=False) ** 2 for part in np.split(weight, 2))
    enough = int(np.searchsorted(np.cumsum(spectra) / np.sum(spectra), 0.5)) + 1
    rank = {"ratio": 8, "energy": 16 * -(-enough // 16), "rank": 4}[next(iter(options))]
    run(graph, LowRank(**options))
    assert operators(graph) == [
        f"conv2d({2 * rank}, 3, groups = 2, bias = false)",
        "conv2d(64, 1, groups = 2)",
    ]


def test_a_depthwise_convolution_is_left_alone() -> None:
    build = Build()
    y = build.layer("conv2d", build.input(64, 9, 9), 64, 3, groups=64, name="depthwise")
    y = build.layer("linear", build.layer("flatten", y), 64, name="head")
    (report,) = run(build.done(y), LowRank(params=0.9))
    assert "depthwise" in remarks(report, "left")
    (report,) = run(build.graph, LowRank(rank=1, on="depthwise"))
    assert "would not make it smaller" in remarks(report, "left")["depthwise"]


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(AttributeProblem):
        make_pass("lowrank", named={"rank": 4, "form": "cp"})
