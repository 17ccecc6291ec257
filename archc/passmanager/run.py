"""Execution of a pipeline of passes over a graph.

After each pass, the graph is verified, the error of the outputs is measured, and the remarks on layers are collected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from archc.analysis.cost import cost
from archc.analysis.devices import Devices
from archc.diagnostics import ArchcError, Diagnostics, error, silent
from archc.extension_failure import class_text, is_outside
from archc.ir.failed_nodes import located
from archc.ir.graph import Graph
from archc.ir.outside_operators import outside_operators
from archc.ir.rewriter import Rewriter
from archc.ir.selector import LONGEST, SelectorError
from archc.ir.verifier import InvalidGraph, verify
from archc.passmanager.base import Context, Pass, Remark, kinds_of, select
from archc.passmanager.calibration import Calibration
from archc.passmanager.comparison import largest_error
from archc.passmanager.effect_warnings import warn_of_idle, warn_of_options, warn_of_random
from archc.passmanager.failure import pass_failure
from archc.passmanager.order import check_order
from archc.passmanager.report import PassReport
from archc.passmanager.sizes import choose_sizes
from archc.passmanager.targets import TargetFacts
from archc.passmanager.threads import one_thread
from archc.types.attributes import AttributeProblem
from archc.types.tensor_type import TensorType
from archc.weights.input_files import DISK_FULL

if TYPE_CHECKING:
    from archc.declaration.base import Operator
    from archc.weights.tensor import LazyTensor


def run_passes(
    graph: Graph,
    passes: Sequence[Pass],
    calibration: Calibration,
    progress: Callable[[str], None] = silent,
    devices: Mapping[str, Devices] | None = None,
    sizes: Mapping[str, int] | None = None,
    diagnostics: Diagnostics | None = None,
    targets: TargetFacts | None = None,
    brief: bool = False,
) -> Iterator[PassReport]:
    """Run passes over a graph, in place, and yield the report of each.

    Args:
        progress: function that is called with the text of each pass before the pass runs.
        devices: machines by name, to which options of passes refer.
        sizes: a value for each symbolic size; costs are counted at these values.  By default, the values come
            from the calibration data.
        diagnostics: collects the warnings.
        targets: the targets that are emitted, and their runtimes.  Without them, passes assume that int8 is always
            faster than floats, and cannot measure.
        brief: True to leave out figures that only remarks contain and that take long to measure.

    Raises:
        ArchcError: options are contradictory, the order is wrong, a selector matches nothing, a pass breaks the graph,
            or weights or outputs become infinite or NaN (`pass-not-finite`).  Options and order are checked before any
            pass runs.
    """
    targets = targets or TargetFacts()
    _admit(passes, targets)
    # Earlier passes may insert the layers that a later pass selects, so only the first pass is checked here.
    if passes:
        _check_selectors(graph, passes[0])
    if sizes is None:
        sizes = choose_sizes(graph, {}, calibration.shapes).values
    with one_thread(), located(graph):
        original = previous = calibration.outputs(graph)
    for step in passes:
        progress(str(step))
        before, form, kinds = cost(graph, sizes), graph.canonical(), kinds_of(graph)
        suspects = outside_operators(graph.nodes())  # now, since the pass may remove or replace them
        found = diagnostics if diagnostics is not None else Diagnostics()
        warn_of_options(step, found)
        rewriter = Rewriter(graph, by=step.name)
        context = Context(
            rewriter, calibration, devices or {}, sizes, found, progress=progress, targets=targets, brief=brief
        )
        calibration.asked = False
        stored = dict(graph.tensors or {})
        with one_thread(), located(graph):
            remarks = _run(graph, step, context)
            _refuse_infinite_weights(graph, step, context.rewriter.not_finite, stored)
            warn_of_random(calibration, f"the pass `{step}`", found)
            outputs = calibration.outputs(graph)
            change, total = (largest_error(earlier, outputs) for earlier in (previous, original))
        _hold_to_promise(step, change, suspects)
        _refuse_infinite(step, max(change, total))
        changed = graph.canonical() != form or _identities(graph.tensors or {}) != _identities(stored)
        after, new_results = cost(graph, sizes), context.new_results
        report = PassReport(str(step), step.preserves, before, after, changed, change, total, remarks, new_results)
        warn_of_idle(step, report, kinds, found)
        yield report
        previous = outputs


def _run(graph: Graph, step: Pass, context: Context) -> tuple[Remark, ...]:
    """Run one pass, remove dead nodes and weights, verify the graph, and return the remarks."""
    import numpy as np

    interface = _interface(graph)
    try:
        # NumPy's warnings are ignored: overflowed weights are reported by name after the pass.
        with context.calibration.explained(), np.errstate(all="ignore"):
            step.run(graph, context)
    except SelectorError as problem:
        raise _wrong_selector(step, problem) from None
    except (ArchcError, MemoryError):
        raise
    except (Exception, SystemExit) as failure:
        no_space = isinstance(failure, OSError) and failure.errno in DISK_FULL
        if is_outside(type(step)) and not no_space:
            raise pass_failure(step, "run", failure) from failure
        failure.add_note(f"while the pass `{step}` ran")  # a traceback does not show which pass ran
        raise
    context.rewriter.remove_unused_nodes()
    context.rewriter.remove_unused_weights()
    _verify(graph, step, interface)
    return tuple(context.remarks)


def _identities(tensors: Mapping[str, LazyTensor]) -> dict[str, int]:
    """Identity of each stored tensor by name; tensors are replaced, and never changed in place."""
    return {name: id(tensor) for name, tensor in tensors.items()}


def _check_selectors(graph: Graph, step: Pass) -> None:
    """Refuse wrong selectors in `on` and `keep`.

    The check comes before the first run of the model, which imports PyTorch and would delay the error.

    Raises:
        ArchcError: a selector matches nothing, or is too long.
    """
    try:
        select(graph, getattr(step, "on", None), getattr(step, "keep", None))
    except SelectorError as problem:
        raise _wrong_selector(step, problem) from None


def _wrong_selector(step: Pass, problem: SelectorError) -> ArchcError:
    where = str(step) if len(str(step)) <= LONGEST else step.name
    return error(problem.code, f"{problem} in `{where}`", help=problem.help)


def _admit(passes: Sequence[Pass], targets: TargetFacts) -> None:
    """Refuse contradictory options and a wrong order; passes constructed in Python are checked only here.

    The option `for` of a pass names targets.
    """
    for step in passes:
        try:
            step.check()
            targets.break_even_for(getattr(step, "for_", None))
        except AttributeProblem as problem:
            raise error(problem.code, problem.message, help=problem.help) from None
    check_order(passes)


def _interface(graph: Graph) -> list[tuple[str, str, TensorType]]:
    """Kind, name and type of the inputs and outputs of a graph, in order."""
    inputs = [("input", str(value.name), value.type) for value in graph.inputs]
    return inputs + [("output", name, value.type) for name, value in graph.outputs.items()]


def _verify(graph: Graph, step: Pass, interface: list[tuple[str, str, TensorType]]) -> None:
    try:
        verify(graph)
    except InvalidGraph as broken:
        raise _broken(step, f"left the graph invalid: {broken}") from broken
    for was, now in zip_longest(interface, _interface(graph)):
        if was != now and not (step.changes_io and was and now and _differ_in_dtype(was, now)):
            kind, name, _ = was or now
            raise _broken(step, f"changed the {kind} `{name}` of the model")


def _differ_in_dtype(one: tuple[str, str, TensorType], other: tuple[str, str, TensorType]) -> bool:
    return one[:2] == other[:2] and one[2].shape == other[2].shape


PROMISES = {"exact": 1e-5, "rounding": 0.05}
"""Largest accepted error of the outputs, by the guarantee in `Pass.preserves`.

Rounding can change the result of a comparison and every value that depends on that result.  The limit for `rounding`
allows such changes in a few elements.
"""


def _hold_to_promise(step: Pass, change: float, suspects: Sequence[type[Operator]]) -> None:
    """Refuse a change of the outputs that is larger than the guarantee of the pass allows.

    Args:
        suspects: operators from outside archc, whose traits the pass may have used.

    Raises:
        ArchcError: the change is too large (`pass-broke-graph`).
    """
    if change <= PROMISES.get(step.preserves, math.inf):
        return
    notes = [
        f"{class_text(cls)}, with the traits {' · '.join(map(str, cls.all_traits())) or 'none'}; a wrong trait"
        " misleads passes"
        for cls in suspects
    ]
    declared = any("preserves" in vars(base) for base in type(step).__mro__ if base is not Pass)
    if is_outside(type(step)) and not declared:
        intended = "rounding" if change <= PROMISES["rounding"] else "approximate"
        raise _broken(
            step,
            f'changed the outputs by {change:.2%}, but a pass that declares no `preserves` has the default "exact"',
            notes,
            f'if the change is intended, declare `preserves = "{intended}"` in the class `{type(step).__qualname__}`',
        )
    wanted = "exactly" if step.preserves == "exact" else "up to rounding"
    what = f"promises to preserve the function {wanted}, and changed the outputs by {change:.2%}"
    if suspects and not is_outside(type(step)):
        names = " and ".join(f"`{cls.name}`" for cls in suspects)
        raise _broken(step, what, notes, f"correct the traits of {names}, or remove the pass from the pipeline")
    raise _broken(step, what, notes)


def _refuse_infinite_weights(graph: Graph, step: Pass, made: Collection[str], before: Mapping[str, LazyTensor]) -> None:
    """Refuse stored tensors with a NaN or an infinity that a pass computed from finite tensors.

    The tensors that the pass replaced or removed count as the operands of the pass.  These tensors are read only if a
    new tensor is not finite.

    Raises:
        ArchcError: a tensor became infinite or NaN (`pass-not-finite`).
    """
    from archc.weights.dtype_conversion import is_finite

    after: Mapping[str, LazyTensor] = graph.tensors or {}
    wrong = [name for name in after if name in made]
    if not wrong:
        return
    used = [tensor for name, tensor in before.items() if after.get(name) is not tensor]
    if all(is_finite(tensor.numpy()) for tensor in used):
        others = f" and {len(wrong) - 1} other{'s' if len(wrong) > 2 else ''}" if len(wrong) > 1 else ""
        raise error(
            "pass-not-finite",
            f"the pass `{step}` makes the weight `{wrong[0]}`{others} infinite or NaN, from weights that are finite",
            help="leave layers out with `keep`, correct the weights, or leave the pass out",
        )


def _refuse_infinite(step: Pass, change: float) -> None:
    if not math.isfinite(change):
        raise error(
            "pass-not-finite",
            f"the pass `{step}` makes outputs infinite or NaN that were finite",
            help=step.remedy,
        )


def _broken(
    step: Pass,
    what: str,
    notes: Sequence[str] = (),
    help: str = "this is a bug in the pass; remove it from the pipeline",
) -> ArchcError:
    return error("pass-broke-graph", f"the pass `{step}` {what}", None, notes, help)
