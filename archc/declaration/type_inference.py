"""Type inference of operators: from the types of operands to those of results and parameters.

The signature of an operator determines most of it.  An operator overrides a method of `Typed` for a rule that its
signature cannot express.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from archc.declaration.axis_attributes import axis_numbers
from archc.declaration.dtypes import ANY, ONNX_MOST, Declared, Kernels, check_dtypes, onnx_types
from archc.declaration.errors import OperatorError, check_representable, rank_error, shape_error, too_many_axes
from archc.declaration.notation import Notation
from archc.declaration.operator_failure import OperatorFailure
from archc.declaration.parameter import Parameter
from archc.diagnostics import ArchcError
from archc.frozen_dataclass import frozen_dataclass
from archc.types.attributes import attributes
from archc.types.dim_bounds import bounds
from archc.types.dims import SymbolicDim
from archc.types.extent_solver import Contradiction, Extent, Solution, solve_extents
from archc.types.signature import Pattern, RankMismatch, Signature, parse_signature
from archc.types.tensor_type import MOST_AXES, DType, TensorType

SizeOf = Callable[[Extent], int]
"""Function from a size, which may be symbolic, to its value at run time."""


@frozen_dataclass
class Inference:
    """Result of type inference for one operator with operands of given types.

    Attributes:
        results: types of the results.
        parameters: shape and dtype of each parameter, by name.
        solution: the signature and the extents of its indices.
    """

    results: tuple[TensorType, ...]
    parameters: Mapping[str, TensorType]
    solution: Solution


class Typed(Notation):
    """The part of an operator that checks operands, and infers the types of results and parameters."""

    signature: ClassVar[str] = ""
    """The signature: the axes of the operands, of the parameters and of the results."""
    parameters: ClassVar[Mapping[str, Parameter]] = {}
    """Operands of the signature that the operator owns: weights and buffers."""
    dtypes: ClassVar[Declared] = ANY
    """Accepted dtypes of the data operands (the operands that are not parameters).

    See `archc.declaration.dtypes`.

    With a set, all operands share one dtype of the set.  A mapping gives the dtypes of each operand by name; an operand
    that is not in the mapping may be of any dtype.  For operators without operands, a set limits the attribute `dtype`.
    """
    onnx_dtypes: ClassVar[Kernels] = ONNX_MOST
    """Dtypes that ONNX Runtime's CPU kernels support for the ONNX nodes of the operator.

    A set limits the first operand; a mapping limits operands by name.  An operand of another dtype is cast to a wider
    dtype, together with the operands that must have the same dtype.  Results are cast back.
    """

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        """Signature for operands of these types.

        Override it if the signature depends on attributes or on the operands, as for `concat`.
        """
        return parse_signature(self.signature)

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        """Extents that attributes give, by index: `{"o": 128}` for `linear(128)`.

        By default, these are the values of all attributes with `index=`, except None.
        """
        found = {}
        for info in attributes(type(self)):
            value = info.of(self)
            if info.index is not None and value is not None:
                found[info.index] = value
        return found

    def axis_number(self, attribute: str, types: Sequence[TensorType]) -> int:
        """Number of the axis that an attribute selects, counted from 0.

        It is 3 for `dim = -1` and an operand of rank 4.

        Args:
            attribute: name of an attribute that is declared with `axis=`; its value is an integer.

        Raises:
            OperatorError: the axis does not exist (`bad-attribute`).
        """
        (number,) = self.axis_numbers(attribute, types)
        return number

    def axis_numbers(self, attribute: str, types: Sequence[TensorType]) -> tuple[int, ...]:
        """Numbers of the axes that an attribute selects, counted from 0, in the attribute's order.

        Type inference calls it for every attribute that is declared with `axis=`.  An operator calls it only to use the
        numbers.

        Args:
            attribute: name of an attribute that is declared with `axis=`.  The tuple is empty if its value is None.

        Raises:
            OperatorError: an axis does not exist, or is given twice (`bad-attribute`).
        """
        signature = parse_signature(self.signature)  # `signature_for` may depend on the numbers of the axes
        names = (pattern.name for pattern in signature.operands if pattern.name not in self.parameters)
        return axis_numbers(self, attribute, signature, {name: one.rank for name, one in zip(names, types)})

    def has_parameter(self, name: str) -> bool:
        """Return whether this instance has a parameter: `bias = false` removes the bias (`Parameter.when`)."""
        switch = self.parameters[name].when or name
        return getattr(self, switch, True) is not False

    def parameter_dtype(self, name: str, floating: DType) -> DType:
        """Dtype of a parameter: the declared one, else `floating`.

        Args:
            floating: the dtype of the first floating-point operand; f32 if none is floating.
        """
        return self.parameters[name].dtype or floating

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        """Dtypes of the results; by default the dtype of the first operand."""
        return (types[0].dtype,)

    def check(self, types: Sequence[TensorType]) -> None:
        """Check the constraints that neither dtypes nor signature express.

        Raises:
            OperatorError: the operands or attributes violate a constraint.
        """

    def function_extent(self, function: str, index: str, extent: Extent, position: int) -> Extent:
        """Extent of a result axis that is a function of an index in the signature, such as `conv(h)`.

        By default, it calls the operator's method with the name of the function: `self.conv(extent, position)`.

        Args:
            extent: the extent of the index.
            position: position of the axis among the function axes of the results.  In `conv2d`, `conv(h)` has the
                position 0 and `conv(w)` has the position 1.
        """
        return getattr(self, function)(extent, position)  # type: ignore[no-any-return]  # the method of a function axis

    def infer(self, types: Sequence[TensorType]) -> Inference:
        """Check the operands, and infer the types of results and parameters.

        Raises:
            OperatorError: operands or attributes do not fit.
        """
        types = tuple(types)
        sizes = [dim for operand in types for dim in operand.shape]
        for info in attributes(type(self)):
            sizes += _sizes_in(info.of(self))
        try:
            return _infer(self, types, bounds(sizes))
        except OperatorFailure:
            raise
        except ArchcError as limit:  # the expression of a size is too complex
            (problem,) = limit.diagnostics
            raise OperatorError(problem.code, f"`{self.name}`: {problem.message}", help=problem.help) from None

    def onnx_types(self, types: Sequence[TensorType]) -> tuple[TensorType, ...]:
        """Types of the operands in ONNX, after the casts that `onnx_dtypes` requires.

        Raises:
            OperatorError: ONNX Runtime has no kernel for the dtype or a wider one (`no-onnx-form`).
        """
        names = [pattern.name for pattern in self.data_operands(types)]
        return onnx_types(self.name, self.dtypes, self.onnx_dtypes, names, types)

    def data_operands(self, types: Sequence[TensorType]) -> list[Pattern]:
        """Operands of the signature that are not parameters."""
        return [pattern for pattern in self.signature_for(types).operands if pattern.name not in self.parameters]


@lru_cache(maxsize=65536)
def _infer(op: Typed, types: tuple[TensorType, ...], limits: tuple[int | None, ...]) -> Inference:
    # Types and operators compare equal even if the bounds of their symbolic sizes differ.  `limits` adds these bounds
    # to the cache key: otherwise the bounds of one model would affect another model.
    signature = op.signature_for(types)
    data = [pattern for pattern in signature.operands if pattern.name not in op.parameters]
    required = sum(1 for pattern in data if not pattern.optional)
    if not required <= len(types) <= len(data):
        takes = f"{required}" if required == len(data) else f"{required} to {len(data)}"
        raise OperatorError(
            "operand-count",
            f"`{op.name}` takes {takes} operand{'' if takes == '1' else 's'}"
            f" ({', '.join(pattern.name for pattern in data)}), got {len(types)}",
            help=_operands_help(op, [pattern.name for pattern in data[:required]]) if len(types) < required else None,
        )
    for info in attributes(type(op)):
        if info.axis is not None:
            op.axis_numbers(info.name, types)
    op.check(types)
    check_dtypes(op, op.dtypes, [pattern.name for pattern in data], types)
    dtypes = op.result_dtypes(types)
    check_representable(op, (*dtypes, *(operand.dtype for operand in types)))
    shapes = {pattern.name: operand.shape for pattern, operand in zip(data, types)}
    try:
        solution = solve_extents(signature, shapes, op.extents(types), op.function_extent)
    except RankMismatch as mismatch:
        raise rank_error(op, mismatch, data, types) from None
    except Contradiction as contradiction:
        raise shape_error(op, signature, contradiction, data, types) from None
    results = tuple(TensorType(dtype, shape) for dtype, shape in zip(dtypes, solution.results, strict=True))
    floating = next((operand.dtype for operand in types if operand.dtype.floating), DType.f32)
    parameters = {
        pattern.name: TensorType(op.parameter_dtype(pattern.name, floating), solution.shape(pattern))
        for pattern in solution.signature.operands
        if pattern.name in op.parameters and op.has_parameter(pattern.name)
    }
    for name, parameter in parameters.items():
        if symbolic(*parameter.shape):
            raise OperatorError(
                "symbolic-weight",
                f"`{op.name}` needs a `{name}` of known shape, got {parameter}",
                help="give the size as a number or an attribute",
            )
    rank = max((tensor.rank for tensor in (*results, *parameters.values())), default=0)
    if rank > MOST_AXES:
        raise too_many_axes(rank)
    return Inference(results, parameters, solution)


def _operands_help(op: Typed, names: Sequence[str]) -> str:
    """Help for an operator that receives too few operands."""
    if len(names) == 1:
        return f"write `{names[0]} -> {op}`"
    return f"write the operands as a tuple: `({', '.join(names)}) -> {op}`"


def _sizes_in(value: Any) -> Sequence[SymbolicDim]:
    """Symbolic sizes in an attribute: `N` and `T` in `reshape((N, T, 64))`."""
    if isinstance(value, SymbolicDim):
        return (value,)
    return [size for item in value for size in _sizes_in(item)] if isinstance(value, (tuple, list)) else ()


def symbolic(*dims: Extent) -> bool:
    """Return whether any of the sizes is symbolic."""
    return any(isinstance(dim, SymbolicDim) for dim in dims)
