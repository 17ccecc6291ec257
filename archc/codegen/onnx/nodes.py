"""Nodes of an ONNX graph under construction, with use lists.

Operators name operands and results.  Within this module, each name is a value that knows its producer and, through the
use lists, its consumers.  Rewrites insert, change and remove nodes in O(1).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from archc.ir.use_lists import UseLists
from archc.types.tensor_type import StoredDType


class OnnxValue:
    """A tensor in an ONNX graph.

    Attributes:
        name: unique name in the model.
        producer: the node whose result the value is; None for inputs, initializers and values from outside a scan.
        constant: the dtype, if the value is a constant: an initializer, or a result that is computed from initializers
            alone.  Such a result has the dtype of its producer's first operand here.  None for any other value.
    """

    __slots__ = ("constant", "name", "producer")

    def __init__(self, name: str, producer: OnnxNode | None = None, constant: StoredDType | None = None):
        self.name, self.producer, self.constant = name, producer, constant

    def __repr__(self) -> str:
        return f"<{self.name}>"


class OnnxNode:
    """A node of an ONNX graph.

    Attributes:
        kind: the operator, which is the `op_type` of ONNX.
        operands: used values; None for an absent optional operand.
        attributes: values by name; attributes that are None are absent.
        name: unique name of the node.
    """

    __slots__ = ("_after", "_before", "attributes", "domain", "kind", "name", "operands", "results")

    def __init__(
        self,
        kind: str,
        operands: list[OnnxValue | None],
        results: list[OnnxValue],
        attributes: dict[str, Any],
        domain: str = "",
        name: str = "",
    ):
        self.kind, self.operands, self.results, self.attributes = kind, operands, results, attributes
        self.domain, self.name = domain, name
        self._before: OnnxNode | None = None
        self._after: OnnxNode | None = None

    @property
    def title(self) -> str:
        """Name of the node in reasons."""
        return self.name

    def attribute(self, name: str) -> Any:
        """Return the value of an attribute; None if the attribute is absent."""
        return self.attributes.get(name)

    def __repr__(self) -> str:
        return f"<{self.name}: {self.kind}>"


class OnnxNodes:
    """The nodes of an ONNX graph, or of the body of a scan, in topological order.

    A name that no node here produces is a value without a producer: an initializer, an input, or in a body a value from
    outside.

    Args:
        dtype_of: returns the dtype of an initializer with a given name; None for any other name.

    Attributes:
        present: the operators and the dtypes of constants in the graph; some may have been removed since.
        uses: the use lists.  A value that is an output there is also used outside these nodes: it is an output of the
            graph or of the body, or an operand of a node in the body of a scan.
    """

    def __init__(self, dtype_of: Callable[[str], StoredDType | None]):
        self.present: set[Hashable] = set()
        self.uses: UseLists[OnnxNode, OnnxValue] = UseLists()
        self._dtype_of = dtype_of
        self._values: dict[str, OnnxValue] = {}
        self._first: OnnxNode | None = None
        self._last: OnnxNode | None = None

    def __iter__(self) -> Iterator[OnnxNode]:
        node = self._first
        while node is not None:
            yield node
            node = node._after

    def value(self, name: str) -> OnnxValue:
        """The value with a name."""
        found = self._values.get(name)
        if found is None:
            found = self._values[name] = OnnxValue(name, constant=self._dtype_of(name))
            if found.constant is not None:
                self.present.add(found.constant)
        return found

    def capture(self, body: OnnxNodes) -> None:
        """Record that the body of a scan uses the values that it does not produce."""
        for name, value in body._values.items():
            if value.producer is None:
                self.uses.add_output(self.value(name))

    def rename(self, value: OnnxValue, name: str) -> None:
        """Give a value another name."""
        del self._values[value.name]
        self._values[name] = value
        value.name = name

    def new(
        self,
        kind: str,
        operands: Iterable[str],
        results: Sequence[str],
        attributes: dict[str, Any] | None = None,
        domain: str = "",
        name: str = "",
    ) -> OnnxNode:
        """A node that is not yet in the graph; by default its name is that of its first result.

        Args:
            operands, results: names of values; an absent optional operand is empty.
        """
        known = self._values.get
        used = [known(operand) or self.value(operand) if operand else None for operand in operands]
        node = OnnxNode(kind, used, [], attributes or {}, domain, name or results[0])
        constant = _constant(used)
        node.results += [self._result(result, node, constant) for result in results]
        return node

    def append(self, node: OnnxNode) -> None:
        """Insert a node at the end."""
        self._insert(node, self._last, None)

    def insert_before(self, node: OnnxNode, other: OnnxNode) -> None:
        """Insert a node before another one."""
        self._insert(node, other._before, other)

    def insert_after(self, node: OnnxNode, other: OnnxNode) -> None:
        """Insert a node after another one."""
        self._insert(node, other, other._after)

    def remove(self, node: OnnxNode) -> None:
        """Remove a node; its results, if they have uses, become values without a producer."""
        self._link(node._before, node._after)
        self.uses.disconnect(node, filter(None, node.operands))
        for result in node.results:
            result.producer = None

    def set_kind(self, node: OnnxNode, kind: str) -> None:
        """Replace the operator of a node."""
        node.kind = kind
        self.present.add(kind)

    def set_operand(self, node: OnnxNode, position: int, value: OnnxValue) -> None:
        """Replace an operand, or add one after the last."""
        self.uses.disconnect(node, filter(None, node.operands))
        node.operands[position : position + 1] = [value]
        self.uses.connect(node, filter(None, node.operands))

    def release(self, result: OnnxValue, substitute: str) -> None:
        """Detach a value from its producer, so that a new node can produce the value.

        The consumers still use the value.  The producer gets a new result in its place.

        Args:
            substitute: the name of the new result.
        """
        producer = result.producer
        assert producer is not None, "only a result can be released"
        result.producer = None
        producer.results[producer.results.index(result)] = self._result(substitute, producer, result.constant)

    def is_unused(self, value: OnnxValue) -> bool:
        """Return True if no node uses a value, and it is not used elsewhere."""
        return not self.uses.consumers(value) and not self.uses.is_output(value)

    def _result(self, name: str, producer: OnnxNode, constant: StoredDType | None) -> OnnxValue:
        """The value with a name, as a result of a node."""
        value = self._values.get(name)
        if value is None:
            value = self._values[name] = OnnxValue(name)
        value.producer, value.constant = producer, constant
        return value

    def _link(self, before: OnnxNode | None, after: OnnxNode | None) -> None:
        """Make two nodes neighbours; None is the beginning or the end of the list."""
        if before is None:
            self._first = after
        else:
            before._after = after
        if after is None:
            self._last = before
        else:
            after._before = before

    def _insert(self, node: OnnxNode, before: OnnxNode | None, after: OnnxNode | None) -> None:
        self._link(before, node)
        self._link(node, after)
        self.uses.connect(node, filter(None, node.operands))
        self.present.add(node.kind)


def _constant(operands: Sequence[OnnxValue | None]) -> StoredDType | None:
    """Dtype of the first operand, if all operands are constants; else None."""
    constant = None
    for operand in operands:
        if operand is not None:
            if operand.constant is None:
                return None
            constant = constant or operand.constant
    return constant
