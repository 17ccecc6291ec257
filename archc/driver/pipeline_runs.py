"""Runs of many pipelines on one model, which share common beginnings and measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from archc.codegen.target import Target
from archc.diagnostics import Diagnostics, silent
from archc.driver.compiled import Compiled
from archc.driver.latency import facts_on
from archc.driver.pipelines import parse_passes
from archc.ir.copying import copied
from archc.ir.graph import Graph
from archc.passmanager.calibration import Calibration
from archc.passmanager.findings import Findings
from archc.passmanager.run import run_passes
from archc.passmanager.targets import ProgramBytes, TargetFacts

MOST_KEPT = 4
"""Number of models after the first passes of a pipeline that are kept; each keeps its changed weights."""


class PipelineRuns:
    """Compiles one model with several pipelines.

    The result is that of `archc.compile`, except for remarks and warnings: figures that only remarks contain are left
    out, and warnings are not collected.  Measurements on the calibration data are kept for later pipelines
    (`Findings`), and so are the models before the last pass.

    Args:
        base: the model without passes, and the calibration data.
        targets: the targets that are emitted.
    """

    def __init__(self, base: Compiled, targets: Sequence[Target]):
        assert base.data is not None, "`archc.compile` keeps the data"
        self._base, self._targets = base, targets
        self._data = base.data
        self._data.findings = Findings()
        self._kept: dict[tuple[str, ...], Compiled] = {}

    def steps(self, passes: str, progress: Callable[[str], None] = silent) -> Iterator[tuple[Compiled, int]]:
        """Yield the model after each pass of a pipeline, and the number of passes that follow.

        Models that were kept are yielded at once.  The consumer does not change a model.

        Raises:
            ArchcError: as for `archc.compile`.
        """
        pipeline = parse_passes(passes)
        texts = [str(step) for step in pipeline]
        facts, counted = _facts(self._data, self._targets, self._base, texts)
        current, shared = self._base, True
        for number, step in enumerate(pipeline, 1):
            beginning = tuple(texts[:number])
            if beginning in self._kept:
                current = self._kept[beginning] = self._kept.pop(beginning)
                yield current, len(pipeline) - number
                continue
            graph, found = copied(current.graph), Diagnostics()
            sizes = self._base.sizes.values
            reports = run_passes(graph, [step], self._data, progress, {}, sizes, found, facts, brief=True)
            current = replace(current, graph=graph, passes=[*current.passes, *reports], diagnostics=found)
            # The program contains the texts of all passes, so a budget of bytes depends on the passes that follow.
            shared = shared and not counted
            if shared and number < len(pipeline):
                self._keep(beginning, current)
            yield current, len(pipeline) - number

    def _keep(self, beginning: tuple[str, ...], model: Compiled) -> None:
        if len(self._kept) == MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[beginning] = model


def _facts(
    data: Calibration, targets: Sequence[Target], base: Compiled, texts: Sequence[str]
) -> tuple[TargetFacts, list[Graph]]:
    """Facts about the targets, and a list that is empty until a pass counts the bytes of programs."""
    facts = facts_on(data, targets, base.source_name, texts, base.form)
    counted: list[Graph] = []

    def measure(graph: Graph) -> Mapping[str, int]:
        counted.append(graph)
        return count(graph)

    count: ProgramBytes = facts.program_bytes
    return replace(facts, program_bytes=measure), counted
