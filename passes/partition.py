"""Pass `partition`: split a model into the stages of a pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archc.analysis.devices import Cpu, StageDevice
from archc.declaration.traits import DECODES
from archc.diagnostics import did_you_mean, error
from archc.ir.given_sizes import read_sizes
from archc.ir.graph import Graph, Node, Value
from archc.ir.rewriter import Rewriter
from archc.ir.stages import has_stages
from archc.ops.stage import ToStage
from archc.partitioning import Infeasible, PipelineStage, solve
from archc.passmanager import UNDIVIDED, Context, Pass
from archc.passmanager.sizes import choose_sizes
from archc.types.attributes import AttributeProblem, attribute

from ._stage_problem import StageProblem
from ._stage_refinement import refine_stages, stage_numbers
from ._stage_remarks import does_not_fit, remark_on_stages


@dataclass(frozen=True)
class Partition(Pass):
    """Split a model into the stages of a pipeline, so that the slowest stage is as fast as possible.

    Stages are in sequence: no tensor goes back to an earlier stage.  The pass inserts `to_stage` on every edge into a
    later stage, so the text shows the stages.  The time of a stage is the time of its operators plus that of its
    transfers.  The time of an operator is the longer of two times: the time of its multiply-adds, and the time of
    moving its operands, weights and results (the roofline model; Williams et al. 2009).  The time of a transfer is the
    bytes of the tensor divided by the bandwidth of the link.  Every stage between the producer of a tensor and its last
    consumer receives and sends the tensor.  Inputs enter at the first stage, and outputs leave from the last one.  The
    search finds the optimal split unless the remarks say otherwise (Tarnawski et al. 2020, "Efficient Algorithms for
    Device Placement of DNN Graph Operators").

    Give a number of stages as `stages`, or the name of a `devices` statement in the file.  With a number, the stages
    run on equal devices.  Each of them has the speed and bandwidth that a `cpu` has by default in a `devices`
    statement.  With a `devices` statement, a device may take any stage.  If the links of the devices differ, the
    devices are used in the order of the file.  A device that does not help gets no stage.  The weights of a stage, with
    a shared weight counted once, and the results of all its operators must fit in the memory of its device.  Results of
    `dequantize` are not transferred.  The integers are transferred instead, and dequantized in the later stage.
    """

    ends = (UNDIVIDED,)
    example = "quant -> partition(2)"

    stages: int | None = attribute(None, doc="number of stages")
    devices: str | None = attribute(None, keyword=True, doc="name of the `devices` statement to use")
    memory: int | None = attribute(None, keyword=True, doc="maximum bytes of a stage, such as `2GB`")
    sizes: str | None = attribute(
        None,
        keyword=True,
        doc='values of symbolic sizes, `"N=8,T=128"`; default: those of the compilation, see `--sizes`',
    )

    def check(self) -> None:
        if (self.stages is None) == (self.devices is None):
            raise AttributeProblem(
                "missing-option" if self.stages is None else "conflicting-options",
                "`partition` takes either `stages` or `devices`" + ("" if self.stages is None else ", got both"),
                None if self.stages is None else "devices",
                "write `partition(2)`, or `partition(devices = box)` for a `devices box { … }` of the file",
            )
        for name in ("stages", "memory"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise AttributeProblem("bad-option", f"`{name}` of `partition` must be at least 1, got {number}", name)
        try:
            read_sizes(self.sizes or "N=1")
        except ValueError as problem:
            raise AttributeProblem("bad-option", f"`sizes` of `partition`: {problem}", "sizes") from None

    def run(self, graph: Graph, context: Context) -> None:
        if has_stages(graph):
            raise error(
                "already-divided",
                f"`{graph.name}` is already divided into stages",
                help="remove the second `partition`, or the `to_stage` operators of the text",
            )
        places = self._places(context)
        self._check_count(graph)
        sizes = self._sizes(graph, context)
        limit = math.inf if self.memory is None else self.memory
        stage_problem = StageProblem(graph, places, sizes, limit, all_used=self.stages is not None)
        try:
            stages, bound = _split(stage_problem)
        except Infeasible as failure:
            raise does_not_fit(graph, stage_problem, failure) from None
        taken = [stage_problem.place_of(stage.device) for stage in stages]
        undivided = stage_problem.seconds_undivided()
        names = [place.device.torch if place.named else None for place in taken]
        insert_transfers(graph, context.rewriter, stage_numbers(stage_problem.nodes, stages), names)
        remark_on_stages(graph, context, taken, sizes, undivided, bound)

    def _places(self, context: Context) -> Sequence[StageDevice]:
        if self.devices is None:
            return [StageDevice("cpu", Cpu())] * (self.stages or 1)
        if self.devices not in context.devices:
            known = ", ".join(f"`{name}`" for name in context.devices)
            raise error(
                "unknown-devices",
                f"the file has no `devices {self.devices}`",
                help=did_you_mean(self.devices, context.devices)
                or (f"it has {known}" if known else "write `devices box { a = cuda(0)  b = cuda(1) }` into the file"),
            )
        return context.devices[self.devices].stage_devices()

    def _check_count(self, graph: Graph) -> None:
        wanted = self.stages or 1
        if wanted > len(graph):
            raise error(
                "too-many-stages",
                f"`{graph.name}` has {len(graph)} operator{'s' * (len(graph) != 1)}, too few for {wanted} stages",
                help="every stage needs at least one operator: reduce `stages`",
            )

    def _sizes(self, graph: Graph, context: Context) -> dict[str, int]:
        """Values of symbolic sizes, from the option `sizes`, or else from the compilation."""
        if self.sizes is None:
            return dict(context.sizes)
        given = read_sizes(self.sizes)
        own = choose_sizes(graph, given, context.calibration.shapes, "sizes").values
        return {**own, **{name: size for name, size in context.sizes.items() if name not in given}}


def _split(stage_problem: StageProblem) -> tuple[Sequence[PipelineStage], float]:
    """Optimal stages, and a lower bound on the seconds of the slowest stage of every split.

    Raises:
        Infeasible: no split fits the devices.
    """
    split = solve(stage_problem.problem())
    # The loop adds transfers of inputs to stages that read sizes from the shapes of these inputs.  A transfer only adds
    # time to a stage, so the lower bound of the first split holds for every split.
    bound = split.lower_bound
    while stage_problem.add_size_sources(stage_numbers(stage_problem.nodes, split.stages)):
        split = solve(stage_problem.problem())
    return refine_stages(
        stage_problem.problem(),
        stage_problem.nodes,
        split,
        lambda stage_of: not stage_problem.missing_size_sources(stage_of),
    ), bound


def insert_transfers(
    graph: Graph, rewriter: Rewriter, stage_of: Mapping[Node, int], devices: Sequence[str | None]
) -> None:
    """Insert `to_stage` on every edge that crosses into a later stage.

    A tensor enters a later stage once, for all its consumers there.  If an operator only decodes smaller tensors, its
    operands are transferred in place of its result, and the operator is repeated in the later stage.  If a device is
    named for stage 0, `to_stage(0)` is also inserted after each input of the model.

    Args:
        stage_of: the stage of each node.
        devices: the device to name for each stage, or None.
    """
    _TransferInserter(graph, rewriter, devices).run(stage_of)


class _TransferInserter:
    def __init__(self, graph: Graph, rewriter: Rewriter, devices: Sequence[str | None]):
        self._graph, self._rewriter, self._devices = graph, rewriter, devices
        self._arrived: dict[tuple[Value, int], Value] = {}
        # Read the operands before any insertion, because a transfer may be inserted between a decoder and its operands.
        self._operands = {node: node.operands for node in graph.nodes()}

    def run(self, stage_of: Mapping[Node, int]) -> None:
        for value, stage, users in _crossings(self._graph, stage_of):
            producer = value.producer
            if producer is not None and producer.op.has(DECODES):
                arrived = self._decoded(producer, stage, users)
            else:
                arrived = self._arrival(value, stage, users)
            self._rewriter.replace_uses(value, arrived, users)
        self._name_first_device()

    def _arrival(self, value: Value, stage: int, users: Sequence[Node]) -> Value:
        """Transfer a value to a later stage, once.

        The transfer is in the innermost scope that contains its producer and all its consumers.
        """
        arrived = self._arrived.get((value, stage))
        if arrived is None:
            entry = ToStage(stage, device=self._devices[stage])
            scope = self._graph.scope if value.producer is None else None
            near = users[0] if value.producer is None else value.producer
            node = self._rewriter.add(entry, [value], scope=scope, near=near)
            arrived = self._arrived[value, stage] = node.result
        assert arrived.producer is not None
        for user in users:
            self._rewriter.move_to_common_scope(arrived.producer, user.scope)
        return arrived

    def _decoded(self, producer: Node, stage: int, users: Sequence[Node]) -> Value:
        """Result of a decoder that is repeated in a later stage."""
        operands = [self._arrival(value, stage, users) for value in self._operands[producer]]
        again = self._rewriter.add(producer.op, operands, near=producer)
        for user in users:
            self._rewriter.move_to_common_scope(again, user.scope)
        return again.result

    def _name_first_device(self) -> None:
        if self._devices[0] is None:
            return
        for value in self._graph.inputs:
            users = self._graph.consumers(value)
            if users:
                entry = self._rewriter.add(
                    ToStage(0, device=self._devices[0]), [value], scope=self._graph.scope, near=users[0]
                )
                self._rewriter.replace_uses(value, entry.result, users)


def _crossings(graph: Graph, stage_of: Mapping[Node, int]) -> list[tuple[Value, int, list[Node]]]:
    """Every value with each later stage that uses it, and its consumers there."""
    found = []
    for value in (*graph.inputs, *(value for node in graph.nodes() for value in node.results)):
        made = 0 if value.producer is None else stage_of[value.producer]
        later: dict[int, list[Node]] = {}
        for node in graph.consumers(value):
            if stage_of[node] > made:
                later.setdefault(stage_of[node], []).append(node)
        found += [(value, stage, users) for stage, users in sorted(later.items())]
    return found
