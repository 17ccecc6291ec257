"""Record of a compilation, for the steps after the passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from archc.codegen.python_source import WriteBeside
from archc.codegen.target import DEFAULT_FORM, Form, ModelToEmit, WeightsFile
from archc.diagnostics import Diagnostics
from archc.frozen_dataclass import frozen_by_identity
from archc.ir.graph import Graph
from archc.passmanager.calibration import Calibration
from archc.passmanager.report import PassReport
from archc.passmanager.sizes import Sizes


@frozen_by_identity
class Baseline:
    """The model before its passes, for comparisons.

    Attributes:
        graph: a copy of the graph before the first pass.
        calibration: the inputs of the passes.
    """

    graph: Graph
    calibration: Calibration


@dataclass(repr=False)
class Compilation:
    """A model after its passes, with the origin of its data.

    Attributes:
        graph: the graph; its weights are bound, unless it was compiled without weights.
        source_name: name of the source file, without folders.
        seed: seed of all random numbers.
        weights: a phrase that states the origin of the weights.
        calibration: a phrase that states the origin of the calibration data.
        passes: reports of the passes, in their order.
        diagnostics: the warnings.
        files: the files that were read, which `Compiled.write` never replaces.
        sizes: values of the symbolic sizes; costs are counted at these sizes.
        baseline: the model before its passes; None unless `archc.compile` was told to keep it.
        data: the calibration data; None for random inputs of the compiled graph.
        emit: names of the targets that were given to `archc.compile`; None if none were given.
        form: the form of the programs, as given to `archc.compile`.
    """

    graph: Graph
    source_name: str
    seed: int
    weights: str
    calibration: str
    passes: list[PassReport] = field(default_factory=list)
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    files: frozenset[Path] = frozenset()
    sizes: Sizes = field(default_factory=Sizes)
    baseline: Baseline | None = None
    data: Calibration | None = None
    emit: list[str] | None = None
    form: Form = DEFAULT_FORM

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.graph.name

    @property
    def pass_texts(self) -> list[str]:
        """The passes with their options, as text."""
        return [step.text for step in self.passes]


def model_to_emit(
    compiled: Compilation,
    weights: WeightsFile | None = None,
    write_beside: WriteBeside | None = None,
    form: Form = DEFAULT_FORM,
) -> ModelToEmit:
    """The whole model, for a target; see `ModelToEmit`."""
    texts = compiled.pass_texts
    return ModelToEmit(compiled.graph, compiled.source_name, weights, texts, write_beside=write_beside, form=form)
