"""`archc ops` and `archc passes`, whose output comes from the classes."""

from __future__ import annotations

import pytest

from archc.cli.operator_spellings import spellings
from archc.declaration import OPERATORS
from archc.passmanager import pass_names
from archc.types.attributes import attributes
from tests.cli.conftest import SPECS, Run


def test_the_list_has_every_operator_below_its_family(run: Run) -> None:
    result = run("ops")
    assert result.status == 0
    listed: dict[str, str] = {}
    for line in result.out.splitlines():
        if not line.startswith(" "):
            family = line
        else:
            listed[line.split()[0]] = family
    assert listed == {name: cls.family for name, cls in OPERATORS.items()}


def test_every_operator_has_a_summary(run: Run) -> None:
    described = run("ops", "--json").json["operators"]
    assert [operator["name"] for operator in described] == sorted(OPERATORS)
    assert [operator["name"] for operator in described if not operator["summary"]] == []
    undocumented = [
        (operator["name"], info["name"]) for operator in described for info in operator["attributes"] if not info["doc"]
    ]
    assert undocumented == []


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_example_compiles_and_is_spelled(name: str) -> None:
    spelled = spellings(OPERATORS[name])
    assert spelled["torch"], "its example cannot be built on its own"
    assert isinstance(spelled["onnx"], list)


def test_the_page_of_an_operator(run: Run) -> None:
    page = run("ops", "conv2d").out
    assert page.startswith("conv2d  (conv)\n\n")
    assert "signature\n  x[n, g*i, h, w], weight[g*o, i, kh, kw], bias[g*o]? -> y[n, g*o, conv(h), conv(w)]" in page
    assert "  out_channels: an integer (required)\n" in page
    assert "  stride: an integer or a tuple of integers = 1\n" in page
    assert "  weight  [g*o, i, kh, kw]  initializer: kaiming_uniform(i, kh, kw)\n" in page
    assert "PyTorch\n  nn.Conv2d(48, 32, 3, padding=1)\n  F.conv2d(image, weight, bias, padding=1)\n" in page
    assert "ONNX\n  Conv\n" in page
    assert page.endswith("example\n  image -> conv1: conv2d(32, 3, padding = 1)\n")


def test_json_of_an_operator(run: Run) -> None:
    described = run("ops", "linear", "--json").json
    assert [info["name"] for info in described["attributes"]] == [info.name for info in attributes(OPERATORS["linear"])]
    assert described["attributes"][0]["required"] is True
    assert described["parameters"][0] == {
        "name": "weight",
        "shape": ["o", "i"],
        "trainable": True,
        "initializer": "kaiming_uniform(i)",
    }
    buffers = [info["name"] for info in run("ops", "batch_norm", "--json").json["parameters"] if not info["trainable"]]
    assert buffers == ["running_mean", "running_var", "num_batches_tracked"]


def test_an_attribute_that_selects_axes_names_the_tensor(run: Run) -> None:
    assert "  dim: an integer = -1\n      axis to search; axis of `x`\n" in run("ops", "topk").out
    assert "its number in the operand; axes of `x`\n" in run("ops", "permute").out
    described = run("ops", "--json").json["operators"]
    declared = {(one["name"], info["name"]): info["axis"] for one in described for info in one["attributes"]}
    assert declared == {(name, info.name): info.axis for name, cls in OPERATORS.items() for info in attributes(cls)}


def test_an_unknown_operator_gets_a_suggestion(run: Run) -> None:
    result = run("ops", "batch_nrm")
    assert result.status == 1
    assert "error[unknown-operator]" in result.err and "did you mean `batch_norm`?" in result.err


def test_the_list_of_passes(run: Run) -> None:
    result = run("passes")
    assert result.status == 0
    assert [line.split()[0] for line in result.out.splitlines()] == pass_names()


def test_every_pass_has_a_summary(run: Run) -> None:
    for described in run("passes", "--json").json["passes"]:
        assert described["summary"] and described["example"]
        assert all(option["doc"] for option in described["options"])


def test_the_page_of_a_pass(run: Run) -> None:
    page = run("passes", "lowrank").out
    assert page.startswith("lowrank  (preserves the function up to an error, which is measured)\n\n")
    assert "  energy: a number" in page
    assert 'example\n  lowrank(energy = 0.95, on = "fc*")' in page


def test_an_unknown_pass_gets_a_suggestion(run: Run) -> None:
    result = run("passes", "lowrnk")
    assert result.status == 1
    assert "error[unknown-pass]" in result.err and "did you mean `lowrank`?" in result.err


def test_the_groups_of_a_model(run: Run) -> None:
    result = run("passes", "--groups", SPECS / "lenet5.arch")
    assert result.status == 0
    assert "conv2: 16 groups; elements of the first group\n  conv2.weight  axis 0  0\n" in result.out
    assert "  fc.0.weight   axis 1  0-24\n" in result.out
    assert "head  the output `logits` has them" in result.out
    report = run("passes", "--groups", SPECS / "lenet5.arch", "--json").json
    assert [group["layers"] for group in report["groups"]].count(["conv2"]) == 16
    assert report["stay"] == {"head": "the output `logits` has them"}


def test_a_name_of_another_library_is_answered(run: Run) -> None:
    result = run("ops", "Dense")
    assert result.status == 1 and "help: write `x -> linear(128)`" in result.err


def test_options_of_the_groups_need_them(run: Run) -> None:
    result = run("passes", "prune", "--set", "classes=3", "--json")
    assert result.json["name"] == "prune"
    assert result.err.startswith("warning[option-without-effect]: `--set` has no effect without `--groups`\n")
    assert run("passes", "--groups", SPECS / "lenet5.arch", "--set", "classes=3").err == ""


def test_the_name_of_a_pass_has_no_effect_with_groups(run: Run) -> None:
    warned = run("passes", "fold", "--groups", SPECS / "lenet5.arch")
    assert warned.status == 0 and "the pass name `fold` has no effect with `--groups`\n" in warned.err
    assert "error[unknown-pass]" in run("passes", "fo", "--groups", SPECS / "lenet5.arch").err
