"""Symbolic sizes computed at run time, from the shapes of the inputs by integer arithmetic.

Every size is a vector of one element, since `Shape` returns vectors and `Concat` takes vectors; `scalar` removes the
axis.  Sizes depend only on the inputs, so each is computed once for the whole graph.
"""

from __future__ import annotations

from collections.abc import Sequence

from archc.codegen.onnx.onnx_graph import OnnxGraph
from archc.declaration.base import OperatorError
from archc.ir.graph import Graph
from archc.types.dims import Atom, Function, Scaled, Symbol, SymbolicDim, as_linear, as_symbol, symbol
from archc.types.tensor_type import DType

Extent = int | SymbolicDim


class RuntimeSizes:
    """The sizes of one graph, each computed at most once."""

    def __init__(self, onnx: OnnxGraph):
        self._onnx = onnx
        self._vectors: dict[Extent, str] = {}
        self._scalars: dict[Extent, str] = {}
        self._shapes: dict[tuple[Extent, ...], str] = {}
        self._places = _places(onnx.graph)

    def scalar(self, dim: Extent) -> str:
        """The name of a size as an i64 scalar.

        Raises:
            OperatorError: the shapes of the inputs do not determine a symbol of the size.
        """
        if isinstance(dim, int):
            return self._onnx.constant(dim)
        if dim not in self._scalars:
            vector = self.vector(dim)
            axes = self._onnx.constant([0])
            self._scalars[dim] = self._onnx.shared(f"size/{_text(dim)}/Squeeze", "Squeeze", vector, axes)
        return self._scalars[dim]

    def vector(self, dim: Extent) -> str:
        """The name of a size as an i64 vector of one element; raises as `scalar`."""
        if isinstance(dim, int):
            return self._onnx.constant([dim])
        if dim not in self._vectors:
            self._vectors[dim] = self._compute(dim)
        return self._vectors[dim]

    def shape(self, dims: Sequence[Extent]) -> str:
        """The name of a shape as an i64 vector; raises as `scalar`."""
        if all(isinstance(dim, int) for dim in dims):
            return self._onnx.constant([dim for dim in dims if isinstance(dim, int)])
        key = tuple(dims)
        if key not in self._shapes:
            self._shapes[key] = self._concat(f"shape/[{','.join(map(_text, key))}]", key)
        return self._shapes[key]

    def reshaped(self, dims: Sequence[Extent], like: Sequence[Extent]) -> tuple[str, bool]:
        """The shape operand of a `Reshape`, and whether its zeros are sizes (`allowzero`).

        Without `allowzero`, a 0 in the shape keeps the operand's size of this axis.  One size may be -1: ONNX Runtime
        infers this size, unless another size is 0.  A symbolic size may be 0 at run time.  If a shape has several
        symbolic sizes, a -1 for one of them fails if another one is 0.  Such a shape therefore has a -1 only for a size
        that the graph cannot compute.

        Args:
            dims: the shape of the result; like: the shape of the operand.

        Raises:
            OperatorError: the graph cannot compute a size, and -1 cannot replace the size.
        """
        kept = {k for k, (new, old) in enumerate(zip(dims, like)) if new == old and not isinstance(new, int)}
        changed = [k for k, dim in enumerate(dims) if k not in kept and not isinstance(dim, int)]
        short = [0 if k in kept else -1 if k in changed else dim for k, dim in enumerate(dims)]
        if 0 not in dims and (not changed or (len(changed) == 1 and not kept)):
            return self.shape(short), False
        try:
            return self.shape(dims), True
        except OperatorError:
            if len(changed) > 1 or 0 in dims:
                raise
            return self.shape(short), False

    def _concat(self, name: str, dims: Sequence[Extent]) -> str:
        parts: list[str] = []
        numbers: list[int] = []
        for dim in dims:
            if isinstance(dim, int):
                numbers.append(dim)
                continue
            if numbers:
                parts.append(self._onnx.constant(numbers))
                numbers = []
            parts.append(self.vector(dim))
        if numbers:
            parts.append(self._onnx.constant(numbers))
        return parts[0] if len(parts) == 1 else self._onnx.shared(name, "Concat", *parts, axis=0)

    def _compute(self, dim: SymbolicDim) -> str:
        single = as_symbol(dim)
        if single is not None:
            return self._symbol(single)
        total: str | None = None
        for monomial, coefficient in dim.terms:
            factors = [self._atom(atom) for atom, power in monomial for _ in range(power)]
            if coefficient != 1 or not factors:
                factors.append(self._onnx.constant([coefficient]))
            term = factors[0]
            for factor in factors[1:]:
                term = self._node(dim, "Mul", term, factor)
            total = term if total is None else self._node(dim, "Add", total, term)
        assert total is not None, "a symbolic size has at least one term"
        return total

    def _atom(self, atom: Atom) -> str:
        if isinstance(atom, Symbol):
            return self.vector(symbol(atom.name, atom.maximum))
        if isinstance(atom, Scaled):
            return self._scaled(atom)
        return self._function(atom)

    def _function(self, function: Function) -> str:
        dim = SymbolicDim(((((function, 1),), 1),))
        if dim in self._vectors:
            return self._vectors[dim]
        left, right = self.vector(function.left), self.vector(function.right)
        if function.name == "//":
            # `Div` rounds towards zero, but `//` rounds down.  Subtract the remainder, so that nothing is rounded.
            whole = self._node(dim, "Sub", left, self._node(dim, "Mod", left, right))
            result = self._node(dim, "Div", whole, right)
        else:
            result = self._node(dim, {"%": "Mod", "min": "Min", "max": "Max"}[function.name], left, right)
        self._vectors[dim] = result
        return result

    def _scaled(self, scaled: Scaled) -> str:
        import onnx

        name = f"size/{scaled}".replace(" ", "")
        real = self._onnx.shared(f"{name}/Real", "Cast", self.vector(scaled.size), to=onnx.TensorProto.DOUBLE)
        factor = self._onnx.constant([scaled.factor], DType.f64)
        product = self._onnx.shared(f"{name}/Mul", "Mul", real, factor)
        return self._onnx.shared(f"{name}/Cast", "Cast", product, to=onnx.TensorProto.INT64)  # rounds towards zero

    def _symbol(self, wanted: Symbol) -> str:
        if wanted.name not in self._places:
            raise OperatorError(
                "no-onnx-form",
                f"the shapes of the inputs do not determine the size `{wanted.name}`",
                help=f"write a number for `{wanted.name}`, or add an axis of size `{wanted.name}` to an input",
            )
        dim, value, axis = self._places[wanted.name]
        name = f"size/{wanted.name}"
        if as_symbol(dim) is not None:
            return self._onnx.shared(name, "Shape", value, start=axis, end=axis + 1)
        part = as_linear(dim)
        assert part is not None, "`_places` has no other axes"
        _, scale, offset = part
        found = self._onnx.shared(f"{name}/Shape", "Shape", value, start=axis, end=axis + 1)
        if offset:
            found = self._onnx.shared(f"{name}/Sub", "Sub", found, self._onnx.constant([offset]))
        if scale != 1:
            found = self._onnx.shared(f"{name}/Div", "Div", found, self._onnx.constant([scale]))
        return found

    def _node(self, dim: Extent, op_type: str, left: str, right: str) -> str:
        return self._onnx.shared(f"size/{_text(dim)}/{op_type}", op_type, left, right)


def _text(dim: Extent) -> str:
    return str(dim).replace(" ", "")


def _places(graph: Graph) -> dict[str, tuple[SymbolicDim, str, int]]:
    """For each symbol, an axis that determines it: the size of the axis, the input, and the axis number.

    An axis of the size `N` is preferred to one of a linear size such as `2*N + 1`.
    """
    exact: dict[str, tuple[SymbolicDim, str, int]] = {}
    linear: dict[str, tuple[SymbolicDim, str, int]] = {}
    for value in graph.inputs:
        for axis, dim in enumerate(value.type.shape):
            if isinstance(dim, int):
                continue
            assert value.name is not None, "an input has a name"
            single = as_symbol(dim)
            if single is not None:
                exact.setdefault(single.name, (dim, value.name, axis))
                continue
            part = as_linear(dim)
            if part is not None:
                linear.setdefault(part[0].name, (dim, value.name, axis))
    return {**linear, **exact}
