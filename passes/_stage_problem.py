"""Partitioning problem of a graph: a task for each node, a tensor for each value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from archc.analysis.cost import tensor_bytes
from archc.analysis.devices import StageDevice
from archc.analysis.stage_costs import DeviceNodeCosts
from archc.analysis.stage_transfers import SizeSource, required_sizes_by_node, stage_transfers, transferred_value
from archc.declaration.traits import DECODES, IMPURE
from archc.ir.graph import Graph, Node, Value
from archc.ir.scans import Scan, schedule
from archc.partitioning import DeviceKind, Problem, SharedMemory, Task, Tensor


class StageProblem:
    """Partitioning problem of a graph.

    Attributes:
        nodes: the node of each task.
        places: the devices.
        size_sources: the inputs that are transferred to a later stage only because it reads a size from their shapes.

    Args:
        limit: maximum bytes of a stage, in addition to the limit of its device.
        all_used: True if every device must get a stage.
    """

    def __init__(
        self, graph: Graph, places: Sequence[StageDevice], sizes: Mapping[str, int], limit: float, all_used: bool
    ):
        self.nodes = graph.nodes()
        self.places = tuple(places)
        self._graph, self._sizes, self._limit, self._all_used = graph, sizes, limit, all_used
        self.size_sources: list[SizeSource] = []
        self._required_sizes = required_sizes_by_node(graph)
        self._number = {node: number for number, node in enumerate(self.nodes)}
        self._first = {number for number, node in enumerate(self.nodes) if not node.operands}
        self._groups = list(range(len(self.nodes)))
        # If the links differ, the order of the devices matters, so the devices keep their order in the text.
        self._in_order = len({place.link for place in places}) > 1
        self._kinds: dict[tuple[object, ...], list[int]] = {}
        for number, place in enumerate(places):
            key = (number,) if self._in_order else (type(place.device), *_abilities(place))
            self._kinds.setdefault(key, []).append(number)
        self._shared = _shared(self.nodes)
        self._costs = DeviceNodeCosts(graph, sizes)
        for item in schedule(graph):
            if isinstance(item, Scan):  # a scan cannot be divided: its state is carried from step to step
                self.tie(item.nodes)
        for nodes in _sharing_state(self.nodes).values():
            self.tie(nodes)
        for node in self.nodes:
            if node.op.has(DECODES) and len(users := graph.users(node)) == 1 and not graph.is_output(node.result):
                self.tie((node, *users))  # the decoder runs in the stage of its only consumer

    def tie(self, nodes: Iterable[Node]) -> None:
        """Make nodes share a stage."""
        numbers = {self._groups[self._number[node]] for node in nodes}
        self._groups = [min(numbers) if group in numbers else group for group in self._groups]

    def add_size_sources(self, stage_of: Mapping[Node, int]) -> bool:
        """Add the inputs that a split needs as size sources; return whether any was missing."""
        missing = self.missing_size_sources(stage_of)
        self.size_sources += missing
        return bool(missing)

    def missing_size_sources(self, stage_of: Mapping[Node, int]) -> list[SizeSource]:
        """Size sources that a split needs and that `size_sources` lacks."""
        known = {(source.node, source.input) for source in self.size_sources}
        found = stage_transfers(self._graph, stage_of, self._required_sizes).size_sources
        return [source for source in found if (source.node, source.input) not in known]

    def place_of(self, device: int) -> StageDevice:
        """Device with this number in the partitioner."""
        ordered = [number for numbers in self._kinds.values() for number in numbers]
        return self.places[ordered[device]]

    def seconds_undivided(self) -> float:
        """Seconds that the whole model takes on the single fastest device, regardless of memory."""
        problem = self.problem()
        return min(
            sum(task.work[kind] for task in problem.tasks)
            + sum(tensor.time[kind] * ((tensor.producer is None) + tensor.output) for tensor in problem.tensors)
            for kind in range(len(problem.kinds))
        )

    def tensors_of(self, node: Node) -> dict[str, int]:
        """Weights and results that a node holds in memory, with their bytes."""
        found = {f"its weight `{path}`": self._graph.weights[path].nbytes for path in node.weights.values()}
        results = ", ".join(str(value.type) for value in node.results)
        return found | {f"its result {results}": self._costs.activations(node)}

    def problem(self) -> Problem:
        """Build the problem from the current groups and size sources."""
        kinds = [self.places[numbers[0]] for numbers in self._kinds.values()]
        return Problem(
            tasks=tuple(self._task(node, kinds) for node in self.nodes),
            tensors=tuple(self._tensors(kinds)),
            kinds=tuple(
                DeviceKind(place.title, len(numbers), min(self._limit, place.device.limit))
                for place, numbers in zip(kinds, self._kinds.values())
            ),
            shared=tuple(
                SharedMemory(path, self._graph.weights[path].nbytes, users) for path, users in self._shared.items()
            ),
            relayed=True,
            all_used=self._all_used,
            first=frozenset(self._first),
            order=tuple(range(len(self.places))) if self._in_order else None,
        )

    def _task(self, node: Node, kinds: Sequence[StageDevice]) -> Task:
        own = sum(self._graph.weights[path].nbytes for path in set(node.weights.values()) if path not in self._shared)
        return Task(
            name=node.title,
            work=tuple(self._costs.seconds(node, place.device) for place in kinds),
            memory=own + self._costs.activations(node),
            together=self._groups[self._number[node]],
        )

    def _tensors(self, kinds: Sequence[StageDevice]) -> Iterable[Tensor]:
        for value in (*self._graph.inputs, *(value for node in self.nodes for value in node.results)):
            users = (*self._receivers(value), *(source.node for source in self.size_sources if source.input is value))
            output = self._graph.is_output(value)
            if not users and not output:
                continue
            size = sum(tensor_bytes(sent.type, self._sizes) for sent in ((value,) if output else _sent(value)))
            yield Tensor(
                name=value.name or (value.producer.title if value.producer is not None else ""),
                producer=None if value.producer is None else self._number[value.producer],
                consumers=tuple(dict.fromkeys(self._number[node] for node in users)),
                time=tuple(size / place.link for place in kinds),
                output=output,
            )

    def _receivers(self, value: Value) -> Sequence[Node]:
        """Nodes that a value is transferred to.

        Some nodes have results that a later stage recomputes from the node's first result (`transferred_value`).  Then
        the first result is transferred to the consumers of all these results, and the others are not transferred.
        """
        maker = value.producer
        results = (value,) if maker is None else maker.results
        same = (other for other in results if transferred_value(other) is value)
        return [node for other in same for node in self._graph.consumers(other)]


def _sent(value: Value) -> tuple[Value, ...]:
    """Values to transfer if a later stage uses a value: the value, or the operands of its decoder."""
    maker = value.producer
    parts = maker.operands if maker is not None and maker.op.has(DECODES) else (value,)
    return tuple(dict.fromkeys(map(transferred_value, parts)))


def _abilities(place: StageDevice) -> tuple[object, ...]:
    device = place.device
    return device.memory, device.speed, device.bandwidth


def _shared(nodes: Sequence[Node]) -> dict[str, tuple[int, ...]]:
    """Weights that several nodes use, with the numbers of these nodes."""
    users: dict[str, list[int]] = {}
    for number, node in enumerate(nodes):
        for path in dict.fromkeys(node.weights.values()):
            users.setdefault(path, []).append(number)
    return {path: tuple(numbers) for path, numbers in users.items() if len(numbers) > 1}


def _sharing_state(nodes: Sequence[Node]) -> dict[str, list[Node]]:
    """Nodes that update the same buffer, such as the running mean of a batch norm used twice.

    They share a stage, since two copies of the buffer would diverge.
    """
    found: dict[str, list[Node]] = {}
    for node in nodes:
        if node.op.has(IMPURE):
            for name, path in node.weights.items():
                if not node.op.parameters[name].trainable:
                    found.setdefault(path, []).append(node)
    return found
