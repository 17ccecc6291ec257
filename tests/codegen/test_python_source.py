"""Definitions copied from runtime modules: copies are complete, and conditions are applied."""

from __future__ import annotations

import ast
import builtins
import itertools

import pytest

from archc.codegen.python_source import FEATURES, compiled, copied, exported, library
from archc.codegen.torch.names import MODULE_NAMES

IMPORTS = {"torch", "nn", "F", "Tensor", "Any", "Callable", "Sequence", "math", "c_float"}
INT8 = ["OnGrid", "Quantize", "quantize", "Int8Weight", "Int8Linear", "Int8Conv2d", "pooled"]


def defined(source: str) -> list[str]:
    names = []
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign):
            assert isinstance(statement.targets[0], ast.Name)
            names.append(statement.targets[0].id)
        else:
            assert isinstance(statement, (ast.ClassDef, ast.FunctionDef))
            names.append(statement.name)
    return names


@pytest.mark.parametrize("features", [(), tuple(FEATURES)])
@pytest.mark.parametrize("names", [*itertools.combinations(INT8, 1), *itertools.combinations(INT8, 2), INT8])
def test_a_copy_is_complete(names: tuple[str, ...], features: tuple[str, ...]) -> None:
    source = copied({"int8": names}, features)
    own = set(defined(source))
    tree = ast.parse(source)
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    stored |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    stored |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert loaded <= own | stored | IMPORTS | set(dir(builtins))
    assert set(names) <= own <= MODULE_NAMES


def test_a_copy_has_no_directives() -> None:
    for module in ("int8", "masked", "packed"):
        source = copied({module: exported(module)}, FEATURES)
        assert set(exported(module)) <= set(defined(source)) <= MODULE_NAMES
        for text in ("# if:", "TYPE_CHECKING", "type: ignore", "fmt: skip", "archc"):
            assert text not in source


def test_a_condition_holds_for_its_feature() -> None:
    with_stages, without = copied({"int8": ["Quantized"]}, ["stages"]), copied({"int8": ["Quantized"]})
    for text in ("    def to(self", "    @property\n    def device(self"):
        assert text in with_stages and text not in without


def test_order_and_blank_lines_are_those_of_the_file() -> None:
    source = copied({"int8": ["Int8Linear", "Scale"]})
    keeping = ["Keeping", "version_of", "in_dynamo", "in_trace", "recorded"]
    assert defined(source)[:7] == [*keeping, "Scale", "Quantized"]
    assert source.startswith('\n\nclass Keeping(nn.Module):\n    """')
    assert "\n\n\nONES = Scale(1.0, 0, fixed=True)\nMKLDNN = " in source
    assert "\n\n\n\n" not in source


def test_a_definition_that_two_modules_import_is_copied_once() -> None:
    source = copied({"int8": ["Int8WeightLinear"], "packed": ["PackedLinear"]})
    assert defined(source).count("Keeping") == 1
    assert {"Int8WeightLinear", "PackedLinear"} <= set(defined(source)) <= MODULE_NAMES


@pytest.mark.parametrize("module", ["int8", "packed"])
def test_a_library_imports_torch_alone(module: str) -> None:
    text = library(module)
    tree = ast.parse(text)
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in imports for alias in node.names}
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert "archc." not in text and "TYPE_CHECKING" not in text
    assert {"Any", "Callable", "Tensor", "nn"} <= names
    assert names - {"torch", "torch.nn.functional"} <= loaded
    defined_names = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    assert set(exported(module)) <= defined_names


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(KeyError, match="Int9"):
        copied({"int8": ["Int9"]})


def test_source_that_does_not_compile_is_a_bug_of_the_emitter() -> None:
    assert compiled("x = 1\n", "net") == "x = 1\n"
    with pytest.raises(RuntimeError, match="emitted for `net` does not compile"):
        compiled("x = = 1\n", "net")
