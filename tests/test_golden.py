"""Outputs of the specs, compared with the golden files, and then run.

    pytest tests/test_golden.py --update-golden

rewrites the golden files; read the diff before you commit it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx import GraphProto

import archc
from archc.codegen import onnx
from archc.codegen.onnx.emit import without_elements
from archc.driver.compiled import Compiled
from archc.driver.stage_files import stages_of
from archc.ir.graph import Graph
from tests.specs.siblings import sibling

ROOT = Path(__file__).parent.parent
SPECS = sorted(path.stem for path in (ROOT / "specs").glob("*.arch"))
PIPELINES = ["simplify", "fold", "lowrank(ratio = 0.25)", "quant", "lowrank, quant", "lowrank(ratio = 0.25), quant"]
CASES = [(spec, "") for spec in SPECS] + [(spec, passes) for spec in ("cnn", "mlp") for passes in PIPELINES]
CASES += [("mlp", "quant(int4)")]
CASES += [("cnn", "partition(2)"), ("cnn", "quant, partition(2)")]
PROGRAM = ("cnn", "partition(2)")  # the only case whose golden file has the program that runs the stages
CASES += [("resnet18", "prune(0.5, scheme = 'channel', scope = 'layer')"), ("cnn", "prune(0.9)")]
ONNX_TEXTS = [
    *((spec, "") for spec in ("cnn", "elman", "linear_regression", "text_classifier", "wide_deep")),
    *(("cnn", passes) for passes in ("fold", "lowrank, quant", "partition(2)")),
]
"""The cases whose golden files list the nodes of the ONNX model; the others count them by operator."""


def file_name(spec: str, passes: str) -> str:
    """The name of a golden file, of letters, digits and dashes: `cnn-lowrank-quant.md`."""
    words = "".join(character if character.isalnum() else " " for character in f"{spec} {passes}").split()
    return "-".join(words) + ".md"


def render(spec: str, passes: str, compiled: Compiled) -> str:
    """The text of the golden file of a case."""
    option = f' --passes "{passes}"' if passes else ""
    onnx_text = onnx.as_text if (spec, passes) in ONNX_TEXTS else histogram
    sources = compiled.sources()
    parts = [
        f"# {spec}" + (f": {passes}" if passes else ""),
        f"`archc compile specs/{spec}.arch{option}`, with fresh weights and random calibration data of seed 0.",
        "## Source",
        fenced("", (ROOT / "specs" / f"{spec}.arch").read_text()),
    ]
    if passes:
        parts += ["## Remarks", remarks(compiled)]
    parts += [
        "## Graph",
        fenced("", sources[f"{compiled.name}.arch"]),
        "## PyTorch",
        fenced("python", sources[f"{compiled.name}.py"]),
        "## ONNX",
        fenced("", onnx_text(compiled.graph)),
    ]
    for stage in stages_of(compiled):
        parts += [
            f"## Stage {stage.number}",
            fenced("python", sources[f"{stage.name}.py"]),
            fenced("", onnx_text(stage.graph)),
        ]
    if (spec, passes) == PROGRAM:
        parts += ["## Program", fenced("python", sources[f"{compiled.name}_pipeline.py"])]
    return "\n\n".join(parts) + "\n"


def fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def histogram(graph: Graph) -> str:
    """The number of nodes of each operator in an ONNX model, with the nodes in bodies of scans."""
    counts = Counter(operators(without_elements(graph).graph))
    return "\n".join(f"{count} {operator}" for operator, count in sorted(counts.items()))


def operators(graph: GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield node.op_type
        for body in (attribute.g for attribute in node.attribute if attribute.HasField("g")):
            yield from operators(body)


def remarks(compiled: Compiled) -> str:
    lines = []
    for step in compiled.passes:
        before, after = step.before, step.after
        lines.append(
            f"- `{step.text}`: {before.nodes} to {after.nodes} nodes, {before.parameters:,} to {after.parameters:,} "
            f"parameters, {before.bytes:,} to {after.bytes:,} bytes, "
            f"{before.multiply_adds:,} to {after.multiply_adds:,} multiply-adds"
        )
        lines += [f"    - {remark.kind} `{remark.layer}`: {remark.message}" for remark in step.remarks]
    return "\n".join(lines)


@pytest.mark.parametrize(("spec", "passes"), CASES, ids=[file_name(*case).removesuffix(".md") for case in CASES])
def test_golden_file(spec: str, passes: str, update_golden: bool, tmp_path: Path) -> None:
    compiled = archc.compile(ROOT / "specs" / f"{spec}.arch", passes=passes)
    golden = ROOT / "golden" / file_name(spec, passes)
    text = render(spec, passes, compiled)
    if update_golden:
        golden.write_text(text, encoding="utf-8")
    assert golden.exists(), f"{golden.name} is missing: run pytest --update-golden and read what it wrote"
    assert text == golden.read_text(encoding="utf-8")
    assert archc.parse(archc.print_graph(compiled.graph)) == compiled.graph
    # Run the programs and compare them with the graph; a large model is replaced by its small sibling.
    if values := sibling(ROOT / "specs" / f"{spec}.arch"):
        compiled = archc.compile(ROOT / "specs" / f"{spec}.arch", passes=passes, values=values)
    report = compiled.write(tmp_path, check=True)
    kinds = ("", " stages") if "stages" in report else ("",)
    assert set(report["check"]["errors"]) == {f"{name}{kind}" for name in ("torch", "onnxruntime") for kind in kinds}


DERIVED = [
    (spec, model)
    for spec in SPECS
    for model in re.findall(r"^model (\w+)", (ROOT / "specs" / f"{spec}.arch").read_text(), re.MULTILINE)
    if model != spec
]


@pytest.mark.parametrize(("spec", "model"), DERIVED, ids=[model for _, model in DERIVED])
def test_the_printed_graph_of_a_further_model_is_its_graph(spec: str, model: str) -> None:
    graph = archc.parse(ROOT / "specs" / f"{spec}.arch", model)
    assert archc.parse(archc.print_graph(graph)) == graph


def test_every_golden_file_has_a_case() -> None:
    """A golden file without a case would no longer be compared."""
    assert set(ONNX_TEXTS) <= set(CASES)
    assert {path.name for path in (ROOT / "golden").glob("*.md")} == {file_name(*case) for case in CASES}
