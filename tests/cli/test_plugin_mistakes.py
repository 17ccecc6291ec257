"""Mistakes in the declarations of a file of `--load`: errors with class, line and correction."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archc.cli.plugin_declarations import registered
from archc.declaration import OPERATORS
from archc.passmanager import load_pass
from archc.passmanager.base import REGISTERED
from tests.cli.conftest import Run

Write = Callable[[str, str], Path]

NET = "model net {\n    input x: f32[N, 4]\n    output y = x -> fc: linear(4)\n}\n"
OPERATOR = """\
from __future__ import annotations

from dataclasses import dataclass

import archc
from archc.declaration.parameter import constant


@archc.operator
class Wave(archc.Operator):
    signature = "x[*s] -> y[*s]"
    example = "x -> wave(2.0)"

    slope: float = archc.attribute(1.0, doc="slope")
"""
PASS = """\
from __future__ import annotations

from dataclasses import dataclass

import archc


@dataclass(frozen=True)
class Still(archc.Pass):
    preserves = "exact"
    example = "still(2)"

    rank: int = archc.attribute(4, doc="rank")

    def run(self, graph, context):
        pass
"""
SIGNATURE, EXAMPLE = 'signature = "x[*s] -> y[*s]"', 'example = "x -> wave(2.0)"'
SLOPE = 'slope: float = archc.attribute(1.0, doc="slope")'
RANK = 'rank: int = archc.attribute(4, doc="rank")'

OPERATOR_MISTAKES = [
    (SIGNATURE, 'signature = "x[*s -> y[*s]"', "has a wrong signature: expected ", 'like "x[*b, i], weight[o, i] -> '),
    (SIGNATURE, 'signature = "x[*s]"', "'x[*s]' of `Wave` has no result", 'as in "x[*s] -> y[*s]"'),
    (SIGNATURE, "signature = 3", "`signature` of `Wave` is 3", 'write a text such as "x[*s] -> y[*s]"'),
    (SIGNATURE, "", "`Wave` has no signature", 'such as `signature = "x[*s] -> y[*s]"`'),
    (
        SIGNATURE,
        'signature = "x[*s] -> y[*s, k]"',
        "size of `k` in `y[*s, k]`",
        "`k: int = archc.attribute(index='k')`",
    ),
    (SIGNATURE, 'signature = "x[*s] -> y[*t]"', "gives the size of `t` in `y[*t]`", "or write `t` in an operand"),
    (SIGNATURE, SIGNATURE + '\n    dtypes = "f32"', "`dtypes` of `Wave` is 'f32'", "such as `FLOATS`"),
    (SIGNATURE, SIGNATURE + '\n    dtypes = {"f32"}', "`dtypes` of `Wave` is {'f32'}", "such as `{'x': FLOATS}`"),
    (SIGNATURE, SIGNATURE + '\n    dtypes = {"x": 3}', "`Wave` gives `x` the dtypes 3", "such as `FLOATS`"),
    (SIGNATURE, SIGNATURE + '\n    dtypes = {"xs": "x"}', "`Wave` names `xs`, which is no operand", "did you mean `x`"),
    (SIGNATURE, SIGNATURE + '\n    dtypes = {"x": "q"}', "`Wave` names `q`, which is no operand", "operands are `x`"),
    (SIGNATURE, SIGNATURE + '\n    onnx_dtypes = "f32"', "`onnx_dtypes` of `Wave` is 'f32'", "such as `ONNX_FLOATS`"),
    (SIGNATURE, SIGNATURE + '\n    name = "Big Wave"', "`name` of `Wave` is 'Big Wave'", '`name = "big_wave"`'),
    (
        SIGNATURE,
        SIGNATURE + "\n    parameters = 1",
        "`parameters` of `Wave` is 1",
        "`{'weight': archc.Parameter(ones)}`",
    ),
    (
        SIGNATURE,
        'signature = "x[*s, d], weight[d] -> y[*s, d]"\n    parameters = {"weight": 1.0}',
        "the parameter `weight` of `Wave` is 1.0",
        "write `archc.Parameter(ones)`",
    ),
    (
        SIGNATURE,
        SIGNATURE + '\n    parameters = {"weight": archc.Parameter(constant(1.0))}',
        "the parameter `weight` of `Wave` is not in the signature",
        "add it to the operands, as in 'weight[d]'",
    ),
    (
        SIGNATURE,
        SIGNATURE + '\n    parameters = {"weight": archc.Parameter(1.0)}',
        "the initializer of an `archc.Parameter` is 1.0, which is no function",
        "write `archc.Parameter(constant(1.0))`",
    ),
    (
        SLOPE,
        SLOPE.replace("float", "Flote"),
        "type `Flote` of `slope` of `Wave` is wrong: name",
        "did you mean `float`",
    ),
    (SLOPE, SLOPE.replace("float", "list[float]"), "`slope` of `Wave` has the type `list[float]`", "tuple[int, ...]"),
    (SLOPE, SLOPE.replace("slope: float", "slope"), "`slope` of `Wave` has no type", "write `slope: int = archc.attr"),
    (SLOPE, SLOPE.replace("slope:", "torch:"), "`torch` of `Wave` cannot be an attribute", "another name"),
    (SLOPE, SLOPE.replace("1.0", "'one'"), "default of `slope` of `Wave` must be a number", "correct the default or"),
    (
        SLOPE,
        SLOPE.replace("1.0", "1.0, index='q'"),
        "`slope` of `Wave` is declared with index='q'",
        "write `index='s'`",
    ),
    (
        SLOPE,
        SLOPE + "\n    bound: float = archc.attribute()",
        "`bound` of `Wave` has no default, but `slope` before it has one",
        "declare `bound` before `slope`",
    ),
    ("@archc.operator\n", "\n", "`Wave` declares `slope`, but has no decorator", "write `@archc.operator` in the line"),
    (EXAMPLE, EXAMPLE.replace("wave", "wav"), "`example` of `Wave` is 'x -> wav(2.0)'", "write `wave` for `wav`"),
    (
        EXAMPLE,
        EXAMPLE.replace("-> wave", "-> -> wave"),
        "`example` of `Wave` is 'x -> -> wave(2.0)'",
        "expected a name",
    ),
]
PASS_MISTAKES = [
    ('"exact"', '"exakt"', "`preserves` of `Still` is 'exakt'", "did you mean `exact`?"),
    ('"exact"', "None", "`preserves` of `Still` is None", 'write one of "exact", "rounding", "approximate"'),
    ('"exact"', '"exact"\n    name = "be still"', "`name` of `Still` is 'be still'", '`name = "be_still"`'),
    ('"exact"', '"exact"\n    needs = "float weights"', "`needs` of `Still` is 'float", '`needs = ("float weights",)`'),
    ('"exact"', '"exact"\n    ends = ("a", 1)', "`ends` of `Still` is ('a', 1)", '`ends = ("float weights",)`'),
    (
        '"exact"',
        '"exact"\n    effective_with = 1',
        "`effective_with` of `Still` is 1",
        "{option: (other option, values)}",
    ),
    (
        '"exact"',
        '"exact"\n    effective_with = {"rank": ("rnk", (1,))}',
        "`effective_with` of `Still` names 'rnk', which is no option",
        "did you mean `rank`?",
    ),
    ("def run(", "def ran(", "`Still` has no method `run`", "define `def run(self, graph, context)`"),
    ("class Still", "class Quant", "`quant` is a pass of archc itself", "give `Quant` another name"),
    (
        "@dataclass(frozen=True)\n",
        "\n",
        "`Still` declares `rank`, but has no dec",
        "write `@dataclass(frozen=True)` in",
    ),
    (
        RANK,
        RANK.replace("4", "'four'"),
        "the default of `rank` of `Still` must be an integer",
        "correct the default or",
    ),
    (RANK, RANK.replace("int", "itn"), "the type `itn` of `rank` of `Still` is wrong", "did you mean `int`?"),
    (RANK, RANK.replace("rank:", "check:"), "`check` of `Still` cannot be an attribute", "give the attribute another"),
    ('"still(2)"', '"still(2"', "`example` of `Still` is 'still(2'", "`(` is never closed"),
]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Forget the operator and the pass of a test."""
    yield
    OPERATORS._loaded.pop("wave", None)
    REGISTERED.pop("still", None)
    sys.modules.pop("archc_plugins.mine", None)


@pytest.mark.parametrize("text", [OPERATOR, PASS])
def test_the_declarations_without_mistakes(text: str, run: Run, write: Write) -> None:
    shown = run("check", write("net.arch", NET), "--load", write("mine.py", text), "--strict")
    assert (shown.status, shown.err) == (0, "")


@pytest.mark.parametrize(
    ("text", "mistake"), [*((OPERATOR, one) for one in OPERATOR_MISTAKES), *((PASS, one) for one in PASS_MISTAKES)]
)
def test_a_mistake_in_a_declaration(text: str, mistake: tuple[str, str, str, str], run: Run, write: Write) -> None:
    right, wrong, message, correction = mistake
    assert text.count(right) == 1
    plugin = write("mine.py", text.replace(right, wrong))
    before = load_pass("quant")
    shown = run("check", write("net.arch", NET), "--load", plugin)
    assert (shown.status, shown.out) == (1, "")
    assert shown.err.startswith(f"error[plugin-failed]: `{plugin}` cannot be loaded: ")
    assert message in shown.err and correction in shown.err and f"of `{plugin}`\n" in shown.err
    assert load_pass("quant") is before


def test_an_entry_of_python_without_its_decorator(run: Run, write: Write, tmp_path: Path) -> None:
    """A class that Python imports is checked when a text uses it."""
    exec(compile(OPERATOR.replace("@archc.operator", ""), "mine.py", "exec"), {"__name__": __name__})
    shown = run("check", write("net.arch", NET.replace("linear(4)", "wave(2.0)")))
    assert shown.status == 1 and "`Wave` declares `slope`, but has no decorator" in shown.err
    assert "error[operator-not-loadable]: the operator `wave` cannot be loaded from the module " in shown.err


@pytest.mark.parametrize("given", ["ValueError", "lambda sizes: 1.0", "lambda sizes: sizes['q']"])
def test_an_initializer_of_a_wrong_kind(given: str, run: Run, write: Write) -> None:
    signature = 'signature = "x[*s, d], weight[d] -> y[*s, d]"'
    text = OPERATOR.replace(SIGNATURE, f'{signature}\n    parameters = {{"weight": archc.Parameter({given})}}')
    model = write("net.arch", NET.replace("linear(4)", "wave(2.0)"))
    shown = run("check", model, "--load", write("mine.py", text))
    assert (
        shown.status == 1 and "error[operator-failed]: the initializer of `weight` of the operator `wave`" in shown.err
    )
    wanted = "failed: KeyError: 'q'" if "'q'" in given else "not an initializer; write `archc.Parameter(constant(1.0))`"
    assert wanted in shown.err and "net.arch:3:" in shown.err


@pytest.mark.parametrize("text", ["import archc\n", "class Wave:\n    signature = 'x[*s] -> y[*s]'\n"])
@pytest.mark.parametrize("command", ["check", "show", "draw", "compile"])
def test_a_file_that_registers_nothing(command: str, text: str, run: Run, write: Write, tmp_path: Path) -> None:
    model, plugin = write("net.arch", NET), write("mine.py", text)
    output = {"draw": ["-o", tmp_path / "net.svg"], "compile": ["-o", tmp_path / "out"]}.get(command, [])
    shown = run(command, model, *output, "--load", plugin)
    assert shown.status == 0
    assert f"warning[option-without-effect]: `--load {plugin}` has no effect because the file defines no " in shown.err
    for wanted in ("`@archc.operator`", "`archc.Pass`", "`archc.register_target`"):
        assert wanted in shown.err
    assert run(command, model, *output, "--load", plugin, "--strict").status == 1


@pytest.mark.parametrize("command", ["ops", "passes"])
def test_a_list_warns_of_a_file_that_registers_nothing(command: str, run: Run, write: Write) -> None:
    shown = run(command, "--load", write("mine.py", ""))
    assert shown.status == 0 and "warning[option-without-effect]: `--load " in shown.err


def test_a_target_is_registered(run: Run, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    from archc.targets import registry

    monkeypatch.setattr(registry, "REGISTERED", dict(registry.REGISTERED))
    text = "import archc\narchc.register_target(archc.Target('csv', '.csv', 'table', text=lambda model: ''))\n"
    known = len(registered())
    assert run("check", write("net.arch", NET), "--load", write("mine.py", text), "--strict").status == 0
    assert len(registered()) == known + 1


def test_a_file_that_exits(run: Run, write: Write) -> None:
    plugin = write("mine.py", "import sys\n\nsys.exit(3)\n")
    shown = run("check", write("net.arch", NET), "--load", plugin)
    assert shown.status == 1
    assert shown.err.startswith(f"error[plugin-failed]: `{plugin}` cannot be loaded: SystemExit: 3\n")
    assert f"in line 3 of `{plugin}`" in shown.err


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("left(node, NoMatch('no'))", "the message of a remark must be a text, got a `NoMatch`; give `found.reason`"),
        ("rewrote(node, None)", "the message of a remark must be a text, got None; give a text, such as"),
        (
            "rewrote(node.results[0], 'x')",
            "the layer of a remark must be a node or a path, got a `Value`; give `value.pr",
        ),
        ("inapplicable(node.op, 'x')", "the layer of a remark must be a node or a path, got a `Linear`; give the node"),
        (
            "note(node, 'x', n=graph)",
            "the figure `n` of a remark must be a number or a text, got a `Graph`; convert it",
        ),
    ],
)
def test_a_mistake_in_a_remark(call: str, message: str, run: Run, write: Write, tmp_path: Path) -> None:
    body = f"from archc.ir.match import NoMatch\n        for node in graph.nodes():\n            context.{call}\n"
    plugin = write("mine.py", PASS.replace("        pass\n", f"        {body}"))
    options = ["--load", plugin, "--passes", "still", "-o", tmp_path / "out"]
    shown = run("compile", write("net.arch", NET), *options)
    assert shown.status == 1 and not (tmp_path / "out").exists()
    assert f"error[pass-failed]: `run` of the pass `still` failed: TypeError: {message}" in shown.err
    assert f"= note: in line 18 of `{plugin}`\n" in shown.err
