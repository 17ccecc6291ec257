"""Attributes for the width and depth of specs, such as `--set depth=24`."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

import archc
from archc.analysis.cost import cost
from archc.cli import main
from tests.specs.siblings import SPECS

NAMES = sorted(path.stem for path in SPECS.glob("*.arch"))

WIDER: Mapping[str, Mapping[str, Any]] = {
    "clip": {"image_width": 1536},
    "densenet121": {"growth": 64},
    "elman": {"hidden": 256},
    "lenet5": {"channels": (12, 32)},
    "linear_regression": {"features": 2},
    **{spec: {"width": 128} for spec in ("resnet34", "resnet50", "resnet101")},
    "speech_recognizer": {"hidden": 1024},
}
"""Attribute values that make a spec wider; the width of other specs is doubled."""

DEEPER: Mapping[str, Mapping[str, Any]] = {
    "clip": {"text_depth": 13},
    "crepe": {"multiples": (4, 4, 4, 8, 16, 16)},
    "densenet121": {"depths": (6, 12, 24, 17)},
    "inception_v3": {"depths": (3, 5, 2)},
    "mobilenet_v2": {"depths": (1, 2, 3, 4, 3, 3, 2)},
    "resnet18": {"depths": (2, 2, 2, 3)},
    "resnet34": {"depths": (3, 4, 6, 4)},
    "resnet50": {"depths": (3, 4, 6, 4)},
    "resnet101": {"depths": (3, 4, 23, 4)},
    "ssd300": {"depths": (2, 2, 3, 3, 4)},
    "vgg16": {"depths": (2, 2, 3, 3, 4)},
}
"""Attribute values that make a spec deeper.

Other specs have an attribute `depth` or a list of widths, `hidden`.
"""

FIXED = {
    "linear_regression": "a line has no layers",
    "elman": "the formula of the paper has one state",
    **dict.fromkeys(("net", "cnn"), "the course names their layers, one by one"),
    "inception_v1": "each row of the paper's table is another",
}
"""Specs with a fixed number of layers, and the reasons."""


def model(spec: str, **values: Any) -> archc.Graph:
    return archc.parse(SPECS / f"{spec}.arch", values=values)


def default(spec: str, attribute: str) -> Any:
    """Return the default of an attribute (number or list); None if the spec has no such attribute."""
    found = re.search(rf"\b{attribute} = (\d[\d_]*|\[[\d, ]+\])", (SPECS / f"{spec}.arch").read_text(encoding="utf-8"))
    return None if found is None else ast.literal_eval(found[1])


def wider(spec: str) -> Mapping[str, Any]:
    return WIDER.get(spec) or {"width": 2 * default(spec, "width")}


def deeper(spec: str) -> Mapping[str, Any]:
    """Return attribute values for one layer more than the default."""
    if spec in DEEPER:
        return DEEPER[spec]
    depth = default(spec, "depth")
    if depth is not None:
        return {"depth": depth + 1}
    hidden = default(spec, "hidden")
    assert isinstance(hidden, list), f"no attribute of {spec} says how deep it is"
    return {"hidden": (*hidden, hidden[-1])}


@pytest.mark.parametrize("spec", NAMES)
def test_an_attribute_makes_a_spec_wider(spec: str) -> None:
    own, larger = model(spec), model(spec, **wider(spec))
    assert cost(larger).parameters > cost(own).parameters
    assert len(list(larger.nodes())) == len(list(own.nodes()))


@pytest.mark.parametrize("spec", [name for name in NAMES if name not in FIXED])
def test_an_attribute_makes_a_spec_deeper(spec: str) -> None:
    own, larger = model(spec), model(spec, **deeper(spec))
    assert cost(larger).parameters > cost(own).parameters
    assert len(larger.weights) > len(own.weights)


@pytest.mark.parametrize("spec", FIXED)
def test_specs_with_a_fixed_number_of_layers_have_no_depth(spec: str) -> None:
    assert "depth" not in (SPECS / f"{spec}.arch").read_text(encoding="utf-8").split("{")[0]


LARGER = [
    ("bert", ["depth=24", "width=1024", "heads=16"], 335_141_888),  # BERT large
    ("gpt2", ["depth=24", "width=1024", "heads=16"], 354_823_168),  # GPT-2 medium
    ("vit", ["depth=24", "width=1024", "heads=16"], 304_326_632),  # ViT-L/16
    ("whisper", ["depth=4", "width=384", "heads=6"], 37_760_640),  # Whisper tiny
    ("resnet18", ["depths=[3, 4, 6, 3]"], 21_797_672),  # ResNet-34
]


@pytest.mark.parametrize(("spec", "settings", "parameters"), LARGER, ids=[case[0] for case in LARGER])
def test_the_command_line_makes_the_published_sibling(
    spec: str, settings: list[str], parameters: int, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [word for setting in settings for word in ("--set", setting)]
    assert main(["check", str(SPECS / f"{spec}.arch"), *options, "--json"]) == 0
    (found,) = [m for m in json.loads(capsys.readouterr().out)["files"][0]["models"] if m["model"] == spec]
    assert found["parameters"] == parameters


def test_a_sweep_over_the_depth_of_gpt2_grows_by_a_layer_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(SPECS / "gpt2.arch"), "--sweep", "depth=2..48", "--json"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    found = [point["parameters"] for point in points]
    d = 768
    layer = 12 * d * d + 13 * d  # attention 4 d² + 4 d, feed-forward 8 d² + 5 d, two norms 4 d
    assert len(found) == 47
    assert {after - before for before, after in pairwise(found)} == {layer}
    assert found[12 - 2] == 124_439_808
