"""Latency of emitted programs, measured on one thread.

Other processes and the clock rate of the CPU change the time of a run.  Programs that are compared therefore run in
turns, and the result is the median.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING

from archc.codegen.target import DEFAULT_FORM, Form, ModelToEmit, Runtime, Target
from archc.diagnostics import ArchcError, error
from archc.driver import budget
from archc.driver.isolation import Ended, isolated
from archc.driver.program_bytes import bytes_of
from archc.driver.target_files import reported
from archc.driver.weights_file import needs_weights_file, write_weights
from archc.interpreter.sample_inputs import in_own_dtypes
from archc.ir.graph import Graph
from archc.passmanager.calibration import Calibration
from archc.passmanager.latency import Latency, Measure
from archc.passmanager.targets import TargetFacts
from archc.passmanager.threads import one_thread
from archc.targets.registry import REGISTERED, find_target

if TYPE_CHECKING:
    import torch

WARM_UP = 2
"""Runs of each program that do not count: the first runs allocate memory and choose kernels."""
LEAST_RUNS, MOST_RUNS = 9, 1000
SECONDS = 1.0
"""Time for the runs of each program; slow programs take longer, for `LEAST_RUNS` runs."""

Inputs = Sequence["torch.Tensor"]


def facts_on(
    calibration: Calibration,
    emitted: Sequence[Target],
    source_name: str = "",
    passes: Sequence[str] = (),
    form: Form = DEFAULT_FORM,
) -> TargetFacts:
    """Facts about the targets for passes; they measure on the first sample of the calibration data.

    Args:
        source_name, passes: see `ModelToEmit`; emitted programs contain these texts.
        form: the form of the emitted programs.
    """
    limits = {name: target.runtime.break_even for name, target in REGISTERED.items() if target.runtime is not None}
    return TargetFacts(
        [target.name for target in emitted],
        {name: limit for name, limit in limits.items() if limit is not None},
        measure_on(calibration),
        bytes_of(emitted, source_name, passes, form),
    )


def measure_on(calibration: Calibration) -> Measure:
    """Function that measures programs on the first sample of the data, for `TargetFacts.latencies`."""

    def measure(graphs: Sequence[Graph], name: str) -> list[Latency]:
        inputs = calibration.sample()
        return measure_graphs(graphs, measurable(name), inputs)

    return measure


def measurable(name: str) -> Target:
    """The target of a name, if its programs can be measured.

    Raises:
        ValueError: there is no such target, or its runtime has no `prepare`.
    """
    target = find_target(name)
    if target is None or not can_be_measured(target):
        known = ", ".join(f'"{other.name}"' for other in REGISTERED.values() if can_be_measured(other))
        raise ValueError(f"latency can be measured for the targets {known}, not {name!r}")
    return target


def can_be_measured(target: Target) -> bool:
    """Return whether the runtime of a target can run a program several times."""
    return target.runtime is not None and target.runtime.prepare is not None


def measure_graphs(graphs: Sequence[Graph], target: Target, inputs: Mapping[str, torch.Tensor]) -> list[Latency]:
    """Emit graphs with their weights into a temporary folder, and measure the programs in turns.

    Raises:
        ArchcError: the target cannot express a graph, or a program cannot run (`measurement-failed`).
    """
    with TemporaryDirectory(prefix="archc-latency-") as folder:
        paths = []
        for number, graph in enumerate(graphs):
            own = Path(folder, str(number))
            own.mkdir()
            paths.append(emitted(graph, target, own))
        own_inputs = [tuple(in_own_dtypes(graph, inputs).values()) for graph in graphs]
        return measure_programs(target, paths, own_inputs, sum(map(budget.time_limit, graphs)))


def emitted(graph: Graph, target: Target, folder: Path) -> Path:
    """Write the program of a graph, and its weights, into a folder; return the path of the program."""
    path = folder / f"{graph.name}{target.suffix}"
    weights = write_weights(graph, folder / f"{graph.name}.safetensors") if needs_weights_file([target]) else None
    with reported(target, target.text or target.write):
        target.write_file(ModelToEmit(graph, graph.name, weights), path)
    return path


def measure_programs(target: Target, paths: Sequence[Path], inputs: Sequence[Inputs], limit: float) -> list[Latency]:
    """Measure programs of a target in turns, in a separate process.

    Args:
        inputs: the inputs of each program.
        limit: seconds after which the process is ended.

    Raises:
        ArchcError: a program cannot run, or the process crashed or took too long (`measurement-failed`).
    """
    runtime = target.runtime
    assert runtime is not None and runtime.prepare is not None, "`can_be_measured` is true"
    import torch  # noqa: F401  before the fork, so that it stays loaded for the next measurement

    for module in runtime.modules:
        import_module(module)  # also before the fork

    def work(_: object) -> list[Latency]:
        with one_thread():
            return _in_turns(runtime, paths, inputs)

    try:
        return isolated(work, limit)
    except Ended as end:
        raise _failed(target, end.how, [f"it printed: {end.words}"] if end.words else []) from None
    except (ArchcError, MemoryError):
        raise
    except (Exception, SystemExit) as failure:
        lines = str(failure).strip().splitlines()
        raise _failed(target, f"{type(failure).__name__}: {lines[0] if lines else ''}", lines[1:4]) from failure


def _in_turns(runtime: Runtime, paths: Sequence[Path], inputs: Sequence[Inputs]) -> list[Latency]:
    assert runtime.prepare is not None, "`can_be_measured` is true"
    programs = [runtime.prepare(path, own) for path, own in zip(paths, inputs, strict=True)]
    for program in programs * WARM_UP:
        program()
    times: list[list[float]] = [[] for _ in programs]
    end = perf_counter() + SECONDS * len(programs)
    while len(times[0]) < LEAST_RUNS or (perf_counter() < end and len(times[0]) < MOST_RUNS):
        for program, own in zip(programs, times):
            own.append(_seconds(program))
    return [Latency.of(own) for own in times]


def _seconds(program: Callable[[], object]) -> float:
    start = perf_counter()
    program()
    return perf_counter() - start


def _failed(target: Target, reason: str, notes: Sequence[str]) -> ArchcError:
    title = target.runtime.title if target.runtime is not None else target.name
    return error(
        "measurement-failed",
        f"{title} cannot run the {target.title} to measure its latency: {reason}",
        notes=notes,
        help=f"leave `{target.name}` out of `--emit`, or compile without `--measure`",
    )
