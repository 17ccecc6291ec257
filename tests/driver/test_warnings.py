"""Options and passes without effect are warnings; `--strict` makes them errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import archc
from archc.cli import main
from archc.diagnostics import ArchcError, Diagnostics
from archc.passes.prune import Prune
from archc.passmanager.effect_warnings import EXPLAIN
from tests.passes.graphs import run

DEAD = """
model m {
    input x: f32[N, 8]
    for i in 0..3 { x, r = x -> l[i]: B }
    output r
}
block B {
    input x: f32[N, D]
    z = x -> fc: linear(D) -> relu
    output x + (z -> res: linear(D))
    output z -> skip: linear(4)
}
"""
NET = "model net {\n    input x: f32[N, 64]\n    output y = x -> fc1: linear(128) -> relu -> fc2: linear(8)\n}\n"


def codes(text: str, **options: object) -> list[str]:
    found = Diagnostics()
    archc.compile(text, diagnostics=found, **options)  # type: ignore[arg-type]
    return [warning.code for warning in found.warnings]


def test_layers_that_feed_no_output_are_reported_once_per_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.arch"
    file.write_text(DEAD)
    assert main(["check", str(file)]) == 0
    said = capsys.readouterr().err
    assert said.count("warning[dead-layer]") == 2
    assert "`l.2.res`" in said and "`l.0.skip`, `l.1.skip`" in said
    assert codes(NET) == []


def test_a_warning_of_an_unused_tensor_replaces_that_of_the_layers_in_its_statement_alone() -> None:
    text = "model m {{ input x: f32[N, 8]\n {} output y = x -> linear(8) }}"
    assert codes(text.format("z = x -> fc: linear(8)")) == ["unused-value"]
    assert codes(text.format("z = x\n -> fc: linear(8)\n")) == ["unused-value"]
    assert codes(text.format("h = x -> fc: linear(8) z = h -> tanh")) == ["unused-value", "dead-layer"]
    pair = "block B { input x  output a = x -> one: linear(8)  output b = x -> two: linear(8) }\n"
    assert codes(pair + text.format("z = x -> fc: linear(8) k, _l = x -> B output o = k")) == [
        "unused-value",
        "dead-layer",
    ]


def test_a_file_may_hold_the_weights_of_dead_layers_and_no_unknown_ones(tmp_path: Path) -> None:
    graph = archc.parse(DEAD)
    assert {"l.0.skip.weight", "l.2.res.bias"} <= graph.dead_weights
    weights = {path: np.ones(weight.shape, np.float32) for path, weight in graph.weights.items()}
    file = tmp_path / "m.safetensors"
    save_file({**weights, "l.0.skip.weight": np.ones((4, 8), np.float32)}, file)
    archc.compile(DEAD, weights=file)
    save_file({**weights, "l.0.skop.weight": np.ones((4, 8), np.float32)}, file)
    with pytest.raises(ArchcError, match=r"l\.0\.skop\.weight"):
        archc.compile(DEAD, weights=file)


@pytest.mark.parametrize(
    ("passes", "code"),
    [
        ("simplify", "pass-without-effect"),
        ("quant(on = 'fc1', keep = 'fc1')", "pass-without-effect"),
        ("lowrank(rank = 4, on = ('fc1', 'relu'))", "selector-matches-nothing"),
        ("prune(0.5, keep = 'act')", "option-without-effect"),
        ("prune(0.5, on = ('fc1', 'act'))", "option-without-effect"),
        ("prune(0.5, on = 'fc*', keep = 'fc2')", None),
        ("prune(0.5, keep = 'kind:relu')", "option-without-effect"),
        ("prune(0.5, on = 'kind:lin*', keep = 'fc2')", None),
        ("prune(0.5, on = 'kind:linaer')", "selector-matches-nothing"),
        ("prune(0.5, multiple = 4)", "option-without-effect"),
        ("prune(0.5, scheme = 'channel', multiple = 4)", None),
        ("quant(percentile = 60, least = 0)", "option-without-effect"),
        ("quant(observer = 'percentile', percentile = 60, least = 0)", None),
        ("quant(scheme = 'dynamic', observer = 'percentile', least = 0)", "option-without-effect"),
        ("quant(scheme = 'weight', least = 5)", "option-without-effect"),
    ],
)
def test_passes_and_options_without_effect(passes: str, code: str | None) -> None:
    text = NET.replace("relu", "act: relu")
    if code == "selector-matches-nothing":
        with pytest.raises(ArchcError, match="matches no layer"):
            archc.compile(text, passes=passes)
    else:
        assert codes(text, passes=passes) == ([code] if code else [])


def test_a_selector_that_is_too_long_has_a_code_of_its_own() -> None:
    with pytest.raises(ArchcError, match="at most 1,000 characters") as refused:
        archc.compile(NET, passes=f"lowrank(on = '{'a' * 1001}')")
    assert [one.code for one in refused.value.diagnostics] == ["selector-too-long"]


def test_rename_rules_without_effect(tmp_path: Path) -> None:
    graph = archc.parse(NET)
    file, rules = tmp_path / "m.safetensors", tmp_path / "m.names"
    save_file({f"a.{path}": np.ones(weight.shape, np.float32) for path, weight in graph.weights.items()}, file)
    rules.write_text("a.* -> *\n")
    assert codes(NET, weights=file, renaming=rules) == []
    rules.write_text("a.* -> *\nencoder.* -> nothing\na.fc1.* -> fc1.*\n")
    assert codes(NET, weights=file, renaming=rules) == ["rename-without-effect"] * 2


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_constant_calibration_data(value: float) -> None:
    data = {"x": np.full((16, 64), value, np.float32)}
    assert "constant-calibration" in codes(NET, passes="quant", calibration=data)
    data["x"][3, 5] += 1
    assert "constant-calibration" not in codes(NET, passes="quant", calibration=data)


@pytest.mark.parametrize(
    ("passes", "is_given", "data", "told"),
    [
        ("quant(least = 1)", True, False, 1),
        ("fold, quant(least = 1), simplify", True, False, 1),
        ("quant(least = 1)", True, True, 0),
        ("quant(least = 1)", False, False, 0),
        ("quant(scheme = 'dynamic')", True, False, 0),
        ("quant(scheme = 'weight')", True, False, 0),
        ("lowrank(rank = 4)", True, False, 0),
        ("prune(0.5)", True, False, 0),
    ],
)
def test_trained_weights_that_are_calibrated_on_random_inputs(
    passes: str, is_given: bool, data: bool, told: int
) -> None:
    generator = np.random.default_rng(0)
    shapes = {path: weight.shape for path, weight in archc.parse(NET).weights.items()}
    weights = {path: generator.standard_normal(shape).astype(np.float32) for path, shape in shapes.items()}
    calib = {"x": generator.standard_normal((8, 64)).astype(np.float32)}
    found = codes(NET, passes=passes, weights=weights if is_given else None, calib=calib if data else None)
    assert found.count("random-calibration") == told


def test_a_pass_with_an_infinite_error_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = tmp_path / "explode.py"
    plugin.write_text(
        "from dataclasses import dataclass\nimport numpy as np\nfrom archc.passmanager import Pass\n"
        "@dataclass(frozen=True)\nclass Explode(Pass):\n    preserves = 'approximate'\n"
        "    def run(self, graph, context):\n"
        "        context.rewriter.set_weight('fc1.weight', np.full((128, 64), np.inf, np.float32))\n"
    )
    file = tmp_path / "net.arch"
    file.write_text(NET)
    out = tmp_path / "out"
    status = main(["compile", str(file), "--passes", "explode", "--load", str(plugin), "-o", str(out)])
    assert (status, out.exists()) == (1, False)
    assert "error[pass-not-finite]" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "compile", "show", "draw"])
def test_strict_turns_warnings_into_errors(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "m.arch"
    file.write_text(DEAD)
    out = tmp_path / "out"
    more = {"compile": ["-o", str(out)], "draw": ["-o", str(out / "m.svg")]}.get(command, [])
    assert main([command, str(file), "--strict", *more]) == 1
    assert "error[dead-layer]" in capsys.readouterr().err
    assert not out.exists()


def test_a_layer_that_loses_nearly_all_under_a_global_threshold_is_reported() -> None:
    text = "model m {\n    input x: f32[N, 512]\n    output y = x -> big: linear(512) -> relu -> router: linear(4)\n}\n"
    graph = archc.parse(text)
    archc.compile(text)  # without the change below, the weights of both layers have similar magnitudes
    from archc.driver.binding import bind_fresh
    from archc.weights.tensor import ArrayTensor

    bind_fresh(graph, 0)
    assert graph.tensors is not None
    graph.tensors.set("router.weight", ArrayTensor(graph.weight_values("router.weight") / 1000))
    (report,) = run(graph, Prune(0.5))
    assert [remark.layer for remark in report.remarks if "loses" in remark.message] == ["router"]


def test_a_strict_refusal_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.arch"
    file.write_text("model net { input x: f32[N, 4]  output y = x -> fc: linear(2) }")
    out = str(tmp_path / "out")
    assert main(["compile", str(file), "-o", out, "--no-check", "--passes", "lowrank", "--strict", "--explain"]) == 1
    printed = capsys.readouterr()
    assert "would not" in printed.out and "pass-without-effect" in printed.err and not Path(out).exists()


def test_outputs_that_are_not_finite_without_any_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "model m { input x: f32[N, 8]  output y = x -> fc: linear(8) -> bn: batch_norm  output z = x -> log }\n"
    file, weights, out = tmp_path / "m.arch", tmp_path / "w.npz", tmp_path / "out"
    file.write_text(text)
    graph = archc.compile(text).graph
    arrays = {path: graph.weight_values(path).copy() for path in graph.weights}
    arrays["bn.running_var"][:] = -1
    np.savez(weights, **arrays)  # type: ignore[arg-type]
    arguments = ["compile", str(file), "--weights", str(weights), "-o", str(out), "--check"]
    assert main([*arguments, "--strict"]) == 1 and not out.exists()
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "warning[output-not-finite]: every element of the output `y`" in printed.err and "`z`" not in printed.err
    assert "hardly depend" not in printed.out
    assert '"output-not-finite"' in (out / "report.json").read_text()


@pytest.mark.parametrize("passes", ["fold", "prune(0.5)", "lowrank(rank = 2)", "quant(least = 1)"])
@pytest.mark.parametrize(
    ("kept", "effect"),
    [
        ("bn1", {"fold": True, "prune": False, "lowrank": False, "quant": False}),
        ("bn2", {"fold": False, "prune": False, "lowrank": False, "quant": False}),
        ("drop", {"fold": True, "prune": False, "lowrank": False, "quant": False}),
        ("fc2", {"fold": False, "prune": True, "lowrank": True, "quant": True}),
    ],
)
def test_keep_without_effect(passes: str, kept: str, effect: dict[str, bool]) -> None:
    text = """model m {
        input x: f32[N, 16]
        h = x -> fc1: linear(16) -> bn1: batch_norm -> relu -> bn2: batch_norm -> relu -> drop: dropout(0.5)
        output y = h -> fc2: linear(16) -> relu -> fc3: linear(16)
    }"""
    name, _, options = passes.partition("(")
    given = f'{name}({options.removesuffix(")")}{", " if options else ""}keep = "{kept}")'
    assert codes(text, passes=given) == ([] if effect[name] else ["option-without-effect"])


def test_one_stage_changes_nothing() -> None:
    assert codes(NET, passes="partition(1)") == ["pass-without-effect"]
    assert codes(NET, passes="partition(2)") == []


def test_a_pass_without_remarks_is_not_explained() -> None:
    helps = []
    for passes in ("fold", "lowrank"):
        found = Diagnostics()
        archc.compile(NET, passes=passes, diagnostics=found)
        helps += [warning.help for warning in found.warnings if warning.code == "pass-without-effect"]
    assert helps == ["leave it out: it has nothing to rewrite in this model", EXPLAIN]
