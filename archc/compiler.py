"""Entry points for Python and the command line: parse, bind weights, run passes, emit.

graph = archc.parse(text)
compiled = archc.compile("specs/cnn.arch", passes="lowrank, quant", weights="cnn.safetensors")
compiled.write("out")
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.diagnostics import Diagnostics, Source, error, silent
from archc.driver.arguments import check_types, form_of, passes_of, plain_settings, targets_of, with_former_names
from archc.driver.compilation import Baseline
from archc.driver.compiled import Compiled
from archc.driver.emission import file_title, source_title
from archc.driver.parsing import checked, open_module, texts_of
from archc.ir.copying import copied
from archc.ir.given_sizes import sizes_from
from archc.ir.graph import Graph
from archc.language.elaboration.device_statements import devices_of
from archc.passmanager import Pass
from archc.passmanager.run import run_passes
from archc.passmanager.sizes import check_data, choose_sizes, warn_of_assumed

if TYPE_CHECKING:
    from archc.codegen.python_source import Activations
    from archc.codegen.target import OnnxOperators

NO_WEIGHTS = "none"
"""Value of `weights` that compiles a model without weights.  A file of this name is given as `./none`."""


@with_former_names(values="set")
def parse(
    text: str | Path | Source,
    model: str | None = None,
    set: Mapping[str, Any] | None = None,
    diagnostics: Diagnostics | None = None,
    allow_absolute_imports: bool = False,
) -> Graph:
    """The checked graph of a model, with no weights bound.

    Args:
        text: the text itself, or the path of a file: a `Path`, or a one-line string that ends in `.arch`.
        model: name of the model; by default the only model, or the model with the name of the file.
        set: attribute values that replace the defaults.
        diagnostics: collects the warnings.

    Raises:
        TypeError: an argument has a wrong type.
        ArchcError: the text is wrong.
    """
    check_types(text=text, model=model, set=set, diagnostics=diagnostics, allow_absolute_imports=allow_absolute_imports)
    found = diagnostics if diagnostics is not None else Diagnostics()
    module = open_module(text, found, allow_absolute_imports)
    return checked(module, model, plain_settings(set), found)


@with_former_names(values="set", renaming="rename", calibration="calib")
def compile(
    text: str | Path | Source,
    *,
    model: str | None = None,
    passes: str | Pass | Sequence[str | Pass] = (),
    weights: str | Path | Mapping[str, Any] | None = None,
    rename: str | Path | None = None,
    calib: str | Path | Mapping[str, Any] | None = None,
    set: Mapping[str, Any] | None = None,
    sizes: str | Mapping[str, int] = "",
    seed: int = 0,
    allow_pickle: bool = False,
    allow_absolute_imports: bool = False,
    diagnostics: Diagnostics | None = None,
    progress: Callable[[str], None] = silent,
    baseline: bool = False,
    emit: str | Sequence[str] | None = None,
    single_file: bool | None = None,
    activations: Activations | None = None,
    onnx: OnnxOperators | None = None,
) -> Compiled:
    """Compile a model: parse the text, bind weights, run passes.

    The arguments have the names of the options of the command line.

    Args:
        text, model, set: as for `parse`.
        passes: a pipeline as text, a pass, or a list of texts and passes.
        weights: a .safetensors or .npz file, or with `allow_pickle` a PyTorch file.  Arrays or tensors by name, such as
            a state dict, are accepted, too, and copied.  By default weights are initialized.  With "none" the model has
            no weights: use it to write the sources of a model that does not fit into memory.
        rename: a file that maps the names in `weights` to those of the text.
        calib: an .npz file, or arrays or tensors by input name, with samples along the first axis.  By default the
            inputs are random.
        sizes: values of symbolic sizes, as `"H=224,W=224"` or by name; passes compare costs at these sizes.  Sizes that
            are not given are taken from the calibration data, or else assumed, with a warning.
        seed: seed of initial weights and random inputs.
        progress: called with the name of each task as it begins.
        baseline: True to keep the model before the passes, with which `Compiled.write` compares the compiled one.
        emit: targets, as for `Compiled.write`, which writes them by default.  Passes optimize for these targets.
        single_file, activations, onnx: the form of the programs, as for `Compiled.write`.  A budget of bytes counts the
            bytes of this form.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: there is no such target or form.
        ArchcError: the text, the weights, the data or the options have errors.
    """
    from archc.driver.binding import bind_fresh, bind_given
    from archc.driver.latency import facts_on
    from archc.passmanager.calibration import Calibration, read_calibration, warn_of_constant
    from archc.weights.load import arrays_of, tensors_of

    check_types(
        text=text, model=model, passes=passes, weights=weights, rename=rename, calib=calib, set=set, seed=seed,
        allow_pickle=allow_pickle, allow_absolute_imports=allow_absolute_imports, diagnostics=diagnostics,
        progress=progress, baseline=baseline, emit=emit,
    )  # fmt: skip
    form = form_of(activations, onnx, single_file)
    found = diagnostics if diagnostics is not None else Diagnostics()
    given_sizes = sizes_from(sizes)
    module = open_module(text, found, allow_absolute_imports)
    progress("build the graph")
    graph = checked(module, model, plain_settings(set), found)
    pipeline = passes_of(passes, module)
    without_weights = isinstance(weights, str) and weights == NO_WEIGHTS
    targets = targets_of(emit, with_weights=not without_weights)
    if without_weights and pipeline:
        raise error(
            "needs-weights",
            f"the pass `{pipeline[0].name}` needs weights, but there are none",
            help="remove `--weights none` or `--passes`",
        )
    if rename is not None and (weights is None or without_weights):
        raise error(
            "rename-without-weights",
            f"`{rename}` renames the weights of a file, but no file is given",
            help="give the file with `--weights`",
        )
    if without_weights:
        weights_text = "none; the model was compiled without any"
    elif weights is None:
        bind_fresh(graph, seed)
        weights_text = f"initialized as PyTorch initializes them, from the seed {seed}; no file was given"
    else:
        progress("read the weights")
        tensors = tensors_of(weights) if isinstance(weights, Mapping) else Path(weights)
        bind_given(graph, tensors, seed, found, allow_pickle, Path(rename) if rename is not None else None)
        weights_text = "given in memory" if isinstance(weights, Mapping) else f"read from {file_title(Path(weights))}"
    data = arrays_of(calib, "calib") if isinstance(calib, Mapping) else calib
    arrays = read_calibration(graph, data) if data is not None else None
    if arrays is not None:
        warn_of_constant(arrays, found)
    inputs = Calibration(graph, arrays, seed, trained=weights is not None and not without_weights)
    calibration_text = f"seeded random inputs (seed {seed}); no data was given" if arrays is None else "the given data"
    given = (None if without_weights else weights, rename, calib)
    read = [Path(file) for file in given if isinstance(file, str | os.PathLike)]
    compiled = Compiled(
        graph,
        source_title(module.source),
        seed,
        weights_text,
        calibration_text,
        diagnostics=found,
        files=texts_of(module).union(file.absolute() for file in read),
        sizes=choose_sizes(graph, given_sizes, inputs.shapes),
        baseline=Baseline(copied(graph), inputs) if baseline else None,
        data=inputs,
        emit=None if emit is None else [target.name for target in targets],
        form=form,
    )
    if pipeline:
        warn_of_assumed(compiled.sizes, found)
        machines = devices_of(module, found)
        facts = facts_on(inputs, targets, compiled.source_name, [str(step) for step in pipeline], form)
        compiled.passes += run_passes(graph, pipeline, inputs, progress, machines, compiled.sizes.values, found, facts)
    if arrays is not None:
        check_data(graph, compiled.sizes)
    return compiled
