"""`archc check`."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import SPECS, Run

Write = Callable[[str, str], Path]

TWO_MODELS = """\
model small(width = 4) { input x: f32[N, 8]  output y = x -> fc: linear(width) }
model large(width = 16) { input x: f32[N, 8]  output y = x -> fc: linear(width) }
"""


def test_a_correct_file_gives_one_line(run: Run) -> None:
    path = SPECS / "cnn.arch"
    result = run("check", path)
    assert (result.status, result.err) == (0, "")
    assert result.out == f"{path}: fine (cnn: 10 operators, 225,034 parameters)\n"


@pytest.mark.parametrize("has_pipeline", [False, True])
def test_it_imports_only_what_it_needs(has_pipeline: bool) -> None:
    """Editors run `archc check` on every keystroke.

    Only the passes of a pipeline need the pass manager and NumPy.
    """
    program = """
import sys
from archc.cli import main
status = main(["check", *sys.argv[1:]])
sys.exit(status or ", ".join(sorted(unneeded & set(sys.modules))) or 0)
"""
    unneeded = {"torch", "onnx", "onnxruntime", "scipy", "rich", "jinja2", "shtab", "archc.cli.compile"}
    unneeded |= {"archc.targets", "archc.codegen.target"}
    if not has_pipeline:
        unneeded |= {"numpy", "archc.passmanager", "archc.codegen", "archc.interpreter"}
    program = f"unneeded = {unneeded}\n{program}"
    files = [str(file) for file in sorted(SPECS.glob("*.arch")) if ("\npipeline " in file.read_text()) == has_pipeline]
    assert files
    result = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count(": fine (") == len(files)


def test_every_model_of_a_file_is_checked(run: Run, write: Write) -> None:
    path = write("two.arch", TWO_MODELS)
    assert run("check", path).out == (
        f"{path}: fine (small: 1 operator, 36 parameters; large: 1 operator, 144 parameters)\n"
    )
    assert run("check", path, "--model", "large").out == f"{path}: fine (large: 1 operator, 144 parameters)\n"
    assert "(large: 1 operator, 18 parameters)" in run("check", path, "--model", "large", "--set", "width=2").out


def test_mistakes_of_all_models_and_files_are_reported_in_one_run(run: Run, write: Write) -> None:
    one = write("one.arch", TWO_MODELS.replace("linear", "liner"))
    other = write("other.arch", "model m {\n    input x f32[N, 8]\n}\n")
    fine = SPECS / "mlp.arch"
    result = run("check", one, other, fine)
    assert result.status == 1
    assert result.err.count("error[unknown-operator]") == 2
    assert f"--> {one}:1:" in result.err and f"--> {one}:2:" in result.err and f"--> {other}:2:" in result.err
    assert result.out.startswith(f"{fine}: fine")
    assert result.err.endswith("in 2 files\n")


def test_warnings_are_printed_and_leave_a_file_fine(run: Run, write: Write) -> None:
    path = write("m.arch", "model m {\n    input x: f32[N, 8]\n    z = x -> relu\n    output y = x -> tanh\n}\n")
    result = run("check", path)
    assert result.status == 0
    assert result.err.startswith("warning[") and "`z`" in result.err
    assert result.out == f"{path}: fine (m: 1 operator, 0 parameters)\n"


def test_blocks_alone_are_fine(run: Run, write: Write) -> None:
    path = write("blocks.arch", "block B { input x  output x -> relu }\n")
    result = run("check", path)
    assert result.status == 0
    assert result.out == f"{path}: fine (1 block and no model; blocks are checked where they are used)\n"


def test_names_in_pipelines_are_checked(run: Run, write: Write) -> None:
    path = write("p.arch", "pipeline a = lowrnk(2) -> b\npipeline b = quant\n")
    result = run("check", path)
    assert result.status == 1
    assert f"error[unknown-pass]: there is no pass `lowrnk`\n --> {path}:1:14" in result.err
    assert "did you mean `lowrank`?" in result.err
    assert result.err.count("error[") == 1


def test_json(run: Run, write: Write) -> None:
    bad = write("bad.arch", "model m {\n    input x: f32[N, 8]\n    output y = x -> liner(2)\n}\n")
    result = run("check", SPECS / "cnn.arch", bad, "--json")
    assert (result.status, result.err) == (1, "")
    report = result.json
    assert report["fine"] is False
    good, wrong = report["files"]
    assert good["models"] == [{"model": "cnn", "operators": 10, "parameters": 225034}]
    assert (good["fine"], good["diagnostics"]) == (True, [])
    assert (wrong["fine"], wrong["models"]) == (False, [])
    (diagnostic,) = wrong["diagnostics"]
    assert {key: diagnostic[key] for key in ("severity", "code", "file", "line", "column", "help")} == {
        "severity": "error",
        "code": "unknown-operator",
        "file": str(bad),
        "line": 3,
        "column": 21,
        "help": "did you mean `linear`?",
    }


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        (["classes"], "bad-setting"),
        (["1=2"], "bad-setting"),
        (["classes=1+2"], "wrong-type"),
        (["classes=("], "unclosed-bracket"),
        (["clases=3"], "unknown-attribute"),
    ],
)
def test_settings_that_do_not_fit(run: Run, settings: list[str], code: str) -> None:
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    result = run("check", SPECS / "cnn.arch", *arguments)
    assert result.status == 1
    assert f"error[{code}]" in result.err


def test_a_plugin_brings_operators(run: Run, write: Write, plugins: None) -> None:
    plugin = write(
        "my_ops.py",
        """\
from __future__ import annotations
from archc import Operator, attribute, operator

@operator
class Scale(Operator):
    '''A constant multiple: y = factor x.  More of it.'''

    signature = "x[*s] -> y[*s]"
    example = "x -> scale(0.5)"
    factor: float = attribute(2.0, doc="by what")

    def torch(self, spell):
        return f"{spell.operands[0]} * {self.factor}"

    def onnx(self, spell):
        return spell.add("Mul", spell.operands[0], spell.constant(self.factor))
""",
    )
    model = write("m.arch", "model m {\n    input x: f32[N, 8]\n    output y = x -> scale(0.5)\n}\n")
    assert "error[unknown-operator]" in run("check", model).err
    assert run("check", model, "--load", plugin).status == 0
    page = run("ops", "scale", "--load", plugin).out
    assert "x * 0.5" in page and "ONNX\n  Mul" in page and "(my_ops)" in page


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("x = 1\nx.y\n", "plugin-failed", "in line 2"),
        ("def f(:\n", "plugin-failed", "SyntaxError"),
        ("\nimport other_plugin\n", "plugin-failed", "in line 2"),
        (None, "file-not-found", "my.py"),
    ],
)
def test_a_plugin_that_fails(
    run: Run,
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str | None,
    code: str,
    message: str,
) -> None:
    write("other_plugin.py", "\n\n\ndef f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    if text is not None:
        write("my.py", text)
    result = run("check", SPECS / "cnn.arch", "--load", tmp_path / "my.py")
    assert (result.status, result.out) == (1, "")
    assert f"error[{code}]" in result.err and message in result.err and "Traceback" not in result.err


def test_the_models_of_a_file_share_a_limit(run: Run, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archc.language.elaboration.size_bound.MOST_PARTS_TOGETHER", 10)
    body = "{ input x: f32[N]  for i in 0..90 { x = x -> relu }  output x }\n"
    path = write("net.arch", "".join(f"model m{k} {body}" for k in range(12)))
    result = run("check", path)
    assert result.status == 1
    assert "iterations together" in result.err and "check one at a time: `--model" in result.err


def test_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TWO_MODELS.encode())))
    assert run("check", "-").out.startswith("<stdin>: fine (small: 1 operator")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"model m { output x }")))
    result = run("check", "-")
    assert result.status == 1 and "--> <stdin>:1:18" in result.err


@pytest.mark.parametrize("command", ["show", "draw", "compile"])
def test_other_commands_read_standard_input(
    command: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "model m { input x: f32[N, 8]  output y = x -> fc: linear(4) }"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    more = ["--emit", "torch,arch", "--no-check"] if command == "compile" else []
    result = run(command, "-", *more)
    assert (result.status, result.err) == (0, "")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"model m { output x }")))
    assert "--> <stdin>:1:18" in run(command, "-", *more).err


@pytest.mark.parametrize("order", ["AOB", "OAB", "ABO", "AOBO"])
def test_options_may_be_anywhere_among_files(order: str, run: Run, write: Write) -> None:
    files = {name: str(write(f"{name}.arch", TWO_MODELS)) for name in "AB"}
    words = [files.get(letter, "--json") for letter in order]
    assert [report["file"] for report in run("check", *words).json["files"]] == [files["A"], files["B"]]
    assert [report["file"] for report in run("fmt", *words).json["files"]] == [files["A"], files["B"]]
    assert run("check", "--json").status == 2
    assert run("check", files["A"], "--jsn", files["B"]).status == 2


def test_json_has_the_end_of_each_place(run: Run, write: Write) -> None:
    text = "model m {\n    input x: f32[N, 8]\n    output y = x -> foo(\n        3)\n}\n"
    (mistake,) = run("check", write("m.arch", text), "--json").json["files"][0]["diagnostics"]
    ends = [mistake[name] for name in ("line", "column", "end_line", "end_column")]
    assert ends == [3, 21, 3, 24]
    text = "model m {\n    input x: f32[N, 8]\n    output y = x + (3 -\n        false)\n}\n"
    (mistake,) = run("check", write("m.arch", text), "--json").json["files"][0]["diagnostics"]
    assert [mistake[name] for name in ("line", "column", "end_line", "end_column")] == [3, 20, 4, 15]
