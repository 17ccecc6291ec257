"""Traits of operators: properties that passes read, declared as data.

No pass has a table of operators, so passes also work for operators of other packages.

An operator declares its traits in its class, and inherits those of its bases.  A trait of an instance can depend on an
attribute:

    traits = (POINTWISE, IDEMPOTENT, Rigid("d"), IMPURE.when("dropout"))

A pass asks an operator for its traits:

    if op.has(POINTWISE): ...
    if (rigid := op.trait(Rigid)) is not None: ...

A `Flag` is a trait without data.  Any other trait is an instance of a class, and an operator has at most one trait of
each class: the trait of a subclass replaces the inherited one.  A package with operators and passes of its own can also
define traits of its own.

A trait permits rewrites.  For example, `IDEMPOTENT` permits the removal of the second `relu` in `relu -> relu`.  The
results stay bit-equal in training and in inference, except that the sign of a zero may change, since x + 0 is replaced
by x.  `tests/declaration/test_trait_laws.py` checks the traits of all operators.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeVar

from archc.diagnostics import did_you_mean
from archc.frozen_dataclass import frozen_by_identity

Number = bool | int | float
"""A Python number as the value of an element."""
Uniform = Sequence[Number | None]
"""For each operand, the number that all its elements equal; None if they differ or are unknown."""

T = TypeVar("T", bound="Trait")


class Trait:
    """A property of an operator."""

    name: str
    """The name in `archc ops` and in the reference."""

    def key(self) -> object:
        """The key under which an operator has the trait: the class of the trait, or the flag."""
        return type(self)

    def attributes(self) -> tuple[str, ...]:
        """The attributes and properties of the operator that the trait names."""
        return ()

    def __str__(self) -> str:
        return self.name


@frozen_by_identity
class Flag(Trait):
    """A trait without data.

    Attributes:
        name: the name in `archc ops` and in the reference.
        doc: one sentence with the meaning.
    """

    name: str
    doc: str

    def key(self) -> object:
        return self

    def when(self, attribute: str) -> ConditionalFlag:
        """The flag of those instances in which an attribute or a property is true, and not 0 or None."""
        return ConditionalFlag(self, attribute)


@frozen_by_identity
class ConditionalFlag(Trait):
    """A flag that an operator has only if an attribute is true: `IMPURE.when("dropout")`."""

    flag: Flag
    attribute: str

    @property
    def name(self) -> str:  # type: ignore[override]  # an attribute of other traits
        """The name of the flag."""
        return self.flag.name

    def key(self) -> object:
        return self.flag

    def attributes(self) -> tuple[str, ...]:
        return (self.attribute,)

    def __str__(self) -> str:
        return f"{self.name} if `{self.attribute}`"


Traits = tuple[Trait, ...]
"""The traits that a class declares."""


class HasTraits:
    """The part of an operator class that declares traits and answers questions about them."""

    traits: ClassVar[Traits] = ()
    """The traits that the class adds to those of its bases."""
    _traits_by_key: ClassVar[dict[object, Trait]] = {}

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        _check_declaration(cls)
        declared = [trait for base in reversed(cls.__mro__) for trait in vars(base).get("traits", ())]
        cls._traits_by_key = {trait.key(): trait for trait in declared}

    @classmethod
    def all_traits(cls) -> Traits:
        """The traits of the class, including inherited ones."""
        return tuple(cls._traits_by_key.values())

    def has(self, flag: Flag) -> bool:
        """Return whether this instance has a flag."""
        if not isinstance(flag, Flag):
            raise TypeError(f"`has` takes a trait without data, such as `archc.traits.RELU`, not {flag!r:.60}")
        found = self._traits_by_key.get(flag)
        return found is flag or (isinstance(found, ConditionalFlag) and bool(getattr(self, found.attribute)))

    def trait(self, kind: type[T]) -> T | None:
        """The trait of a class; None if the operator has none."""
        return self._traits_by_key.get(kind)  # type: ignore[return-value]  # the key is the class of the trait


def _check_declaration(cls: type[HasTraits]) -> None:
    """Check that a class declares traits, each once, and has the attributes that these traits name.

    Raises:
        ValueError: the declaration is not a tuple of traits, two traits are of one kind, or a trait names an attribute
            that does not exist.
    """
    declared = vars(cls).get("traits", ())
    seen: dict[object, Trait] = {}
    if not isinstance(declared, tuple):
        raise ValueError(f"`traits` of `{cls.__name__}` is not a tuple of traits; write `traits = (POINTWISE,)`")
    for trait in declared:
        if not isinstance(trait, Trait):
            given = f"the class {trait.__name__}" if isinstance(trait, type) else repr(trait)
            raise ValueError(
                f"`traits` of `{cls.__name__}` has {given}, which is no trait; traits are such as `POINTWISE` and"
                " `Rigid('d')`"
            )
        earlier = seen.setdefault(trait.key(), trait)
        if earlier is not trait or declared.count(trait) > 1:
            raise ValueError(f'`traits` of `{cls.__name__}` has "{earlier}" and "{trait}"; give one of them')
        for name in trait.attributes():
            # The decorator `operator` has not made the class a dataclass yet.
            if not hasattr(cls, name) and not any(name in inspect.get_annotations(base) for base in cls.__mro__):
                raise ValueError(f'the trait "{trait}" of `{cls.__name__}` names `{name}`, which is not an attribute')


# The function of an operator -------------------------------------------------------------------------------

IMPURE = Flag("impure", "Equal operands may give different results: random numbers, or statistics that a run changes.")
INFERENCE_IDENTITY = Flag("identity in inference", "In inference, the result is the operand.")
POINTWISE = Flag("pointwise", "An element of the result depends only on the elements of the operands at its position.")
IDEMPOTENT = Flag("idempotent", "A second application changes nothing.")
INVOLUTION = Flag("involution", "A second application restores the operand.")
COMMUTATIVE = Flag("commutative", "The two operands, or the operand and the number, can be exchanged.")
ADDS = Flag("adds", "The result is the sum of the two operands, or of the operand and the number.")
LAYOUT_ONLY = Flag("layout only", "Each element of a result is an element of an operand, chosen by its position alone.")
SAME_IF_SAME_TYPE = Flag(
    "same if same type", "With a single operand, a result of the type of this operand equals the operand."
)
CLIPS = Flag("clips", "The operator only clamps elements to a range, which the quantization of the result can also do.")
RELU = Flag("relu", "The result is max(0, x), which the integer kernel of the layer before it can also compute.")
COMMUTES_WITH_ROUNDING = Flag(
    "commutes with rounding", "The operator only selects and moves elements, so rounding can precede or follow it."
)
CONCATENATES = Flag("concatenates", "The result is the concatenation of the operands; drawings show it as a bar.")


class NeutralOperand(Trait):
    """A second operand that leaves the first one unchanged: 0 for `a - 0`."""

    name = "neutral operand"

    def __init__(self, value: int):
        self.value = value

    def __str__(self) -> str:
        return f"{self.name} {self.value}"


class AllEqual(Trait):
    """All elements of the result are equal to one number.

    Args:
        value: the number, or the name of the attribute that has the number.
    """

    name = "all equal"

    def __init__(self, value: Number | str):
        self._value = value

    def value(self, op: HasTraits) -> Number:
        """The number for an instance."""
        number: Number = getattr(op, self._value) if isinstance(self._value, str) else self._value
        return number

    def attributes(self) -> tuple[str, ...]:
        return (self._value,) if isinstance(self._value, str) else ()

    def __str__(self) -> str:
        return f"{self.name} to {f'`{self._value}`' if isinstance(self._value, str) else self._value}"


class Homogeneous(Trait):
    """A positive factor of a channel of the operand becomes a factor of this channel of the result.

    This holds in inference, for every axis that is the same in the operand and in the result.

    Args:
        low, high: the limits between which elements of the operand must be; a number, or the name of an attribute that
            has the number or None.
    """

    name = "homogeneous"

    def __init__(self, low: float | str | None = None, high: float | str | None = None):
        self._low = low
        self._high = high

    def limits(self, op: HasTraits) -> tuple[float, float]:
        """The limits for an instance, or infinity.

        An end of 0 is no limit, since a factor does not move it.
        """
        low, high = (getattr(op, end) if isinstance(end, str) else end for end in (self._low, self._high))
        return float(low or -math.inf), float(high or math.inf)

    def attributes(self) -> tuple[str, ...]:
        return tuple(end for end in (self._low, self._high) if isinstance(end, str))

    def __str__(self) -> str:
        ends = [
            f"{word} {f'`{end}`' if isinstance(end, str) else end}"
            for word, end in (("from", self._low), ("to", self._high))
            if end is not None
        ]
        return " ".join([self.name, *ends])


# Weights and quantization ----------------------------------------------------------------------------------

AFFINE_IN_WEIGHT = Flag(
    "affine in weight",
    "The result is a sum of products of the operand and `weight`, plus a `bias` for each channel.",
)
HOLDS_WEIGHT = Flag("holds weight", "The operator has no operands, and returns its only weight.")
SELECTS_ROWS = Flag("selects rows", "The result consists of rows of `weight`, which integer operands select.")
FACTORED_STORAGE = Flag(
    "factored storage", "A weight may be stored as two low-rank factors while the layer stays one operator."
)
DECODES = Flag(
    "decodes",
    "The operator decodes integers, as `dequantize` does; stages of a pipeline transfer its operands instead of its "
    "result, since the operands have fewer bytes.",
)
ROUNDS_OPERANDS = Flag(
    "rounds operands",
    "The operator rounds operands inside, as the interpreter does; programs may compute in floats.",
)
ROUNDED = Flag("rounded", "The result is rounded to multiples of a step, as after `quantize` and `dequantize`.")
ROUNDED_BY_TOKEN = Flag("rounded by token", "Each position of all axes but the last has a step of its own.")
PREFERS_CHANNELS_LAST = Flag(
    "prefers channels last", "PyTorch's CPU kernel first converts operands of other layouts to `torch.channels_last`."
)


SCHEMES = ("static", "dynamic", "weight")
"""Schemes of quantization: of operands and weights (static or dynamic), or of weights alone."""


INTEGER_KERNEL = Flag(
    "integer kernel", "Runtimes also compute the operator on 8-bit integers, with a scale of their own for each tensor."
)


class Quantizable(Trait):
    """The weights can become int8.

    Args:
        schemes: those of `SCHEMES` that do not make the operator slower.
        channel_axis: axis along which a weight may have a scale for each slice; None if any axis is allowed.
        integer_result: True if the integer kernels return integers, so that the result is quantized like the operand.
    """

    name = "quantizable"

    def __init__(self, *schemes: str, channel_axis: int | None = 0, integer_result: bool = False):
        for scheme in schemes:
            if scheme not in SCHEMES:
                way = did_you_mean(scheme, SCHEMES) or f"the schemes are {', '.join(SCHEMES)}"
                raise ValueError(f"`Quantizable` has no scheme {scheme!r}; {way}")
        _refuse_repetition(self.name, schemes)
        self.schemes = schemes
        self.channel_axis = channel_axis
        self.integer_result = integer_result

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.schemes)})"


def _refuse_repetition(trait: str, names: Sequence[str]) -> None:
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"the trait {trait!r} names `{repeated[0]}` twice")


# Axes ------------------------------------------------------------------------------------------------------


class Indices(Trait):
    """A trait of some indices of the signature.

    A name covers the indices with a number after it: `d` covers `d0`, and the axes `d.0`, `d.1` of a spread `*d`.

    Args:
        indices: names of indices.
    """

    name = "indices"

    def __init__(self, *indices: str):
        _refuse_repetition(self.name, indices)
        self.indices = indices

    def covers(self, index: str) -> bool:
        """Return whether an index has the trait."""
        return index in self.indices or _unnumbered(index) in self.indices

    def __str__(self) -> str:
        return f"{self.name} {', '.join(f'`{index}`' for index in self.indices)}".rstrip()


def _unnumbered(index: str) -> str:
    """The name of an index without the number at its end: `s` for `s.0`, `d` for `d1`."""
    return re.sub(r"\.?\d+$", "", index)


class Rigid(Indices):
    """Indices that keep all their elements, because the rest of a result changes if an element is removed.

    The rest changes if it differs from the result for a zero in place of the element.  An operator that subtracts the
    mean of the last axis, y = x - mean(x), declares that its index `d` is rigid:

        signature = "x[*b, d] -> y[*b, d]"
        traits = (Rigid("d"),)

    If the declaration is missing, `prune` removes elements of `x` along `d`, and the mean of the remaining elements is
    another number.  `tests/analysis/test_shrinkable_axes.py` reports a missing declaration.

    The name of a spread (`s` of `*s`) covers all its axes, and `s.0` is only its first axis.  If an attribute selects
    an axis of the spread, name the attribute instead: `Rigid(axis="dim")`.  The summation index of a matrix product is
    not rigid, since a sum without a term equals a sum in which this term is zero.

    An index that is in one operand and in no result needs no entry: `d` in `x[*b, d] -> y[*b]`, the signature of a
    maximum over the last axis.  `prune` removes elements of such an index only if the index is `Unused`.

    Args:
        indices: names of indices.
        axis: an attribute that is declared with `axis=`; it selects an axis of an operand such as `x[*s]`.
    """

    name = "rigid"

    def __init__(self, *indices: str, axis: str | None = None):
        super().__init__(*indices)
        self.axis = axis

    def attributes(self) -> tuple[str, ...]:
        return () if self.axis is None else (self.axis,)

    def __str__(self) -> str:
        return super().__str__() + (f" axis `{self.axis}`" if self.axis else "")


class Unused(Indices):
    """Indices of elements that affect no result, such as the first two columns of `x` in `x[:, 2:]`."""

    name = "unused"


class Flexible(Indices):
    """Indices whose extent is given by an attribute, and can change together with this attribute.

    `Operator.with_extents` returns the operator with the changed attribute: `linear(96)` for `linear(128)`.

    `Flexible("g", "o")` covers the named indices, and `Flexible()` covers all indices.  An operator without this trait
    has the flexible indices that its attributes declare with `index=`.
    """

    name = "flexible"

    def covers(self, index: str) -> bool:
        return not self.indices or super().covers(index)


class Blocks(Indices):
    """Indices that `prune` shrinks instead of other factors of an axis: the heads `h` of an axis `h*e`."""

    name = "blocks"


# Structure of the graph ------------------------------------------------------------------------------------


class ScanEnd(Trait):
    """Start or end of a step of a scan; see `archc.ir.scans`.

    Args:
        end: `enter` or `exit`.
        count: the attribute with the number of sequences (`enter`) or states (`exit`).
    """

    name = "scan"

    def __init__(self, end: Literal["enter", "exit"], count: str):
        self.end = end
        self._count = count

    def count(self, op: HasTraits) -> int:
        """The number of sequences or states of an instance."""
        return int(getattr(op, self._count))

    def attributes(self) -> tuple[str, ...]:
        return (self._count,)


class StageEntry(Trait):
    """The result is in another stage of a pipeline than the operand; see `archc.ir.stages`.

    Args:
        stage: the attribute with the number of the stage.
        device: the attribute with the device of the stage; its value is None if the operator names no device.
    """

    name = "stage entry"

    def __init__(self, stage: str, device: str):
        self._stage = stage
        self._device = device

    def stage(self, op: HasTraits) -> int:
        """The number of the stage."""
        return int(getattr(op, self._stage))

    def device(self, op: HasTraits) -> str | None:
        """The device of the stage; None if the operator names none."""
        device: str | None = getattr(op, self._device)
        return device

    def attributes(self) -> tuple[str, ...]:
        return self._stage, self._device
