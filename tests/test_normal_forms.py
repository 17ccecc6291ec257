"""Normal forms of emitted files ignore comments, docstrings and messages, and nothing else."""

from __future__ import annotations

import copy
import json
from typing import Any

import onnx
import pytest

from tests.normal_forms import normal_catalog, normal_forms

PROGRAM = '''\
"""A module."""

# Written by archc.
import argparse


class Layer:
    """A layer."""

    width = 3
    """Its width."""

    def forward(self, x):
        """Twice x."""
        if x is None:
            raise ValueError(f"{self.width} features are needed")  # é
        return 2 * x  # doubled


class Failure(Exception):
    """A failure."""


parser = argparse.ArgumentParser(description="Run it.")
parser.add_argument("--data", help="the samples")
'''

REPORT = {
    "archc": "0.1.0",
    "weights": "read from a.npz",
    "calibration": "the given data",
    "nodes": 3,
    "passes": [
        {
            "pass": "quant",
            "error": 0.5,
            "remarks": [{"kind": "left", "layer": "fc", "message": "too small", "figures": {"least": 3}}],
        }
    ],
    "warnings": [{"severity": "warning", "code": "assumed-size", "message": "H is assumed", "line": 3}],
    "check": {"unchecked": "`--no-check` was given"},
    "files": {"m.py": {"bytes": 3, "sha256": "abc"}},
}


def changed_entries(name: str, before: bytes, after: bytes) -> set[str]:
    """The entries of a file that differ between two contents."""
    old, new = normal_forms(name, before), normal_forms(name, after)
    assert old.keys() == new.keys()
    return {entry for entry in old if old[entry] != new[entry]}


@pytest.mark.parametrize(
    "old, new",
    [
        ("# Written by archc.\n", ""),
        ("# Written by archc.", "# Emitted by archc.\n#\n# Another line."),
        ("  # doubled", ""),
        ('"""A module."""', '"""A module.\n\nTwo paragraphs.\n"""'),
        ('"""A module."""\n', ""),
        ('    """A layer."""\n\n', ""),
        ('    """Its width."""\n', ""),
        ('    """A failure."""\n', "    pass\n"),
        ('"""Twice x."""', '"""x + x: é."""'),
        ('f"{self.width} features are needed"', '"missing: x"'),
        (
            'ValueError(f"{self.width} features are needed")',
            'ValueError(\n                "missing: " f"{x}"\n            )',
        ),
        ('"Run it."', '"Run the program."'),
        ('parser.add_argument("--data", help="the samples")', 'parser.add_argument(\n    "--data", help="samples"\n)'),
    ],
)
def test_text_for_readers_is_ignored(old: str, new: str) -> None:
    assert old in PROGRAM
    assert not changed_entries("m.py", PROGRAM.encode(), PROGRAM.replace(old, new).encode())


@pytest.mark.parametrize(
    "old, new",
    [
        ("2 * x", "3 * x"),
        ("width = 3", "width = 4"),
        ("ValueError", "TypeError"),
        ("import argparse", "import argparse as a"),
        ('"--data"', '"--inputs"'),
        ("        return 2 * x  # doubled\n", ""),
    ],
)
def test_statements_count(old: str, new: str) -> None:
    assert old in PROGRAM
    changed = changed_entries("m.py", PROGRAM.encode(), PROGRAM.replace(old, new).encode())
    assert changed == {"m.py", "m.py (layout)"}


def test_layout_has_its_own_entry() -> None:
    changed = changed_entries("m.py", PROGRAM.encode(), PROGRAM.replace("2 * x", "(2 * x)").encode())
    assert changed == {"m.py (layout)"}


def test_comments_of_a_model_are_ignored() -> None:
    text = '# A model.\nmodel m {\n    x = layer(name = "#1")  # one\n}\n'
    assert not changed_entries("m.arch", text.encode(), text.replace("# A model.\n", "").replace("one", "two").encode())
    assert changed_entries("m.arch", text.encode(), text.replace("#1", "#2").encode()) == {"m.arch"}


def test_doc_strings_of_onnx_are_ignored() -> None:
    def model(operator: str, doc: str) -> bytes:
        node = onnx.helper.make_node(operator, ["x"], ["y"], doc_string=doc)
        x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
        graph = onnx.helper.make_graph([node], "m", [x], [y], doc_string=doc)
        return bytes(onnx.helper.make_model(graph, doc_string=doc).SerializeToString())

    assert not changed_entries("m.onnx", model("Abs", "one"), model("Abs", "two"))
    assert changed_entries("m.onnx", model("Abs", ""), model("Neg", "")) == {"m.onnx"}


def test_sentences_of_a_report_are_ignored() -> None:
    def changed(*path: Any, value: Any) -> bool:
        report: Any = copy.deepcopy(REPORT)
        inner = report
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value
        return bool(changed_entries("report.json", json.dumps(REPORT).encode(), json.dumps(report).encode()))

    remark = ("passes", 0, "remarks", 0)
    ignored: list[tuple[Any, ...]] = [
        ("weights",),
        (*remark, "message"),
        ("warnings", 0, "message"),
        ("files", "m.py", "sha256"),
    ]
    for path in ignored:
        assert not changed(*path, value="other")
    counted: list[tuple[Any, ...]] = [("nodes",), (*remark, "layer"), (*remark, "figures", "least")]
    for path in (*counted, ("warnings", 0, "code")):
        assert changed(*path, value="other")


def test_descriptions_of_a_catalog_are_ignored() -> None:
    operator = {"name": "abs", "doc": "Absolute value.", "attributes": [{"name": "axis", "doc": "the axis"}]}
    assert normal_catalog([operator]) == [{"name": "abs", "attributes": [{"name": "axis"}]}]
