"""`--onnx standard`, and the statement on operators outside the ONNX standard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import archc
from archc.cli import main
from archc.codegen.onnx.contributed import contributed_operators
from archc.declaration.base import Operator, operator
from archc.declaration.spelling import OnnxSpelling
from archc.diagnostics import ArchcError
from archc.driver.compiled import Compiled

TEXT = """model m {
    input x: f32[N, T, 130]
    output y = x -> r: lstm(128)
}
"""
PASS = 'quant(scheme = "dynamic", for = "onnx")'


@pytest.fixture(scope="module")
def dynamic() -> Compiled:
    x = np.random.default_rng(0).standard_normal((4, 6, 130), np.float32)
    return archc.compile(TEXT, passes=PASS, calib={"x": x})


def domains(path: Path) -> set[str]:
    return {node.domain for node in onnx.load(path).graph.node}


def test_by_default_a_model_may_have_operators_of_onnx_runtime(dynamic: Compiled, tmp_path: Path) -> None:
    report = dynamic.write(tmp_path, emit="onnx", check=True)
    assert report["contributed"] == {"m.onnx": ["com.microsoft.DynamicQuantizeLSTM"]}
    assert json.loads((tmp_path / "report.json").read_text())["contributed"] == report["contributed"]


def test_a_standard_model_has_none(dynamic: Compiled, tmp_path: Path) -> None:
    report = dynamic.write(tmp_path, emit="onnx", check=True, onnx="standard")
    assert report["contributed"] == {"m.onnx": []}
    assert domains(tmp_path / "m.onnx") == {""}
    assert [entry.domain for entry in onnx.load(tmp_path / "m.onnx").opset_import] == [""]
    assert report["check"]["errors"]["onnxruntime"] < report["check"]["tolerance"]


def test_operators_in_the_body_of_a_scan_count(tmp_path: Path) -> None:
    body = onnx.helper.make_graph([onnx.helper.make_node("Gelu", ["a"], ["b"], domain="com.microsoft")], "body", [], [])
    node = onnx.helper.make_node("Scan", ["x"], ["y"], body=body, num_scan_inputs=1)
    graph = onnx.helper.make_graph([node], "m", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "m.onnx")
    assert contributed_operators(tmp_path / "m.onnx") == ["com.microsoft.Gelu"]


def test_an_operator_without_a_standard_form_is_an_error(tmp_path: Path) -> None:
    @operator
    class FastGelu(Operator):
        """Approximate gelu."""

        signature = "x[*s] -> y[*s]"
        torch_name = "F.gelu"

        def onnx(self, spell: OnnxSpelling) -> str:
            return spell.add("FastGelu", spell.operands[0], domain="com.microsoft")

    compiled = archc.compile("model m { input x: f32[N, 4]  output y = x -> fast_gelu }")
    assert compiled.write(tmp_path, emit="onnx", check=False)["contributed"] == {"m.onnx": ["com.microsoft.FastGelu"]}
    with pytest.raises(ArchcError, match=r"no form of `fast_gelu`: it needs `com\.microsoft\.FastGelu`") as caught:
        compiled.write(tmp_path, emit="onnx", check=False, onnx="standard")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "no-onnx-form" and "--onnx standard" in (diagnostic.help or "")


def test_the_option_has_no_effect_without_onnx(tmp_path: Path) -> None:
    compiled = archc.compile(TEXT)
    report = compiled.write(tmp_path, emit="torch", check=False, onnx="standard")
    assert "contributed" not in report
    warnings = [each["message"] for each in report["warnings"] if each["code"] == "option-without-effect"]
    assert warnings == ["`--onnx standard` has no effect: no target with operators outside its standard is written"]


def test_a_wrong_choice_is_refused(dynamic: Compiled, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`onnx` takes 'microsoft' or 'standard', not 'fast'"):
        dynamic.write(tmp_path, onnx="fast")  # type: ignore[arg-type]


@pytest.mark.parametrize(("options", "stated"), [([], True), (["--onnx", "standard"], False)])
def test_the_printed_report_names_them(
    options: list[str], stated: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.arch").write_text(TEXT.replace("lstm(128)", "lstm(128, 2)"))
    arguments = ["compile", str(tmp_path / "m.arch"), "-o", str(tmp_path / "out"), "--passes", PASS, "--no-check"]
    assert main([*arguments, *options]) == 0
    assert ("  m.onnx: com.microsoft.DynamicQuantizeLSTM\n" in capsys.readouterr().out) is stated
