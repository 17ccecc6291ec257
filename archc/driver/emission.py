"""Emission of a compiled model: write all its files into one output folder, the report last."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.analysis.cost import cost
from archc.diagnostics import ArchcError, Diagnostic, Source, error
from archc.ir.stages import has_stages
from archc.version import __version__

if TYPE_CHECKING:
    from archc.driver.compilation import Compilation
    from archc.driver.output_folder import OutputFolder


def check_weights(compiled: Compilation, emit: Sequence[str], check: bool | None) -> None:
    """Refuse outputs that need weights, for a model that was compiled without them.

    Raises:
        ArchcError: the model has no weights, and an output needs them (`needs-weights`).
    """
    if compiled.graph.tensors is not None:
        return
    what = {
        "an ONNX model": "onnx" in emit,
        "a check": check is True,
        "a model of several stages": has_stages(compiled.graph),
    }
    for name, asked in what.items():
        if asked:
            way = "without weights, use `--emit torch,arch` and a model of one stage"
            raise needs_weights(compiled, name, way)


def needs_weights(compiled: Compilation, what: str, help: str) -> ArchcError:
    """Return the error `needs-weights`: `what` needs weights, but the model was compiled without weights."""
    return error("needs-weights", f"{what} needs weights, and `{compiled.name}` was compiled without", help=help)


def unchecked_reason(compiled: Compilation, check: bool | None, runnable: bool) -> str | None:
    """Reason why the emitted programs are not checked, or None if they are checked.

    Args:
        check: whether to check the programs; None to check them unless that is too expensive (`archc.driver.budget`).
        runnable: whether a PyTorch module or an ONNX model is written.
    """
    from archc.driver.budget import over_budget

    if compiled.graph.tensors is None:
        return "there are no weights"
    if check is False:
        return "`--no-check` was given"
    if not runnable:
        return "no emitted file can be run"
    expensive = over_budget(compiled.graph) if check is None else None
    return None if expensive is None else f"{expensive}; `--check` checks it nevertheless"


def write_files(
    compiled: Compilation, out: OutputFolder, emit: Sequence[str], check: bool | None, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Write the targets, the weights (if the model has weights) and `report.json`; return the report.

    Args:
        check: as for `Compiled.write`.

    Raises:
        ArchcError: a target cannot express the model, or the check fails.
    """
    from archc.driver.graph_files import write_onnx, write_weights
    from archc.driver.stage_files import PipelineFiles, stages_report, write_stages

    graph, name = compiled.graph, compiled.name
    written: list[Path] = []
    if "torch" in emit:
        progress("write the PyTorch module")
        written.append(out.file(f"{name}.py"))
        written[-1].write_text(torch_source(compiled), encoding="utf-8")
    if "arch" in emit:
        from archc.language.printing.printer import print_graph

        progress("write the .arch text")
        written.append(out.file(f"{name}.arch"))
        written[-1].write_text(print_graph(graph), encoding="utf-8")
    pipeline = PipelineFiles()
    whole: dict[str, Path] = {}
    if graph.tensors is not None:
        progress("write the weights")
        weights_file = out.file(f"{name}.safetensors")
        offsets = write_weights(graph, weights_file)
        written.append(weights_file)
        if "onnx" in emit:
            progress("write the ONNX model")
            written.append(out.file(f"{name}.onnx"))
            write_onnx(graph, written[-1], weights_file, offsets)
        whole = {path.suffix: path for path in written}
        pipeline = write_stages(compiled, out, emit, weights_file, progress)
        written += pipeline.files
    report = {**make_report(compiled), **stages_report(pipeline, compiled.sizes.values)}
    reason = unchecked_reason(compiled, check, not {".py", ".onnx"}.isdisjoint(whole))
    if reason is not None:
        report["check"] = {"unchecked": reason}
    else:
        from archc.driver.checking import check_isolated, warn_of_outputs

        progress("run the emitted programs")
        stages = [stage.files for stage in pipeline.stages]
        report["check"] = check_isolated(compiled, whole, stages, out.scratch())
        warn_of_outputs(report["check"], compiled.diagnostics)
        report["warnings"] = _warnings(compiled)
    report["files"] = {path.name: _fingerprint(path) for path in sorted(written)}
    out.write_text("report.json", report_text(report))
    return report


def report_text(report: Mapping[str, Any]) -> str:
    """The text of `report.json`."""
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def torch_source(compiled: Compilation) -> str:
    """Source of the PyTorch module of a compiled model; the module loads the weights file in its folder."""
    from archc.codegen.torch import emit

    return emit(compiled.graph, source_name=compiled.source_name, weights_name=f"{compiled.name}.safetensors")


def make_report(compiled: Compilation) -> dict[str, Any]:
    """Entries of `report.json` about the compilation, which do not depend on its time or folder."""
    graph = compiled.graph
    return {
        "archc": __version__,
        "model": compiled.name,
        "source": compiled.source_name,
        "seed": compiled.seed,
        "weights": compiled.weights,
        "calibration": compiled.calibration,
        "inputs": {value.name: str(value.type) for value in graph.inputs},
        "outputs": {name: str(value.type) for name, value in graph.outputs.items()},
        "sizes": dict(compiled.sizes.values),
        **cost(graph, compiled.sizes.values).to_json(),
        "passes": [step.to_json() for step in compiled.passes],
        "warnings": _warnings(compiled),
    }


def source_title(source: Source) -> str:
    """Name of a text in the output; for a text from a file, the file name without its folder."""
    return source.name if source.path is None else file_title(source.path)


def file_title(path: Path) -> str:
    """Name of a file without its folder, with replacement characters for bytes that are not UTF-8."""
    return os.fsencode(path.name).decode("utf-8", "replace")


def _warnings(compiled: Compilation) -> list[dict[str, Any]]:
    return [_warning(warning) for warning in compiled.diagnostics.warnings]


def _warning(warning: Diagnostic) -> dict[str, Any]:
    """JSON of a warning, without the folder of its file."""
    place = {} if warning.span is None else {"file": source_title(warning.span.source)}
    return {**warning.to_json(), **place, "notes": [note.text for note in warning.notes]}


def _fingerprint(path: Path) -> dict[str, Any]:
    import hashlib  # imported late, since it loads OpenSSL

    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}
