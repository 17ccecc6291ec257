"""`archc explain`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from archc.cli.explanations import codes, parse
from tests.cli.conftest import SPECS, Run


def test_the_list_has_every_code_once(run: Run) -> None:
    result = run("explain")
    assert result.status == 0
    lines = [line.split(maxsplit=2) for line in result.out.splitlines() if line.startswith("  ")]
    assert sorted(code for code, _, _ in lines) == codes() and len(codes()) > 150
    assert {severity for _, severity, _ in lines} == {"error", "warning"}
    assert ["unused-value", "warning", "Tensor that no line uses"] in lines


def test_json_of_the_list(run: Run) -> None:
    listed = run("explain", "--json").json["codes"]
    assert [one["code"] for one in listed] == codes()
    assert all(set(one) == {"code", "severity", "group", "summary"} for one in listed)


def test_the_page_of_a_code(run: Run) -> None:
    page = run("explain", "missing-attribute").out
    assert page.startswith("missing-attribute  (error)\n\nAttribute that has no default and no value.\n\n")
    assert "\nexample\n  net.arch:\n      model net {\n" in page
    assert "\n  $ archc check net.arch\n  error[missing-attribute]: `conv2d` needs `kernel_size`\n" in page
    assert "\nway out\n  Give the attribute:\n\n  net.arch:\n" in page
    assert "exit status" not in page and "```" not in page
    assert all(line == line.rstrip() for line in page.splitlines())


def test_the_page_of_a_code_without_an_example(run: Run) -> None:
    page = run("explain", "output-not-finite").out
    assert page.startswith("output-not-finite  (warning)\n")
    assert "example" not in page and "\nway out\n  Correct the weights" in page


def test_json_of_a_code(run: Run) -> None:
    described = run("explain", "calibration-empty", "--json").json
    assert described["severity"] == "error" and described["group"] == "Calibration data"
    assert set(described["example"]["files"]) == {"net.arch", "make.py"}
    assert [command.split()[0] for command in described["example"]["commands"]] == ["python", "archc"]
    assert described["example"]["output"].endswith("exit status 1\n")
    assert set(described["correction"]["files"]) == {"make.py"} and described["correction"]["commands"] == []


@pytest.mark.parametrize("code", codes())
def test_every_code_has_a_page(run: Run, code: str) -> None:
    result = run("explain", code)
    assert (result.status, result.err) == (0, "") and result.out.startswith(code)


@pytest.mark.parametrize("text", ["error[bad-size]: too small", "[bad-size]", "BAD_SIZE", " bad-size "])
def test_a_pasted_headline_is_understood(run: Run, text: str) -> None:
    assert run("explain", text).out.startswith("bad-size  (error)\n")


@pytest.mark.parametrize(
    ("code", "help"),
    [
        ("shape-mismach", "did you mean `shape-mismatch`?"),
        ("truncated", "similar codes: `calibration-truncated`, `weights-truncated`"),
        ("xyzzyxyzzy", "`archc explain` lists the codes"),
        ("", "`archc explain` lists the codes"),
    ],
)
def test_an_unknown_code_gets_the_nearest_ones(run: Run, code: str, help: str) -> None:
    result = run("explain", code)
    assert (result.status, result.out) == (1, "")
    assert f"error[unknown-code]: no diagnostic has the code `{code}`\n" in result.err and f"help: {help}" in result.err
    (diagnostic,) = run("explain", code, "--json").json["diagnostics"]
    assert (diagnostic["code"], diagnostic["help"]) == ("unknown-code", help)


def test_check_reads_no_explanation() -> None:
    """Editors run `archc check` on every keystroke."""
    script = (
        "import sys; from archc.cli import main; main(sys.argv[1:]); print('archc.cli.explanations' in sys.modules)"
    )
    command = [sys.executable, "-c", script, "check", str(SPECS / "lenet5.arch")]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert printed.endswith("\nFalse\n")


def test_fences_before_the_console_are_the_example_and_those_after_it_the_correction() -> None:
    markdown = (
        "# Summary\n\nText.\n\n```arch a.arch\nwrong\n```\n\n"
        "```console\n$ python make.py\n$ archc check a.arch\nsaid\n```\n\n"
        "Way out:\n\n```arch a.arch\nright\n```\n\n```console\n$ archc show a.arch\n```\n"
    )
    found = parse(markdown, "some-code", "syntax")
    assert (found.summary, found.text, found.way) == ("Summary", "Text.", "Way out:")
    assert found.example is not None and found.example.files == {"a.arch": "wrong\n"}
    assert found.example.commands == ("python make.py", "archc check a.arch") and found.example.output == "said\n"
    assert found.correction.files == {"a.arch": "right\n"} and found.correction.commands == ("archc show a.arch",)
