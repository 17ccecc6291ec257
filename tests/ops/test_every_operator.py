"""Requirements of operators: docstring, example, documented attributes, a case in the harness."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import tests.ops
from archc.declaration import OPERATORS
from archc.interpreter.evaluate import helper_namespace
from archc.types.attributes import attributes
from archc.types.signature import parse_signature
from tests.ops.harness import COVERED

for _module in pkgutil.iter_modules(tests.ops.__path__):
    if _module.name.startswith("test_") and _module.name != "test_every_operator":
        importlib.import_module(f"tests.ops.{_module.name}")

SIGNS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "neg": "-", "slice": "[",
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
}  # fmt: skip
"""Notation of operators that the language writes as formulas."""

SHIPPED = sorted(name for name, operator in OPERATORS.items() if operator.__module__.startswith("archc.ops."))


@pytest.mark.parametrize("name", SHIPPED)
def test_operator_is_documented(name: str) -> None:
    operator = OPERATORS[name]
    inherited = next((base.__doc__ for base in operator.__mro__[1:] if base.__doc__), None)
    generated = f"{operator.__name__}("  # the docstring that `dataclass` generates
    assert operator.__doc__ and operator.__doc__ != inherited and not operator.__doc__.startswith(generated)
    assert operator.family
    assert SIGNS.get(name, name) in operator.example
    assert parse_signature(operator.signature).results
    assert [info.name for info in attributes(operator) if not info.doc] == []


@pytest.mark.parametrize("name", SHIPPED)
def test_operator_has_a_case(name: str) -> None:
    assert name in COVERED, f"no file of tests/ops lists a `case` for `{name}`"


def test_cases_belong_to_operators() -> None:
    assert set(OPERATORS) >= COVERED


def test_helpers_have_reserved_names_and_are_formatted() -> None:
    """Helpers begin with an underscore, and names from a text never do."""
    helpers = {helper.name: helper for op in OPERATORS.values() for helper in op.torch_helpers}
    assert helpers
    for name, helper in helpers.items():
        assert name.startswith("_") and f"def {name}(" in helper.source and callable(helper_namespace([helper])[name])
        command = [sys.executable, "-m", "ruff", "format", "--isolated", "--check", "-"]
        subprocess.run(command, input=f"{helper.source}\n", text=True, check=True, capture_output=True)
