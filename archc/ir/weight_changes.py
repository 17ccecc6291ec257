"""How the weights of a graph change: the part of the rewriter that knows nothing of edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from archc.ir.graph import Graph, Node
from archc.types.storage import Dense, Storage, Weight
from archc.types.tensor_type import TensorType

if TYPE_CHECKING:
    import numpy as np

    from archc.weights.scratch import Scratch


class WeightChanges:
    """Declares, sets and forgets the weights of one graph.  New values that are large leave memory at once.

    Attributes:
        not_finite: names of the stored tensors that were made with a NaN or an infinity.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.not_finite: set[str] = set()
        self._scratch: Scratch | None = None

    def set_weight(self, path: str, values: np.ndarray, evaluated: bool = False) -> None:
        """Give a weight values that a pass computed; they are encoded as its storage says.

        The shape may change with them; the graph's tensors must be bound.

        Args:
            evaluated: whether the graph itself computes these values, so that a NaN or an infinity is not the pass's.

        Raises:
            ArchcError: they go to a temporary file, and that cannot be written.
        """
        weight = self.graph.weights[path]
        if weight.shape != values.shape:
            self.graph.weights[path] = weight = replace(weight, shape=values.shape)
        for stored, array in weight.storage.encode(path, values).items():
            self._keep(stored, array)
            if evaluated:
                self.not_finite.discard(stored)

    def set_storage(self, path: str, storage: Storage, stored: Mapping[str, np.ndarray] | None = None) -> None:
        """Store a weight in another way, encoding the values that it has.

        Args:
            stored: the tensors to store, keys as in `Storage.tensors`, where its values do not say all of them.
        """
        tensors = storage.encode(path, self.graph.weight_values(path)) if stored is None else stored
        self._drop_tensors(path)
        self.graph.weights[path] = replace(self.graph.weights[path], storage=storage)
        for name, array in tensors.items():
            self._keep(name, array)

    def _slice(self, path: str, kept: Sequence[np.ndarray]) -> None:
        """Leave of a weight, whose storage is elementwise, the elements kept on each axis."""
        import numpy as np

        weight, tensors = self.graph.weights[path], self.graph.tensors
        assert tensors is not None, "weights are bound before passes run"
        assert weight.storage.elementwise, "what shares a scale cannot be taken apart"
        for stored in weight.tensors:
            self._keep(stored, np.ascontiguousarray(tensors[stored].numpy()[np.ix_(*kept)]))
        self.graph.weights[path] = replace(weight, shape=tuple(map(len, kept)))

    def remove_unused_weights(self) -> list[str]:
        """Forget the weights that no node has any more; returns their paths."""
        used = {path for node in self.graph._nodes for path in node.weights.values()}
        unused = [path for path in self.graph.weights if path not in used]
        for path in unused:
            self._drop_tensors(path)
            del self.graph.weights[path]
        return unused

    def _declare(
        self,
        node: Node,
        parameters: Mapping[str, TensorType],
        extents: Mapping[str, object],
        given: Mapping[str, str] | None,
        storages: Mapping[str, Storage] | None,
    ) -> dict[str, str]:
        """The paths of a node's parameters; weights that the graph lacks come to be."""
        paths = {}
        for name, type in parameters.items():
            path = (given or {}).get(name) or f"{node.path}.{name}"
            if node.path is None and name not in (given or {}):
                raise ValueError(f"{node.title} owns a {name}, and has no name that its path could begin with")
            paths[name] = path
            if path in self.graph.weights:
                continue
            shape = tuple(dim for dim in type.shape if isinstance(dim, int))
            assert len(shape) == type.rank, "inference refuses weights of symbolic shape"
            if name in node.transposed:
                shape = shape[::-1]
            declared = node.op.parameters[name]
            self.graph.weights[path] = Weight(
                path,
                shape,
                type.dtype,
                (storages or {}).get(name, Dense()),
                declared.trainable,
                declared.initializer(extents),
            )
        return paths

    def _keep(self, stored: str, array: np.ndarray) -> None:
        from archc.weights.dtypes import is_finite
        from archc.weights.scratch import Scratch

        assert self.graph.tensors is not None, "weights are bound before passes run"
        self._scratch = self._scratch or Scratch()
        self.graph.tensors.set(stored, self._scratch.keep(array))
        if is_finite(array):
            self.not_finite.discard(stored)
        else:
            self.not_finite.add(stored)

    def _drop_tensors(self, path: str) -> None:
        if self.graph.tensors is not None:
            for stored in self.graph.weights[path].tensors:
                if stored in self.graph.tensors:
                    self.graph.tensors.remove(stored)
