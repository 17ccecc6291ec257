"""Checks of one text: the interpreter and all emitted programs agree, before and after passes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch
from onnxruntime import InferenceSession

import archc
from archc.codegen.python_source import Activations
from archc.diagnostics import ArchcError, Diagnostics
from archc.driver.parsing import open_module
from archc.driver.pipelines import parse_passes
from archc.driver.weights_file import write_weights
from archc.interpreter.evaluate import NodeFailure, evaluate, evaluate_all
from archc.ir.graph import Graph, Value
from archc.passmanager import Pass
from archc.passmanager.calibration import Calibration
from archc.passmanager.comparison import largest_error
from tests.fuzz import programs
from tests.fuzz.data import Sizes, bind_scaled_weights, large_sizes, random_inputs, random_sizes
from tests.fuzz.rounding import Reference, reference, without_small_weights
from tests.fuzz.tensors import shape_of, torch_dtype
from tests.fuzz.training import compare_training

REFUSALS = {
    "onnx": {"no-onnx-form"},
    "torch": {"not-emittable"},
    "pass": {"selector-matches-nothing", "too-many-stages"},
}
"""Diagnostic codes allowed for a valid text, by stage; all others are failures.

Passes may also fail if the model itself fails on the calibration data: see `_calibration_refusals`.
"""
LOSSY = (
    "lowrank(ratio = 0.5)",
    "lowrank(rank = 2)",
    "prune(0.4)",
    'prune(0.3, scheme = "channel")',
    "quant",
    "quant(least = 1)",
    'quant(scheme = "dynamic", least = 1)',
    'quant(scheme = "weight")',
    "partition(2)",
)
ORDER = ("simplify", "fold", "prune", "lowrank", "quant", "partition")


@dataclass(frozen=True)
class Failure:
    """Failed check: its stage, its kind, and the details."""

    stage: str
    kind: str
    detail: str

    @property
    def signature(self) -> str:
        """Stage, kind and message without names and numbers: equal for failures of one cause."""
        brackets = r"\w*\[[^\]]*\]|\([^)]*\)|\{[^}]*\}"
        words = re.sub(rf"`[^`]*`|'[^']*'|{brackets}|[\d.e+-]*\d[\d.e+-]*|nan|inf", "#", self.detail)
        return f"{self.stage}: {self.kind}: {' '.join(words.split())[:90]}"


@dataclass
class Outcome:
    """Results of one text.

    Attributes:
        counts: the number of comparisons, and of refusals by code.
    """

    failures: list[Failure] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Stop(Exception):
    """No further check of this text, or of this stage, is possible."""


def check(text: str, seed: int, only: str | None = None) -> Outcome:
    """Run all checks of a text.

    Args:
        seed: seed of weights, sizes, inputs and the pipeline.
        only: the single stage to check, to reproduce a failure; all stages by default.
    """
    return _Check(text, seed, only).outcome()


class _Check:
    def __init__(self, text: str, seed: int, only: str | None):
        self.text, self.seed, self.only = text, seed, only
        self.chance = Random(seed)
        self.activations: Activations = "functions" if seed % 3 else "modules"
        self.found = Outcome()
        self.passes = self.pipeline()

    def outcome(self) -> Outcome:
        with TemporaryDirectory(prefix="archc-fuzz-") as folder, suppress(Stop):
            self.all(Path(folder, "weights.safetensors"))
        return self.found

    def wanted(self, stage: str) -> bool:
        return self.only is None or self.only.split("/")[0] == stage

    def all(self, weights: Path) -> None:
        with self.stage("parse"):
            graph = archc.parse(self.text)
        self.check_text("print", graph)
        with self.stage("weights"):
            bind_scaled_weights(graph, self.seed)
            write_weights(graph, weights)
        cases = self.cases("graph", graph)
        if self.wanted("plain"):
            self.check_programs("plain", graph, cases)
        for passes in ("simplify", "fold", self.passes):
            name = passes if passes in ("simplify", "fold") else "pipeline"
            if self.wanted(name):
                self.check_passes(name, passes, graph, cases, weights)

    def pipeline(self) -> str:
        """Random pipeline, with its passes in the order of `ORDER`."""
        count = self.chance.choice((1, 1, 2, 3))
        picked = [self.chance.choice(LOSSY) for _ in range(count)] + self.chance.sample(["simplify", "fold"], 1)
        by_name = {one.split("(")[0]: one for one in picked}
        return " -> ".join(by_name[name] for name in ORDER if name in by_name)

    # Texts and graphs ---------------------------------------------------------------------------------------

    def check_text(self, stage: str, graph: Graph) -> None:
        """Check that the printed text parses to the same graph, and that this graph prints the same text."""
        known = any(one.stage == "print" for one in self.found.failures)
        if known or self.only not in (None, stage):
            return
        try:
            with self.stage(stage):
                printed = archc.print_graph(graph)
                again = archc.parse(printed)
                if again != graph:
                    self.fail(stage, "another graph", "the printed text parses to another graph")
                elif archc.print_graph(again) != printed:
                    self.fail(stage, "no fixpoint", "the printed text, parsed and printed again, differs")
        except Stop:
            pass

    def cases(self, stage: str, graph: Graph) -> list[Reference]:
        """Reference results of the graph at several sizes; sizes that PyTorch rejects are counted."""
        found: list[Reference] = []
        refused: Failure | None = None
        for number, sizes in enumerate([*random_sizes(graph, self.seed), large_sizes(graph)]):
            if found and sizes == large_sizes(graph):
                break
            inputs = random_inputs(graph, sizes, self.seed + number)
            if inputs is None:
                self.found.counts["sizes without valid indices"] += 1
                continue
            with self.stage(stage):
                try:
                    found.append(reference(graph, inputs))
                except NodeFailure as failure:
                    refused = Failure(stage, type(failure).__name__, str(failure))
                    self.found.counts["sizes refused by PyTorch"] += 1
                    continue
                self.check_types(stage, graph, sizes, found[-1])
                self.found.counts["inputs"] += 1
        if not found:
            self.found.failures += [refused] if refused is not None else []
            raise Stop
        return found

    def check_types(self, stage: str, graph: Graph, sizes: Sizes, case: Reference) -> None:
        """Check that the outputs have the dtypes and shapes that the graph declares."""
        for name, value in graph.outputs.items():
            found = case.expected[name]
            wanted = (torch_dtype(value.type.dtype), shape_of(value.type, sizes))
            if (found.dtype, tuple(found.shape)) != wanted:
                self.fail(stage, "type", f"`{name}` is {found.dtype} {tuple(found.shape)}, not {value.type} at {sizes}")
                raise Stop

    # Programs -----------------------------------------------------------------------------------------------

    def check_programs(self, stage: str, graph: Graph, cases: list[Reference]) -> None:
        """Check the results of the emitted programs against those of the graph."""
        if self.wants(stage, "/torch"):
            self.check_torch(f"{stage}/torch", graph, cases)
        if self.wants(stage, "/onnx"):
            self.check_onnx(f"{stage}/onnx", graph, cases)

    def wants(self, stage: str, program: str) -> bool:
        """Return whether to check a program: after passes, only if it passed without them."""
        if self.only is not None:
            return program in self.only
        return stage == "plain" or not any(one.stage.startswith(f"plain{program}") for one in self.found.failures)

    def check_torch(self, stage: str, graph: Graph, cases: list[Reference]) -> None:
        try:
            with self.stage(stage):
                model = programs.torch_model(graph, self.activations)
            for case in cases:
                with self.stage(stage):
                    self.compare(stage, case, programs.run_torch(model, graph, case.inputs))
        except Stop:
            pass

    def check_onnx(self, stage: str, graph: Graph, cases: list[Reference]) -> None:
        try:
            with self.stage(stage):
                model = programs.onnx_bytes(graph)
        except Stop:
            return
        for level in programs.LEVELS:
            if self.only is not None and not self.only.endswith(("/onnx", level)):
                continue
            if programs.saturates(model, level):
                self.found.counts["levels at which this CPU saturates sums"] += 1
                continue
            try:
                with self.stage(f"{stage} {level}"):
                    ready = programs.session(model, level)
                for case in cases:
                    with self.stage(f"{stage} {level}"):
                        if case.empty and not self.takes_empty(stage, level, ready, case):
                            continue
                        self.compare(f"{stage} {level}", case, programs.run_onnx(ready, case.inputs))
            except programs.NoExactSums:
                self.found.counts["levels without exact sums"] += 1
            except Stop:
                break  # the next level usually fails in the same way

    def takes_empty(self, stage: str, level: str, ready: InferenceSession, case: Reference) -> bool:
        """Return whether ONNX Runtime runs with empty tensors; tested at one level, since it forks a process."""
        if (stage, level) != ("plain/onnx", "all"):
            return False
        taken = programs.survives(lambda: programs.run_onnx(ready, case.inputs))
        self.found.counts[f"empty tensors {'taken' if taken else 'not taken'} by ONNX Runtime"] += 1
        return taken

    def compare(self, stage: str, case: Reference, found: programs.Outputs) -> None:
        self.found.counts["comparisons"] += 1
        for name in case.expected:
            difference = case.difference(name, found[name])
            if difference is not None:
                self.fail(stage, "mismatch", difference)
                raise Stop

    # Passes -------------------------------------------------------------------------------------------------

    def check_passes(self, stage: str, passes: str, plain: Graph, cases: list[Reference], weights: Path) -> None:
        try:
            with self.stage(stage, "pass", lambda: _calibration_refusals(plain, self.seed)):
                compiled = archc.compile(self.text, passes=_passes(passes), weights=weights, seed=self.seed)
        except Stop:
            return
        graph = compiled.graph
        if stage in ("simplify", "fold") and len(graph) == len(plain) and graph == plain:
            self.found.counts[f"{stage} changed nothing"] += 1
            return
        self.check_text(f"{stage}/print", graph)
        if stage in ("simplify", "fold"):
            self.check_same(stage, graph, cases)
            if stage == "simplify" and (self.only is None or self.only.endswith("/training")):
                self.check_training(f"{stage}/training", plain, graph, cases[0])
        else:
            self.check_error(stage, compiled, plain)
        if stage not in ("simplify", "fold"):
            try:
                cases = [reference(graph, case.inputs) for case in (cases if self.only else cases[:2])]
            except Exception as failure:
                self.fail(f"{stage}/graph", type(failure).__name__, str(failure))
                return
        self.check_programs(stage, graph, cases)

    def check_same(self, stage: str, graph: Graph, cases: list[Reference]) -> None:
        """Check that `simplify` is exact except for the sign of zeros, and `fold` up to rounding errors.

        PyTorch selects kernels by the strides of operands, even of axes of size 1, and `simplify` removes nodes that
        only change strides.  If bits differ, both graphs run again with equal strides.
        """
        for case in cases:
            try:
                with self.stage(f"{stage}/graph"):
                    found = evaluate(graph, case.inputs)
                    if stage == "fold":
                        self.compare(f"{stage}/graph", case, found)
                        continue
                    wanted = case.expected
                    if not all(_same_bits(found[name], wanted[name]) for name in wanted):
                        wanted, found = (_with_equal_strides(one, case.inputs) for one in (case.graph, graph))
                    for name, expected in wanted.items():
                        if not _same_bits(found[name], expected):
                            self.fail(f"{stage}/graph", "mismatch", f"`{name}` is not equal to the bit")
                            raise Stop
            except Stop:
                return

    def check_error(self, stage: str, compiled: archc.Compiled, plain: Graph) -> None:
        """Check the error in the report against the measured one."""
        inputs = next(Calibration(plain, seed=self.seed).batches())
        with self.stage(f"{stage}/error"):
            measured = largest_error(evaluate(plain, inputs), evaluate(compiled.graph, inputs))
            stated = compiled.passes[-1].total_error
            if not (measured == stated or abs(measured - stated) <= 1e-3 * stated + 1e-6):
                self.fail(f"{stage}/error", "mismatch", f"the error is {measured:.4g}, not {stated:.4g}")

    def check_training(self, stage: str, plain: Graph, simplified: Graph, case: Reference) -> None:
        try:
            with self.stage(stage):
                models = [programs.torch_model(graph, self.activations) for graph in (plain, simplified)]
                verdict, detail = compare_training(models[0], models[1], dict(case.inputs))
                self.found.counts[f"training: {verdict}"] += 1
                if verdict == "mismatch":
                    self.fail(stage, "mismatch", detail)
        except Stop:
            pass

    # Failures -----------------------------------------------------------------------------------------------

    def fail(self, stage: str, kind: str, detail: str) -> None:
        after = f" (after `{self.passes}`)" if stage.startswith("pipeline") else ""
        self.found.failures.append(Failure(stage, kind, detail + after))

    @contextmanager
    def stage(
        self, stage: str, refusals: str | None = None, more: Callable[[], Collection[str]] = tuple
    ) -> Iterator[None]:
        """Record a failure of the body; a diagnostic with an allowed code counts as a refusal instead.

        Args:
            refusals: the key of the allowed codes in `REFUSALS`; by default the program of the stage.
            more: function that returns further allowed codes; called only if the code is not in `REFUSALS`.

        Raises:
            Stop: the body was refused, or failed.
        """
        try:
            yield
        except (Stop, programs.NoExactSums):
            raise
        except ArchcError as refusal:
            codes = [one.code for one in refusal.diagnostics]
            program = "onnx" if "/onnx" in stage else "torch" if stage.endswith(("/torch", "/training")) else stage
            allowed = REFUSALS.get(refusals or program, set())
            if not set(codes) <= allowed:
                allowed = allowed.union(more())
            if set(codes) <= allowed:
                self.found.counts.update(f"refused: {code}" for code in set(codes))
            else:
                self.fail(
                    stage, next(code for code in codes if code not in allowed), str(refusal.diagnostics[0].message)
                )
            raise Stop from refusal
        except Exception as failure:
            self.fail(stage, type(failure).__name__, str(failure))
            raise Stop from failure


def _calibration_refusals(graph: Graph, seed: int) -> set[str]:
    """Codes allowed for passes because the model itself fails on the calibration data.

    A model that divides by a weight is not finite if int8 rounds the weight to 0.
    """
    inputs = next(Calibration(graph, seed=seed).batches())
    try:
        computed = [tensor for _, tensor in evaluate_all(graph, inputs)]
    except NodeFailure:
        return {"calibration-failed"}
    computed += without_small_weights(graph, inputs).values()
    return set() if all(bool(tensor.isfinite().all()) for tensor in computed) else {"pass-not-finite"}


@cache
def _passes(text: str) -> tuple[Pass, ...]:
    """Passes of a pipeline; cached, because the lookup reads the entry points of all packages."""
    return tuple(parse_passes(text, open_module("", Diagnostics(), False)))


def _same_bits(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether two tensors are equal; zeros of both signs are equal, and so are all NaN."""
    return torch.equal(found.nan_to_num(7e7), expected.nan_to_num(7e7))


def _with_equal_strides(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Outputs of a graph, run with contiguous strides for all tensors."""

    def plain(value: Value, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.new_empty(tensor.shape).copy_(tensor)

    tensors = dict(evaluate_all(graph, inputs, set(graph.outputs.values()), plain))
    return {name: tensors[value] for name, value in graph.outputs.items()}
