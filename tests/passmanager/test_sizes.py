"""Sizes for costs: given by the user, taken from the calibration data, or assumed with a warning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import archc
from archc.analysis.cost import cost
from archc.analysis.devices import Cpu, StageDevice
from archc.analysis.stage_costs import stage_costs
from archc.cli import main
from archc.diagnostics import ArchcError, Diagnostics
from archc.ir.stages import Stages
from archc.passmanager.sizes import choose_sizes

# As in EfficientNet: a stem and an inverted bottleneck, whose MACs are proportional to the image size.
NET = """
model net {
    input x: f32[N, 3, H, W]
    y = x -> stem: conv2d(16, 3, stride = 2, padding = 1) -> relu
    y = y -> up: conv2d(64, 1) -> relu -> wide: conv2d(64, 3, padding = 1, groups = 64) -> relu -> down: conv2d(16, 1)
    output logits = y -> relu -> adaptive_avg_pool2d(1) -> flatten -> head: linear(10)
}
"""
BOUNDED = "model m {\n    input x: f32[N, T <= 64, 8]\n    output y = x -> fc: linear(8)\n}\n"


def code_of(refused: pytest.ExceptionInfo[ArchcError]) -> str:
    return refused.value.diagnostics[0].code


def schemes(sizes: str | Mapping[str, int], data: dict[str, np.ndarray] | None = None) -> list[str]:
    compiled = archc.compile(NET, passes="quant", sizes=sizes, calibration=data)
    return [str(remark.figures["scheme"]) for remark in compiled.passes[0].remarks if remark.kind == "rewrote"]


def test_given_sizes_come_before_those_of_the_data_and_both_before_assumed_ones() -> None:
    graph = archc.parse(NET)
    assert choose_sizes(graph, {}).assumed == {"H": 16, "W": 16}
    assert choose_sizes(graph, {"H": 224}).assumed == {"W": 16}
    data = {"x": (512, 3, 40, 48)}
    found = choose_sizes(graph, {}, data)
    assert (dict(found.values), dict(found.assumed)) == ({"N": 1, "H": 40, "W": 48}, {})
    assert choose_sizes(graph, {"N": 8, "H": 40}, data).values == {"N": 8, "H": 40, "W": 48}


def test_passes_see_the_costs_of_the_sizes_given() -> None:
    data = {"x": np.random.default_rng(0).standard_normal((2, 3, 224, 224), np.float32)}
    assert schemes("").count("static") < schemes("H=224,W=224").count("static")
    assert schemes({"H": 224, "W": 224}) == schemes("H=224,W=224") == schemes("", data)


def test_stages_are_balanced_for_the_sizes_given() -> None:
    def shares(sizes: str) -> list[float]:
        graph = archc.compile(Path("specs/resnet18.arch"), passes="partition(2)", sizes=sizes).graph
        at = {"N": 1, "H": 224, "W": 224}
        loads = [each.work for each in stage_costs(graph, Stages(graph), [StageDevice("cpu", Cpu())] * 2, at)]
        return [load / sum(loads) for load in loads]

    assert max(shares("H=224,W=224")) < 0.6 < max(shares(""))


@pytest.mark.parametrize(
    ("text", "sizes", "code"),
    [
        (NET, "h=224", "unknown-size"),
        (BOUNDED, "T=65", "size-above-bound"),
        (NET, {"H": 0}, "bad-size"),
        (NET, "H", "bad-size"),
        ("model m {\n    input x: f32[N, 1, H, H]\n    output y = x -> conv2d(4, 3)\n}\n", "H=2", "size-too-small"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(text: str, sizes: str | Mapping[str, int], code: str) -> None:
    with pytest.raises(ArchcError) as refused:
        archc.compile(text, sizes=sizes)
    assert code_of(refused) == code
    assert refused.value.diagnostics[0].help


@pytest.mark.parametrize("passes", ["quant", "partition(2, sizes = 'H=64')"])
def test_sizes_that_contradict_the_data_are_refused(passes: str) -> None:
    data = {"x": np.ones((4, 3, 32, 32), np.float32)}
    with pytest.raises(ArchcError, match="`H` is 32 in the calibration data, but 64 was given") as refused:
        archc.compile(NET, passes=passes, sizes="" if "sizes" in passes else "H=64", calibration=data)
    assert code_of(refused) == "size-conflict"


@pytest.mark.parametrize("wrong", [3, ["H=2"], {"H": 2.5}, {"H": True}])
def test_sizes_of_a_wrong_type_are_a_type_error(wrong: object) -> None:
    with pytest.raises(TypeError, match="`sizes` expects"):
        archc.compile(NET, sizes=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("command", ["compile", "show", "draw"])
def test_every_command_warns_of_sizes_that_it_assumed(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.arch"
    file.write_text(NET)
    output = {"compile": ["-o", str(tmp_path / "out"), "--emit", "torch"], "draw": ["-o", str(tmp_path / "n.svg")]}
    line = [command, str(file), "--passes", 'quant(scheme = "weight")', *output.get(command, [])]
    assert main(line) == 0
    said = capsys.readouterr().err
    assert "warning[assumed-size]" in said and "`H` = 16 and `W` = 16" in said and '--sizes "H=16,W=16"' in said
    assert main([*line, "--sizes", "H=20,W=24"]) == 0
    assert capsys.readouterr().err == ""
    assert main([*line, "--sizes", "Hh=20"]) == 1
    assert "did you mean `H`?" in capsys.readouterr().err


def test_the_report_counts_at_the_sizes_given(tmp_path: Path) -> None:
    found = Diagnostics()
    compiled = archc.compile(NET, sizes="H=20,W=24,N=2", diagnostics=found)
    report = compiled.write(tmp_path, emit=["arch"])
    assert report["sizes"] == {"N": 2, "H": 20, "W": 24}
    assert report["multiply_adds"] == cost(archc.parse(NET), {"N": 2, "H": 20, "W": 24}).multiply_adds
    assert not found.found
    archc.compile(NET, diagnostics=found).write(tmp_path, emit=["arch"])
    assert [warning.code for warning in found.warnings] == ["assumed-size"]


POOL = "model m {{ input x: f32[N, 2, {size}]  output y = x -> max_pool1d(4) -> c: conv1d(3, 3) }}"


def test_help_for_small_sizes_is_within_the_bounds() -> None:
    graph = archc.parse(POOL.format(size="L <= 16"))
    with pytest.raises(ArchcError, match='--sizes "N=32,L=16"') as refused:
        choose_sizes(graph, {"N": 32, "L": 3})
    assert refused.value.diagnostics[0].code == "size-too-small"
    choose_sizes(graph, {"N": 1, "L": 16})
    with pytest.raises(ArchcError, match="a tensor is empty at all sizes that were tried, such as N = 1, L = 3"):
        choose_sizes(archc.parse(POOL.format(size="L <= 3")), {"L": 3})


def test_calibration_data_that_leave_a_tensor_without_elements() -> None:
    text = POOL.format(size="L")
    with pytest.raises(ArchcError, match="give calibration data of larger sizes, such as N = 1, L = 16") as refused:
        archc.compile(text, calib={"x": np.random.default_rng(0).standard_normal((8, 2, 9))})
    assert refused.value.diagnostics[0].code == "size-too-small"


@pytest.mark.parametrize("passes", ["", "simplify", "quant"])
def test_calibration_data_with_an_empty_tensor_on_which_the_model_runs(passes: str) -> None:
    text = "model m { input x: f32[N, T, 4]  output x[:, 3:] -> fc: linear(4) }"
    with pytest.raises(ArchcError, match="has no elements, by the calibration data"):
        archc.compile(text, passes=passes, calib={"x": np.ones((4, 2, 4))})


@pytest.mark.parametrize("command", ["draw", "show", "compile"])
def test_small_sizes_on_every_command(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "m.arch", tmp_path / "out.svg"
    file.write_text(POOL.format(size="L"))
    more = [] if command == "show" else ["-o", str(out)]
    assert main([command, str(file), "--sizes", "L=3", *more]) == 1
    assert "error[size-too-small]" in capsys.readouterr().err and not out.exists()
