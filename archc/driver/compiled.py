"""The result of `archc.compile`: a compiled model that can be shown, loaded and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.diagnostics import silent
from archc.driver.arguments import check_report_form, check_types, form_of, targets_of
from archc.driver.compilation import Compilation, model_to_emit
from archc.driver.graph_views import draw
from archc.garbage_collector import paused_collector
from archc.ir.failed_nodes import located
from archc.passmanager.sizes import warn_of_assumed

if TYPE_CHECKING:
    import torch
    from torch import nn

    from archc.codegen.python_source import Activations
    from archc.codegen.target import OnnxOperators
    from archc.driver.sensitivity import Sensitivity


class Compiled(Compilation):
    """A model after its passes, ready to be written.

    Attributes:
        graph: the graph; its weights are bound, unless it was compiled without weights.
        name: name of the model.
        source_name: name of the source file, without folders.
        passes: reports of the passes, in their order.
        weights: a phrase that states the origin of the weights.
        calibration: a phrase that states the origin of the calibration data.
        seed: seed of all random numbers.
        diagnostics: the warnings.
        files: the files that were read, which `write` never replaces.
        sizes: values of the symbolic sizes; costs are counted at these sizes.
        baseline: the model before its passes, if it was kept.
        emit: names of the targets that were given to `archc.compile`; None if none were given.
    """

    def __repr__(self) -> str:
        passes = f" after {', '.join(step.text for step in self.passes)}" if self.passes else ""
        return f"<Compiled {repr(self.graph)[1:-1]}{passes}>"

    def _repr_svg_(self) -> str:
        """SVG of the model, for notebooks."""
        return draw(self.graph)

    def module(self, device: str | torch.device = "cpu", activations: Activations | None = None) -> nn.Module:
        """The PyTorch module with its weights, in evaluation mode; no file is written.

        Args:
            device: the device of all weights, also for a model of several stages.
            activations: see `write`.

        Raises:
            TypeError: `device` is neither a string nor a `torch.device`.
            ValueError: PyTorch does not know the device, it is not available on this machine, or there is no such form
                of activations.
            ArchcError: the model was compiled without weights, or PyTorch cannot express it.
        """
        from archc.driver.live_module import live_module

        form = form_of(activations, otherwise=self.form)
        with located(self.graph):
            return live_module(self, device, form)

    def sensitivity(
        self,
        formats: str | Sequence[str] | None = None,
        group: int | None = None,
        sort: str | None = None,
        measure: int = 3,
        progress: Callable[[str], None] = silent,
    ) -> Sensitivity:
        """Predict how much each storage format of a layer's weights changes the layer and the outputs.

        The errors are those on the calibration data that the model was compiled with.

        Args:
            formats: names of formats of `quant`, as a list or as a text such as "int8,int4"; by default int8, int6,
                int4, int3, int2, f16 and bf16.
            group: number of elements with a common scale, for int2 to int6; by default 32.
            sort: the format whose loss decides the order of the layers, or "file"; by default "int4" or the first one.
            measure: number of the worst layers whose loss is also measured, one layer at a time.
            progress: called with the name of each task as it begins.

        Raises:
            TypeError: an argument has a wrong type.
            ValueError: there is no such format, or a number is out of range.
            ArchcError: the model was compiled without weights, or cannot run on the data.
        """
        from archc.driver.sensitivity import sensitivity

        check_types(progress=progress, formats=formats, group=group, sort=sort)
        return sensitivity(self, formats, group, sort, measure, progress)

    def write(
        self,
        folder: str | Path,
        emit: str | Sequence[str] | None = None,
        check: bool | None = None,
        progress: Callable[[str], None] = silent,
        announce: Callable[[dict[str, Any]], None] | None = None,
        single_file: bool | None = None,
        activations: Activations | None = None,
        measure: bool = False,
        onnx: OnnxOperators | None = None,
        report: str = "json",
    ) -> dict[str, Any]:
        """Write the model into a folder, and return the report; on an error nothing is written.

        The defaults of `emit`, `single_file`, `activations` and `onnx` are the values that `archc.compile` got.

        Args:
            emit: targets to write: a list of names, or a string such as `"torch,arch"`.  If `archc.compile` got none,
                the targets of archc; for a model without weights, only the targets that need no weights.
            check: True to run the emitted programs and compare their outputs with the graph's.  With None, a model is
                checked if it is within the budget of `archc.driver.budget`.  The entry `check` of the report has the
                outcome, or the reason why nothing was checked.
            announce: called with the report when all files are ready, before they replace earlier files; if `announce`
                raises an exception, the folder stays as it was.
            single_file: write no file that the PyTorch module imports, such as `archc_int8.py`; the module then has
                copies of the int8 and packed layers.
            activations: "modules" to write a module such as `nn.ReLU` at each use of an activation, for methods that
                register hooks on such modules.
            onnx: "standard" to write no operators of ONNX Runtime's domain `com.microsoft` into an ONNX model.  The
                entry `contributed` of the report names such operators.
            measure: True to measure the latency of the emitted programs on one sample and one thread, in turns with
                the programs before the passes if `archc.compile` was called with `baseline=True`.
            report: "html" to write `report.html` beside `report.json`: the same report for people, with charts.

        Raises:
            TypeError: an argument has a wrong type.
            ValueError: there is no such target, or no such form of activations, of operators of ONNX or of the report.
            ArchcError: a target cannot be loaded or cannot express the model, the check or the measurement fails, the
                folder cannot be written, or an output would replace a file that the compilation read.
        """
        from archc.driver.emission import check_weights, write_files
        from archc.driver.option_warnings import warn_of_activations, warn_of_measure, warn_of_onnx
        from archc.driver.output_folder import OutputFolder

        check_types(folder=folder, check=check, progress=progress, announce=announce, measure=measure)
        form = form_of(activations, onnx, single_file, self.form)
        check_report_form(report)
        targets = targets_of(self.emit if emit is None else emit, with_weights=self.graph.tensors is not None)
        check_weights(self, targets, check)
        if form.activations == "modules":
            warn_of_activations(self, targets)
        if form.onnx == "standard":
            warn_of_onnx(self, targets)
        if measure:
            warn_of_measure(self, targets)
        warn_of_assumed(self.sizes, self.diagnostics)
        with OutputFolder(folder, self.files) as out, paused_collector(), located(self.graph):
            content = write_files(self, out, targets, check, form, progress, measure, report)
            if announce is not None:
                out.prepare()
                announce(content)
            return content

    def sources(self, activations: Activations | None = None) -> dict[str, str]:
        """Sources by file name.

        They are the `.arch` text, the PyTorch module, the files that it imports, and the sources of stages, in the form
        that `archc.compile` got.
        The sources of stages lack the hash that identifies the compilation, since the hash depends on the weights.

        Args:
            activations: see `write`.

        Raises:
            ValueError: there is no such form of activations.
        """
        form = form_of(activations, otherwise=self.form)
        from archc.driver.stage_files import stage_sources
        from archc.targets.registry import default_targets

        imported: dict[str, str] = {}

        def write_beside(name: str, text: str) -> str | None:
            if form.single_file:
                return None
            imported[name] = text
            return name

        model = model_to_emit(self, write_beside=write_beside, form=form)
        with located(self.graph):
            whole = {
                f"{self.name}{target.suffix}": target.text(model)
                for target in default_targets(with_weights=False)
                if target.text is not None
            }
            stages = stage_sources(self, write_beside, form)
        return {**dict(sorted(whole.items())), **imported, **stages}
