"""Emitted PyTorch source reads like hand-written code, with shapes in comments and docstrings."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from archc.codegen.torch import class_name, reserved_member_names
from archc.declaration import OPERATORS
from archc.diagnostics import ArchcError
from archc.ir.graph import Graph
from archc.ir.rewriter import Rewriter
from archc.language.printing.printer import print_graph
from archc.types.tensor_type import DType, TensorType
from tests.codegen.torch_modules import (
    CONVOLUTIONS,
    GPT,
    SPECS,
    graph_of,
    imported,
    source_of,
)


@pytest.mark.parametrize("text", [GPT, CONVOLUTIONS, *SPECS], ids=lambda text: getattr(text, "stem", "text"))
def test_the_source_is_as_the_formatter_and_the_linter_want_it(text: str | Path, tmp_path: Path) -> None:
    assert_well_formed(source_of(graph_of(text)), tmp_path)


@pytest.mark.parametrize("passes", ["quant(least = 0)", "lowrank, quant(least = 0)", "quant(int8, scheme = weight)"])
def test_integer_layers_are_as_the_formatter_and_the_linter_want_them(passes: str, tmp_path: Path) -> None:
    assert_well_formed(source_of(graph_of(Path("specs/cnn.arch"), passes)), tmp_path)


@pytest.mark.parametrize("count", [8, 9, 10, 11])  # the result type fits, fits on its own line, does not fit
def test_many_results_are_as_the_formatter_wants_them(count: int, tmp_path: Path) -> None:
    outputs = " ".join(f"output y{number} = x -> linear({number + 1})" for number in range(count))
    assert_well_formed(source_of(graph_of(f"model net {{ input x: f32[N, 4] {outputs} }}")), tmp_path)


def assert_well_formed(source: str, folder: Path) -> None:
    path = folder / "module.py"
    path.write_text(source)
    for command in (["format", "--diff"], ["check", "--select", "E,F,W,I"]):
        run = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", str(path)],
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout + run.stderr


def test_the_source_is_the_same_in_every_run() -> None:
    assert source_of(graph_of(GPT)) == source_of(graph_of(GPT))


def test_the_docstring_has_inputs_outputs_and_parameters() -> None:
    doc = ast.get_docstring(ast.parse(source_of(graph_of(Path("specs/cnn.arch")))))
    assert doc is not None
    assert "image: float32 [N, 1, 28, 28]" in doc and "logits: float32 [N, 10]" in doc
    assert "225,034 parameters" in doc and "net.arch" in doc


def test_a_comment_over_several_lines_is_filled_as_one_paragraph() -> None:
    words = [f"word{number}" for number in range(40)]
    comment = f"# {' '.join(words[:16])}\n# {' '.join(words[16:])}\n#\n# - one\n# - two\n"
    block = comment + "block B { input x  output x -> fc: linear(4) }\n"
    text = block + "model m { input x: f32[N, 4]  output y = x -> a: B }"
    made = next(node for node in ast.parse(source_of(graph_of(text))).body if isinstance(node, ast.ClassDef))
    *filled, blank, one, two, _, _ = (ast.get_docstring(made) or "").split("\n")
    assert " ".join(filled).split() == words
    assert all(len(line) > 70 for line in filled[:-1])
    assert (blank, one, two) == ("", "- one", "- two.")


def test_class_names() -> None:
    names = ["cnn", "mlp", "linear_regression", "resnet18", "gpt", "lenet5", "ViT", "a"]
    wanted = ["CNN", "MLP", "LinearRegression", "Resnet18", "GPT", "Lenet5", "ViT", "A"]
    assert [class_name(name) for name in names] == wanted


def test_reserved_names_are_those_of_modules() -> None:
    # In another process: in this one, other packages may have added members.
    asked = "import torch; print(*dir(torch.nn.Module()))"
    members = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True).stdout.split()
    assert {name for name in members if not name.startswith("_")} <= reserved_member_names()


def test_a_reserved_name_is_refused() -> None:
    graph = Graph("net")
    rewriter = Rewriter(graph)
    x = rewriter.input("x", TensorType(DType.f32, (2, 4)))
    rewriter.output("y", rewriter.add(OPERATORS["linear"](3), [x], name="forward").result)
    with pytest.raises(ArchcError, match="reserved-name"):
        source_of(graph)


def test_the_module_needs_torch_alone(tmp_path: Path) -> None:
    graph = graph_of(GPT)
    imported(graph, tmp_path)
    code = (
        "import sys; sys.path.insert(0, '.'); import gpt, torch; model = gpt.load(device='cpu');"
        "assert not any(name.partition('.')[0] == 'archc' for name in sys.modules);"
        "print(tuple(model(torch.zeros(2, 4, dtype=torch.int64)).shape))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "(2, 4, 11)"


def test_the_comment_above_the_model_occurs_once() -> None:
    source = source_of(graph_of("# Digits in, letters out.\nmodel m { input x: f32[N, 4]  output y = x -> relu }"))
    assert source.count("Digits in") == 1 and (ast.get_docstring(ast.parse(source)) or "").startswith("Digits in")


def test_unnamed_values_do_not_take_names_of_the_text() -> None:
    """`h` is a name in the text, so unnamed values are not called `h`, even after the last use of `h`."""
    source = source_of(
        graph_of(
            """
            model m {
                input image: f32[N, 8]
                h = image -> enc: linear(8) -> tanh
                code = h -> mid: linear(8)
                left = code -> g1: linear(8) -> relu -> g2: linear(8) -> tanh
                output out = (code -> k1: linear(8) -> relu -> k2: linear(8)) * (code -> k3: linear(8) -> relu) + left
            }
            """
        )
    )
    assert source.count(" h = ") == 1 and source.count(" x = ") > 1


@pytest.mark.parametrize("spec", ["resnet18", "unet", "ssd300"])
def test_a_printed_model_keeps_the_names_of_its_sizes(spec: str) -> None:
    def docstrings(graph: Graph) -> dict[str, str | None]:
        classes = (node for node in ast.parse(source_of(graph)).body if isinstance(node, ast.ClassDef))
        return {made.name: ast.get_docstring(made) for made in classes}

    graph = graph_of(Path(f"specs/{spec}.arch"))
    found = docstrings(graph)
    assert sum("[N, " in (text or "") for text in found.values()) > 0
    again = docstrings(graph_of(print_graph(graph)))  # a block of the text may be several blocks of the printed text
    assert {name: again[name] for name in found} == found
