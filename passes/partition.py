"""The stages of a pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archc.analysis.devices import Cpu, StageDevice
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
    """Divide the model into the stages of a pipeline, so that the largest stage takes as little time as can be.

    Stages follow one another: no tensor goes back to an earlier one.  `to_stage` stands on every edge that crosses
    into a later stage, so the stages are in the text.  A stage's time is its work and its transfers.  The work of an
    operator is the time of its multiply-adds or that of moving its operands, weights and results, whichever is longer
    (the roofline model; Williams et al. 2009); a transfer takes the bytes of the tensor over the speed of the link.
    What skips a stage passes through it, inputs come in at the first stage, and outputs leave from the last one.
    The split that the search finds is the best one, unless the remarks say otherwise.  (Tarnawski et al. 2020,
    "Efficient Algorithms for Device Placement of DNN Graph Operators".)

    Give a number of `stages`, which are then taken as alike, each on a `cpu` as `devices` has it by default; or the
    name of a `devices` of the file.  Those may take any stage; where their links differ, they follow one another as
    the file lists them, and one that does not help has no stage.  A stage takes no more memory than its device holds:
    weights, a shared one counted once, and the results of all its operators.  What `dequantize` makes is not sent:
    its integers are, and decoded where they arrive.
    """

    ends = (UNDIVIDED,)
    example = "quant -> partition(2)"

    stages: int | None = attribute(None, doc="how many")
    devices: str | None = attribute(None, keyword=True, doc="the `devices` of the file to spread it over")
    memory: int | None = attribute(None, keyword=True, doc="the most bytes that a stage may take, such as `2GB`")
    sizes: str | None = attribute(
        None,
        keyword=True,
        doc='values of symbolic sizes, `"N=8,T=128"`; by default those of the compile: see `--sizes`',
    )

    def check(self) -> None:
        if (self.stages is None) == (self.devices is None):
            raise AttributeProblem(
                "missing-option" if self.stages is None else "conflicting-options",
                "`partition` takes a number of stages or the name of a `devices`"
                + ("" if self.stages is None else ", and is given both"),
                None if self.stages is None else "devices",
                "write `partition(2)`, or `partition(devices = box)` for a `devices box { … }` of the file",
            )
        for name in ("stages", "memory"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise AttributeProblem(
                    "bad-option", f"`{name}` of `partition` must be at least 1, and is {number}", name
                )
        try:
            read_sizes(self.sizes or "N=1")
        except ValueError as problem:
            raise AttributeProblem("bad-option", f"`sizes` of `partition`: {problem}", "sizes") from None

    def run(self, graph: Graph, context: Context) -> None:
        if has_stages(graph):
            raise error(
                "already-divided",
                f"`{graph.name}` has stages already",
                help="a model is divided once: drop the second `partition`, or the `to_stage` of the text",
            )
        places = self._places(context)
        self._check_count(graph)
        sizes = self._sizes(graph, context)
        limit = math.inf if self.memory is None else self.memory
        asked = StageProblem(graph, places, sizes, limit, all_used=self.stages is not None)
        try:
            stages, bound = _split(asked)
        except Infeasible as failure:
            raise does_not_fit(graph, asked, failure) from None
        taken = [asked.place_of(stage.device) for stage in stages]
        undivided = asked.undivided()
        names = [place.device.torch if place.named else None for place in taken]
        insert_transfers(graph, context.rewriter, stage_numbers(asked.nodes, stages), names)
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
                f"`{graph.name}` is {len(graph)} operator{'s' if len(graph) != 1 else ''}, too few for {wanted} stages",
                help="every stage needs an operator: ask for fewer",
            )

    def _sizes(self, graph: Graph, context: Context) -> dict[str, int]:
        """The values of symbolic sizes: those given to this pass, and those of the compile for the others."""
        if self.sizes is None:
            return dict(context.sizes)
        given = read_sizes(self.sizes)
        own = choose_sizes(graph, given, context.calibration.shapes, "sizes").values
        return {**own, **{name: size for name, size in context.sizes.items() if name not in given}}


def _split(asked: StageProblem) -> tuple[Sequence[PipelineStage], float]:
    """The best stages, and the seconds that no split stays below.

    Raises:
        Infeasible: there are none.
    """
    split = solve(asked.problem())
    bound = split.lower_bound  # what inputs tell only adds to it
    while asked.tell(stage_numbers(asked.nodes, split.stages)):
        split = solve(asked.problem())
    return refine_stages(asked.problem(), asked.nodes, split, lambda stage_of: not asked.lacking(stage_of)), bound


def insert_transfers(
    graph: Graph, rewriter: Rewriter, stage_of: Mapping[Node, int], devices: Sequence[str | None]
) -> None:
    """Divide a graph.

    A tensor enters a later stage once, whoever needs it there.  What is only unpacked from smaller tensors is not sent:
    they are, and it is unpacked again where they arrive.  The inputs of the model enter stage 0 where that has a
    device.

    Args:
        stage_of: the stage of each node.
        devices: for each stage the device to name, or None.
    """
    _TransferInserter(graph, rewriter, devices).run(stage_of)


class _TransferInserter:
    def __init__(self, graph: Graph, rewriter: Rewriter, devices: Sequence[str | None]):
        self._graph, self._rewriter, self._devices = graph, rewriter, devices
        self._arrived: dict[tuple[Value, int], Value] = {}
        # What nodes used before anything was cut: an unpacker may be cut from its operands itself.
        self._operands = {node: node.operands for node in graph.nodes()}

    def run(self, stage_of: Mapping[Node, int]) -> None:
        for value, stage, users in _crossings(self._graph, stage_of):
            maker = value.producer
            if maker is not None and maker.op.decodes:
                arrived = self._unpacked(maker, stage, users)
            else:
                arrived = self._arrival(value, stage, users)
            self._rewriter.replace_uses(value, arrived, users)
        self._name_first_device()

    def _arrival(self, value: Value, stage: int, users: Sequence[Node]) -> Value:
        """A value in a later stage; it enters in the innermost block around its maker and all its users."""
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

    def _unpacked(self, maker: Node, stage: int, users: Sequence[Node]) -> Value:
        """The result of an unpacker, made again in a later stage."""
        operands = [self._arrival(value, stage, users) for value in self._operands[maker]]
        again = self._rewriter.add(maker.op, operands, near=maker)
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
    """Every value with each later stage that needs it, and who does so there."""
    found = []
    for value in (*graph.inputs, *(value for node in graph.nodes() for value in node.results)):
        made = 0 if value.producer is None else stage_of[value.producer]
        later: dict[int, list[Node]] = {}
        for node in graph.consumers(value):
            if stage_of[node] > made:
                later.setdefault(stage_of[node], []).append(node)
        found += [(value, stage, users) for stage, users in sorted(later.items())]
    return found
