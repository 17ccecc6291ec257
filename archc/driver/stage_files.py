"""Files of a model of several stages: the files of each stage, and the programs that run the stages.

A stage is a part of a model that runs on its own device; see `archc.ir.stages`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.analysis.cost import cost
from archc.codegen.pipeline import ModelStage, shared, split
from archc.codegen.python_source import WriteBeside
from archc.codegen.target import Form, ModelToEmit, Target, WeightsFile
from archc.driver.target_files import reported, write_target
from archc.driver.weights_file import hash_with_weights, needs_weights_file, write_weights
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.stages import has_stages
from archc.targets.registry import default_targets

if TYPE_CHECKING:
    from archc.driver.compilation import Compilation
    from archc.driver.output_folder import OutputFolder
    from archc.ir.graph import Value


@frozen_dataclass
class StageFiles:
    """A stage and its files by suffix: those of its targets, and the weights file if there is one."""

    stage: ModelStage
    files: Mapping[str, Path]


def stages_of(compiled: Compilation) -> list[ModelStage]:
    """Stages of a compiled model; an empty list for a model of one stage."""
    stages = split(compiled.graph) if has_stages(compiled.graph) else []
    return stages if len(stages) > 1 else []


def write_stages(
    compiled: Compilation,
    out: OutputFolder,
    targets: Sequence[Target],
    weights: WeightsFile | None,
    write_beside: WriteBeside | None,
    form: Form,
    progress: Callable[[str], None],
) -> list[StageFiles]:
    """Write the files of each stage, and the programs that run them; nothing for a model of one stage.

    Args:
        weights: the weights file of the whole model, or None if it is not written.
        write_beside, form: see `ModelToEmit`.

    Raises:
        ArchcError: a target cannot express a stage.
    """
    staged = [target for target in targets if target.staged]
    stages = stages_of(compiled) if staged else []
    if not stages:
        return []
    compilation = _compilation(compiled, weights)
    written = []
    for stage in stages:
        progress(f"write stage {stage.number}")
        own = None
        if needs_weights_file(staged):
            own = write_weights(stage.graph, out.file(f"{stage.name}.safetensors"), {"compilation": compilation})
        files = {} if own is None else {own.path.suffix: own.path}
        for target in staged:
            needed = own if target.needs_weights else None
            model = ModelToEmit(
                stage.graph,
                compiled.source_name,
                needed,
                compiled.pass_texts,
                compilation,
                write_beside,
                form,
            )
            files |= write_target(target, model, out)
        written.append(StageFiles(stage, files))
    for name, source in _pipeline_sources(compiled, staged, stages, compilation).items():
        out.write_text(name, source)
    return written


def _pipeline_sources(
    compiled: Compilation, targets: Sequence[Target], stages: Sequence[ModelStage], compilation: str
) -> dict[str, str]:
    """Sources of the programs that run each stage in a process of its own, by file name."""
    sources: dict[str, str] = {}
    for target in targets:
        if target.pipeline is not None:
            with reported(target, target.pipeline):
                source = target.pipeline(compiled.graph, stages, compiled.source_name, compilation)
            sources[f"{compiled.name}_pipeline{target.suffix}"] = source
    return sources


def stage_sources(compiled: Compilation, write_beside: WriteBeside | None, form: Form) -> dict[str, str]:
    """Sources of all stages and of the programs that run them, by file name, for the default targets.

    The sources lack the identifier of the compilation, since the identifier depends on the weights.

    Args:
        write_beside, form: see `ModelToEmit`.
    """
    stages = stages_of(compiled)
    targets = [target for target in default_targets(with_weights=False) if target.staged]
    sources: dict[str, str] = {}
    for stage in stages:
        model = ModelToEmit(
            stage.graph,
            compiled.source_name,
            passes=compiled.pass_texts,
            compilation="",
            write_beside=write_beside,
            form=form,
        )
        sources |= {f"{stage.name}{target.suffix}": target.text(model) for target in targets if target.text is not None}
    return sources | (_pipeline_sources(compiled, targets, stages, "") if stages else {})


def stages_report(stages: Sequence[StageFiles], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Entries of `report.json` for the stages, with costs at these sizes; none for a model of one stage."""
    if not stages:
        return {}
    copies = shared([each.stage for each in stages])
    return {
        "stages": [_described(each, sizes) for each in stages],
        "shared": {path: list(sharing) for path, sharing in copies.items()},
    }


def _described(written: StageFiles, sizes: Mapping[str, int]) -> dict[str, Any]:
    graph = written.stage.graph
    return {
        "stage": written.stage.number,
        "device": written.stage.device,
        "receives": _types({value.name or "": value for value in graph.inputs}),
        "sends": _types(graph.outputs),
        **cost(graph, sizes).to_json(),
        "files": sorted(path.name for path in written.files.values()),
    }


def _types(values: Mapping[str, Value]) -> dict[str, str]:
    return {name: str(value.type) for name, value in values.items()}


def _compilation(compiled: Compilation, weights: WeightsFile | None) -> str:
    """Identifier of a compilation: a hash of the printed graph and of all weights."""
    from archc.language.printing.printer import print_graph

    return hash_with_weights(print_graph(compiled.graph), compiled.graph, weights)[:32]
