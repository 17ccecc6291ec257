"""Mistakes in methods of operators and passes from outside archc are diagnostics with their places."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from archc.cli import main
from archc.declaration.base import OPERATORS, Operator, operator
from archc.declaration.operator_failure import OperatorFailure
from archc.diagnostics import ArchcError
from archc.passmanager.base import REGISTERED
from archc.types.tensor_type import DType, TensorType

NET = "model net {\n    input x: f32[N, 4]\n    output y = x -> fc: linear(4) -> act: wave\n}\n"
WAVE = """
import archc
from archc.declaration.spelling import call

@archc.operator
class Wave(archc.Operator):
    signature = "x[*s] -> y[*s]"

    def torch(self, spell):
        return call("torch.sin", spell.operands[0])

    def onnx(self, spell):
        return spell.add("Sin", spell.operands[0])
"""
TORCH, ONNX = 'return call("torch.sin", spell.operands[0])', 'return spell.add("Sin", spell.operands[0])'
PLACE = " --> {folder}/net.arch:3:38\n"


@pytest.fixture
def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Function that runs a command with a plugin, and returns its messages; it must end with status 1."""
    monkeypatch.delenv("ARCHC_DEBUG", raising=False)

    def run(plugin: str, *options: str, command: str = "compile") -> str:
        (tmp_path / "net.arch").write_text(NET)
        (tmp_path / "wave.py").write_text(plugin)
        where = ["-o", str(tmp_path / "out")] if command == "compile" else []
        files = [str(tmp_path / "net.arch"), "--load", str(tmp_path / "wave.py")]
        assert main([command, *files, *where, *options]) == 1
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    yield run
    sys.modules.pop("archc_plugins.wave", None)
    OPERATORS.pop("wave", None)
    REGISTERED.pop("still", None)


def test_the_operator_without_mistakes(tmp_path: Path) -> None:
    (tmp_path / "net.arch").write_text(NET)
    (tmp_path / "wave.py").write_text(WAVE)
    files = [str(tmp_path / "net.arch"), "--load", str(tmp_path / "wave.py"), "-o", str(tmp_path / "out")]
    assert main(["compile", *files, "--check", "--strict"]) == 0
    del OPERATORS["wave"]


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (TORCH, "return 1 / 0", "`torch` of the operator `wave` failed: ZeroDivisionError: division by zero"),
        (TORCH, "return None", "`torch` of the operator `wave` returned None, not str"),
        (TORCH, "raise SystemExit(0)", "`torch` of the operator `wave` failed: SystemExit: 0"),
        (TORCH, "raise archc.OperatorError('a', 'no')", "`torch` of the operator `wave` failed: OperatorError: no"),
        (TORCH, "return f'torch.sin({spell.operands[0]}'", "`torch` of the operator `wave` failed: SyntaxError: "),
        (TORCH, TORCH.replace("sin", "sine"), "failed: AttributeError: module 'torch' has no attribute 'sine'"),
        (
            TORCH,
            TORCH.replace("])", "], kind=1)"),
            "failed: TypeError: sin() got an unexpected keyword argument 'kind'",
        ),
        (ONNX, "return spell.ad('Sin')", "`onnx` of the operator `wave` failed: AttributeError: 'NodeSpelling' object"),
        (ONNX, "return 3", "`onnx` of the operator `wave` returned int 3, not str | tuple[str, ...]"),
    ],
)
def test_a_mistake_in_a_spelling(right: str, wrong: str, message: str, shown, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    error = shown(WAVE.replace(right, wrong), "--check")
    assert error.startswith("error[operator-failed]: ") and message in error
    assert PLACE.format(folder=tmp_path) in error and "Traceback" not in error
    assert f"of `{tmp_path / 'wave.py'}`" in error
    assert "`wave` is the class `Wave` of the module `archc_plugins.wave`\n" in error


def test_an_operator_without_a_spelling(shown, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    error = shown(WAVE.replace("def torch", "def torsh"), "--emit", "torch")
    assert "error[operator-failed]: the operator `wave` has neither `torch_name` nor `torch`\n" in error
    assert PLACE.format(folder=tmp_path) in error


@pytest.mark.parametrize("command", ["check", "show", "draw", "compile"])
def test_a_mistake_in_type_inference(command: str, shown, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    method = "    def result_dtypes(self, types):\n        return types[0].dtypes\n"
    error = shown(WAVE + method, command=command)
    assert "`result_dtypes` of the operator `wave` failed: AttributeError: 'TensorType' object" in error
    assert PLACE.format(folder=tmp_path) in error and f"= note: in line 15 of `{tmp_path / 'wave.py'}`" in error


@pytest.mark.parametrize("command", ["show", "draw", "compile"])
def test_a_mistake_in_a_cost(command: str, shown, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    method = "    def multiply_adds(self, inference, types):\n        return 'many'\n"
    error = shown(WAVE + method, command=command)
    assert "`multiply_adds` of the operator `wave` returned str 'many', not int | SymbolicDim" in error
    assert PLACE.format(folder=tmp_path) in error and f"line 14 of `{tmp_path / 'wave.py'}`" in error


def test_the_traceback_is_printed_on_request(shown, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    plugin = WAVE.replace(TORCH, "return 1 / 0")
    shown(plugin)
    monkeypatch.setenv("ARCHC_DEBUG", "1")
    error = shown(plugin)
    assert "Traceback" in error and "error[operator-failed]" in error


PASS = """
from dataclasses import dataclass
import archc

@dataclass(frozen=True)
class Still(archc.Pass):
    def check(self):
        pass

    def run(self, graph, context):
        pass
"""


@pytest.mark.parametrize("method", ["check", "run"])
def test_a_mistake_in_a_pass(method: str, shown, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    before, found, after = PASS.partition(f"def {method}")
    plugin = WAVE + before + found + after.replace("pass", "raise ValueError('no')", 1)
    error = shown(plugin, "--passes", "still")
    assert f"error[pass-failed]: `{method}` of the pass `still` failed: ValueError: no\n" in error
    assert f"= note: in line {21 if method == 'check' else 24} of `{tmp_path / 'wave.py'}`" in error


@pytest.mark.parametrize(
    ("torch", "message", "note"),
    [
        ("torch.sin({x}).double()", "computes float64[8, 4], but the operator declares f32[N, 4]", "`dtypes` declares"),
        ("torch.sin({x})[:, :2]", "computes float32[8, 2], but the operator declares f32[N, 4]", "from `signature`"),
        ("torch.sin({x})[0]", "computes float32[4], but the operator declares f32[N, 4]", "from `signature`"),
        ("2.5", "computes float, but the operator declares f32[N, 4]", "`dtypes` declares"),
    ],
)
def test_a_result_that_contradicts_the_declaration(torch: str, message: str, note: str, shown, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    error = shown(WAVE.replace(TORCH, f"return {torch!r}.format(x=spell.operands[0])"), "--check")
    assert f"error[operator-failed]: `torch` of the operator `wave` {message}\n" in error and note in error
    assert PLACE.format(folder=tmp_path) in error


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (ONNX.replace("Sin", "Cos"), "check-failed"),
        (ONNX.replace("])", "], axis=1)"), "onnx-invalid"),
    ],
)
def test_a_failed_program_names_the_operators_from_outside_first(wrong: str, code: str, shown) -> None:  # type: ignore[no-untyped-def]
    heading, *notes = shown(WAVE.replace(ONNX, wrong), "--check").splitlines()
    assert heading.startswith(f"error[{code}]")
    told = "`wave` is the class `Wave` of the module `archc_plugins.wave`"
    (first, *_), (help,) = ([line for line in notes if f"= {kind}: " in line] for kind in ("note", "help"))
    assert first.endswith(f"note: a likely cause is an operator from outside archc: {told}")
    assert "help: correct `torch` or `onnx` of `wave`; or leave" in help


def test_an_exact_pass_that_a_wrong_trait_misleads_names_the_trait(shown, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(f"{__name__}.NET", NET.replace("act: wave", "wave -> wave"))
    wrong = WAVE.replace("    def torch", "    traits = (archc.traits.IDEMPOTENT,)\n\n    def torch")
    error = shown(wrong, "--passes", "simplify")
    assert "the pass `simplify` promises to preserve the function exactly" in error
    assert "of the module `archc_plugins.wave`, with the traits idempotent; a wrong trait misleads passes\n" in error
    assert "help: correct the traits of `wave`, or remove the pass from the pipeline\n" in error


def test_a_missing_function_of_an_axis_is_refused_at_the_definition() -> None:
    with pytest.raises(ValueError, match="calls `halved`, which is no method of the class; did you mean `halve`"):

        @operator
        class Halving(Operator):
            signature = "x[n] -> y[halved(n)]"

            def halve(self, extent: int, position: int) -> int:
                return extent // 2

    assert "halving" not in OPERATORS


def test_a_failure_can_be_sent_to_another_process() -> None:
    @operator
    class Vanishing(Operator):
        signature = "x[n] -> y[n]"

        def result_dtypes(self, types: object) -> tuple[DType, ...]:
            raise KeyError("x")

    try:
        with pytest.raises(OperatorFailure) as failed:
            Vanishing().infer([TensorType(DType.f32, (3,))])
        again = pickle.loads(pickle.dumps(failed.value))
        assert type(again) is ArchcError and again.diagnostics == failed.value.diagnostics
    finally:
        del OPERATORS["vanishing"]


@pytest.mark.parametrize("wrong", ["cannot", ["cannot"], []])
def test_an_error_without_diagnostics_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r'write `raise archc.diagnostics.error\("my-code", "message"\)`'):
        ArchcError(wrong)
