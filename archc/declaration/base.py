"""Base class of operators: one frozen dataclass is the complete declaration of an operator.

A subclass declares a signature, its attributes (the dataclass fields), its parameters, and its spelling in PyTorch
and in ONNX.  The checker, shape inference, cost, the emitters, `archc ops` and the reference page derive from these.
The subclass overrides a method only where the signature cannot express the rule.  The decorator `operator` makes the
subclass a frozen dataclass.

    @operator
    class Linear(Operator):
        '''An affine map of the last axis: y = x Wᵀ + b.'''

        signature = "x[*b, i], weight[o, i], bias[o]? -> y[*b, o]"
        parameters = {"weight": Parameter(kaiming_uniform("i")), "bias": Parameter(uniform_fan_in("i"))}
        torch_name = "F.linear"

        out_features: int = attribute(index="o", phrase="output features")
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

from archc.declaration.dtypes import ANY, ONNX_MOST, Declared, Kernels, check_dtypes, onnx_types
from archc.declaration.errors import OperatorError, check_representable, rank_error, shape_error, too_many_axes
from archc.declaration.notation import FormulaKind, Notation
from archc.declaration.parameter import Parameter
from archc.declaration.spelling import OnnxSpelling, TorchHelper, TorchModule, TorchSpelling, call
from archc.declaration.table import OperatorTable, snake_case
from archc.declaration.traits import Traits, Uniform
from archc.diagnostics import ArchcError
from archc.types.attributes import attributes
from archc.types.dim_bounds import bounds
from archc.types.dims import SymbolicDim
from archc.types.extent_solver import Contradiction, Extent, Solution, solve_extents
from archc.types.frozen_dataclass import frozen_dataclass as operator
from archc.types.signature import Pattern, RankMismatch, Signature, parse_signature
from archc.types.tensor_type import MOST_AXES, DType, TensorType

SizeOf = Callable[[Extent], int]
"""Function that evaluates a size to a number."""

OPERATORS: OperatorTable[type[Operator]] = OperatorTable()
"""All operators by name; the definition of a subclass registers the subclass, unless it is abstract."""
FORMULAS: dict[FormulaKind, OperatorTable[type[Operator]]] = {
    "binary": OperatorTable(),
    "unary": OperatorTable(),
    "index": OperatorTable(),
}
"""The operators of each kind of formula, by symbol."""


@dataclass(frozen=True, slots=True)
class Inference:
    """Result of the inference of an operator for operands of given types.

    Attributes:
        results: types of the results.
        parameters: shape and dtype of each parameter, by name.
        solution: the solved signature.
    """

    results: tuple[TensorType, ...]
    parameters: Mapping[str, TensorType]
    solution: Solution


@operator
class Operator(Notation, Traits):
    """Base of all operators; an instance is an operator with its attributes."""

    signature: ClassVar[str] = ""
    """The signature: the axes of the operands, of the parameters and of the results."""
    parameters: ClassVar[Mapping[str, Parameter]] = {}
    """Operands of the signature that the operator owns: weights and buffers."""
    dtypes: ClassVar[Declared] = ANY
    """Accepted dtypes of the data operands; see `archc.declaration.dtypes`.

    With a set, all operands share one dtype of the set.  A mapping gives the dtypes of each operand by name; an operand
    that is not in the mapping may be of any dtype.  For operators without operands, a set limits the attribute `dtype`.
    """
    onnx_dtypes: ClassVar[Kernels] = ONNX_MOST
    """Dtypes in which ONNX Runtime's CPU kernels compute the ONNX form.

    A set limits the first operand; a mapping limits operands by name.  An operand of another dtype is cast to a wider
    dtype, together with the operands that must have the same dtype.  Results are cast back.
    """
    family: ClassVar[str] = ""
    """The group in `archc ops`; by default the name of the module. Subclasses inherit it."""
    torch_name: ClassVar[str] = ""
    """The PyTorch function (`F.relu`), if the spelling is a call with the attributes as arguments."""
    torch_helpers: ClassVar[tuple[TorchHelper, ...]] = ()
    """Functions that PyTorch lacks and that the PyTorch spelling may call."""
    torch_channels_last: ClassVar[bool] = False
    """PyTorch's CPU kernel computes in `torch.channels_last` and reorders operands in other layouts."""
    onnx_name: ClassVar[str] = ""
    """The ONNX operator (`Relu`), if the spelling is one node without attributes."""
    example: ClassVar[str] = ""
    """An example for `archc ops`: `x -> conv1: conv2d(32, 3)`."""
    concatenates: ClassVar[bool] = False
    """The result is the concatenation of the operands; pictures draw the operator as a bar."""

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if cls.formula is not None and "symbol" in cls.__dict__:
            FORMULAS[cls.formula][cls.symbol] = cls
        if "name" not in cls.__dict__:
            cls.name = snake_case(cls.__name__)
        if not abstract:
            cls.family = cls.family or cls.__module__.rpartition(".")[2]
            OPERATORS[cls.name] = cls

    # Semantics --------------------------------------------------------------------------------------------

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        """Signature for operands of these types.

        Override it if the attributes change the signature (`concat`).
        """
        return parse_signature(self.signature)

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        """Extents of the indices that attributes declare with `index=`; an attribute that is None gives none."""
        found = {}
        for info in attributes(type(self)):
            value = getattr(self, info.name)
            if info.index is not None and value is not None:
                found[info.index] = value
        return found

    def has_parameter(self, name: str) -> bool:
        """Return whether this instance owns a parameter: `bias = false` removes it (see `Parameter.when`)."""
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
        """Extent of a function axis, such as `conv(h)`.

        By default, the result of the method with the function's name, called with extent and position.
        """
        return getattr(self, function)(extent, position)  # type: ignore[no-any-return]  # the method of a function axis

    def operand_range(self, types: Sequence[TensorType], position: int) -> tuple[int, Extent] | None:
        """Integers that an operand may hold, end exclusive; None if all integers are valid.

        An operand with a range holds indices (the ids of an embedding), so its elements are not elements of the
        results.
        """
        return None

    def minimum_sizes(self, types: Sequence[TensorType]) -> Sequence[tuple[Extent, int]]:
        """Sizes of operands, each with its minimum at run time (`topk`: k).

        The minimum of all other sizes is 1.
        """
        return ()

    def result_integers(self, operands: Sequence[range | None], size: SizeOf) -> range | None:
        """Range of all elements of the result, from the ranges of the operands; None if unknown.

        Args:
            size: evaluates a size at run time.
        """
        return None

    def operand_integers(
        self, position: int, operands: Sequence[range | None], wanted: range, size: SizeOf
    ) -> range | None:
        """Range of an operand's elements that keeps the result in a wanted range; None if unknown.

        Args:
            operands: ranges of the other operands.
        """
        return None

    def multiply_adds(self, inference: Inference, types: Sequence[TensorType]) -> Extent:
        """Multiply-accumulates (MACs) of one run, from the signature.

        Override it if the signature does not show the MACs.
        """
        return inference.solution.multiply_adds

    def infer(self, types: Sequence[TensorType]) -> Inference:
        """Check the operands, and infer results and parameters.

        Raises:
            OperatorError: operands or attributes do not fit.
        """
        types = tuple(types)
        sizes = [dim for operand in types for dim in operand.shape]
        for info in attributes(type(self)):
            sizes += _sizes_in(getattr(self, info.name))
        try:
            return _infer(self, types, bounds(sizes))
        except ArchcError as limit:  # the expression of a size is too complex
            (problem,) = limit.diagnostics
            raise OperatorError(problem.code, f"`{self.name}`: {problem.message}", help=problem.help) from None

    def onnx_types(self, types: Sequence[TensorType]) -> tuple[TensorType, ...]:
        """Types to which the ONNX form casts its operands; see `onnx_dtypes`.

        Raises:
            OperatorError: ONNX Runtime has no kernel for the dtype or a wider one (`no-onnx-form`).
        """
        names = [pattern.name for pattern in self.data_operands(types)]
        return onnx_types(self.name, self.dtypes, self.onnx_dtypes, names, types)

    def data_operands(self, types: Sequence[TensorType]) -> list[Pattern]:
        """Operands of the signature that are not parameters."""
        return [pattern for pattern in self.signature_for(types).operands if pattern.name not in self.parameters]

    # Rewriting ---------------------------------------------------------------------------------------------

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Operator:
        """The operator with new extents of some indices; `types` are the types of the present operands.

        By default it sets the attributes that declare these indices.
        """
        infos = [info for info in attributes(type(self)) if getattr(self, info.name) is not None]
        changes = {info.name: extents[info.index] for info in infos if info.index is not None and info.index in extents}
        return replace(self, **changes)

    def with_same_padding(self) -> tuple[Operator, int] | None:
        """The operator with zero padding that keeps the size of every axis, and the padding of each side.

        None if no padding keeps the sizes.  A diagnostic suggests the padding if it resolves a mismatch.
        """
        return None

    def simplified(self, types: Sequence[TensorType], uniform: Uniform) -> Operator | int | None:
        """A simpler form with equal results: an operator on the same operands, or the number of an operand.

        None if there is no simpler form.  The simpler form must keep all weights of the operator.

        Args:
            uniform: for each operand, the number that all its elements equal, if known.
        """
        return None

    def after(self, inner: Operator, types: Sequence[TensorType]) -> Operator | int | None:
        """Composition with the operator before it, as one operator on the operands of `inner`.

        An int is the number of an operand of `inner` that equals the result.  None if one operator cannot express the
        composition.  The result of `inner` has no other consumer, and neither operator has weights.  By default `inner`
        itself, if this operator equals `inner` and is `idempotent`.

        Args:
            types: the types of the operands of `inner`.
        """
        return inner if self.idempotent and inner == self else None

    def from_first_result(self, types: Sequence[TensorType]) -> Operator | None:
        """An operator with the same weights that computes all results from the first one; None if none exists.

        A later stage of a pipeline then receives the first result only, if it has the weights and they are not
        trained.
        """
        return None

    def factors(self, rank: int) -> tuple[Operator, Operator] | None:
        """Two operators in sequence that equal this operator if its weight has the given rank.

        The weight W is a matrix of its first axis by all other axes.  If W = B A, then A is the weight of the first
        operator and B is the weight of the second, each in its own shape.  The second operator has the bias.  None if
        there is no such pair.
        """
        return None

    # Spelling ---------------------------------------------------------------------------------------------

    def torch(self, spell: TorchSpelling) -> str:
        """PyTorch expression over `spell.operands` and `spell.weights`.

        The expression has inference semantics, unless `spell.training` is an expression for the mode.  For several
        results, the expression is a tuple.
        """
        assert self.torch_name, f"{type(self).__name__} declares neither `torch_name` nor `torch`"
        options = {info.name: getattr(self, info.name) for info in attributes(type(self))}
        defaults = {info.name: info.default for info in attributes(type(self))}
        changed = {name: value for name, value in options.items() if value != defaults[name]}
        return call(self.torch_name, *spell.operands, *spell.weights.values(), **changed)

    def torch_module(self, spell: TorchSpelling) -> TorchModule | None:
        """Constructor of a `torch.nn` module, for operators with state or different semantics in training.

        None if `torch` is the complete spelling.  The module's parameters have the operator's names, and its call takes
        the data operands.
        """
        return None

    def safe_channels_last(self, types: Sequence[TensorType]) -> bool:
        """Return whether PyTorch's channels-last CPU kernels are known to be correct for these types.

        Only used for operators with `torch_channels_last` and weights.
        """
        return True

    def torch_integers(self, spell: TorchSpelling) -> TorchModule | str | None:
        """Spelling with integer kernels, in terms of `archc.runtime.int8`.

        A layer that multiplies integers returns a module.  An operator that quantizes, or maps quantized values to
        quantized values, returns a module or an expression over `spell.operands`.  None if the operator needs
        floating-point operands.
        """
        return None

    def torch_forward(self, weight: str) -> str | None:
        """The expression that `forward` of its `torch.nn` module returns, for an input `x` and a given weight.

        A subclass of the module uses the expression to apply a masked weight.  None if the operator has no such form.
        """
        return None

    def onnx(self, spell: OnnxSpelling) -> str | tuple[str, ...]:
        """Add the ONNX nodes that compute it, and return the name (or names) of the results."""
        assert self.onnx_name, f"{type(self).__name__} declares neither `onnx_name` nor `onnx`"
        return spell.add(self.onnx_name, *spell.operands, *spell.weights.values())


@lru_cache(maxsize=65536)
def _infer(op: Operator, types: tuple[TensorType, ...], limits: tuple[int | None, ...]) -> Inference:
    # Types and operators compare equal even if the bounds of their sizes differ.  `limits` is therefore part of the
    # cache key: the bounds of one model must not affect the results of another model.
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


def _operands_help(op: Operator, names: Sequence[str]) -> str:
    """Help for an operator that receives too few operands."""
    if len(names) == 1:
        return f"write `{names[0]} -> {op}`"
    return f"write the operands as a tuple: `({', '.join(names)}) -> {op}`"


def _sizes_in(value: Any) -> Sequence[SymbolicDim]:
    """Symbolic sizes in an attribute: `N` and `T` in `reshape((N, T, 64))`."""
    if isinstance(value, SymbolicDim):
        return (value,)
    return [size for item in value for size in _sizes_in(item)] if isinstance(value, (tuple, list)) else ()


def formula_of(op: Operator) -> FormulaKind | None:
    """Kind of formula that expresses an operator completely; None if the language writes it as a call.

    An operator that merely inherits a symbol is written as a call: the symbol denotes its base class.
    """
    kind = op.formula
    return kind if kind is not None and FORMULAS[kind].get(op.symbol) is type(op) and op.sides() is not None else None


def symbolic(*dims: Extent) -> bool:
    """Return whether any of the sizes is symbolic."""
    return any(isinstance(dim, SymbolicDim) for dim in dims)


__all__ = ["FORMULAS", "OPERATORS", "Inference", "Operator", "OperatorError", "formula_of", "operator", "symbolic"]
