"""Strings, comments and paths of a text reach the outputs only as literals and comments."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import onnx
import pytest
import torch

import archc
from archc.types.attributes import string_literal
from tests.diagnostics.cases import run

CODE = "__import__('pathlib').Path('pwned').touch()"
PAYLOADS = {
    "double quotes": f'"""\n{CODE}\n"""',
    "single quotes": f"'''\n{CODE}\n'''",
    "one quote": f'" + {CODE} + "',
    "one single quote": f"' + {CODE} + '",
    "backslash at the end": "C:\\",
    "backslash before quotes": f'\\""" + {CODE} + """',
    "newline": f"\n{CODE}\n",
    "carriage return": f"\r{CODE}\r",
    "line separators": f"\u2028{CODE}\x0b{CODE}\x0c{CODE}\x85{CODE}\u2029",
    "format braces": "{0} {x!r} {" + CODE + "} %s %(x)s",
    "template braces": "{{ 7 * 7 }} {% for i in x %} {{ '" + CODE + "' }} {# #}",
    "escapes": r"\x22\x22\x22 \N{QUOTATION MARK} \u0022 \101",
    "nul and control characters": "\0\x1b[31m\x07\x7f",
    "reading order": "\u202e\u2066 gnp",
    "comment": f"# {CODE}",
    "markup": f"</script><b>{CODE}</b> ]]> `{CODE}`",
    "lone surrogate by name": "\\ud800",
}
IMPORTS = {"__future__", "math", "pathlib", "torch", "torch.nn", "torch.nn.functional", "safetensors.torch", "typing"}

TEXT = """\
{doc}
model net(title = {text}) {{
    input x: f32[N, 4]
    assert title != "", {text}
    h = x -> first: Head(4, title = {text}) -> second: Head(8, title = "plain")
    output y = h -> third: Head(2, title = {text})
}}

{doc}
block Head(width, title) {{
    input x
    output x -> fc: linear(width) -> relu
}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def imported(path: Path) -> ModuleType:
    """Import the emitted module as a user does."""
    spec = importlib.util.spec_from_file_location(f"emitted_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def assert_harmless(folder: Path, name: str = "net") -> torch.nn.Module:
    """Check that all outputs are readable, and that the module neither contains nor runs code of the text."""
    source = (folder / f"{name}.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert set(modules) <= IMPORTS
        if isinstance(node, ast.Name | ast.Attribute):
            word = node.id if isinstance(node, ast.Name) else node.attr
            assert word not in ("__import__", "touch", "exec", "pwned")
    assert not any(c not in "\n\t" and not c.isprintable() for c in source), "a control character is in the source"
    module = imported(folder / f"{name}.py").load()
    module.eval()
    onnx.checker.check_model(onnx.load(folder / f"{name}.onnx"))
    json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert archc.parse(folder / f"{name}.arch").name == name
    assert not Path("pwned").exists()
    return module


def commented(text: str) -> str:
    """A text as comment lines, with spaces for the characters that are not allowed in comments."""
    allowed = "".join(c if c == "\n" or c.isprintable() else " " for c in text)
    return "\n".join(f"# {line}" for line in allowed.split("\n"))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_strings_and_comments(payload: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = PAYLOADS[payload]
    Path("net.arch").write_text(TEXT.format(doc=commented(text), text=string_literal(text)), encoding="utf-8")
    status, output = run(("compile", "net.arch", "-o", "out"), capsys)
    assert status == 0, output
    module = assert_harmless(Path("out"))
    assert module(torch.zeros(3, 4)).shape == (3, 2)


NAMES = {
    "quotes": '""" + 1 + """.arch',
    "newline": f"a\n{CODE}\n.arch",
    "braces": "{{ 7 * 7 }}{0}.arch",
    "backslash": "a\\.arch",
    "quote": "a'.arch",
    "bytes that are no text": b"a\xff.arch".decode("utf-8", "surrogateescape"),
}


@pytest.mark.parametrize("case", NAMES)
def test_file_names(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(NAMES[case])
    file.write_text("model net {\n    input x: f32[N, 4]\n    output x -> fc: linear(2)\n}\n")
    status, output = run(("compile", str(file), "-o", "out"), capsys)
    assert status == 0, output
    assert assert_harmless(Path("out"))(torch.zeros(3, 4)).shape == (3, 2)


@pytest.mark.parametrize("case", NAMES)
def test_names_of_files_that_are_wrong(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(NAMES[case]).write_text("model net {\n    input x: f32[N, 4]\n    output x -> lineaa(2)\n}\n")
    status, output = run(("check", NAMES[case]), capsys)
    assert status == 1
    assert "unknown-operator" in output
    assert all(c == "\n" or c.isprintable() for c in output)


WORDS = ("torch", "F", "nn", "Tensor", "super", "len", "print", "math", "Path", "load", "int", "tuple", "Self")


@pytest.mark.parametrize("word", WORDS)
def test_names_that_the_module_uses_itself(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The word names an input, a tensor, an attribute and a layer in one text."""
    Path("net.arch").write_text(
        f"model net {{\n    input {word}: f32[N, 4]\n    h = {word} -> a: Inner(4) -> b: Inner(5)\n"
        f"    output h -> softmax -> {word}: linear(3) -> relu\n}}\n"
        f"block Inner({word}) {{\n    input x: f32[{'N' if word == 'F' else 'F'}, D]\n"
        f"    output x -> {word.lower()}_fc: Outer -> fc: linear({word}) -> gelu\n}}\n"
        f"block Outer {{\n    input {word}\n    {word} = {word} -> relu -> flatten\n"
        f"    output {word} -> {word}: linear(4)\n}}\n"
    )
    status, output = run(("compile", "net.arch", "-o", "out"), capsys)
    assert status == 0, output
    assert assert_harmless(Path("out"))(torch.zeros(3, 4)).shape == (3, 3)


@pytest.mark.parametrize("word", (*WORDS, "Net", "Module", "Linear", "object", "Exception"))
def test_blocks_named_like_what_the_module_uses(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.arch").write_text(
        f"model net {{\n    input x: f32[N, 4]\n    output x -> a: {word}(4) -> b: {word}(5) -> dropout(0.1)\n}}\n"
        f"block {word}(width) {{\n    input x\n    output x -> fc: linear(width) -> relu -> softmax\n}}\n"
    )
    status, output = run(("compile", "net.arch", "-o", "out"), capsys)
    assert status == 0, output
    assert assert_harmless(Path("out"))(torch.zeros(3, 4)).shape == (3, 5)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_messages_have_no_control_characters(payload: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = string_literal(PAYLOADS[payload])
    Path("net.arch").write_text(
        f"model net {{\n    input x: f32[N, 4]\n    assert false, {message}\n    output x\n}}\n",
        encoding="utf-8",
    )
    status, output = run(("check", "net.arch"), capsys)
    assert status == 1
    assert all(c == "\n" or c.isprintable() for c in output)
