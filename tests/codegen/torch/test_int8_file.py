"""Modules that import the int8 layers from the file `archc_int8.py` in their folder."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import archc
from archc.codegen.python_source import library
from archc.codegen.torch import emit, library_file
from archc.codegen.torch.load import load_module
from archc.driver.compiled import Compiled
from tests.codegen.torch.test_source import assert_well_formed

INT8_FILE = library_file("int8")

PASSES = [
    "quant(least = 0)",
    'quant(scheme = "dynamic", least = 0, on = "fc*")',
    'quant(scheme = "weight")',
    "lowrank, quant(least = 0)",
]


def quantized(passes: str = PASSES[0], spec: str = "cnn") -> Compiled:
    return archc.compile(Path("specs") / f"{spec}.arch", passes=passes)


def write(compiled: Compiled, folder: Path, library_text: str | None = None) -> Path:
    """Write the weights and the module of a model; return the path of the module."""
    folder.mkdir(exist_ok=True)
    compiled.write(folder, emit="torch", check=False)

    def write_beside(name: str, text: str) -> str:
        (folder / name).write_text(text if library_text is None else library_text)
        return name

    names = {"source_name": "net.arch", "weights_name": f"{compiled.name}.safetensors"}
    path = folder / f"{compiled.name}.py"
    path.write_text(emit(compiled.graph, write_beside=write_beside, **names))
    return path


def image(rows: int = 2) -> Tensor:
    return torch.randn(rows, 1, 28, 28, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("passes", PASSES)
def test_a_module_computes_what_the_single_file_does(passes: str, tmp_path: Path) -> None:
    compiled = quantized(passes)
    single = compiled.module()
    model = load_module(write(compiled, tmp_path)).load()
    for rows in (1, 2, 9):
        assert torch.equal(model(image(rows)), single(image(rows)))
    assert model.state_dict().keys() == single.state_dict().keys()


@pytest.mark.parametrize("passes", PASSES)
def test_files_are_as_the_formatter_and_the_linter_want_them(passes: str, tmp_path: Path) -> None:
    path = write(quantized(passes), tmp_path)
    (file,) = tmp_path.glob("archc_*.py")
    for written in (path, file):
        assert_well_formed(written.read_text(), tmp_path)


@pytest.mark.parametrize("spec", ["cnn", "mlp"])
def test_a_module_has_at_most_half_as_many_lines_again_as_its_float_module(spec: str, tmp_path: Path) -> None:
    text = write(quantized(spec=spec), tmp_path).read_text()
    floats = archc.compile(f"specs/{spec}.arch").sources()[f"{spec}.py"]
    assert len(text.splitlines()) <= 1.5 * len(floats.splitlines())


QUANTIZED = sorted(path for path in Path("golden").glob("*.md") if " = archc_" in path.read_text())


@pytest.mark.parametrize("path", QUANTIZED, ids=lambda path: path.stem)
def test_forward_calls_layers_directly(path: Path) -> None:
    sources = re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
    methods = [node for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    forwards = [method for method in methods if method.name == "forward"]
    assert forwards
    assert not any(isinstance(node, ast.Lambda) for method in forwards for node in ast.walk(method))


@pytest.mark.parametrize("scheme", ["static", "dynamic"])
@pytest.mark.parametrize("spec", ["cnn", "mlp"])
def test_hooks_of_int8_layers_run(spec: str, scheme: str, tmp_path: Path) -> None:
    compiled = quantized(f'quant(scheme = "{scheme}", least = 0)', spec)
    module = load_module(write(compiled, tmp_path))
    model, called = module.load(), []
    layers = {name: each for name, each in model.named_modules() if hasattr(each, "weight_scale")}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda *_, name=name: called.append(name))
    for rows in (1, 2):
        called.clear()
        model(image(rows) if spec == "cnn" else image(rows).flatten(1))
        assert called == [*layers]


def test_only_modules_with_int8_layers_import_the_file() -> None:
    def refuse(name: str, text: str) -> str:
        raise AssertionError("a float module needs no file")

    graph = archc.compile("specs/cnn.arch").graph
    names = {"source_name": "cnn.arch", "weights_name": "cnn.safetensors"}
    assert emit(graph, write_beside=refuse, **names) == emit(graph, **names)


def test_the_file_is_found_from_a_package_and_from_the_import_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = quantized()
    for folder in ("int8_package", "int8_folder"):
        write(compiled, tmp_path / folder)
    (tmp_path / "int8_package" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "int8_folder")
    monkeypatch.chdir(tmp_path)
    loaded = [importlib.import_module(name) for name in ("int8_package.cnn", "cnn")]
    outputs = [module.load()(image()) for module in loaded]
    assert torch.equal(*outputs)
    assert Path(str(loaded[0].archc_int8.__file__)).parent == tmp_path / "int8_package"
    for name in [name for name in sys.modules if name.partition(".")[0] in ("int8_package", "cnn")]:
        monkeypatch.delitem(sys.modules, name)


def test_a_whole_model_can_be_pickled_for_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(quantized(), tmp_path)
    save = "import cnn, torch; torch.save(cnn.load(), 'model.pt')"
    subprocess.run([sys.executable, "-c", save], cwd=tmp_path, check=True)
    monkeypatch.syspath_prepend(tmp_path)
    model = torch.load(tmp_path / "model.pt", weights_only=False)
    again = load_module(tmp_path / "cnn.py").load()  # by path, as a module that Python's table of modules lacks
    assert torch.equal(model(image()), again(image()))
    torch.save(model, tmp_path / "again.pt")
    for name in [name for name in sys.modules if name.partition(".")[0] == "cnn"]:
        monkeypatch.delitem(sys.modules, name)


def test_modules_of_two_folders_have_files_of_their_own(tmp_path: Path) -> None:
    compiled = quantized()
    changed = library("int8").replace("y = self.in_floats(x, unit)", "y = 0 * self.in_floats(x, unit)")
    assert changed != library("int8")
    modules: list[ModuleType] = []
    for name, text in {"a": None, "b": changed, "c": None}.items():
        modules.append(load_module(write(compiled, tmp_path / name, text)))
    models: list[nn.Module] = [module.load() for module in modules]
    first, other, last = (type(model.fc1) for model in models)  # classes of three modules
    assert len({first, other, last}) == 3
    assert torch.equal(models[0](image()), models[2](image()))
    assert Path(str(modules[1].archc_int8.__file__)) == tmp_path / "b" / INT8_FILE


def test_a_module_that_is_loaded_again_reads_the_file_again(tmp_path: Path) -> None:
    path = write(quantized(), tmp_path)
    load_module(path)
    (tmp_path / INT8_FILE).write_text(library("int8") + "\nMARK = 1\n")
    assert load_module(path).archc_int8.MARK == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = write(quantized(), tmp_path)
    (tmp_path / INT8_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=str(tmp_path / INT8_FILE)):
        load_module(path)
