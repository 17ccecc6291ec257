"""Check of emitted programs: run them in their runtimes, and compare them with the graph.

Errors are relative to the spread of an output: how much the output varies with the inputs.  The function
`archc.passmanager.comparison.spreads` estimates the spread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from archc.diagnostics import ArchcError, Diagnostics, error, silent
from archc.driver import budget
from archc.driver.emitted_programs import Files, Programs, target_of, title_of, without
from archc.driver.isolation import Ended, isolated
from archc.driver.tolerance import MANY_DRAWS, Bound, decided, least_bound, measured_bound, quantized
from archc.ir.graph import Graph
from archc.ir.outside_operators import suspecting
from archc.passmanager.calibration import Calibration
from archc.passmanager.comparison import largest_error, spreads
from archc.passmanager.threads import one_thread
from archc.targets.registry import runnable_targets

if TYPE_CHECKING:
    import torch

    from archc.driver.compilation import Compilation

LEAST_SHARE = 0.1
"""Smallest spread by which an error is divided, relative to the norm of the output.

Rounding errors are proportional to the norm, so division by a smaller spread would exaggerate them.
"""
FAINT = 1e-2
"""Spread, relative to the norm of the output, below which an output is faint.

A faint output hardly depends on the early layers, so it does not show whether they are correct.
"""
_GRAPH = "the graph"
"""Name of the first step, in which PyTorch runs the graph itself, node by node.

No program has this key: the name of a runtime has no spaces.
"""


def check_isolated(compiled: Compilation, files: Files, stages: Sequence[Files], folder: Path) -> dict[str, Any]:
    """Run `check_agreement` in a separate process, so that a crash of a runtime becomes a diagnostic.

    Args:
        folder: an empty folder for temporary files of the check.

    Raises:
        ArchcError: as `check_agreement`; or the process crashed, or took too long (`check-crashed`).
    """
    import torch  # noqa: F401  before the fork, so that it stays loaded for the next check

    for target in runnable_targets(files):
        for module in target.runtime.modules if target.runtime else ():
            import_module(module)  # also before the fork

    def work(tell: Callable[[str], None]) -> dict[str, Any]:
        with one_thread():
            return check_agreement(compiled, files, stages, folder, tell)

    try:
        return isolated(work, budget.time_limit(compiled.graph))
    except Ended as end:
        raise _crashed(end) from None


def _crashed(end: Ended) -> ArchcError:
    """The diagnostic for a check that ended without a result."""
    last = end.steps[-1] if end.steps else _GRAPH
    title = "the graph, run by PyTorch," if last == _GRAPH else title_of(last)
    notes = [f"it printed: {end.words}"] if end.words else []
    if end.killed:
        notes.append("a system that is out of memory ends processes with this signal")
    passed = [title_of(step) for step in end.steps[:-1] if step != _GRAPH]
    if passed:
        notes.append(f"before it, {' and '.join(dict.fromkeys(passed))} ran to the end")
    help = "write it unchecked with `--no-check`" if last == _GRAPH else without(last)
    return error("check-crashed", f"{title} {end.how} while it ran the model; nothing was written", None, notes, help)


def check_agreement(
    compiled: Compilation,
    files: Files,
    stages: Sequence[Files] = (),
    folder: Path | None = None,
    tell: Callable[[str], None] = silent,
) -> dict[str, Any]:
    """Run the emitted files on seeded random inputs, and compare their outputs with the graph's.

    Errors are relative to the spread of an output.  If an output is faint, copies of the files also run with scaled
    weights; see `archc.driver.weight_scaling`.

    Args:
        files: paths of the emitted files by suffix, such as `.py` and `.onnx`; those without a runtime are ignored.
        stages: the emitted files of each stage, for a model of several stages.  The stages run one after another in
            this process.
        folder: folder for copies of the files; by default a temporary folder.
        tell: called with the name of each step before the step begins.

    Returns:
        The outcome, a dictionary with these entries; the last four exist only if they apply.

        - `errors`: the error of each program.
        - `tolerance`: the largest allowed error.
        - `bound`: a phrase that states the origin of the tolerance.
        - `spread`: the spread of each output, relative to its norm.
        - `faint`: the faint outputs that depend on both an input and a trainable weight.
        - `scaled`: the outcome with scaled weights, for faint outputs; None if no layer or no program could be scaled.
        - `not_finite`: the outputs without a finite element.
        - `saturated`: errors that exceed the tolerance only because the kernels of a runtime for this CPU saturate.
        - `undecided`: for each output, the share of elements that were not compared, because rounding decides whether
          they are finite.

    Raises:
        ArchcError: an error is above the tolerance, or a program cannot run (`check-failed`).
    """
    if folder is None:
        with TemporaryDirectory(prefix="archc-check-") as temporary:
            return check_agreement(compiled, files, stages, Path(temporary), tell)
    with Calibration(compiled.graph, seed=compiled.seed).explained():
        try:
            return _outcome(compiled, files, stages, folder, tell)
        except ArchcError as failure:
            if all(each.code == "check-failed" for each in failure.diagnostics):
                raise suspecting(compiled.graph, failure) from failure.__cause__
            raise


def _outcome(
    compiled: Compilation, files: Files, stages: Sequence[Files], folder: Path, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Compare the programs with the graph; if an output is faint, compare them again with scaled weights."""
    graph = compiled.graph
    tell(_GRAPH)
    outcome = _compared(compiled, graph, Programs(files, stages), folder, tell)
    if outcome["errors"] and outcome["faint"] and not _integers(graph):
        from archc.driver.weight_scaling import scaled_copies, scaling_factors, with_factors

        factors = scaling_factors(graph, next(Calibration(graph, seed=compiled.seed).batches()))
        copies = [scaled_copies(each, factors, folder) for each in (files, *stages)] if factors else []
        if not any(copies):
            return {**outcome, "scaled": None}
        scaled = Programs(copies[0], copies[1:])
        outcome["scaled"] = _compared(compiled, with_factors(graph, factors), scaled, folder, tell, alive=True)
    return outcome


def _compared(
    compiled: Compilation,
    graph: Graph,
    programs: Programs,
    folder: Path,
    tell: Callable[[str], None],
    alive: bool = False,
) -> dict[str, Any]:
    """Compare the programs with a graph; `alive` means that the weights of both are scaled."""
    calibration, other = (Calibration(compiled.graph, seed=compiled.seed + k) for k in range(2))
    expected = calibration.outputs(graph)
    spread = spreads(expected, other.outputs(graph))
    shares = {name: max(LEAST_SHARE, min(1.0, value)) for name, value in spread.items()}
    inputs = next(calibration.batches())
    found = dict(programs.results(graph, inputs, tell))
    for program, outputs in found.items():
        _refuse_types(program, outputs, expected, graph)
    bound = least_bound(graph)
    errors = {name: _error(expected, outputs, shares, bound) for name, outputs in found.items()}
    if any(not value <= bound.tolerance for value in errors.values()):
        bound = measured_bound(graph, inputs, expected, shares)
        errors = {name: _error(expected, outputs, shares, bound) for name, outputs in found.items()}
    if math.inf in errors.values() and any(mask.any() for mask in bound.undecided.values()):
        bound = measured_bound(graph, inputs, expected, shares, MANY_DRAWS)
        errors = {name: _error(expected, outputs, shares, bound) for name, outputs in found.items()}
    saturated: dict[str, float] = {}
    large = {name for name, value in errors.items() if _may_saturate(name) and value > bound.tolerance}
    if large and _integers(graph):
        exact = dict(programs.exactly(folder).results(graph, inputs, tell))
        for name in large:
            again = _error(expected, exact[name], shares, bound)
            if again <= bound.tolerance:
                saturated[name], errors[name] = errors[name], again
    _refuse_errors(errors, bound, " once weights are scaled so that the inputs matter" if alive else "")
    trained = _trained_outputs(graph)
    not_finite = [name for name, value in expected.items() if _without_finite(value)]
    faint = [
        name for name, value in spread.items() if name in trained and name not in not_finite and not value >= FAINT
    ]
    outcome = {"tolerance": bound.tolerance, "bound": bound.origin, "errors": errors, "spread": spread, "faint": faint}
    undecided = {name: float(mask.double().mean()) for name, mask in bound.undecided.items() if mask.any()}
    more = {"saturated": saturated, "undecided": undecided, "not_finite": not_finite}
    return outcome | {key: found for key, found in more.items() if found}


def warn_of_outputs(check: Mapping[str, Any], diagnostics: Diagnostics) -> None:
    """Warn of outputs without a finite element (`output-not-finite`), given the outcome of a check."""
    for name in check.get("not_finite", ()):
        diagnostics.warn(
            "output-not-finite",
            f"every element of the output `{name}` is infinite or NaN on seeded random inputs",
            help="look for weights such as a negative variance, or for an operator such as `log` of negative numbers",
        )


def _may_saturate(program: str) -> bool:
    """Return whether the runtime of a program saturates sums of 8-bit products on some CPUs."""
    runtime = target_of(program).runtime
    return runtime is not None and runtime.exact_sums is not None


def _without_finite(value: torch.Tensor) -> bool:
    return value.is_floating_point() and value.numel() > 0 and not bool(value.isfinite().any())


def _error(
    expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], shares: Mapping[str, float], bound: Bound
) -> float:
    return largest_error(decided(expected, bound.undecided), decided(found, bound.undecided), shares)


def _refuse_types(
    program: str, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], graph: Graph
) -> None:
    """Refuse outputs of a program whose shapes or dtypes are not those of the graph's outputs.

    A dtype is compared with the declared type: the graph is run with the same PyTorch expressions as the program, so it
    can have the same wrong dtype.

    Raises:
        ArchcError: a shape or a dtype differs (`check-failed`).
    """
    for name, output in found.items():
        declared = graph.outputs[name].type.dtype.torch
        for what, given, wanted in (
            ("shape", list(output.shape), list(expected[name].shape)),
            ("dtype", str(output.dtype).removeprefix("torch."), declared),
        ):
            if given != wanted:
                message = (
                    f"{title_of(program)} gives the output `{name}` the {what} {given}, and the graph gives {wanted}"
                )
                raise error("check-failed", message, help=without(program))


def _refuse_errors(errors: Mapping[str, float], bound: Bound, where: str) -> None:
    worst = max(errors, key=lambda name: errors[name], default=None)
    if worst is None or errors[worst] <= bound.tolerance:
        return
    others = ", ".join(f"{title_of(name)} by {value:.2g}" for name, value in errors.items() if name != worst)
    raise error(
        "check-failed",
        f"{worst} differs from the graph by {errors[worst]:.2g}{where}; the bound is {bound.tolerance:.2g}",
        notes=[
            f"errors are relative to the spread of an output on random inputs; origin of the bound: {bound.origin}",
            *([f"the others: {others}"] if others else []),
        ],
        help=without(worst),
    )


def _trained_outputs(graph: Graph) -> set[str]:
    """Outputs that depend on both an input and a trainable weight.

    Training cannot increase the effect of the inputs on any other output, so no other output counts as faint.
    """
    trained = {node for node in graph.nodes() if any(graph.weights[path].trainable for path in node.weights.values())}
    # For each value: whether it depends on an input, and whether it depends on a trainable weight.
    reached = dict.fromkeys(graph.inputs, (True, False))
    for node in graph.nodes():
        operands = [reached[operand] for operand in node.operands]
        both = (any(one for one, _ in operands), node in trained or any(other for _, other in operands))
        reached.update(dict.fromkeys(node.results, both))
    return {name for name, value in graph.outputs.items() if all(reached[value])}


def _integers(graph: Graph) -> bool:
    """Return whether a graph has quantized weights or values."""
    return any(not weight.storage.elementwise for weight in graph.weights.values()) or any(
        quantized(value) for node in graph.nodes() for value in node.results
    )
