"""The rewriter: all operations that change a graph.

Elaboration builds a graph from the parsed text, and passes transform the graph.  Both use only the rewriter, which
keeps operand order, edges, inferred types and `Node.origin` correct.  The rewriter of a pass is `context.rewriter`:

    down = context.rewriter.add(make_operator("linear", 8, bias=False), node.operands, name=f"{node.name}.a", near=node)
    up = context.rewriter.add(make_operator("linear", 64), down.results, name=f"{node.name}.b", near=node)
    context.rewriter.replace(node, up.results)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from archc.declaration.base import Operator
from archc.declaration.operator_guard import initializer_of
from archc.diagnostics import Span
from archc.ir.graph import Graph, Node, Order, Scope, Value
from archc.types.storage import Dense, Storage, Weight
from archc.types.tensor_type import DType, TensorType

if TYPE_CHECKING:
    import numpy as np

    from archc.weights.scratch import Scratch


class Rewriter:
    """Interface that changes one graph in place.

    Args:
        graph: graph to change.
        by: name of the pass, which is added to `Node.origin` of changed nodes; empty in elaboration.

    Attributes:
        not_finite: paths of the stored tensors to which the rewriter wrote a NaN or an infinity.
    """

    def __init__(self, graph: Graph, by: str = ""):
        self.graph = graph
        self.not_finite: set[str] = set()
        self._scratch: Scratch | None = None
        self.by = by
        self._next_order = max((node.order[0] for node in graph._nodes), default=-1) + 1
        self._inserted: dict[Order, int] = {}
        self._defers = False

    # Building ---------------------------------------------------------------------------------------------

    def input(self, name: str, type: TensorType) -> Value:
        """Add an input of the model."""
        value = Value(type, name=name)
        self.graph.inputs.append(value)
        return value

    def output(self, name: str, value: Value) -> None:
        """Add an output of the model, or replace the output of that name."""
        self.graph._set_output(name, value)

    def add(
        self,
        op: Operator,
        operands: Sequence[Value],
        *,
        name: str | None = None,
        scope: Scope | None = None,
        span: Span | None = None,
        near: Node | None = None,
        weights: Mapping[str, str] | None = None,
        transposed: Collection[str] = (),
        storages: Mapping[str, Storage] | None = None,
    ) -> Node:
        """Add a node, infer its results, and declare weights that the graph does not have yet.

        Args:
            op: the operator with its attributes, as `make_operator` returns it.
            operands: the used values; weights are not operands.
            name: name of the layer in its scope; required if the node owns weights.
            near: node that the new node replaces or extends.  Scope, span and order of the new node default to those of
                `near`.
            weights: paths of weights that other layers own, by parameter (`{"weight": "wte.weight"}`).
            transposed: parameters that use the transpose of a weight in `weights`.
            storages: storage formats by parameter; the default is `Dense`.

        Raises:
            OperatorError: the operands do not fit.
            ValueError: the node owns weights and has no name.
        """
        _check_operator(op)
        operands = tuple(operands)
        inference = op.infer([value.type for value in operands])
        if near is not None:
            scope, span = scope or near.scope, span or near.span
        scope = scope or self.graph.scope
        node = Node(
            op=op,
            operands=operands,
            results=(),
            weights={},
            name=name,
            scope=scope,
            span=span,
            origin=(*(near.origin if near else ()), *((self.by,) if self.by else ())),
            order=self._order(near),
            transposed=frozenset(transposed).intersection(inference.parameters),
        )
        node.results = tuple(Value(type, node, index) for index, type in enumerate(inference.results))
        node.weights = self._declare(node, inference.parameters, inference.solution.extents, weights, storages)
        self.graph._add(node)
        return node

    def _order(self, near: Node | None) -> Order:
        if near is None:
            self._next_order += 1
            return (self._next_order - 1,)
        self._inserted[near.order] = self._inserted.get(near.order, -1) + 1
        return (*near.order, self._inserted[near.order])

    # Rewriting --------------------------------------------------------------------------------------------

    def replace_value(self, old: Value, new: Value) -> None:
        """Replace all uses of a value by another value; an unnamed new value takes the name of the old value."""
        if old is new:
            return
        self._rename(old, new)
        users = self.graph.consumers(old)
        for node in users:
            self.graph._set_operands(node, tuple(new if value is old else value for value in node.operands))
        if old.type != new.type:
            self._infer(users)
        if self.graph.is_output(old):
            for name in [name for name, value in self.graph.outputs.items() if value is old]:
                self.graph._set_output(name, new)

    def _rename(self, old: Value, new: Value) -> None:
        """Transfer the names of a value to another value, in all scopes that name the old value."""
        if new.producer is not None:
            new.name = new.name or old.name
        around = [old.producer] if old.producer is not None else []
        for scope in {scope for node in (*around, *self.graph.consumers(old)) for scope in node.scope.ancestors()}:
            if old in scope.names:
                scope.names.setdefault(new, scope.names.pop(old))
            if old in scope.inputs:
                scope.inputs[:] = (new if value is old else value for value in scope.inputs)

    def replace(self, node: Node, values: Sequence[Value]) -> None:
        """Replace all uses of a node's results by other values, one for each result, and remove the node."""
        for old, new in zip(node.results, values, strict=True):
            self.replace_value(old, new)
        self.remove(node)

    def remove(self, node: Node) -> None:
        """Remove a node without uses, but not its weights.

        After each pass, archc removes dead nodes and unused weights.

        Raises:
            ValueError: a result of the node is used.
        """
        if any(self.graph.consumers(value) or self.graph.is_output(value) for value in node.results):
            raise ValueError(f"{node.title} is still in use")
        self.graph._remove(node)

    def remove_unused_nodes(self) -> list[Node]:
        """Remove dead nodes, and return them in the order of the graph."""
        live: set[Node] = set()
        stack = [value.producer for value in self.graph.outputs.values() if value.producer is not None]
        while stack:
            node = stack.pop()
            if node not in live:
                live.add(node)
                stack.extend(value.producer for value in node.operands if value.producer is not None)
        dead = [node for node in self.graph.nodes() if node not in live]
        for node in dead:
            self.graph._remove(node)
        return dead

    def set_operands(self, node: Node, operands: Sequence[Value]) -> None:
        """Replace the operands of a node, and infer the types of its results again."""
        before = node.types
        self.graph._set_operands(node, tuple(operands))
        if node.types != before:
            self._infer([node])

    def replace_uses(self, old: Value, new: Value, users: Sequence[Node]) -> None:
        """Replace a value by another value of its type in some of its uses.

        If a block has no remaining uses of the old value, the new value takes the name of the old value in that block.
        """
        for node in users:
            self.set_operands(node, tuple(new if value is old else value for value in node.operands))
        staying = {scope for node in self.graph.consumers(old) for scope in node.scope.ancestors()}
        for scope in {scope for node in users for scope in node.scope.ancestors()} - staying:
            if old in scope.names:
                scope.names.setdefault(new, scope.names.pop(old))
            scope.inputs[:] = (new if value is old else value for value in scope.inputs)

    def set_operator(self, node: Node, op: Operator, storages: Mapping[str, Storage] | None = None) -> None:
        """Replace the operator of a node, and declare weights of new parameters."""
        _check_operator(op)
        inference = op.infer(node.types)
        node.op = op
        given = dict(node.weights)
        node.weights = self._declare(node, inference.parameters, inference.solution.extents, given, storages)
        self._record_pass(node)
        self._infer([node])

    def resize(self, operators: Mapping[Node, Operator], kept: Mapping[str, Sequence[np.ndarray]]) -> None:
        """Replace operators by operators with other sizes, and slice weights to match, in one step.

        One of the two changes without the other would make the graph invalid.  All result types are inferred again.

        Args:
            operators: new operators by node.
            kept: for each weight's path, the indices of the elements to keep on each axis.
        """
        for node, op in operators.items():
            _check_operator(op)
            node.op = op
            self._record_pass(node)
        for node in self.graph.nodes():
            self._retype(node)
            inference = node.op.infer(node.types)
            for name in inference.parameters:
                path = node.weights[name]
                if path in kept and path == f"{node.path}.{name}":  # the layer owns the weight
                    fresh = initializer_of(node.op, name, inference.solution.extents)
                    self.graph.weights[path] = replace(self.graph.weights[path], initializer=fresh)
        for path, elements in kept.items():
            self._slice(path, elements)

    @contextmanager
    def retyped(self) -> Iterator[None]:
        """Infer no types until the end of the context, for several changes that are valid only together."""
        self._defers = True
        try:
            yield
        finally:
            self._defers = False
        for node in self.graph.nodes():
            self._retype(node)

    def set_input_dtype(self, value: Value, dtype: DType) -> None:
        """Change the dtype of an input of the model."""
        value.type = TensorType(dtype, value.type.shape)
        self._infer(self.graph.consumers(value))

    def set_operator_and_operands(self, node: Node, op: Operator, operands: Sequence[Value]) -> None:
        """Replace the operator and the operands of a node without weights, in one step."""
        _check_operator(op)
        assert not node.weights and not op.parameters, "a node with weights must be replaced instead"
        self.graph._set_operands(node, tuple(operands))
        node.op = op
        self._record_pass(node)
        self._infer([node])

    def move_to_common_scope(self, node: Node, scope: Scope) -> None:
        """Move an unnamed node to the innermost scope that contains both its own scope and a given scope."""
        if node.name is None:
            around = scope.ancestors()
            node.scope = next(own for own in reversed(node.scope.ancestors()) if own in around)

    def _infer(self, nodes: Sequence[Node]) -> None:
        """Infer the result types of nodes again, and of downstream nodes if their operand types change."""
        if self._defers:
            return
        stale = set(nodes)
        if len(nodes) == 1:  # faster: if the types of one node stay, the graph need not be sorted
            stale = set(self.graph.users(nodes[0])) if self._retype(nodes[0]) else set()
        if stale:
            # In topological order, the operand types of a node are final before its results are inferred.
            for node in self.graph.nodes():
                if node in stale and self._retype(node):
                    stale.update(self.graph.users(node))

    def _retype(self, node: Node) -> bool:
        """Infer the types of one node's results, and return True if they changed."""
        changed = False
        for value, type in zip(node.results, node.op.infer(node.types).results, strict=True):
            if value.type != type:
                value.type, changed = type, True
        return changed

    def _record_pass(self, node: Node) -> None:
        if self.by and (not node.origin or node.origin[-1] != self.by):
            node.origin = (*node.origin, self.by)

    # Weights ----------------------------------------------------------------------------------------------

    def set_weight(self, path: str, values: np.ndarray, evaluated: bool = False) -> None:
        """Set the values of a weight, encoded in its storage format; the shape may change.

        Weights must be bound.

        Args:
            evaluated: True if the values are the result of operators of the graph, as in constant folding.  NaNs and
                infinities are then not attributed to the pass.

        Raises:
            ArchcError: a temporary file for large values cannot be written.
        """
        weight = self.graph.weights[path]
        if weight.shape != values.shape:
            self.graph.weights[path] = weight = replace(weight, shape=values.shape)
        for stored, array in weight.storage.encode(path, values).items():
            self._store(stored, array)
            if evaluated:
                self.not_finite.discard(stored)

    def set_storage(self, path: str, storage: Storage, stored: Mapping[str, np.ndarray] | None = None) -> None:
        """Change the storage format of a weight.

        Args:
            stored: tensors in the new format, with the keys of `Storage.tensors`.  By default the current values of the
                weight are encoded in the new format.
        """
        tensors = storage.encode(path, self.graph.weight_values(path)) if stored is None else stored
        self._drop_tensors(path)
        self.graph.weights[path] = replace(self.graph.weights[path], storage=storage)
        for name, array in tensors.items():
            self._store(name, array)

    def set_weight_dtype(self, path: str, dtype: DType) -> None:
        """Round a weight in the storage format `Dense` to another floating-point dtype."""
        from archc.weights.dtype_conversion import numpy_dtype

        weight = self.graph.weights[path]
        assert weight.storage == Dense(), "other formats have dtypes of their own"
        values = self.graph.weight_values(path).astype(numpy_dtype(dtype.value))
        self.graph.weights[path] = replace(weight, dtype=dtype)
        self._store(path, values)

    def _slice(self, path: str, kept: Sequence[np.ndarray]) -> None:
        """Slice a weight with an elementwise storage format to the given indices on each axis."""
        import numpy as np

        weight, tensors = self.graph.weights[path], self.graph.tensors
        assert tensors is not None, "weights are bound before passes run"
        assert weight.storage.elementwise, "only elementwise storage formats can be sliced"
        for stored in weight.tensors:
            self._store(stored, np.ascontiguousarray(tensors[stored].numpy()[np.ix_(*kept)]))
        self.graph.weights[path] = replace(weight, shape=tuple(map(len, kept)))

    def remove_unused_weights(self) -> list[str]:
        """Remove the weights that no node uses, and return their paths."""
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
        """Return the paths of a node's weights by parameter, and declare weights that the graph does not have."""
        paths = {}
        for name, type in parameters.items():
            path = (given or {}).get(name) or f"{node.path}.{name}"
            if node.path is None and name not in (given or {}):
                raise ValueError(f"{node.title} owns a {name} and needs a name, for the path of the {name}")
            paths[name] = path
            if path in self.graph.weights:
                continue
            shape = tuple(dim for dim in type.shape if isinstance(dim, int))
            assert len(shape) == type.rank, "inference rejects weights of symbolic shape"
            if name in node.transposed:
                shape = shape[::-1]
            declared = node.op.parameters[name]
            self.graph.weights[path] = Weight(
                path,
                shape,
                type.dtype,
                (storages or {}).get(name, Dense()),
                declared.trainable,
                initializer_of(node.op, name, extents),
            )
        return paths

    def _store(self, stored: str, array: np.ndarray) -> None:
        from archc.weights.dtype_conversion import is_finite
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


def _check_operator(op: object) -> None:
    if isinstance(op, Operator):
        return
    if isinstance(op, type) and issubclass(op, Operator):
        raise TypeError(f"an operator is an instance, such as `{op.__name__}()`, not the class `{op.__name__}`")
    raise TypeError(f"an operator is an instance of a class such as `archc.ops.activation.Relu`, not {op!r:.60}")
