"""User text appears in emitted source only in literals, names, comments and docstrings."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archc.codegen.torch import emit
from archc.codegen.torch.formatting import docstring
from archc.declaration import OPERATORS, Operator
from archc.declaration.base import operator
from archc.declaration.spelling import TorchSpelling, method
from archc.driver.binding import bind_fresh
from archc.ir.graph import Graph, Scope
from archc.ir.rewriter import Rewriter
from archc.types.attributes import attribute
from archc.types.tensor_type import DType, TensorType
from tests.codegen.torch_modules import assert_paths, imported

HOSTILE = [
    '"""; import os; os.abort(); """',
    "\\",
    '\\"""',
    'a"',
    '"',
    "'; import os; os.abort(); '",
    "line\nimport os; os.abort()",
    "\r\n    raise SystemExit",
    "\x00\x1b[2J\u202e",
    "{{ 7 * 7 }}{% raise %}",
    "\\N{BULLET}\\x41\\",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_names_and_comments_cannot_leave_their_places(text: str, tmp_path: Path) -> None:
    block = Scope("block", "Block", doc=text)
    graph = Graph("net", Scope("", "net", doc=text))
    block = Scope("block", "Block", graph.scope, doc=text)
    rewriter = Rewriter(graph)
    x = rewriter.input(text, TensorType(DType.f32, (2, 4)))
    layer = text.replace(".", "_")
    y = rewriter.add(OPERATORS["linear"](4), [x], name=layer).result
    y.name = text
    y = rewriter.add(OPERATORS["linear"](3), [y], name="fc", scope=block).result
    y = rewriter.add(OPERATORS["add"](), [y, y]).result
    rewriter.output(text, y)
    bind_fresh(graph, 0)
    source = emit(graph, source_name=text, weights_name=text)
    assert_harmless(source)
    module = imported(graph, tmp_path, source)
    model = module.Net()
    assert_paths(model, graph)
    assert model(torch.zeros(2, 4)).shape == (2, 3)


def assert_harmless(source: str) -> None:
    tree = ast.parse(source)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"os", "SystemExit"}
    imported_ = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported_ <= {"torch", "torch.nn.functional"}


@given(st.text())
def test_a_docstring_holds_any_text(text: str) -> None:
    source = "def f():\n" + "\n".join(docstring(["Title.", text or "x"], 1))
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef) and len(function.body) == 1
    kept = ast.get_docstring(function)
    assert kept is not None
    printable = "".join(c if c.isprintable() else " " for c in text)
    assert kept.split() == ["Title.", *(printable.split() or ([] if text else ["x"]))]


@pytest.mark.parametrize("text", HOSTILE)
def test_strings_in_attributes_are_literals(text: str) -> None:
    @operator
    class Echo(Operator, abstract=True):
        """The operand, unchanged."""

        name = "echo"
        signature = "x[*s] -> y[*s]"
        text: str = attribute("")

        def torch(self, spell: TorchSpelling) -> str:
            return method(spell.operands[0], "echo", text=self.text)

    graph = Graph("net")
    rewriter = Rewriter(graph)
    rewriter.output("y", rewriter.add(Echo(text), [rewriter.input("x", TensorType(DType.f32, (1,)))]).result)
    source = emit(graph, source_name="a", weights_name="b")
    assert_harmless(source)
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    (found,) = (ast.literal_eval(k.value) for call in calls for k in call.keywords if k.arg == "text")
    assert found == text


@pytest.mark.parametrize(
    "name", ["F", "torch", "nn", "self", "Tensor", "range", "match", "lambda", "None", "__x", "load"]
)
def test_values_may_have_any_name(name: str, tmp_path: Path) -> None:
    graph = Graph("net")
    rewriter = Rewriter(graph)
    x = rewriter.input(name, TensorType(DType.f32, (2, 4)))
    y = rewriter.add(OPERATORS["relu"](), [x]).result
    y.name = name
    y = rewriter.add(OPERATORS["mul"](), [y, y]).result
    rewriter.output(name, rewriter.add(OPERATORS["softmax"](1), [y]).result)
    graph.tensors = None
    module = imported(graph, tmp_path)
    x = torch.randn(2, 4)
    torch.testing.assert_close(module.Net()(x), torch.softmax(torch.relu(x) ** 2, 1))


@pytest.mark.parametrize("name", ["F", "torch", "keys", "items", "café", "ﬁ", "class", "1st", "a-b"])
def test_layers_keep_any_name_that_a_module_may_have(name: str, tmp_path: Path) -> None:
    graph = Graph("net")
    rewriter = Rewriter(graph)
    x = rewriter.input("x", TensorType(DType.f32, (2, 4)))
    y = rewriter.add(OPERATORS["linear"](4), [x], name=name).result
    z = rewriter.add(OPERATORS["linear"](4), [x], name=f"part.{name}").result
    rewriter.output("y", rewriter.add(OPERATORS["add"](), [y, z]).result)
    bind_fresh(graph, 0)
    model = imported(graph, tmp_path).load()
    assert_paths(model, graph)
    assert model(torch.zeros(2, 4)).shape == (2, 4)
