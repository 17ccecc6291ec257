"""A graph as a problem of the partitioner: a task for each node, a tensor for each value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from archc.analysis.cost import tensor_bytes
from archc.analysis.devices import StageDevice
from archc.analysis.stage_costs import DeviceNodeCosts
from archc.analysis.stage_transfers import SizeSource, required_sizes_by_node, stage_transfers, transferred_value
from archc.ir.graph import Graph, Node, Value
from archc.ir.scans import Scan, schedule
from archc.partitioning import DeviceKind, Problem, SharedMemory, Task, Tensor


class StageProblem:
    """What a graph asks of the partitioner.

    Attributes:
        nodes: the node of each task.
        places: the devices.
        told: the inputs that go to later stages for the sizes that they tell.

    Args:
        limit: bytes that a stage may take, whatever its device holds.
        all_used: whether every device gets a stage.
    """

    def __init__(
        self, graph: Graph, places: Sequence[StageDevice], sizes: Mapping[str, int], limit: float, all_used: bool
    ):
        self.nodes = graph.nodes()
        self.places = tuple(places)
        self._graph, self._sizes, self._limit, self._all_used = graph, sizes, limit, all_used
        self.told: list[SizeSource] = []
        self._asked = required_sizes_by_node(graph)
        self._number = {node: number for number, node in enumerate(self.nodes)}
        self._first = {number for number, node in enumerate(self.nodes) if not node.operands}
        self._groups = list(range(len(self.nodes)))
        # In a chain whose links differ it matters who stands beside whom: then the order of the text is kept.
        self._in_order = len({place.link for place in places}) > 1
        self._kinds: dict[tuple[object, ...], list[int]] = {}
        for number, place in enumerate(places):
            key = (number,) if self._in_order else (type(place.device), *_abilities(place))
            self._kinds.setdefault(key, []).append(number)
        self._shared = _shared(self.nodes)
        self._costs = DeviceNodeCosts(graph, sizes)
        for item in schedule(graph):
            if isinstance(item, Scan):  # the state goes round in it
                self.tie(item.nodes)
        for nodes in _keepers_of_state(self.nodes).values():
            self.tie(nodes)
        for node in self.nodes:
            if node.op.decodes and len(users := graph.users(node)) == 1 and not graph.is_output(node.result):
                self.tie((node, *users))  # where it arrives: nobody else needs it

    def tie(self, nodes: Iterable[Node]) -> None:
        """Let nodes share a stage."""
        numbers = {self._groups[self._number[node]] for node in nodes}
        self._groups = [min(numbers) if group in numbers else group for group in self._groups]

    def tell(self, stage_of: Mapping[Node, int]) -> bool:
        """Let inputs go where a split needs them to tell sizes; whether any did not already."""
        fresh = self.lacking(stage_of)
        self.told += fresh
        return bool(fresh)

    def lacking(self, stage_of: Mapping[Node, int]) -> list[SizeSource]:
        """What a split needs told that this problem does not count yet."""
        known = {(told.node, told.input) for told in self.told}
        found = stage_transfers(self._graph, stage_of, self._asked).size_sources
        return [told for told in found if (told.node, told.input) not in known]

    def place_of(self, device: int) -> StageDevice:
        """The place of a device as the partitioner numbers them."""
        ordered = [number for numbers in self._kinds.values() for number in numbers]
        return self.places[ordered[device]]

    def undivided(self) -> float:
        """The seconds that the whole model takes on the one device that is the fastest for it, if it fits there."""
        problem = self.problem()
        return min(
            sum(task.work[kind] for task in problem.tasks)
            + sum(tensor.time[kind] * ((tensor.producer is None) + tensor.output) for tensor in problem.tensors)
            for kind in range(len(problem.kinds))
        )

    def tensors_of(self, node: Node) -> dict[str, int]:
        """What a node keeps in memory, its weights and its result, with the bytes of each."""
        found = {f"its weight `{path}`": self._graph.weights[path].nbytes for path in node.weights.values()}
        results = ", ".join(str(value.type) for value in node.results)
        return found | {f"its result {results}": self._costs.activations(node)}

    def problem(self) -> Problem:
        """The problem as it stands."""
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
            users = (*self._receivers(value), *(told.node for told in self.told if told.input is value))
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
        """The nodes that a value is sent to: none for one that is made from another again, and that one's too."""
        maker = value.producer
        results = (value,) if maker is None else maker.results
        same = (other for other in results if transferred_value(other) is value)
        return [node for other in same for node in self._graph.consumers(other)]


def _sent(value: Value) -> tuple[Value, ...]:
    """What is sent where a value is needed elsewhere: itself, or what it is unpacked from."""
    maker = value.producer
    parts = maker.operands if maker is not None and maker.op.decodes else (value,)
    return tuple(dict.fromkeys(map(transferred_value, parts)))


def _abilities(place: StageDevice) -> tuple[object, ...]:
    device = place.device
    return device.memory, device.speed, device.bandwidth


def _shared(nodes: Sequence[Node]) -> dict[str, tuple[int, ...]]:
    """The weights that several nodes have, with the numbers of these."""
    users: dict[str, list[int]] = {}
    for number, node in enumerate(nodes):
        for path in dict.fromkeys(node.weights.values()):
            users.setdefault(path, []).append(number)
    return {path: tuple(numbers) for path, numbers in users.items() if len(numbers) > 1}


def _keepers_of_state(nodes: Sequence[Node]) -> dict[str, list[Node]]:
    """The nodes that train the same buffer, the running mean of a batch norm used twice: two copies would part."""
    found: dict[str, list[Node]] = {}
    for node in nodes:
        if not node.op.pure:
            for name, path in node.weights.items():
                if not node.op.parameters[name].trainable:
                    found.setdefault(path, []).append(node)
    return found
