"""Tables of operators list every operator, and import a family at its first lookup."""

from __future__ import annotations

import subprocess
import sys

import pytest

from archc.declaration import OPERATORS
from archc.declaration.base import FORMULAS
from archc.declaration.table import snake_case


@pytest.mark.parametrize(
    ("name", "snake"), [("Conv2d", "conv2d"), ("LayerNorm", "layer_norm"), ("ReLU6", "re_lu6"), ("GELU", "gelu")]
)
def test_names(name: str, snake: str) -> None:
    assert snake_case(name) == snake


def test_every_operator_is_found_by_its_name_alone() -> None:
    program = "import sys\nfrom archc.declaration import OPERATORS\nassert OPERATORS[sys.argv[1]].name == sys.argv[1]"
    for name in ("max_pool2d", "relu", "rms_norm"):  # each in a new process
        subprocess.run([sys.executable, "-c", program, name], check=True)
    assert all(OPERATORS[name].name == name for name in OPERATORS)


def test_a_family_is_loaded_when_it_is_used() -> None:
    program = """
import sys
from archc.declaration import OPERATORS
assert "archc.ops.pool" not in sys.modules
assert "max_pool2d" in OPERATORS
assert "archc.ops.pool" in sys.modules and "archc.ops.attention" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_unknown_names() -> None:
    assert "no_such_operator" not in OPERATORS and OPERATORS.get("no_such_operator") is None
    with pytest.raises(KeyError):
        OPERATORS["no_such_operator"]


def test_symbols() -> None:
    assert FORMULAS["binary"]["+"] is OPERATORS["add"] and FORMULAS["binary"]["*"] is OPERATORS["mul"]


TAKEN = """
from archc.declaration import OPERATORS
from archc.ops.arithmetic import Binary
from archc.declaration.base import FORMULAS
from archc.declaration.base import Operator

def take(base, **names):
    try:
        type("Usurper", (base,), names)
    except ValueError as refusal:
        print(refusal)

take(Operator, name="max_pool2d", signature="x[*s] -> y[*s]")
take(Binary, name="plus", symbol="+")
assert OPERATORS["max_pool2d"].__module__ == "archc.ops.pool" and FORMULAS["binary"]["+"] is OPERATORS["add"]
first, second = (type("Mine", (Operator,), {"name": "mine", "signature": "x[*s] -> y[*s]"}) for _ in range(2))
assert OPERATORS["mine"] is second
"""


def test_the_names_of_operators_of_archc_are_reserved_before_their_import() -> None:
    """Users may redefine their own names: a notebook cell that runs again defines its operator again."""
    run = subprocess.run([sys.executable, "-c", TAKEN], check=True, capture_output=True, text=True)
    assert run.stdout.splitlines() == [
        f"`{name}` is an operator of archc itself: give `Usurper` another name" for name in ("max_pool2d", "+")
    ]
