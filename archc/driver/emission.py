"""Emission of a compiled model: write all its files into one output folder, the report last."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.analysis.cost import cost
from archc.diagnostics import ArchcError, Diagnostic, Source, error
from archc.driver.compilation import Baseline, Compilation, model_to_emit
from archc.ir.stages import has_stages
from archc.targets.registry import default_targets, names_of, runnable_targets
from archc.version import __version__

if TYPE_CHECKING:
    from archc.codegen.target import Form, Target, WeightsFile
    from archc.driver.output_folder import OutputFolder
    from archc.driver.stage_files import StageFiles


def check_weights(compiled: Compilation, targets: Sequence[Target], check: bool | None) -> None:
    """Refuse outputs that need weights, for a model that was compiled without them.

    Raises:
        ArchcError: the model has no weights, and an output needs them (`needs-weights`).
    """
    if compiled.graph.tensors is not None:
        return
    asked = [target.phrase for target in targets if target.needs_weights]
    asked += ["a check"] if check is True else []
    asked += ["a model of several stages"] if has_stages(compiled.graph) else []
    if asked:
        possible = names_of(default_targets(with_weights=False))
        raise needs_weights(compiled, asked[0], f"without weights, use `--emit {possible}` and a model of one stage")


def needs_weights(compiled: Compilation, what: str, help: str) -> ArchcError:
    """Return the error `needs-weights`: `what` needs weights, but the model was compiled without weights."""
    return error("needs-weights", f"{what} needs weights, and `{compiled.name}` was compiled without", help=help)


def unchecked_reason(compiled: Compilation, check: bool | None, runnable: bool) -> str | None:
    """Reason why the emitted programs are not checked, or None if they are checked.

    Args:
        check: whether to check the programs; None to check them unless that is too expensive (`archc.driver.budget`).
        runnable: whether a file that can be run is written.
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
    compiled: Compilation,
    out: OutputFolder,
    targets: Sequence[Target],
    check: bool | None,
    form: Form,
    progress: Callable[[str], None],
    measure: bool,
    report_form: str,
) -> dict[str, Any]:
    """Write the targets, the weights and the report; return the report.

    The weights file is not written if the model has no weights, or if the files of all targets hold the weights
    themselves.  The targets that need weights are written after the weights file, which they may refer to.

    Args:
        check, measure: as for `Compiled.write`.
        form: the form of the programs.
        report_form: the argument `report` of `Compiled.write`.

    Raises:
        ArchcError: a target cannot express the model, or the check or the measurement fails.
    """
    from archc.driver.imported_files import ImportedFiles
    from archc.driver.option_warnings import warn_of_check, warn_of_single_file
    from archc.driver.stage_files import stages_of, stages_report, write_stages
    from archc.driver.target_files import contributed_report, write_target
    from archc.driver.weights_file import needs_weights_file, write_weights

    name = compiled.name
    whole: dict[str, Path] = {}
    names = [name, *(stage.name for stage in stages_of(compiled))]
    imported = ImportedFiles(out, [f"{each}{target.suffix}" for each in names for target in targets], form.single_file)

    def write(target: Target, weights: WeightsFile | None = None) -> None:
        progress(f"write the {target.title}")
        whole.update(write_target(target, model_to_emit(compiled, weights, imported.write, form), out))

    for target in targets:
        if not target.needs_weights:
            write(target)
    stages: list[StageFiles] = []
    if compiled.graph.tensors is not None:
        weights = None
        if needs_weights_file(targets):
            progress("write the weights")
            weights = write_weights(compiled.graph, out.file(f"{name}.safetensors"))
        for target in targets:
            if target.needs_weights:
                write(target, weights)
        stages = write_stages(compiled, out, targets, weights, imported.write, form, progress)
    runnable = bool(runnable_targets(whole))
    if form.single_file and not imported.requested:
        warn_of_single_file(compiled)
    if check and not runnable:
        warn_of_check(compiled)
    report = {
        **make_report(compiled),
        **stages_report(stages, compiled.sizes.values),
        **contributed_report(targets, out.written()),
    }
    reason = unchecked_reason(compiled, check, runnable)
    if reason is not None:
        report["check"] = {"unchecked": reason}
    else:
        from archc.driver.checking import check_isolated, warn_of_outputs

        progress("run the emitted programs")
        files_of_stages = [stage.files for stage in stages]
        report["check"] = check_isolated(compiled, whole, files_of_stages, out.scratch())
        warn_of_outputs(report["check"], compiled.diagnostics)
        report["warnings"] = _warnings(compiled)
    if measure and compiled.graph.tensors is not None:
        from archc.driver.latency_report import latency_report

        report |= latency_report(compiled, whole, out.scratch(), progress)
    if compiled.baseline is not None and compiled.passes:
        progress("compare the layers")
        report["layers"] = _layers(compiled, compiled.baseline)
    report["files"] = {path.name: _fingerprint(path) for path in out.written()}
    if report_form == "html":
        from archc.driver.html_report import html_report

        out.write_text("report.html", html_report(report))
        report["files"]["report.html"] = _fingerprint(out.file("report.html"))
    out.write_text("report.json", report_text(report))
    return report


def report_text(report: Mapping[str, Any]) -> str:
    """The text of `report.json`."""
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


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


def _layers(compiled: Compilation, baseline: Baseline) -> list[dict[str, Any]]:
    """The entry `layers` of `report.json`: layers with weights, before and after the passes."""
    from archc.passmanager.layer_comparison import compare_layers
    from archc.passmanager.threads import one_thread

    new_results = {path: former for step in compiled.passes for path, former in step.new_results.items()}
    with one_thread(), baseline.calibration.explained():
        inputs = next(baseline.calibration.batches())
        return [each.to_json() for each in compare_layers(baseline.graph, compiled.graph, inputs, new_results)]


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
