"""Programs that torch records from int8 modules compute what the modules compute."""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import archc
from archc.runtime import int8

ENCODER = """
block Layer(heads) {
    input x: f32[N, T, D]
    q = x -> query: linear(D)
    k = x -> key: linear(D)
    v = x -> value: linear(D)
    x = x + ((q, k, v) -> attention(heads) -> proj: linear(D)) -> norm1: layer_norm
    output x + (x -> up: linear(4 * D) -> gelu -> down: linear(D)) -> norm2: layer_norm
}
model encoder(width = 32) {
    input x: f32[N, 5, width]
    for i in 0..2 { x = x -> h[i]: Layer(4) }
    output y = x -> head: linear(16)
}
"""
MODELS: dict[str, tuple[Path | str, dict[str, int], tuple[int, ...]]] = {
    "cnn": (Path("specs/cnn.arch"), {"width": 8}, (1, 28, 28)),
    "mlp": (Path("specs/mlp.arch"), {"features": 32, "width": 64}, (32,)),
    "encoder": (ENCODER, {}, (5, 32)),
}
SCHEMES = {
    "static": 'scheme = "static", least = 0',
    "dynamic": 'scheme = "dynamic", least = 0',
    "token": 'scheme = "dynamic", granularity = "token", least = 0',
    "weight": 'scheme = "weight"',
}


FAST = [("cnn", "static"), ("mlp", "dynamic"), ("mlp", "token"), ("mlp", "weight"), ("encoder", "static")]
"""Models that together have all layers and schemes; the others are slow."""


def cases() -> list[Any]:
    """All models in all schemes."""
    every = itertools.product(MODELS, SCHEMES)
    return [pytest.param(case, id="-".join(case), marks=() if case in FAST else pytest.mark.slow) for case in every]


NUMBERS = itertools.count()


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.manual_seed(shape[0]))


@pytest.fixture(params=cases())
def model(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[nn.Module, tuple[int, ...]]:
    """A model with a module that Python finds by its name, as Dynamo does, and the shape of one sample."""
    name, scheme = request.param
    text, values, shape = MODELS[name]
    compiled = archc.compile(text, set=values, passes=f"quant({SCHEMES[scheme]})")
    package = f"recorded{next(NUMBERS)}"  # Dynamo keeps the first module of a name
    compiled.write(tmp_path / package, emit="torch", check=False)
    monkeypatch.syspath_prepend(tmp_path)
    torch.compiler.reset()
    return importlib.import_module(f"{package}.{name}").load(), shape


def choose_kernels(model: nn.Module, exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set whether the CPU's int8 kernels count as exact.

    A model that decodes its int8 weights has no integer kernels.
    """
    library = getattr(sys.modules[type(model).__module__], "archc_int8", None)
    if library is not None:
        monkeypatch.setattr(library, "EXACT", exact)


@pytest.mark.parametrize(("exact", "strict"), [(False, False), (True, False), (False, True)])
def test_an_exported_program_computes_what_the_module_does(
    model: tuple[nn.Module, tuple[int, ...]], exact: bool, strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, shape = model
    choose_kernels(module, exact, monkeypatch)
    # Integer kernels add exactly, so that a sum at a tie may be rounded to the other neighbour.
    atol, rtol = (0.05, 0.0) if exact else (1e-6, 1e-5)
    batches = [random(rows, *shape) for rows in (3, 2, 64)]
    expected = [module(x) for x in batches]  # the module has cached forms of its weights
    program = torch.export.export(module, (batches[0],), dynamic_shapes=[{0: torch.export.Dim("N")}], strict=strict)
    for x, y in zip(batches, expected):
        torch.testing.assert_close(program.module()(x), y, atol=atol, rtol=rtol)
        assert torch.equal(module(x), y), "an export must not change the module"
    assert program.state_dict.keys() == module.state_dict().keys()
    assert all(constant.numel() <= 1 for constant in program.constants.values()), "a cached form is in the program"


@pytest.mark.parametrize("exact", [False, True])
def test_a_compiled_module_is_one_graph(
    model: tuple[nn.Module, tuple[int, ...]], exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, shape = model
    choose_kernels(module, exact, monkeypatch)
    # Integer kernels add exactly, so that a sum at a tie may be rounded to the other neighbour.
    tolerance = {"atol": 0.05, "rtol": 0.0} if exact else {}
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    with torch.inference_mode():
        for rows in (2, 7):
            x = random(rows, *shape)
            torch.testing.assert_close(compiled(x), module(x), **tolerance)


class Linear(nn.Module):
    """A linear layer on an operand that is quantized, and optionally with a quantized result."""

    def __init__(self, scheme: str, bias: bool, quantized: bool) -> None:
        super().__init__()
        self.linear = int8.Int8Linear(64, 32, bias=bias)
        self.linear.weight.random_(-60, 61, generator=torch.manual_seed(0))
        self.linear.weight_scale.uniform_(0.005, 0.02, generator=torch.manual_seed(1))
        if bias:
            self.linear.bias.normal_(generator=torch.manual_seed(2))
        self.static, self.result = int8.Quantize(), int8.Quantize()
        self.static.scale.fill_(0.02)
        self.static.zero_point.fill_(100)
        self.result.scale.fill_(0.05)
        self.result.zero_point.fill_(130)
        self.quantize = {"static": self.static, "dynamic": int8.quantize, "token": int8.quantize_tokens}[scheme]
        self.quantized = quantized

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(self.quantize(x), self.result if self.quantized else None)
        return y.integers() if self.quantized else y


@pytest.mark.parametrize(("exact", "wanted"), [(True, "_int_mm"), (False, "linear")])
@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scheme", ["static", "dynamic", "token"])
def test_a_compiled_layer_multiplies_integers(
    scheme: str, bias: bool, quantized: bool, exact: bool, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "EXACT", exact)
    monkeypatch.setattr(int8.Int8Linear, "least", 0)
    graphs: list[torch.fx.GraphModule] = []

    def kept(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    module = Linear(scheme, bias, quantized)
    compiled = torch.compile(module, backend=kept, fullgraph=True)
    for shape in ((20, 64), (7, 5, 64), (3, 5, 64), (9, 5, 64)):
        torch.testing.assert_close(compiled(random(*shape)), module(random(*shape)))
    assert len(graphs) <= 4, "ranks and sizes may be recompiled once, but not new ranges"
    for graph in graphs:
        found = {getattr(node.target, "__name__", "") for node in graph.graph.nodes}
        assert found & {"_int_mm", "linear"} == {wanted}
        assert all(node.target != "sum" for node in graph.graph.nodes), "each call would sum the weight"


@pytest.mark.parametrize("scheme", ["static", "dynamic", "token"])
def test_a_compiled_layer_sees_changed_scales_and_ranges(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8.Int8Linear, "least", 0)
    torch.compiler.reset()
    module = Linear(scheme, bias=True, quantized=False)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    compiled(random(20, 64))
    with torch.compiler.set_stance("fail_on_recompile"):
        for factor in (0.5, 3.0):
            module.linear.weight_scale.mul_(factor)
            module.linear.weight.random_(-20, 90, generator=torch.manual_seed(5))
            module.static.scale.mul_(factor)
            module.static.zero_point.sub_(7)
            x = factor * random(20, 64)
            torch.testing.assert_close(compiled(x), module(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("warm", [False, True])
def test_a_traced_module_computes_what_the_module_does(
    model: tuple[nn.Module, tuple[int, ...]], warm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, shape = model
    choose_kernels(module, False, monkeypatch)
    with torch.no_grad():
        if warm:
            module(random(2, *shape))
        traced = torch.jit.trace(module, (random(2, *shape),))
        for rows in (2, 7):
            torch.testing.assert_close(traced(random(rows, *shape)), module(random(rows, *shape)))


class Stages(nn.Module):
    """Quantization, and a convolution that takes the bytes, as in two stages of a pipeline."""

    def __init__(self) -> None:
        super().__init__()
        self.quantize, self.on_grid, self.conv = int8.Quantize(), int8.OnGrid(), int8.Int8Conv2d(4, 6, 3)
        for grid in (self.quantize, self.on_grid):
            grid.scale.fill_(0.02)
            grid.zero_point.fill_(120)
        self.conv.weight.random_(-60, 61, generator=torch.manual_seed(0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q = int8.pooled(self.quantize(x), 2).to(x.device).integers()
        return q, self.conv(int8.pooled(self.on_grid(q), 2))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("record", [torch.export.export, torch.jit.trace])
def test_bytes_between_stages_are_recorded(record: object) -> None:
    module, x = Stages(), random(2, 4, 16, 16)
    expected = module(x)
    program = record(module, (x,))  # type: ignore[operator]
    q, y = program.module()(x) if isinstance(program, torch.export.ExportedProgram) else program(x)
    assert torch.equal(q, expected[0])
    torch.testing.assert_close(y, expected[1])


class Dynamic(nn.Module):
    """Quantization with the range of each operand."""

    def forward(self, x: Tensor) -> Tensor:
        return int8.quantize(x).decoded()


@pytest.mark.parametrize("record", ["export", "compile"])
def test_a_recorded_range_is_that_of_the_module(record: str) -> None:
    x, module = random(4, 9), Dynamic()
    if record == "export":
        program = torch.export.export(module, (x,), dynamic_shapes=[{0: torch.export.Dim("N")}]).module()
    else:
        torch.compiler.reset()
        program = torch.compile(module, backend="aot_eager", fullgraph=True)
    for each in (x, x.abs(), -x.abs(), 0 * x, x * 3e38, x * torch.inf, x * torch.nan, x[:0]):
        assert torch.equal(program(each).nan_to_num(7), int8.quantize(each).decoded().nan_to_num(7))
