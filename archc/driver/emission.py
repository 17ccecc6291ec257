"""Writing a compiled model: every file into one staged folder, the report last."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.diagnostics import Diagnostic, Source, error
from archc.ir.cost import cost

if TYPE_CHECKING:
    from archc.compiler import Compiled
    from archc.driver.output import OutputFolder
    from archc.ir.graph import Graph
    from archc.weights.tensor import LazyTensor


def write_files(
    compiled: Compiled, out: OutputFolder, emit: Sequence[str], check: bool, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Write the weights, the targets and `report.json`; returns the report.

    Raises:
        ArchcError: a target cannot express the model, or the check fails.
    """
    graph, name = compiled.graph, compiled.name
    assert graph.tensors is not None
    written: list[Path] = []
    if "torch" in emit:
        progress("write the PyTorch module")
        written.append(out.file(f"{name}.py"))
        written[-1].write_text(torch_source(compiled), encoding="utf-8")
    if "arch" in emit:
        from archc.language.printer import print_graph

        progress("write the .arch text")
        written.append(out.file(f"{name}.arch"))
        written[-1].write_text(print_graph(graph), encoding="utf-8")
    from archc.weights.safetensors import write as write_safetensors

    progress("write the weights")
    weights_file = out.file(f"{name}.safetensors")
    offsets = write_safetensors(weights_file, _in_order(graph), {"format": "pt"})
    written.append(weights_file)
    if "onnx" in emit:
        from archc.codegen import onnx

        progress("write the ONNX model")
        written.append(out.file(f"{name}.onnx"))
        onnx.emit(graph, written[-1], weights_file=weights_file, offsets=offsets)
        progress("check the ONNX model")
        try:
            onnx.check(written[-1])
        except onnx.InvalidModel as refusal:
            raise error(
                "onnx-invalid",
                f"ONNX refuses the model that was made of `{name}`: {refusal}",
                help="this is a bug in archc; compile with `--emit torch,arch` meanwhile",
            ) from None
    report = make_report(compiled)
    if check:
        from archc.driver.checking import check_agreement

        progress("run what was written")
        report["check"] = check_agreement(compiled, {path.suffix: path for path in written})
    report["files"] = {path.name: _fingerprint(path) for path in sorted(written)}
    out.write_text("report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return report


def _in_order(graph: Graph) -> dict[str, LazyTensor]:
    """The stored tensors in the order of the layers, so that the file does not tell in which order passes made them."""
    assert graph.tensors is not None
    weights = {path: graph.weights[path] for node in graph.nodes() for path in node.weights.values()}
    return {stored: graph.tensors[stored] for weight in weights.values() for stored in weight.tensors}


def torch_source(compiled: Compiled) -> str:
    """The PyTorch module of a compiled model; it loads the weights file that `write_files` puts beside it."""
    from archc.codegen.torch import emit

    return emit(compiled.graph, source_name=compiled.source_name, weights_name=f"{compiled.name}.safetensors")


def make_report(compiled: Compiled) -> dict[str, Any]:
    """What `report.json` says: nothing in it depends on when or where the model was compiled."""
    import archc

    graph = compiled.graph
    return {
        "archc": archc.__version__,
        "model": compiled.name,
        "source": compiled.source_name,
        "seed": compiled.seed,
        "weights": compiled.weights,
        "calibration": compiled.calibration,
        "inputs": {value.name: str(value.type) for value in graph.inputs},
        "outputs": {name: str(value.type) for name, value in graph.outputs.items()},
        **cost(graph).to_json(),
        "passes": [step.to_json() for step in compiled.passes],
        "warnings": [_warning(warning) for warning in compiled.diagnostics.warnings],
    }


def source_title(source: Source) -> str:
    """What the output calls a text: the name of its file, without folders."""
    return source.name if source.path is None else file_title(source.path)


def file_title(path: Path) -> str:
    """A file's name for the output, which is UTF-8; the bytes of the name itself need not be."""
    return os.fsencode(path.name).decode("utf-8", "replace")


def _warning(warning: Diagnostic) -> dict[str, Any]:
    """A warning without the folder that its file is in."""
    place = {} if warning.span is None else {"file": source_title(warning.span.source)}
    return {**warning.to_json(), **place, "notes": [note.text for note in warning.notes]}


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}
