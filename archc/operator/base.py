"""What an operator is: one frozen dataclass that says all there is to say about it.

A subclass gives a signature, its attributes (the dataclass fields), its parameters, and how PyTorch and ONNX
spell it.  From these follow the checker, shape inference, cost, the emitters, `archc ops` and the reference page.
Only what the signature cannot say is written by hand, in the same class.

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

from archc.diagnostics import ArchcError
from archc.operator.dtypes import ANY, ONNX_MOST, Declared, Kernels, check_dtypes, onnx_types
from archc.operator.errors import OperatorError, check_representable, rank_error, shape_error, too_many_axes
from archc.operator.notation import Kind, Notation
from archc.operator.parameter import Parameter
from archc.operator.spelling import OnnxSpelling, TorchHelper, TorchModule, TorchSpelling, call
from archc.operator.table import OperatorTable, snake_case
from archc.operator.traits import Traits, Uniform
from archc.types.attributes import attributes
from archc.types.dim_bounds import bounds
from archc.types.dims import SymbolicDim
from archc.types.extent_solver import Contradiction, Extent, Solution, solve_extents
from archc.types.frozen_dataclass import frozen_dataclass as operator
from archc.types.signature import Pattern, RankMismatch, Signature, parse_signature
from archc.types.tensor_type import MOST_AXES, DType, TensorType

SizeOf = Callable[[Extent], int]
"""Gives the number of a size."""

OPERATORS: OperatorTable[type[Operator]] = OperatorTable()
"""All operators by name; a subclass that is not abstract enters itself."""
FORMULAS: dict[Kind, OperatorTable[type[Operator]]] = {
    "binary": OperatorTable(),
    "unary": OperatorTable(),
    "index": OperatorTable(),
}
"""The operators of each kind of formula, by symbol."""


@dataclass(frozen=True, slots=True)
class Inference:
    """What an operator makes of operands of given types.

    Attributes:
        results: the types of the results; parameters: shape and dtype of each parameter by name;
        solution: the solved signature.
    """

    results: tuple[TensorType, ...]
    parameters: Mapping[str, TensorType]
    solution: Solution


@operator
class Operator(Notation, Traits):
    """The base of all operators; an instance is an operator with its attributes."""

    signature: ClassVar[str] = ""
    parameters: ClassVar[Mapping[str, Parameter]] = {}
    """The operands of the signature that the operator owns."""
    dtypes: ClassVar[Declared] = ANY
    """The dtypes of data operands: a set from which all have one dtype, or a set for each; see `archc.operator.dtypes`.

    Operands that a mapping does not name may be of any dtype.  Without operands it limits the attribute `dtype`.
    """
    onnx_dtypes: ClassVar[Kernels] = ONNX_MOST
    """The dtypes in which ONNX Runtime's CPU kernels compute the ONNX form, of the first operand or by name.

    Operands of another dtype, and those declared like them, are cast to a wider one; results are cast back.
    """
    family: ClassVar[str] = ""
    """The heading under which `archc ops` lists it: the name of the module, unless the class or its base gives one."""
    torch_name: ClassVar[str] = ""
    """The function that spells it in PyTorch (`F.relu`), where calling it with the attributes is all."""
    torch_helpers: ClassVar[tuple[TorchHelper, ...]] = ()
    """Functions of its own that its PyTorch text may call."""
    torch_channels_last: ClassVar[bool] = False
    """Whether PyTorch computes it on the CPU in `torch.channels_last`, and reorders what comes in another order."""
    onnx_name: ClassVar[str] = ""
    """The operator that spells it in ONNX (`Relu`), where it needs no attributes."""
    example: ClassVar[str] = ""
    """A use of it for `archc ops`: `x -> conv1: conv2d(32, 3)`."""
    concatenates: ClassVar[bool] = False
    """Whether all it does is to put its operands side by side, which a picture shows by a bar."""

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if cls.formula is not None and "symbol" in cls.__dict__:
            FORMULAS[cls.formula][cls.symbol] = cls
        if "name" not in cls.__dict__:
            cls.name = snake_case(cls.__name__)
        if not abstract:
            cls.family = cls.family or cls.__module__.rpartition(".")[2]
            OPERATORS[cls.name] = cls

    # Meaning ----------------------------------------------------------------------------------------------

    def signature_for(self, types: Sequence[TensorType]) -> Signature:
        """The signature for operands of these types; override where the attributes shape it (`concat`)."""
        return parse_signature(self.signature)

    def extents(self, types: Sequence[TensorType]) -> dict[str, Extent]:
        """Extents that the attributes give: of every attribute that declares an `index` and is not None."""
        found = {}
        for info in attributes(type(self)):
            value = getattr(self, info.name)
            if info.index is not None and value is not None:
                found[info.index] = value
        return found

    def has_parameter(self, name: str) -> bool:
        """Whether an instance owns a parameter: `bias = false` goes without; see `Parameter.when`."""
        switch = self.parameters[name].when or name
        return getattr(self, switch, True) is not False

    def parameter_dtype(self, name: str, floating: DType) -> DType:
        """The dtype of a parameter: as declared, else `floating`, that of the data (f32 where none is floating)."""
        return self.parameters[name].dtype or floating

    def result_dtypes(self, types: Sequence[TensorType]) -> tuple[DType, ...]:
        """The dtypes of the results: by default that of the first operand."""
        return (types[0].dtype,)

    def check(self, types: Sequence[TensorType]) -> None:
        """Raise an `OperatorError` for what neither types nor signature can say; nothing by default."""

    def function_extent(self, function: str, index: str, extent: Extent, position: int) -> Extent:
        """The extent of a function axis: by default the method of that name, called with extent and position."""
        return getattr(self, function)(extent, position)  # type: ignore[no-any-return]  # the method of a function axis

    def operand_range(self, types: Sequence[TensorType], position: int) -> tuple[int, Extent] | None:
        """The integers that an operand may hold, the end exclusive, where not all will do (the ids of an embedding).

        Such an operand tells places; its elements are not among those of the results.
        """
        return None

    def minimum_sizes(self, types: Sequence[TensorType]) -> Sequence[tuple[Extent, int]]:
        """Sizes of the operands' axes, each with the least that it must be while the model runs (`topk`: k).

        None by default: one element is enough.
        """
        return ()

    def result_integers(self, operands: Sequence[range | None], size: SizeOf) -> range | None:
        """The integers among which all elements of the result are, where those of the operands are among these.

        None where nobody knows.  `size` gives the number of a size while the model runs.
        """
        return None

    def operand_integers(
        self, position: int, operands: Sequence[range | None], wanted: range, size: SizeOf
    ) -> range | None:
        """The integers that an operand may hold so that all elements of the result are among those wanted.

        None where nobody knows.  The others hold those among `operands`.
        """
        return None

    def multiply_adds(self, inference: Inference, types: Sequence[TensorType]) -> Extent:
        """Multiply-adds of one run, from the signature; override where the signature does not show the work."""
        return inference.solution.multiply_adds

    def infer(self, types: Sequence[TensorType]) -> Inference:
        """Check the operands and infer results and parameters.

        Raises:
            OperatorError: they do not fit.
        """
        types = tuple(types)
        sizes = [dim for operand in types for dim in operand.shape]
        for info in attributes(type(self)):
            sizes += _sizes_in(getattr(self, info.name))
        try:
            return _infer(self, types, bounds(sizes))
        except ArchcError as limit:  # a size of the result is too complex
            (problem,) = limit.diagnostics
            raise OperatorError(problem.code, f"`{self.name}`: {problem.message}", help=problem.help) from None

    def onnx_types(self, types: Sequence[TensorType]) -> tuple[TensorType, ...]:
        """The types of the operands in which the ONNX form is computed; see `onnx_dtypes`.

        Raises:
            OperatorError: ONNX Runtime has no kernel for the dtype or a wider one (`no-onnx-form`).
        """
        names = [pattern.name for pattern in self.data_operands(types)]
        return onnx_types(self.name, self.dtypes, self.onnx_dtypes, names, types)

    def data_operands(self, types: Sequence[TensorType]) -> list[Pattern]:
        """The operands of the signature that are no parameters."""
        return [pattern for pattern in self.signature_for(types).operands if pattern.name not in self.parameters]

    # Rewriting ---------------------------------------------------------------------------------------------

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Operator:
        """This operator where its indices have other extents than for operands of these types.

        By default the attributes that declare an index take its extent.
        """
        infos = [info for info in attributes(type(self)) if getattr(self, info.name) is not None]
        changes = {info.name: extents[info.index] for info in infos if info.index is not None and info.index in extents}
        return replace(self, **changes)

    def with_same_padding(self) -> tuple[Operator, int] | None:
        """This with enough zeros around its operand that no size shrinks, and how many on each side.

        None where there is nothing to pad, or padding is given.  A diagnostic tries it as a way out of a mismatch.
        """
        return None

    def simplified(self, types: Sequence[TensorType], uniform: Uniform) -> Operator | int | None:
        """A simpler way to the same result: another operator on the same operands, or the number of an operand.

        None where there is none.  A weight of the operator must not be lost over it.
        """
        return None

    def after(self, inner: Operator, types: Sequence[TensorType]) -> Operator | int | None:
        """What this does to the result of `inner`, at once: an operator on the operands of `inner`, or one of them.

        `types` are those of `inner`'s operands; this operator takes its result and nothing else, and neither
        has weights.  None where it takes both.  By default what is `idempotent` needs doing once.
        """
        return inner if self.idempotent and inner == self else None

    def from_first_result(self, types: Sequence[TensorType]) -> Operator | None:
        """An operator of the same weights that makes all its results from the first one; None where there is none.

        A later stage that has its weights too, which are not trained, need not be sent the other results.
        """
        return None

    def factors(self, rank: int) -> tuple[Operator, Operator] | None:
        """Two operators, done one after the other, that compute any map of this kind whose weight has that rank.

        The weight W is taken as a matrix: its first axis against all others.  With W = B A the first operator's
        weight is A and the second's is B, in whatever shapes they have; a bias belongs to the second.
        """
        return None

    # Spelling ---------------------------------------------------------------------------------------------

    def torch(self, spell: TorchSpelling) -> str:
        """The operator as a PyTorch expression over `spell.operands` and `spell.weights`.

        It has its inference meaning, unless `spell.training` tells how to ask.  Several results: the expression gives a
        tuple of them.
        """
        assert self.torch_name, f"{type(self).__name__} gives neither `torch_name` nor `torch`"
        options = {info.name: getattr(self, info.name) for info in attributes(type(self))}
        defaults = {info.name: info.default for info in attributes(type(self))}
        changed = {name: value for name, value in options.items() if value != defaults[name]}
        return call(self.torch_name, *spell.operands, *spell.weights.values(), **changed)

    def torch_module(self, spell: TorchSpelling) -> TorchModule | None:
        """The `torch.nn` constructor, for what has state or trains differently; None where `torch` is all.

        A module's own parameter names are the operator's; it is called with the data operands.
        """
        return None

    def safe_channels_last(self, types: Sequence[TensorType]) -> bool:
        """Return whether PyTorch's channels-last CPU kernels are known to be right for operands of these types.

        Only used for operators with `torch_channels_last` and weights.
        """
        return True

    def torch_integers(self, spell: TorchSpelling) -> TorchModule | str | None:
        """How it works on integers that stand for numbers, in terms of `archc.runtime.int8`.

        A module has kernels that multiply integers; an expression over `spell.operands` makes integers, or takes and
        gives them.  By default None: it wants the numbers themselves.
        """
        return None

    def torch_forward(self, weight: str) -> str | None:
        """What the `forward` of its `torch.nn` module returns for `x`, if `weight` were its weight.

        A class that extends the module computes so with a weight that has a mask.  By default None: nobody knows.
        """
        return None

    def onnx(self, spell: OnnxSpelling) -> str | tuple[str, ...]:
        """Add the ONNX nodes that compute it, and return the name (or names) of the result."""
        assert self.onnx_name, f"{type(self).__name__} gives neither `onnx_name` nor `onnx`"
        return spell.add(self.onnx_name, *spell.operands, *spell.weights.values())


@lru_cache(maxsize=65536)
def _infer(op: Operator, types: tuple[TensorType, ...], limits: tuple[int | None, ...]) -> Inference:
    # Types and operators are equal whatever bounds their sizes: `limits` keeps one model's bounds out of another's
    # results.
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
                f"`{op.name}` would own a `{name}` of shape {parameter}, and a weight's shape must be known",
                help="give the size as a number or an attribute",
            )
    rank = max((tensor.rank for tensor in (*results, *parameters.values())), default=0)
    if rank > MOST_AXES:
        raise too_many_axes(rank)
    return Inference(results, parameters, solution)


def _operands_help(op: Operator, names: Sequence[str]) -> str:
    """Help for an operator that receives too few operands."""
    if len(names) == 1:
        return f"a tensor flows into it: `{names[0]} -> {op}`"
    return f"several operands flow as a tuple: `({', '.join(names)}) -> {op}`"


def _sizes_in(value: Any) -> Sequence[SymbolicDim]:
    """The symbolic sizes in an attribute: `N` and `T` in `reshape((N, T, 64))`."""
    if isinstance(value, SymbolicDim):
        return (value,)
    return [size for item in value for size in _sizes_in(item)] if isinstance(value, (tuple, list)) else ()


def formula_of(op: Operator) -> Kind | None:
    """The kind of formula that expresses an operator completely; None if it is written as a call.

    An operator that inherits a symbol is not the meaning of the symbol.
    """
    kind = op.formula
    return kind if kind is not None and FORMULAS[kind].get(op.symbol) is type(op) and op.sides() is not None else None


def symbolic(*dims: Extent) -> bool:
    """Whether any of the sizes is not known yet."""
    return any(isinstance(dim, SymbolicDim) for dim in dims)


__all__ = ["FORMULAS", "OPERATORS", "Inference", "Operator", "OperatorError", "formula_of", "operator", "symbolic"]
