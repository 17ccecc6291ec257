"""Base class of operators: one frozen dataclass is the complete declaration of an operator.

A subclass declares a signature, its attributes (the dataclass fields), its parameters, and its spelling in PyTorch
and in ONNX.  The checker, shape inference, cost, the emitters, `archc ops` and the reference page use this declaration.
The subclass overrides a method only for a rule that the signature cannot express.  The decorator `operator` makes the
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

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.declaration.axis_attributes import check_axis_declarations, declared_axes
from archc.declaration.errors import OperatorError
from archc.declaration.kernel_forms import KernelForm
from archc.declaration.notation import FormulaKind
from archc.declaration.operator_failure import OperatorFailure
from archc.declaration.operator_guard import guard_operator
from archc.declaration.spelling import OnnxSpelling, TorchHelper, TorchModule, TorchSpelling, call
from archc.declaration.table import OperatorTable, snake_case
from archc.declaration.trait_declarations import check_axis, check_consistency, check_indices
from archc.declaration.traits import IDEMPOTENT, INVOLUTION, SAME_IF_SAME_TYPE, HasTraits, Uniform
from archc.declaration.type_inference import Inference, SizeOf, Typed, symbolic
from archc.extension_failure import is_outside
from archc.frozen_dataclass import frozen_dataclass as operator
from archc.types.attributes import attributes
from archc.types.extent_solver import Extent
from archc.types.tensor_type import TensorType

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

OPERATORS: OperatorTable[type[Operator]] = OperatorTable()
"""All operators by name.

The definition of a subclass of `Operator` registers it, unless it is abstract.
"""
FORMULAS: dict[FormulaKind, OperatorTable[type[Operator]]] = {
    "binary": OperatorTable(),
    "unary": OperatorTable(),
    "index": OperatorTable(),
}
"""The operators of each kind of formula, by symbol."""


@operator
class Operator(Typed, HasTraits):
    """Base of all operators; an instance is an operator with values of its attributes."""

    family: ClassVar[str] = ""
    """The group in `archc ops`; by default the name of the module.  Subclasses inherit the group."""
    torch_name: ClassVar[str] = ""
    """The PyTorch function (`F.relu`), if the operator is one call with the attributes as arguments."""
    torch_activation: ClassVar[str] = ""
    """The class of `torch.nn` for an activation without weights, such as `nn.ReLU`."""
    torch_helpers: ClassVar[tuple[TorchHelper, ...]] = ()
    """Functions that PyTorch lacks and that the PyTorch expression may call."""
    onnx_name: ClassVar[str] = ""
    """The ONNX operator (`Relu`), if one node without attributes computes the operator."""
    example: ClassVar[str] = ""
    """An example for `archc ops`: `x -> conv1: conv2d(32, 3)`."""

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = snake_case(cls.__name__)
        if not abstract and is_outside(cls):  # for archc's own operators, a test makes these checks
            from archc.declaration.operator_declarations import check_operator

            check_operator(cls, Operator)
        if not abstract:  # the signature may follow in a subclass
            check_axis_declarations(cls, cls.signature, cls.parameters)
            check_axis(cls, set(declared_axes(cls)))
            guard_operator(cls, Operator)
            if cls.signature and cls.signature_for is Typed.signature_for:
                check_indices(cls, cls.signature)
            check_consistency(cls)
        if cls.formula is not None and "symbol" in cls.__dict__:
            FORMULAS[cls.formula][cls.symbol] = cls
        if not abstract:
            cls.family = cls.family or cls.__module__.rpartition(".")[2]
            OPERATORS[cls.name] = cls

    # Ranges and costs --------------------------------------------------------------------------------------------

    def operand_range(self, types: Sequence[TensorType], position: int) -> tuple[int, Extent] | None:
        """Range of valid integers in an operand that holds indices; None if all integers are valid.

        The ids of an embedding with 1000 rows have the range (0, 1000): the end is excluded.
        """
        return None

    def minimum_sizes(self, types: Sequence[TensorType]) -> Sequence[tuple[Extent, int]]:
        """Pairs of a size and its minimum at run time: for `topk`, the size of the axis and `k`."""
        return ()

    def result_integers(self, operands: Sequence[range | None], size: SizeOf) -> range | None:
        """Range that contains all elements of an integer result; None if unknown.

        Args:
            operands: for each operand, the range that contains its elements; None if unknown.
            size: evaluates a size at run time.
        """
        return None

    def operand_integers(
        self, position: int, operands: Sequence[range | None], wanted: range, size: SizeOf
    ) -> range | None:
        """Range for the elements of one operand that keeps the result in the range `wanted`; None if unknown.

        Args:
            position: index of that operand.
            operands: for each other operand, the range that contains its elements; None if unknown.
            size: evaluates a size at run time.
        """
        return None

    def multiply_adds(self, inference: Inference, types: Sequence[TensorType]) -> Extent:
        """Number of multiply-accumulates (MACs) of one execution; by default computed from the signature.

        Override it if the signature does not show the MACs.
        """
        return inference.solution.multiply_adds

    # Rewriting ---------------------------------------------------------------------------------------------

    def with_extents(self, types: Sequence[TensorType], extents: Mapping[str, Any]) -> Operator:
        """The operator with other extents of some indices: `linear(96)` for `linear(128)` if `o` becomes 96.

        By default, it changes the attributes that declare these indices with `index=`.

        Args:
            types: types of the operands before the change.
            extents: the new extents by index.
        """
        infos = [info for info in attributes(type(self)) if info.of(self) is not None]
        changes = {info.name: extents[info.index] for info in infos if info.index is not None and info.index in extents}
        return replace(self, **changes)

    def with_same_padding(self) -> tuple[Operator, int] | None:
        """Zero padding that keeps the size of every axis at stride 1 and dilation 1.

        Return two values: the operator with this padding, and the number of zeros on each side of an axis.  For
        `conv2d(32, 3)`, these are `conv2d(32, 3, padding = 1)` and 1.  None if no such padding exists, or if the
        operator has padding already.  A diagnostic suggests the padding if it resolves a shape mismatch.
        """
        return None

    def simplified(self, types: Sequence[TensorType], uniform: Uniform) -> Operator | int | None:
        """A simpler operator on the same operands, or the index of the operand that equals the result.

        None if there is no simpler form.  A simpler operator must keep all weights.  By default, the trait
        `SAME_IF_SAME_TYPE` decides.

        Args:
            uniform: for each operand, the number that all its elements equal, if known.
        """
        same = len(types) == 1 and self.has(SAME_IF_SAME_TYPE) and self.infer(types).results == tuple(types)
        return 0 if same else None

    def after(self, inner: Operator, types: Sequence[TensorType]) -> Operator | int | None:
        """One operator that computes `inner` and then this operator, on the operands of `inner`.

        An int is the index of the operand of `inner` that equals the result.  None if one operator cannot compute
        both.  Neither operator has weights.  By default, the traits `IDEMPOTENT` and `INVOLUTION` decide for two equal
        operators.

        Args:
            types: the types of the operands of `inner`.
        """
        if inner != self:
            return None
        return inner if self.has(IDEMPOTENT) else 0 if self.has(INVOLUTION) else None

    def from_first_result(self, types: Sequence[TensorType]) -> Operator | None:
        """An operator with the same weights that computes all results from the first one; None if none exists.

        A later stage of a pipeline that needs the results receives only the first one, and computes the others with
        this operator and a copy of the weights.
        """
        return None

    def factors(self, rank: int) -> tuple[Operator, Operator] | None:
        """Two operators in sequence that equal this operator if its weight has the given rank.

        Let W be the weight, reshaped to a matrix [first axis, all other axes].  If W = B A, the first operator has the
        weight A, and the second one has the weight B and the bias.  A and B are reshaped to the weight shapes of these
        operators.  If the operator selects rows of W (`SELECTS_ROWS`), the first one selects rows of its weight B, and
        the second one has the weight Aᵀ.  None if there is no such pair.
        """
        return None

    def kernel_forms(self) -> Sequence[KernelForm]:
        """Ways to replace this operator by convolutions in sequence; empty if it is no convolution."""
        return ()

    def kernel_chain(self, form: KernelForm, ranks: Sequence[int]) -> Sequence[Operator]:
        """The convolutions of a form.

        Args:
            ranks: for each tensor between two of them, the number of channels in each group.
        """
        raise AssertionError(f"{type(self).__name__} has `kernel_forms`, but no `kernel_chain`")

    def kernel_tensor(self, weight: np.ndarray) -> np.ndarray:
        """The weight of a convolution, [groups, output channels, input channels, *kernel], by group."""
        raise AssertionError(f"{type(self).__name__} has `kernel_forms`, but no `kernel_tensor`")

    def kernel_weight(self, tensor: np.ndarray) -> np.ndarray:
        """The weight for a result of `kernel_tensor`."""
        raise AssertionError(f"{type(self).__name__} has `kernel_forms`, but no `kernel_weight`")

    def kernel_steps(self, axis: int) -> Sequence[int | None]:
        """Distances in the operand from the first element of a kernel axis to each element, for one result.

        None if no result has a product with both.
        """
        raise AssertionError(f"{type(self).__name__} has `kernel_forms`, but no `kernel_steps`")

    def channel_map(self, weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        """Scale and shift, if in inference y[n, c, …] = scale[c] · x[n, c, …] + shift[c]; else None.

        Args:
            weights: the parameters of the operator by name, in float64; scale and shift are in float64 too.
        """
        return None

    def weight_rows(self, x: Tensor) -> Tensor | None:
        """The vectors that the channels of the weight multiply; None if the operator is no such product.

        For a weight that is reshaped to W of shape [groups, channels, columns], channels along its first axis, and rows
        X of shape [groups, rows, columns], the result of the operator without its bias is X Wᵀ, [groups, rows,
        channels].  The rows are in the order of `result_rows`.

        Args:
            x: the first operand.
        """
        return None

    def result_rows(self, y: Tensor) -> Tensor:
        """The result, reshaped to [rows, groups * channels]; called only if `weight_rows` is not None."""
        return y.reshape(-1, y.shape[-1])

    # Spelling ---------------------------------------------------------------------------------------------

    def torch(self, spell: TorchSpelling) -> str:
        """PyTorch expression over `spell.operands` and `spell.weights`.

        `spell.training` is None or a Python expression that is true in training.  If it is None, the operator is
        spelled for inference.  For several results, the returned expression is a tuple.
        """
        if not self.torch_name:
            raise OperatorFailure(self, f"the operator `{self.name}` has neither `torch_name` nor `torch`")
        options = {info.name: (info.of(self), info.default) for info in attributes(type(self))}
        return call(self.torch_name, *spell.operands, *spell.weights.values(), **spell.options(**options))

    def torch_module(self, spell: TorchSpelling) -> TorchModule | None:
        """Constructor of a `torch.nn` module, for operators with state or different semantics in training.

        None if the expression of `torch` needs no module.  The parameters of the module have the names that the
        operator declares.  A call of the module takes the data operands.
        """
        return None

    def activation_module(self) -> TorchModule | None:
        """Constructor of the module `torch_activation`; None if the operator is no activation.

        Override it if the attributes of the operator and the arguments of the module differ.
        """
        if not self.torch_activation:
            return None
        given = [(info, info.of(self)) for info in attributes(type(self))]
        positional = {info.name: value for info, value in given if info.required}
        named = {info.name: (value, info.default) for info, value in given if not info.required}
        return TorchModule(self.torch_activation, positional, named)

    def safe_channels_last(self, types: Sequence[TensorType]) -> bool:
        """Return whether PyTorch's channels-last CPU kernels are known to be correct for these types.

        It is called only for operators with the trait `PREFERS_CHANNELS_LAST` and with weights.
        """
        return True

    def torch_integers(self, spell: TorchSpelling) -> TorchModule | str | None:
        """Module or expression that computes the operator with the integer kernels of `archc.runtime.int8`.

        A layer that multiplies integers returns a module.  An operator that quantizes, or maps quantized values to
        quantized values, returns a module or an expression over `spell.operands`.  None if the operator needs
        floating-point operands.
        """
        return None

    def torch_forward(self, weight: str) -> str | None:
        """Expression that `forward` returns in a subclass of the operator's `torch.nn` module.

        The expression computes the result from the input `x` and from `weight`, an expression that replaces the weight
        of the module, such as a masked weight.  None if the operator has no such expression.
        """
        return None

    def onnx(self, spell: OnnxSpelling) -> str | tuple[str, ...]:
        """Add the ONNX nodes that compute the operator, and return the name of the result, or of each result."""
        if not self.onnx_name:
            raise OperatorFailure(self, f"the operator `{self.name}` has neither `onnx_name` nor `onnx`")
        return spell.add(self.onnx_name, *spell.operands, *spell.weights.values())


def formula_of(op: Operator) -> FormulaKind | None:
    """Kind of formula (`a + b`) that expresses an operator; None if the operator is written as a call.

    An operator that only inherits a symbol is written as a call: the symbol denotes its base class.
    """
    kind = op.formula
    return kind if kind is not None and FORMULAS[kind].get(op.symbol) is type(op) and op.sides() is not None else None


__all__ = [
    "FORMULAS",
    "OPERATORS",
    "Inference",
    "Operator",
    "OperatorError",
    "SizeOf",
    "formula_of",
    "operator",
    "symbolic",
]
