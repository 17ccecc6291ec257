"""Layers of `archc.runtime.recurrent`, compared with the interpreter and with `torch.nn`."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import archc
from archc.codegen.torch.load import load_module
from archc.declaration.sequences import CALL_PACKED
from archc.driver.compiled import Compiled
from archc.interpreter.evaluate import helper_namespace
from archc.runtime import recurrent
from archc.runtime.recurrent import Int8GRU, Int8LSTM, Int8Recurrent, Int8RNN
from tests.ops.test_dynamic_recurrent import LAYERS, by_interpreter, compiled, in_floats, operands

exact = pytest.mark.skipif(not recurrent.EXACT_RECURRENT, reason="this CPU has no exact integer kernels")
TORCH = {Int8LSTM: nn.LSTM, Int8GRU: nn.GRU, Int8RNN: nn.RNN}
CLASSES = [*TORCH]


def program(made: Compiled, folder: Path) -> nn.Module:
    """The emitted module; its small layers multiply integers."""
    made.write(folder, emit=("torch",), check=False)
    module = load_module(folder / "m.py")
    for name in {"Int8LSTM", "Int8GRU", "Int8RNN"} & vars(module).keys():
        getattr(module, name).least = 0
    loaded: nn.Module = module.load()
    return loaded


def outputs(module: nn.Module, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        return [tensor.numpy() for tensor in module(*map(torch.from_numpy, arrays.values()))]


@exact
@pytest.mark.parametrize(
    ("case", "granularity"), [*((case, "channel") for case in LAYERS), *((case, "tensor") for case in [*LAYERS][3::6])]
)
def test_a_program_rounds_as_the_interpreter(case: str, granularity: str, tmp_path: Path) -> None:
    made = compiled(*LAYERS[case], passes=f'quant(scheme = "weight", granularity = "{granularity}")')
    arrays = operands(made.graph)
    if "n" in arrays:  # kernels read only the valid steps: compare a single sequence without values after its end
        arrays = {name: array[-1:] for name, array in arrays.items()}
        arrays["x"][:, 5:] = 0
    expected, floats = by_interpreter(made.graph, arrays), in_floats(made.graph, arrays)
    for found, (name, array) in zip(outputs(program(made, tmp_path), arrays), expected.items(), strict=True):
        np.testing.assert_allclose(found, array, atol=2e-6)
        assert np.abs(found - floats[name]).max() > 1e-4, "the layer rounds"


@exact
@pytest.mark.parametrize("operator", ["lstm", "gru", "rnn", "rnn of relu"])
def test_sequences_of_different_lengths(operator: str, tmp_path: Path) -> None:
    made = compiled(*LAYERS[f"{operator}, lengths"])
    arrays = operands(made.graph)
    found, floats = outputs(program(made, tmp_path), arrays), in_floats(made.graph, arrays)
    for array, expected in zip(found, floats.values(), strict=True):
        # Ranges span the running sequences; the interpreter includes those that have ended.
        np.testing.assert_allclose(array, expected, atol=1.2e-2)
    assert (found[0][1, 2:] == 0).all() and (found[0][2, 5:] == 0).all()


def test_the_source_is_one_call_for_each_layer(tmp_path: Path) -> None:
    compiled(*LAYERS["lstm, both directions"]).write(tmp_path, emit=("torch",), check=False)
    source = (tmp_path / "m.py").read_text()
    assert "self.r = Int8LSTM(5, 8, num_layers=2, bidirectional=True, dynamic=(0, 1))" in source
    assert "a, (b, d) = self.r(x)" in source
    assert sorted(path.name for path in tmp_path.glob("archc_*")) == ["archc_recurrent.py"]


@exact
def test_other_layers_of_a_stack_have_weights_of_16_bits(tmp_path: Path) -> None:
    weights = "weight_ih_l0 = f16, weight_hh_l0 = int8(0), weight_ih_l1 = int8(0), weight_hh_l1 = int8(0)"
    layer = f"lstm(8, 2, dynamic = (1,), {weights})"
    made = archc.compile(f"model m {{ input x: f32[N, T, 5]  output y = x -> r: {layer} }}")
    made.write(tmp_path, emit=("torch",), check=False)
    assert 'dtypes=(("weight_ih_l0", torch.float16),)' in (tmp_path / "m.py").read_text().replace("\n", "")
    arrays = operands(made.graph)
    module = program(made, tmp_path)
    (expected,), (floats,) = by_interpreter(made.graph, arrays).values(), in_floats(made.graph, arrays).values()
    found = module(torch.from_numpy(arrays["x"])).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert np.abs(found - floats).max() > 1e-4


def test_a_dynamic_layer_with_a_float_weight_computes_in_floats() -> None:
    made = Int8GRU(600, 600, num_layers=2, dynamic=(0, 1), dtypes=(("weight_hh_l1", torch.bfloat16),))
    assert made.groups == [(True, [0]), (False, [1])]
    assert made.get_buffer("weight_hh_l1").dtype is torch.bfloat16 and "weight_hh_l1_scale" not in made.state_dict()


@pytest.mark.parametrize("weight", ["int4(axis = 0)", "int8(1)"])
def test_other_weights_compute_in_floats(weight: str, tmp_path: Path) -> None:
    layer = f"gru(8, dynamic = (0,), weight_ih_l0 = {weight}, weight_hh_l0 = int8(0))"
    made = archc.compile(f"model m {{ input x: f32[N, T, 5]  output y = x -> r: {layer} }}")
    made.write(tmp_path, emit=("torch",), check=True)
    assert "Int8GRU" not in (tmp_path / "m.py").read_text()


# One layer ----------------------------------------------------------------------------------------------------


def random_layer(cls: type[Int8Recurrent], **options: Any) -> Int8Recurrent:
    """A layer with random weights, in evaluation mode; layer 1 of 3 multiplies integers."""
    module = type(cls.__name__, (cls,), {"least": 0})(6, 8, num_layers=3, dynamic=(1,), **options)
    generator = torch.Generator().manual_seed(0)
    for name, buffer in module.named_buffers():
        if buffer.dtype is torch.int8:
            buffer.random_(-127, 128, generator=generator)
        else:
            buffer.uniform_(0 if name.endswith("scale") else -0.01, 0.01, generator=generator)
    return module.eval()


def reference(module: Int8Recurrent) -> nn.Module:
    """The layer of `torch.nn` with the decoded weights."""
    (cls,) = (layer for name, layer in TORCH.items() if isinstance(module, name))
    made = cls(6, 8, num_layers=3, batch_first=True)
    state = module.state_dict()
    scales = {f"{name}_scale" for name in state if f"{name}_scale" in state}
    wanted = {
        name: t * state[f"{name}_scale"][:, None] if f"{name}_scale" in scales else t for name, t in state.items()
    }
    made.load_state_dict({name: tensor for name, tensor in wanted.items() if name not in scales})
    return made


def first(results: Any) -> torch.Tensor:
    found: torch.Tensor = results[0].detach()
    return found


X = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))


@exact
@pytest.mark.parametrize("cls", CLASSES)
def test_when_integers_are_multiplied(cls: type[Int8Recurrent], monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = random_layer(cls), X.clone()
    floats, integers = first(reference(module)(x)), first(module(x))
    assert 1e-4 < (integers - floats).abs().max() < 2e-2
    assert torch.equal(first(copy.deepcopy(module)(x)), integers)

    def computes_in_floats(found: Any) -> None:
        torch.testing.assert_close(first(found), floats, atol=1e-6, rtol=0)

    needs_gradient = x.requires_grad_()
    found = module(needs_gradient)
    computes_in_floats(found)
    found[0].sum().backward()
    assert needs_gradient.grad is not None and needs_gradient.grad.abs().sum() > 0
    with torch.no_grad():
        torch.testing.assert_close(first(module(needs_gradient)), integers, atol=1e-6, rtol=0)
    computes_in_floats(module.train()(X))
    module.eval()
    with monkeypatch.context() as context:
        context.setattr(recurrent, "EXACT_RECURRENT", False)
        computes_in_floats(module(X))


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("record", ["trace", "export", "compile"])
def test_recorded_programs_compute_in_floats(cls: type[Int8Recurrent], record: str) -> None:
    module = random_layer(cls)
    floats = first(reference(module)(X))
    module(X)  # the cached packed weights must not be recorded
    recorders: dict[str, Callable[[], Any]] = {
        "trace": lambda: torch.jit.trace(module, (X,), check_trace=False),
        "export": lambda: torch.export.export(module, (X,)).module(),
        "compile": lambda: torch.compile(module, backend="eager", fullgraph=True),
    }
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # `torch.jit` is deprecated
        recorded = recorders[record]()
        torch.testing.assert_close(first(recorded(X)), floats, atol=1e-6, rtol=0)
        if record == "trace":
            assert recorded(X[:1])[0].shape == (1, 5, 8)


@exact
@pytest.mark.parametrize("cls", CLASSES)
def test_a_saved_module_has_no_packed_weights(cls: type[Int8Recurrent], monkeypatch: pytest.MonkeyPatch) -> None:
    module = random_layer(cls)
    expected = first(module(X))
    monkeypatch.setattr(recurrent, cls.__name__, type(module))
    monkeypatch.setattr(type(module), "__module__", recurrent.__name__)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert not loaded._forms and torch.equal(first(loaded(X)), expected)


@exact
@pytest.mark.parametrize("cls", CLASSES)
def test_packed_weights_are_cached(cls: type[Int8Recurrent]) -> None:
    module = random_layer(cls)
    before = first(module(X))
    forms = dict(module._forms)
    assert {(False, 0), (False, 2)} < forms.keys() and len(forms) == 3
    module(X)
    assert all(module._forms[key] is form for key, form in forms.items())
    module.get_buffer("weight_hh_l1").neg_()
    assert not torch.equal(first(module(X)), before), "a changed weight is packed again"
    before = first(module(X))
    module.get_buffer("bias_hh_l1").add_(0.1)
    assert not torch.equal(first(module(X)), before), "a changed bias is packed again"


@pytest.mark.parametrize("cls", CLASSES)
def test_dropout_between_calls_of_kernels(cls: type[Int8Recurrent]) -> None:
    module = random_layer(cls, dropout=0.9).train()
    torch.manual_seed(0)
    assert not torch.equal(first(module(X)), first(module(X)))
    assert torch.equal(first(module.eval()(X)), first(module(X)))


@pytest.mark.parametrize("cls", CLASSES)
def test_a_packed_batch(cls: type[Int8Recurrent]) -> None:
    module = random_layer(cls).train()
    for enforce_sorted in (True, False):
        lengths = [5, 3] if enforce_sorted else [3, 5]
        packed = nn.utils.rnn.pack_padded_sequence(X, torch.tensor(lengths), True, enforce_sorted)
        (found, last), (expected, wanted) = module(packed), reference(module)(packed)
        torch.testing.assert_close(found.data, expected.data, atol=1e-6, rtol=0)
        torch.testing.assert_close(last, wanted, atol=1e-6, rtol=0)


def test_a_compiled_packed_batch() -> None:
    """`torch.compile` breaks the graph at the packing, and the packed result is rebuilt after it."""
    module = random_layer(Int8GRU)
    call_packed = helper_namespace((CALL_PACKED,))["_call_packed"]
    states, weights = [torch.zeros(3, 2, 8)], [w for name in ("l0", "l1", "l2") for w in module.decoded(name)]

    def run(x: torch.Tensor) -> torch.Tensor:
        return first(call_packed(torch.gru, x, torch.tensor([3, 5]), states, weights, True, 3, 0.0, False, False))

    torch.testing.assert_close(torch.compile(run, backend="eager")(X), run(X), atol=1e-6, rtol=0)


@exact
@pytest.mark.parametrize("cls", CLASSES)
def test_autocast(cls: type[Int8Recurrent]) -> None:
    """Layer 0 computes in bf16, and no integer kernel has such an operand."""
    module = random_layer(cls)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        found, expected = module(X)[0], reference(module)(X)[0]
    assert found.dtype is expected.dtype
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=0)


def test_an_empty_batch() -> None:
    y, state = random_layer(Int8GRU)(torch.zeros(0, 5, 6))
    assert y.shape == (0, 5, 8) and state.shape == (3, 0, 8)


def test_torch_without_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "quantized_gru")
    assert not recurrent.has_exact_recurrent_kernels()


@exact
def test_small_layers_compute_in_floats() -> None:
    assert Int8LSTM(6, 8, num_layers=2, dynamic=(0, 1)).groups == [(False, [0, 1])]
    assert Int8GRU(300, 300, num_layers=3, dynamic=(0, 1)).groups == [(True, [0, 1]), (False, [2])]
