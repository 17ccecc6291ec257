"""Files that emitted modules import: `archc_int8.py`, and its other versions in the same folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import archc
from archc.codegen.python_source import library
from archc.codegen.torch import library_file
from archc.codegen.torch.emit import LIBRARIES
from archc.codegen.torch.load import load_module
from archc.driver.compiled import Compiled
from archc.driver.imported_files import ImportedFiles
from archc.driver.output_folder import OutputFolder

INT8_FILE = library_file("int8")

CNN, MLP = Path("specs/cnn.arch"), Path("specs/mlp.arch")


def quantized(text: str | Path, passes: str = "quant(least = 0)") -> Compiled:
    return archc.compile(text, passes=passes)


def output(path: Path) -> Tensor:
    """The output of an emitted module for fixed random inputs."""
    shape = {"cnn": (2, 1, 28, 28), "mlp": (2, 784)}[path.stem]
    result: Tensor = load_module(path).load()(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    return result


def test_the_file_is_written_beside_the_module_and_reported(tmp_path: Path) -> None:
    report = quantized(CNN).write(tmp_path, check=True)
    assert (tmp_path / INT8_FILE).read_text() == library("int8")
    assert INT8_FILE in report["files"]
    assert "class Int8Linear" not in (tmp_path / "cnn.py").read_text()


def test_stages_share_the_file(tmp_path: Path) -> None:
    report = quantized(CNN, "quant(least = 0), partition(2)").write(tmp_path, check=True)
    assert [name for name in report["files"] if name.startswith("archc_")] == [INT8_FILE]
    assert "torch stages" in report["check"]["errors"]
    assert f'beside("{INT8_FILE}")' in (tmp_path / "cnn_stage1.py").read_text()


@pytest.mark.parametrize(("passes", "single_file"), [("", False), ("quant(least = 0)", True)])
def test_no_file_is_written_without_need(passes: str, single_file: bool, tmp_path: Path) -> None:
    report = quantized(CNN, passes).write(tmp_path, single_file=single_file)
    assert not list(tmp_path.glob("archc_*"))
    assert not [name for name in report["files"] if name.startswith("archc_")]


def test_models_of_two_versions_in_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    quantized(CNN).write(tmp_path)
    before = output(tmp_path / "cnn.py")
    # As another version of archc might have written it: `Int8Linear` has another name there.
    other = library("int8").replace("Int8Linear", "Int8Dense")
    (tmp_path / INT8_FILE).write_text(other)
    module = (tmp_path / "cnn.py").read_text()
    (tmp_path / "cnn.py").write_text(module.replace("Int8Linear", "Int8Dense"))

    quantized(MLP).write(tmp_path)
    assert (tmp_path / INT8_FILE).read_text() == other
    assert torch.equal(output(tmp_path / "cnn.py"), before)
    (hashed,) = tmp_path.glob("archc_int8_*.py")
    assert hashed.read_text() == library("int8") and f'"{hashed.name}"' in (tmp_path / "mlp.py").read_text()
    assert output(tmp_path / "mlp.py").shape == (2, 10)

    quantized(CNN).write(tmp_path)  # only `cnn.py` imported the old file, and is replaced
    assert (tmp_path / INT8_FILE).read_text() == library("int8")
    assert torch.equal(output(tmp_path / "cnn.py"), before)
    assert output(tmp_path / "mlp.py").shape == (2, 10)


def test_a_file_of_the_user_stays(tmp_path: Path) -> None:
    (tmp_path / INT8_FILE).write_text("mine = True\n")
    quantized(CNN).write(tmp_path)
    assert (tmp_path / INT8_FILE).read_text() == "mine = True\n"
    assert output(tmp_path / "cnn.py").shape == (2, 10)


def test_texts_of_one_name_get_files_of_their_own(tmp_path: Path) -> None:
    with OutputFolder(tmp_path) as out:
        files = ImportedFiles(out, ["archc_b.py"])
        names = [files.write("archc_a.py", text) for text in ("one", "two", "one")] + [files.write("archc_b.py", "b")]
        with pytest.raises(ValueError, match="begins with `archc_`"):
            files.write("net.safetensors", "")
    assert names[0] == names[2] == "archc_a.py" != names[1] and names[3] != "archc_b.py"
    assert [(tmp_path / name).read_text() for name in names] == ["one", "two", "one", "b"]


def test_a_file_that_no_module_imports_is_replaced(tmp_path: Path) -> None:
    (tmp_path / INT8_FILE).write_text(library("int8") + "# of an older version\n")
    (tmp_path / "notes.py").write_text("x = 1\n")
    quantized(CNN).write(tmp_path)
    assert (tmp_path / INT8_FILE).read_text() == library("int8")


@pytest.mark.parametrize("file", [library_file(library) for library in LIBRARIES])
def test_no_model_has_the_name_of_a_file(file: str) -> None:
    name = Path(file).stem
    with pytest.raises(archc.ArchcError, match=name):
        archc.parse(f"model {name} {{ input x: f32[N, 64]  output y = x -> linear(8) }}")


def test_sources_have_the_file() -> None:
    sources = quantized(CNN, "quant(least = 0), partition(2)").sources()
    assert sources[INT8_FILE] == library("int8")
    assert INT8_FILE not in archc.compile(CNN).sources()
    single = archc.compile(CNN, passes="quant(least = 0), partition(2)", single_file=True).sources()
    assert single.keys() == sources.keys() - {INT8_FILE} and "class Int8Conv2d" in single["cnn.py"]
