"""Arguments and results of `archc.compile` in Python."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import archc
from archc.diagnostics import ArchcError, Source
from archc.passes.quant import Quant

TEXT = "model net(width = 4) { input x: f32[N, 8]  output y = x -> one: linear(width) -> relu -> two: linear(2) }"
IMAGES = """
model net {
    input x: f32[N, 3, 12, 12]
    output y = x -> one: conv2d(32, 3) -> relu -> two: conv2d(32, 3) -> relu -> flatten -> fc: linear(5)
}
"""


def reference() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(2 * 2, 2))


def state_of(model: nn.Sequential) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{part}": getattr(model[k], part) for k, name in ((0, "one"), (2, "two")) for part in ("weight", "bias")
    }


@pytest.mark.parametrize("kind", ["tensors", "arrays", "tensors of another layout"])
def test_weights_are_arrays_or_tensors_by_name(kind: str) -> None:
    model, x = reference(), torch.randn(3, 8)
    given: dict[str, Any] = state_of(model)
    if kind == "arrays":
        given = {name: tensor.detach().numpy() for name, tensor in given.items()}
    elif kind != "tensors":
        given = {name: tensor.detach().t().contiguous().t() for name, tensor in given.items()}
    compiled = archc.compile(TEXT, weights=given)
    wanted = model(x).detach()
    for tensor in model.parameters():
        tensor.data.zero_()  # the compiled model has copies
    torch.testing.assert_close(compiled.module()(x), wanted)


def test_weights_in_memory_are_checked_and_renamed(tmp_path: Path) -> None:
    given = {name.replace("one", "layers.0"): tensor for name, tensor in state_of(reference()).items()}
    with pytest.raises(ArchcError, match="weights-missing"):
        archc.compile(TEXT, weights=given)
    (tmp_path / "rules").write_text("layers.0.* -> one.*\n")
    compiled = archc.compile(TEXT, weights=given, rename=tmp_path / "rules")
    np.testing.assert_array_equal(compiled.graph.weight_values("one.weight"), given["layers.0.weight"].detach().numpy())
    assert compiled.weights == "given in memory"


def test_half_precision_tensors_are_converted_with_a_warning() -> None:
    given = {name: tensor.bfloat16() for name, tensor in state_of(reference()).items()}
    found = archc.Diagnostics()
    compiled = archc.compile(TEXT, weights=given, diagnostics=found)
    np.testing.assert_array_equal(
        compiled.graph.weight_values("one.weight"), given["one.weight"].float().detach().numpy()
    )
    assert found.warnings


def test_passes_are_texts_and_passes() -> None:
    mixed = archc.compile(TEXT, passes=["simplify, fold", Quant(least=1), "quant(least = 1)"])
    assert [step.text.partition("(")[0] for step in mixed.passes] == ["simplify", "fold", "quant", "quant"]
    assert [step.text for step in archc.compile(TEXT, passes=Quant(least=1)).passes] == [mixed.passes[2].text]
    with pytest.raises(ArchcError, match="there is no pass `quanti`"):
        archc.compile(TEXT, passes=["fold", "quanti"])
    with pytest.raises(ArchcError):  # the order is wrong across the items of the list
        archc.compile(TEXT, passes=["partition(2)", "quant"])


def test_calibration_data_are_arrays_or_tensors() -> None:
    x = torch.randn(64, 8)
    results = [
        archc.compile(TEXT, passes="quant(least = 1)", calib={"x": data}).sources()
        for data in (x, x.numpy(), x.double())
    ]
    assert results[0] == results[1] == results[2]


def test_arguments_have_the_names_of_the_options() -> None:
    x = np.ones((4, 8), np.float32)
    compiled = archc.compile(TEXT, set={"width": 6}, calib={"x": x}, sizes="N=2", seed=3)
    assert compiled.graph.weights["one.weight"].shape == archc.parse(TEXT, set={"width": 6}).weights["one.weight"].shape
    assert compiled.graph == archc.compile(TEXT, values={"width": 6}, calibration={"x": x}).graph
    with pytest.raises(TypeError, match="`values` is the former name of `set`"):
        archc.compile(TEXT, values={}, set={})
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        archc.compile(TEXT, wights="none")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": 3}, "`text` takes the text itself, or a Path to it, not int 3"),
        ({"text": TEXT.encode()}, "`text` takes the text itself"),
        ({"model": 3}, "`model` takes the name of a model, not int 3"),
        ({"passes": 3}, '`passes` takes a text such as "lowrank, quant", or a list .*, not int 3'),
        ({"passes": Quant}, "`passes` takes .*, not the class Quant"),
        ({"passes": [Quant]}, "one item is the class Quant"),
        ({"passes": None}, "`passes` takes"),
        ({"weights": 3}, '`weights` takes a path, "none", or a mapping .*, not int 3'),
        ({"weights": nn.Linear(2, 2)}, "`weights` takes .*, not Linear"),
        (
            {"weights": {"one.weight": [1.0]}},
            "`weights` expects numpy arrays or torch tensors; 'one.weight' is list",
        ),
        ({"weights": {3: np.ones(3)}}, "expects strings as names, got 3"),
        ({"weights": {"one.weight": np.ones(3, complex)}}, "does not support the dtype complex128 of 'one.weight'"),
        ({"rename": {}}, "`rename` takes a path"),
        ({"calib": [1.0]}, "`calib` takes a path to an .npz file, or a mapping"),
        ({"calib": {"x": "data"}}, "`calib` expects numpy arrays or torch tensors; 'x' is str"),
        ({"set": "width=3"}, "`set` takes a mapping from attributes' names"),
        ({"set": {3: 3}}, "not the name 3"),
        ({"sizes": 3}, "`sizes` expects"),
        ({"seed": "3"}, "`seed` takes an integer, not str '3'"),
        ({"seed": True}, "`seed` takes an integer, not bool True"),
        ({"set": {"width": np.ones(2)}}, "'width' is ndarray"),
        ({"progress": 3}, "`progress` takes a function whose argument is the name of a task, not int 3"),
        ({"allow_pickle": 1}, "`allow_pickle` takes True or False, not int 1"),
        ({"diagnostics": []}, "`diagnostics` takes an archc.Diagnostics"),
    ],
    ids=str,
)
def test_errors_for_wrong_types_name_the_right_one(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        archc.compile(**{"text": TEXT, **arguments})


COMPILED = archc.compile(TEXT)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: archc.draw("net.arch"),
            TypeError,
            "`graph` takes a graph, as `archc.parse.* give it, not str 'net.arch'",
        ),  # type: ignore[arg-type]
        (lambda: archc.draw(COMPILED), TypeError, r"`archc.compile\(...\).graph` give it, not Compiled"),  # type: ignore[arg-type]
        (lambda: archc.draw(COMPILED.graph, depth="1"), TypeError, "`depth` takes an integer, not str '1'"),  # type: ignore[arg-type]
        (lambda: archc.draw(COMPILED.graph, depth=-1), ValueError, "`depth` takes an integer that is not negative"),
        (lambda: archc.draw(COMPILED.graph, open="Block"), TypeError, "`open` takes a list of names of blocks"),
        (lambda: archc.draw(COMPILED.graph, open=[3]), TypeError, "`open` .*, and one item is int 3"),  # type: ignore[list-item]
        (lambda: archc.print_graph(TEXT), TypeError, "`graph` takes a graph"),  # type: ignore[arg-type]
        (lambda: archc.parse([TEXT]), TypeError, "`text` takes the text itself"),  # type: ignore[arg-type]
        (lambda: COMPILED.write(3), TypeError, "`folder` takes a path, not int 3"),  # type: ignore[arg-type]
        (lambda: COMPILED.write("out", emit=3), TypeError, '`emit` takes a list of "torch", .*, not int 3'),  # type: ignore[arg-type]
        (lambda: COMPILED.write("out", emit=[3]), TypeError, "`emit` .*, and one item is int 3"),  # type: ignore[list-item]
        (lambda: COMPILED.write("out", emit="tor"), ValueError, "`emit` .*, not 'tor'"),
        (lambda: COMPILED.write("out", emit=["torch", "tf"]), ValueError, "`emit` .*, not 'tf'"),
        (lambda: COMPILED.write("out", emit=()), ValueError, "`emit` .*, not an empty one"),
        (lambda: COMPILED.write("out", check="no"), TypeError, "`check` takes True, False or None, not str 'no'"),  # type: ignore[arg-type]
        (lambda: COMPILED.write("out", progress=3), TypeError, "`progress` takes a function"),  # type: ignore[arg-type]
        (lambda: COMPILED.write("out", announce=3), TypeError, "`announce` .* is the report"),  # type: ignore[arg-type]
        (lambda: COMPILED.module(3), TypeError, '`device` takes a device of PyTorch such as "cpu"'),  # type: ignore[arg-type]
        (lambda: COMPILED.module("gpu"), ValueError, '`device` takes a device of PyTorch such as "cpu"'),
        (lambda: archc.parse(TEXT).weight_values("one.weight"), ValueError, "no weights are bound"),
        (lambda: archc.compile(TEXT, weights="none").module(), ArchcError, "a module needs weights"),
    ],
)
def test_errors_of_functions_name_the_right_argument(
    call: Callable[[], object], kind: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message):
        call()
    assert list(tmp_path.iterdir()) == []


def test_targets_are_a_list_or_a_text(tmp_path: Path) -> None:
    for number, emit in enumerate(("arch", "torch, arch", ["torch"])):
        COMPILED.write(tmp_path / str(number), emit=emit, check=False)
    suffixes = [{path.suffix for path in (tmp_path / str(number)).glob("net.*")} for number in range(3)]
    assert [".py" in found for found in suffixes] == [False, True, True]
    assert [".arch" in found for found in suffixes] == [True, True, False]


def test_a_negative_seed_is_a_wrong_value() -> None:
    with pytest.raises(ValueError, match="not negative"):
        archc.compile(TEXT, seed=-1)


def test_representations_are_one_line() -> None:
    compiled = archc.compile(TEXT, passes="fold")
    assert repr(archc.parse(TEXT)) == "<Graph net: x -> y; 3 nodes, 4 weights>"
    assert repr(compiled) == "<Compiled Graph net: x -> y; 3 nodes, 4 weights, bound after fold>"


def test_a_notebook_draws_the_model() -> None:
    compiled = archc.compile(TEXT)
    picture = compiled._repr_svg_()
    assert picture.startswith(("<svg", "<?xml"))
    assert picture == compiled.graph._repr_svg_() == archc.draw(compiled.graph)
    assert "linear" in picture


@pytest.mark.parametrize(
    "passes", ["", "quant(least = 1)", "quant(least = 1, scheme = 'weight')", "prune(0.5)", "partition(stages = 2)"]
)
def test_the_module_is_the_one_that_is_written(passes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = archc.compile(IMAGES, passes=passes, sizes="N=2")
    compiled.write(tmp_path, emit=("torch",), check=False)
    from archc.codegen.torch.load import load_module

    written = load_module(tmp_path / "net.py")
    theirs = written.load(devices=["cpu"] * 2) if "partition" in passes else written.load()
    x = torch.randn(2, 3, 12, 12)
    monkeypatch.setattr(tempfile, "mkdtemp", None)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    module = compiled.module()
    assert sorted(tmp_path.rglob("*")) == before
    with torch.no_grad():
        torch.testing.assert_close(module(x), theirs(x), rtol=0, atol=0)
    assert not module.training and isinstance(module, nn.Module)
    assert module.state_dict().keys() == theirs.state_dict().keys()


def test_the_module_is_a_copy_and_can_be_trained() -> None:
    compiled = archc.compile(Source(TEXT))
    module = compiled.module().train()
    before = compiled.graph.weight_values("one.weight").copy()
    module(torch.randn(3, 8)).sum().backward()
    torch.optim.SGD(module.parameters(), 0.1).step()
    np.testing.assert_array_equal(compiled.graph.weight_values("one.weight"), before)
    with pytest.raises(ArchcError, match="compiled without"):
        archc.compile(TEXT, weights="none").module()


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        (torch.empty(4, 8, device="meta"), "is on the device `meta`"),
        (torch.ones(4, 8).to_sparse(), "call `.to_dense"),
        (torch.ones(4, 8).to(torch.float8_e4m3fnuz), "float8_e4m3fnuz"),
        (torch.quantize_per_tensor(torch.ones(4, 8), 0.1, 0, torch.qint8), "call `.dequantize"),
    ],
)
def test_tensors_that_numpy_cannot_take_are_named(tensor: torch.Tensor, problem: str) -> None:
    text = "model m { input x: f32[N, 8]  output y = x -> a: linear(4, bias = false) }"
    for argument, name in (("weights", "a.weight"), ("calib", "x")):
        with pytest.raises(TypeError, match=f"`{argument}` expects dense tensors with values; '{name}' .*{problem}"):
            archc.compile(text, **{argument: {name: tensor}})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.int64(3), np.array(3), np.float32(3), np.bool_(True)])
def test_settings_take_scalars_of_numpy(value: Any) -> None:
    default = {"i": "1", "f": "1.0", "b": "false"}[np.asarray(value).dtype.kind]
    text = f"model m(k = {default}) {{ input x: f32[N, 8]  output y = x -> linear(4) }}"
    archc.parse(text, set={"k": value})
    archc.compile(text, set={"k": value})


def test_an_empty_path_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArchcError, match="empty path"):
        archc.compile("model m { input x: f32[N, 8]  output y = x -> a: linear(4) }").write("")
    assert not list(tmp_path.iterdir())
