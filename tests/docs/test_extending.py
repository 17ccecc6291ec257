"""Examples of docs/how-to/extending.md, as a loaded file and as an installed package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.docs.examples import ROOT, install_example, python, write_examples

FORMULA = """
import numpy as np, tides, torch
model = tides.load().requires_grad_(False)
time = np.linspace(-3, 3, 7, dtype=np.float32)[:, None]
level = time
for layer, a in ((model.fc1, 2.0), (model.fc2, 0.5), (model.fc3, None)):
    level = level @ layer.weight.numpy().T + layer.bias.numpy()
    level = level if a is None else level + np.sin(a * level) ** 2 / a
np.testing.assert_allclose(model(torch.from_numpy(time)).numpy(), level, rtol=1e-4, atol=1e-5)
print("equal")
"""
UNLOADABLE = """
import archc
from archc.diagnostics import ArchcError
try:
    archc.parse("tides.arch")
except ArchcError as failure:
    print(failure.diagnostics[0].code, failure.diagnostics[0].message)
"""
REFUSED = """
import importlib, sys
import archc
importlib.import_module(sys.argv[1])
try:
    archc.compile(sys.argv[2], passes="".join(sys.argv[3:]))
except archc.ArchcError as failure:
    print(failure.diagnostics[0].message)
"""
MISSPELT = """
import archc
from archc.diagnostics import ArchcError
try:
    archc.parse("model m { input x: f32[N]  output y = x -> snaek }")
except ArchcError as failure:
    print(failure.diagnostics[0].help)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert write_examples(ROOT / "docs/how-to/extending.md", tmp_path) == [
        "plugin.py",
        "tides.arch",
        "use.py",
        "gates.py",
        "gated.arch",
        "smooth.py",
        "pyproject.toml",
    ]
    return tmp_path


@pytest.fixture
def installed(folder: Path) -> Path:
    """A folder for `sys.path` with the files of the installed package."""
    return install_example(folder, "plugin.py")


def compiled(folder: Path, *options: str | Path, path: Path | None = None) -> dict[str, float]:
    """Compile the example with `--check`, and return the errors of its programs."""
    arguments = ["compile", folder / "tides.arch", "--passes", "swing(0.5)", "--check", "-o", folder / "out"]
    report = json.loads(python("-m", "archc", *arguments, "--json", *options, path=path))
    assert [remark["kind"] for remark in report["passes"][0]["remarks"]] == ["rewrote"]
    return dict(report["check"]["errors"])


def assert_agree(errors: dict[str, float]) -> None:
    assert set(errors) == {"torch", "onnxruntime"}
    assert max(errors.values()) < 1e-4


def test_loaded_file(folder: Path) -> None:
    assert_agree(compiled(folder, "--load", folder / "plugin.py"))
    source = (folder / "out/tides.py").read_text()
    assert "archc" not in source.split('"""')[2]
    assert "snake(a = 0.5)" in (folder / "out/tides.arch").read_text()


def test_computes_the_formula(folder: Path) -> None:
    """The emitted module agrees with its formula in NumPy."""
    compiled(folder, "--load", folder / "plugin.py")
    assert python("-c", FORMULA, path=folder / "out") == "equal\n"


def test_operator_with_a_weight(folder: Path) -> None:
    """The weight has its initial values, and `prune` changes the attribute together with the sizes."""
    arguments = ["gated.arch", "--load", "gates.py", "--check", "--json", "--passes", 'prune(0.5, scheme = "channel")']
    report = json.loads(python("-m", "archc", "compile", *arguments, folder=folder))
    assert_agree(report["check"]["errors"])
    assert "scaled_glu(32)" in (folder / "out/gated.arch").read_text()
    weights = load_file(folder / "out/gated.safetensors")
    assert np.array_equal(weights["gate.weight"], np.ones(16, np.float32))


def test_operator_with_a_weight_checks_its_attribute(folder: Path) -> None:
    for width, message in (("width", "axis 1 (`2*d`) is 64, expected 32"), ("65", "`features` must be even")):
        text = (folder / "gated.arch").read_text().replace("scaled_glu(2 * width)", f"scaled_glu({width})")
        printed = python("-c", REFUSED, "gates", text, path=folder)
        assert message in printed


def test_pass_with_a_pattern(folder: Path) -> None:
    """The pass replaces the `relu` after a linear layer, and gives a reason for others."""
    text = """model m {
        input x: f32[N, 8]
        output y = x -> fc1: linear(8) -> relu -> layer_norm -> relu -> fc2: linear(8) -> relu -> fc3: linear(2)
    }"""
    (folder / "m.arch").write_text(text)
    passes = ["--load", "smooth.py", "--passes", 'smooth("tanh", keep = "fc2")']
    report = json.loads(python("-m", "archc", "compile", "m.arch", *passes, "--check", "--json", folder=folder))
    assert_agree(report["check"]["errors"])
    printed = (folder / "out/m.arch").read_text()
    assert printed.count('gelu(approximate = "tanh")') == 1 and printed.count("relu") == 2
    (step,) = report["passes"]
    assert [(remark["kind"], remark["message"]) for remark in step["remarks"]] == [
        ("rewrote", "`relu` replaced by `gelu`"),
        ("left", "`layer_norm` is `layer_norm`, not `linear`"),
        ("left", "not selected"),
    ]


def test_pass_checks_its_options(folder: Path) -> None:
    printed = python(
        "-c", REFUSED, "smooth", "model m { input x: f32[N]  output y = x -> relu }", "smooth('erf')", path=folder
    )
    assert "`approximate` of `smooth` must be `none` or `tanh`" in printed


def test_imported_in_python(folder: Path) -> None:
    printed = python("use.py", path=folder, folder=folder)
    assert "snake(a = 2.0)" in printed and "snake(a = 0.5)" in printed and "relu" not in printed


def test_installed_package(folder: Path, installed: Path) -> None:
    assert_agree(compiled(folder, path=installed))


def test_installed_package_is_listed(installed: Path) -> None:
    for command, name in (("ops", "snake"), ("passes", "swing")):
        assert name in python("-m", "archc", command, path=installed).split()
        assert json.loads(python("-m", "archc", command, name, "--json", path=installed))["name"] == name


def test_package_is_imported_only_when_used(folder: Path, installed: Path) -> None:
    """A broken package causes errors only in models that use it."""
    (installed / "plugin.py").write_text("import nothing_of_that_name\n")
    python("-m", "archc", "check", ROOT / "specs/mlp.arch", path=installed)
    printed = python("-c", UNLOADABLE, path=installed, folder=folder)
    assert printed.startswith("operator-not-loadable ") and "nothing_of_that_name" in printed


def test_package_cannot_take_the_place_of_an_operator(installed: Path) -> None:
    points = next(installed.glob("*.dist-info")) / "entry_points.txt"
    points.write_text(points.read_text().replace("snake = plugin:Snake", "snake = plugin:Snake\nrelu = plugin:Snake"))
    assert json.loads(python("-m", "archc", "ops", "relu", "--json", path=installed))["torch"] == "F.relu(x)"


def test_suggestion_for_an_installed_operator(installed: Path) -> None:
    assert "snake" in python("-c", MISSPELT, path=installed)
