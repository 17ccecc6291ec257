"""The entry `latency` of `report.json`: measured latency of the programs, before and after the passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.driver import budget
from archc.driver.latency import can_be_measured, emitted, measure_programs
from archc.interpreter.sample_inputs import in_own_dtypes
from archc.passmanager.calibration import Calibration
from archc.targets.registry import runnable_targets

if TYPE_CHECKING:
    from archc.driver.compilation import Compilation


def latency_report(
    compiled: Compilation, files: Mapping[str, Path], folder: Path, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Measure the emitted programs, in turns with those of the baseline.

    There is no entry if no program can be run.

    Args:
        files: paths of the emitted files by suffix.
        folder: an empty folder for the programs of the baseline.

    Raises:
        ArchcError: a program cannot run (`measurement-failed`), or a target cannot express the baseline.
    """
    targets = [target for target in runnable_targets(files) if can_be_measured(target)]
    if not targets:
        return {}
    kept = compiled.baseline
    baseline = kept if compiled.passes else None  # without passes, both programs are the same
    limit = budget.time_limit(compiled.graph) + (budget.time_limit(baseline.graph) if baseline is not None else 0)
    calibration = Calibration(compiled.graph, seed=compiled.seed) if kept is None else kept.calibration
    sample = calibration.sample()
    graphs = [compiled.graph] if baseline is None else [compiled.graph, baseline.graph]
    inputs = [tuple(in_own_dtypes(graph, sample).values()) for graph in graphs]
    programs: dict[str, Any] = {}
    for target in targets:
        assert target.runtime is not None, "runnable targets have a runtime"
        progress(f"measure the latency in {target.runtime.title}")
        paths = [files[target.suffix]]
        if baseline is not None:
            paths.append(emitted(baseline.graph, target, folder))
        after, *before = measure_programs(target, paths, inputs, limit)
        programs[target.runtime.name] = {
            "before": before[0].to_json() if before else None,
            "after": after.to_json(),
        }
    shapes = {name: list(tensor.shape) for name, tensor in sample.items()}
    return {"latency": {"threads": 1, "inputs": shapes, "programs": programs}}
