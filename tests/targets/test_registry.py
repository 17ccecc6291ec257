"""Targets: the registry, the defaults, runtimes of the check, and targets of files and packages."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import archc
from archc.cli import main
from archc.codegen.target import ModelToEmit, Runtime, Target
from archc.codegen.torch.load import load_model
from archc.diagnostics import ArchcError
from archc.targets import registry
from archc.targets.registry import (
    BUILT_IN,
    REGISTERED,
    default_targets,
    find_target,
    names_of,
    register_target,
    target_names,
)
from archc.targets.torch import TORCH

TEXT = "model net { input x: f32[N, 8]  output y = x -> fc: linear(4) }"
PLUGIN = """
from archc import Runtime, Target, register_target
{before}
COUNT = register_target(Target("{name}", "{suffix}", "count", text=lambda model: str(len(model.graph)), {options}))
"""

Announce = Callable[[str, str], None]

NAMES = [target.name for target in BUILT_IN]

LARGE = {"torch", "onnx", "onnxruntime", "numpy", "importlib.metadata"}


@pytest.fixture(autouse=True)
def package_of_the_next_test() -> Iterator[None]:
    """Forget the package that a test wrote."""
    yield
    sys.modules.pop("counting", None)


def text(model: ModelToEmit) -> str:
    return model.graph.name


COUNT = Target("count", ".count", "count", text=text, needs_weights=False)


def test_names_suffixes_and_runtimes_are_unique() -> None:
    assert [target.name for target in BUILT_IN] == list(REGISTERED) == target_names()
    assert len({target.suffix for target in BUILT_IN}) == len(BUILT_IN) > 2
    runtimes = [target.runtime.name for target in BUILT_IN if target.runtime is not None]
    assert len(set(runtimes)) == len(runtimes) > 1
    assert registry.RESERVED_SUFFIXES.keys().isdisjoint(target.suffix for target in BUILT_IN)


def test_defaults_without_weights_need_no_weights() -> None:
    assert default_targets(with_weights=True) == list(BUILT_IN)
    assert default_targets(with_weights=False) == [target for target in BUILT_IN if not target.needs_weights]
    register_target(COUNT)
    assert COUNT not in default_targets(with_weights=False) and find_target("count") is COUNT


def test_a_target_without_weights_is_written_for_a_model_without_weights(tmp_path: Path) -> None:
    register_target(COUNT)
    report = archc.compile(TEXT, weights="none").write(tmp_path, emit="count")
    assert (tmp_path / "net.count").read_text() == "net" and set(report["files"]) == {"net.count"}
    report = archc.compile(TEXT).write(tmp_path, emit=["arch", "count"], check=True)
    assert set(report["files"]) == {"net.arch", "net.count", "net.safetensors"}
    assert report["check"] == {"unchecked": "no emitted file can be run"}


def test_a_target_that_needs_weights_is_refused_without_weights(tmp_path: Path) -> None:
    register_target(replace(COUNT, needs_weights=True, title="index"))
    with pytest.raises(ArchcError, match="an index needs weights, and `net` was compiled without") as caught:
        archc.compile(TEXT, weights="none").write(tmp_path, emit="count")
    possible = names_of(default_targets(with_weights=False))
    assert caught.value.diagnostics[0].help == f"without weights, use `--emit {possible}` and a model of one stage"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "torch"}, "there is a target `torch` already"),
        ({"suffix": ".onnx"}, "cannot have the suffix `.onnx` of the target `onnx`"),
        ({"suffix": ".safetensors"}, "cannot have the suffix `.safetensors`, which is that of the weights"),
        ({"suffix": ".json"}, "cannot have the suffix `.json`, which is that of the report"),
        ({"suffix": ".PY"}, "cannot have the suffix `.PY` of the target `torch`"),
        ({"suffix": ".Json"}, "cannot have the suffix `.Json`, which is that of the report"),
        (
            {"runtime": Runtime("onnxruntime", "ONNX Runtime", lambda path, inputs: inputs)},
            "cannot have a runtime named `onnxruntime`, as the target `onnx` has",
        ),
    ],
)
def test_a_taken_name_or_suffix_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_target(replace(COUNT, **change))
    assert list(REGISTERED.values()) == list(BUILT_IN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a,b"}, "the name of a target is a word such as `onnx`, not 'a,b'"),
        ({"suffix": "count"}, "the suffix of a target is a word such as `.onnx`, not 'count'"),
        ({"suffix": "./x"}, "the suffix of a target"),
        ({"text": None}, "needs either `text` or `write`"),
        ({"write": lambda model, path: None}, "needs either `text` or `write`"),
    ],
)
def test_a_malformed_target_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(COUNT, **change)
    with pytest.raises(ValueError, match="the name of a runtime is a word"):
        Runtime("two words", "Runtime", lambda path, inputs: inputs)


def test_a_definition_that_runs_again_replaces_the_target() -> None:
    register_target(COUNT)
    again = register_target(replace(COUNT, title="number"))
    assert find_target("count") is again and list(REGISTERED) == [*NAMES, "count"]
    with pytest.raises(ValueError, match="there is a target `count` already"):
        register_target(replace(COUNT, text=ModelToEmit.__repr__))  # a function of another module


def test_the_driver_and_the_command_line_name_no_target() -> None:
    """The other files of `archc/cli` describe operators, whose spellings have the keys `torch` and `onnx`."""
    spelled = {word for target in BUILT_IN for word in (target.name, target.suffix)}
    spelled |= {target.runtime.name for target in BUILT_IN if target.runtime is not None}
    root = Path(archc.__file__).parent
    files = [
        *root.glob("driver/*.py"),
        *(root / "cli" / name for name in ("compile.py", "shrink.py", "reports/check_report.py", "options.py")),
    ]
    found = {
        (path.name, node.value)
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in spelled
    }
    texts_of_the_language = {("parsing.py", ".arch"), ("options.py", ".arch")}
    assert len(files) > 20 and found == texts_of_the_language


def test_the_registry_imports_no_large_library() -> None:
    program = f"import sys, archc.targets.registry; print(sorted({LARGE} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "[]\n"


# Runtimes -------------------------------------------------------------------------------------------------------

DEEP = """
model net(depth = 16) {
    input x: f32[N, 16]
    for i in 0..depth { x = x -> fc[i]: linear(16) -> relu }
    output y = x -> head: linear(4)
}
"""


@pytest.fixture
def copied() -> Target:
    """A second target of PyTorch modules, whose runtime cannot scale weights."""
    runtime = Runtime("copy", "Copy", lambda path, inputs: load_model(path)(*inputs))
    return register_target(replace(TORCH, name="copy", suffix=".copy.py", runtime=runtime))


def test_a_target_that_cannot_scale_weights_is_left_out_of_the_second_run(copied: Target, tmp_path: Path) -> None:
    compiled = archc.compile(DEEP)
    both = compiled.write(tmp_path, emit=["copy", "torch"], check=True)["check"]
    assert both["faint"] == ["y"]
    assert list(both["errors"]) == ["torch", "copy"] and list(both["scaled"]["errors"]) == ["torch"]
    alone = compiled.write(tmp_path, emit="copy", check=True)["check"]
    assert list(alone["errors"]) == ["copy"] and alone["scaled"] is None


def test_each_target_has_files_for_stages(copied: Target, tmp_path: Path) -> None:
    text = "model net { input x: f32[N, 8]  output y = x -> a: linear(4) -> to_stage(1) -> relu -> b: linear(3) }"
    report = archc.compile(text).write(tmp_path, emit=["copy", "onnx"], check=True)
    programs = ("onnxruntime", "copy", "onnxruntime stages", "copy stages")
    assert tuple(report["check"]["errors"]) == programs and max(report["check"]["errors"].values()) < 1e-5
    suffixes = (".copy.py", ".onnx", ".safetensors")
    names = {f"net{part}{suffix}" for part in ("", "_stage0", "_stage1") for suffix in suffixes}
    assert report["files"].keys() == names | {"net_pipeline.copy.py"}


# Command line ---------------------------------------------------------------------------------------------------


def plugin(folder: Path, name: str = "count", suffix: str = ".count", before: str = "", options: str = "") -> str:
    path = folder / "counting.py"
    path.write_text(PLUGIN.format(name=name, suffix=suffix, before=before, options=options))
    (folder / "net.arch").write_text(TEXT)
    return str(path)


def compile_with(folder: Path, emit: str, *options: str) -> int:
    return main(["compile", str(folder / "net.arch"), "-o", str(folder / "out"), "--emit", emit, *options])


def test_a_loaded_target(tmp_path: Path) -> None:
    file = plugin(tmp_path)
    assert compile_with(tmp_path, "count, arch", "--load", file) == 0
    assert (tmp_path / "out" / "net.count").read_text() == "1" and (tmp_path / "out" / "net.arch").exists()
    assert compile_with(tmp_path, "count", "--load", file) == 0, "the same file is loaded again"


def test_an_unknown_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = plugin(tmp_path)
    assert compile_with(tmp_path, "tf") == 2
    first, second, *_ = capsys.readouterr().err.splitlines()
    choices = ", ".join(NAMES)
    assert first == f"archc compile: argument --emit: `tf` is no choice; the choices are {choices}"
    assert second.startswith("usage: archc compile ")
    assert compile_with(tmp_path, "tf", "--load", file) == 2
    assert f"the choices are {choices}, count\n" in capsys.readouterr().err
    assert compile_with(tmp_path, "counts", "--load", file) == 2
    assert "did you mean `count`?" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r'`emit` takes a list of "torch", .*, "count", not .tf.'):
        archc.compile(TEXT).write(tmp_path / "out", emit="tf")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "torch"}, "ValueError: there is a target `torch` already"),
        ({"suffix": ".py"}, "ValueError: `count` cannot have the suffix `.py` of the target `torch`"),
    ],
)
def test_a_loaded_target_whose_name_or_suffix_is_taken(
    options: dict[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compile_with(tmp_path, "torch", "--load", plugin(tmp_path, **options)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error[plugin-failed]") and message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("lambda path, inputs: int(path.name)", "Counter cannot run the count: ValueError: invalid literal for int()"),
        ("lambda path, inputs: inputs", "counter differs from the graph by "),
        ("refuse", "Counter refuses the count: no"),
    ],
)
def test_the_check_runs_a_loaded_target(
    run: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = "from archc.codegen.target import RunError\n\ndef refuse(path, inputs):\n    raise RunError('no', True)\n"
    options = f'runtime=Runtime("counter", "Counter", {run})'
    file = plugin(tmp_path, before=before, options=options)
    (tmp_path / "net.arch").write_text(TEXT.replace("linear(4)", "linear(8)"))
    assert compile_with(tmp_path, "count", "--load", file, "--check") == 1
    error = capsys.readouterr().err
    assert error.startswith("error[check-failed]") and message in error
    assert f"leave `count` out of `--emit`, for instance `--emit {names_of(BUILT_IN)}`" in error
    assert not (tmp_path / "out").exists()


def test_a_loaded_file_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.arch").write_text(TEXT)
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / "net.py"
    file.write_text("import archc\n")
    assert compile_with(tmp_path, "torch", "--load", str(file)) == 1
    assert capsys.readouterr().err.startswith("error[output-replaces-input]")
    assert file.read_text() == "import archc\n"


# Packages -------------------------------------------------------------------------------------------------------


def test_a_target_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, announce: Announce) -> None:
    plugin(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    announce("count", "counting:COUNT")
    assert target_names() == [*NAMES, "count"]
    assert compile_with(tmp_path, "arch") == 0
    assert "counting" not in sys.modules, "the package is imported only if `--emit` names the target"
    assert compile_with(tmp_path, "count") == 0
    assert (tmp_path / "out" / "net.count").read_text() == "1"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nothing_of_that_name:COUNT", "No module named 'nothing_of_that_name'"),
        ("archc.targets.torch:COUNT", "has no attribute 'COUNT'"),
        ("archc.targets.torch:TORCH", "its module defines no target of that name"),
        ("counting:COUNT", "`count` cannot have the suffix `.py` of the target `torch`"),
    ],
)
def test_an_entry_point_without_a_target(
    value: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    announce: Announce,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plugin(tmp_path, suffix=".py")
    monkeypatch.syspath_prepend(tmp_path)
    announce("count", value)
    with pytest.raises(ArchcError) as failure:
        archc.compile(TEXT).write(tmp_path / "out", emit="count")
    (diagnostic,) = failure.value.diagnostics
    assert diagnostic.code == "target-not-loadable"
    assert diagnostic.message.startswith(f"the target `count` cannot be loaded from `{value}`: ")
    assert reason in diagnostic.message
    assert compile_with(tmp_path, "count") == 1
    assert capsys.readouterr().err.startswith("error[target-not-loadable]")
    assert not (tmp_path / "out").exists()


def test_a_package_cannot_take_the_place_of_a_target(tmp_path: Path, announce: Announce) -> None:
    announce("arch", "nothing_of_that_name:ARCH")
    (tmp_path / "net.arch").write_text(TEXT)
    assert compile_with(tmp_path, "arch") == 0
    assert target_names() == NAMES


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('no way')", "the target `odd` failed: ValueError: no way"),
        ("raise SystemExit(0)", "the target `odd` failed: SystemExit: 0"),
        ("open('/no/such/folder/file')", "FileNotFoundError"),
        ("pass", "it wrote no file `net.odd`"),
        ("path.write_text(''); path.with_name('odd').mkdir()", "it made the folder `odd`"),
    ],
)
def test_a_failure_of_a_loaded_target_is_reported(
    body: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.arch").write_text(TEXT)
    plugin = f"import archc\ndef write(model, path):\n    {body}\n"
    plugin += "archc.register_target(archc.Target('odd', '.odd', 'odd file', write=write))\n"
    (tmp_path / "odd.py").write_text(plugin)
    files = [str(tmp_path / "net.arch"), "--load", str(tmp_path / "odd.py"), "-o", str(tmp_path / "out")]
    assert main(["compile", *files, "--emit", "odd"]) == 1
    shown = capsys.readouterr().err
    assert "error[target-failed]" in shown and message in shown
    assert ("in line 3 of" in shown) == (not body.startswith("pa"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("written", "listed"), [("net.odd.data", True), ("net.arch", False)])
def test_further_files_of_a_loaded_target(written: str, listed: bool, tmp_path: Path) -> None:
    """A file that the target writes beside its own is in the report, and replaces no input."""
    (tmp_path / "net.arch").write_text(TEXT)
    (tmp_path / "odd.py").write_text(
        "import archc\n"
        f"def write(model, path):\n    path.write_text('odd')\n    path.with_name('{written}').write_text('more')\n"
        "archc.register_target(archc.Target('odd', '.odd', 'odd file', write=write))\n"
    )
    files = [str(tmp_path / "net.arch"), "--load", str(tmp_path / "odd.py"), "-o", str(tmp_path)]
    assert main(["compile", *files, "--emit", "odd"]) == (0 if listed else 1)
    if listed:
        report = json.loads((tmp_path / "report.json").read_text())
        assert {"net.odd", written} <= set(report["files"])
    assert (tmp_path / "net.arch").read_text() == TEXT


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("None", "Odd returns a wrong result for the odd file: NoneType, not tensors"),
        ("(torch.zeros(2, 4),) * 2", "Odd returns a wrong result for the odd file: 2 tensors, not 1"),
        ("torch.zeros(8, 4).double()", "Odd gives the output `y` the dtype float64, and the graph gives float32"),
        ("torch.zeros(2, 3)", "Odd gives the output `y` the shape [2, 3], and the graph gives ["),
    ],
)
def test_a_wrong_result_of_a_runtime_is_reported(
    result: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.arch").write_text(TEXT)
    (tmp_path / "odd.py").write_text(
        "import archc, torch\n"
        f"RUNTIME = archc.Runtime('odd', 'Odd', lambda path, inputs: {result})\n"
        "archc.register_target(archc.Target('odd', '.odd', 'odd file', text=lambda model: '', runtime=RUNTIME))\n"
    )
    files = [str(tmp_path / "net.arch"), "--load", str(tmp_path / "odd.py"), "-o", str(tmp_path / "out")]
    assert main(["compile", *files, "--emit", "odd", "--check"]) == 1
    assert message in capsys.readouterr().err


def test_only_targets_are_registered() -> None:
    with pytest.raises(
        TypeError, match=r"`register_target` takes a target, `archc.Target\(name=..., ...\)`, not 'csv'"
    ):
        register_target("csv")  # type: ignore[arg-type]
