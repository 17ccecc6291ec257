"""Files of a model of several stages: the files of each stage, and the program that runs the stages.

A stage is a part of a model that runs on its own device; see `archc.ir.stages`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.analysis.cost import cost
from archc.codegen.pipeline import ModelStage, shared, split
from archc.driver.graph_files import write_onnx, write_weights
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.stages import has_stages

if TYPE_CHECKING:
    from archc.driver.compilation import Compilation
    from archc.driver.output_folder import OutputFolder
    from archc.ir.graph import Value


@frozen_dataclass
class StageFiles:
    """A stage and its files by suffix (`.py`, `.safetensors`, `.onnx`)."""

    stage: ModelStage
    files: Mapping[str, Path]


@frozen_dataclass
class PipelineFiles:
    """Files of all stages, and the program that runs the stages.

    Attributes:
        program: the path of that program; None if PyTorch modules are not written.
    """

    stages: Sequence[StageFiles] = ()
    program: Path | None = None

    @property
    def files(self) -> list[Path]:
        """Paths of all files."""
        found = [path for each in self.stages for path in each.files.values()]
        return found if self.program is None else [*found, self.program]


def stages_of(compiled: Compilation) -> list[ModelStage]:
    """Stages of a compiled model; an empty list for a model of one stage."""
    stages = split(compiled.graph) if has_stages(compiled.graph) else []
    return stages if len(stages) > 1 else []


def write_stages(
    compiled: Compilation, out: OutputFolder, emit: Sequence[str], weights_file: Path, progress: Callable[[str], None]
) -> PipelineFiles:
    """Write the files of each stage, and the program that runs them; nothing for a model of one stage.

    Args:
        weights_file: the weights file of the whole model, which is already written.

    Raises:
        ArchcError: a target cannot express a stage.
    """
    stages = stages_of(compiled) if {"torch", "onnx"} & set(emit) else []
    if not stages:
        return PipelineFiles()
    compilation = _compilation(compiled, weights_file)
    written = []
    for stage in stages:
        progress(f"write stage {stage.number}")
        weights = out.file(f"{stage.name}.safetensors")
        offsets = write_weights(stage.graph, weights, {"compilation": compilation})
        files = {".safetensors": weights}
        if "torch" in emit:
            files[".py"] = out.file(f"{stage.name}.py")
            files[".py"].write_text(_stage_source(compiled, stage, compilation), encoding="utf-8")
        if "onnx" in emit:
            files[".onnx"] = out.file(f"{stage.name}.onnx")
            write_onnx(stage.graph, files[".onnx"], weights, offsets)
        written.append(StageFiles(stage, files))
    if "torch" not in emit:
        return PipelineFiles(written)
    program = out.file(f"{compiled.name}_pipeline.py")
    program.write_text(_pipeline_source(compiled, stages, compilation), encoding="utf-8")
    return PipelineFiles(written, program)


def _pipeline_source(compiled: Compilation, stages: Sequence[ModelStage], compilation: str) -> str:
    """Source of the program that runs each stage in a process of its own."""
    from archc.codegen import pipeline

    return pipeline.emit(compiled.graph, stages, source_name=compiled.source_name, compilation=compilation)


def stage_sources(compiled: Compilation) -> dict[str, str]:
    """Sources of all stages and of the program that runs them, by file name.

    The sources lack the identifier of the compilation, since the identifier depends on the weights.
    """
    stages = stages_of(compiled)
    sources = {f"{stage.name}.py": _stage_source(compiled, stage, "") for stage in stages}
    if stages:
        sources[f"{compiled.name}_pipeline.py"] = _pipeline_source(compiled, stages, "")
    return sources


def stages_report(pipeline: PipelineFiles, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Entries of `report.json` for the stages, with costs at these sizes; none for a model of one stage."""
    if not pipeline.stages:
        return {}
    copies = shared([each.stage for each in pipeline.stages])
    return {
        "stages": [_described(each, sizes) for each in pipeline.stages],
        "shared": {path: list(stages) for path, stages in copies.items()},
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


def _stage_source(compiled: Compilation, stage: ModelStage, compilation: str) -> str:
    from archc.codegen.torch import emit

    weights_name = f"{stage.name}.safetensors"
    return emit(stage.graph, source_name=compiled.source_name, weights_name=weights_name, compilation=compilation)


def _compilation(compiled: Compilation, weights_file: Path) -> str:
    """Identifier of a compilation: a hash of the printed graph and of all weights."""
    from archc.language.printing.printer import print_graph

    with weights_file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    digest.update(print_graph(compiled.graph).encode())
    return digest.hexdigest()[:32]
