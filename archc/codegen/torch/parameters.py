"""Parameters and buffers that an emitted class makes itself, and what encoded ones decode to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from archc.codegen.torch.formatting import lines_of
from archc.codegen.torch.layer_classes import owns
from archc.ir.graph import Graph
from archc.operator.spelling import Infix, atom, call, literal
from archc.types.storage import Dense, Int8, LowRankStorage, Masked, Storage, Weight
from archc.types.tensor_type import DType
from archc.weights.initializers import (
    ConstantInitializer,
    Initializer,
    KaimingUniform,
    Normal,
    OnesInitializer,
    Uniform,
    UniformFanIn,
    XavierUniform,
    ZerosInitializer,
)

DECODABLE = (Dense, Masked, Int8, LowRankStorage)
"""The storages that emitted code can read."""


def registrations(weight: Weight, name: str) -> dict[str, str]:
    """The expressions that make what is stored for a weight called `name`; a parameter says so itself."""
    if isinstance(weight.storage, Dense | Masked):
        made = _fresh(weight.initializer, weight.shape, weight.dtype)
        found = {name: f"nn.Parameter({made})" if weight.trainable else made}
        if isinstance(weight.storage, Masked):
            found[f"{name}_mask"] = call("torch.ones", *_sizes(weight.shape), dtype=DType.bool)
        return found
    if isinstance(weight.storage, LowRankStorage):
        # The product then has the variance of a dense weight.
        (left, _), (right, _) = weight.storage.tensors(name, weight.shape, weight.dtype).values()
        scale = Normal(0.0, weight.storage.rank**-0.5)
        factors = {name: (scale, left), f"{name}_right": (weight.initializer, right)}
        texts = {stored: _fresh(how, shape, weight.dtype) for stored, (how, shape) in factors.items()}
        return {stored: f"nn.Parameter({text})" if weight.trainable else text for stored, text in texts.items()}
    # IntegerLayers cannot be drawn: a fresh layer holds zeros until it is loaded.
    stored = weight.storage.tensors(name, weight.shape, weight.dtype)
    return {path: call("torch.zeros", *_sizes(shape), **_dtype(dtype)) for path, (shape, dtype) in stored.items()}


def decoded(storage: Storage, owner: str, name: str, rank: int, dtype: DType) -> str:
    """The expression of what layers compute with, given that of the module that has the stored weight."""
    access = f"{owner}.{name}"
    if isinstance(storage, Masked):
        return Infix(f"{access} * {access}_mask")
    if isinstance(storage, LowRankStorage):
        return (
            Infix(f"{access} @ {access}_right") if rank == 2 else call("torch.tensordot", access, f"{access}_right", 1)
        )
    if not isinstance(storage, Int8):
        return access
    if name == "weight":
        return f"{owner}.decoded()"  # of `Int8Weight`, which keeps it
    scale = f"{access}_scale"
    if storage.axis is not None:
        axes = ", ".join(":" if axis == storage.axis else "None" for axis in range(rank))
        scale = f"{scale}[{axes}]"
    convert = ".float()" if dtype is DType.f32 else f".to({literal(dtype)})"
    return Infix(f"{access}{convert} * {scale}")


def _fresh(initializer: Initializer | None, shape: tuple[int, ...], dtype: DType) -> str:
    """A new tensor as PyTorch initializes it."""
    sizes = _sizes(shape)
    options = _dtype(dtype)
    match initializer:
        case OnesInitializer():
            return call("torch.ones", *sizes, **options)
        case ConstantInitializer(value):
            return call("torch.full", literal(shape), literal(value), **options)
        case ZerosInitializer() | None:
            return call("torch.zeros", *sizes, **options)
        case Normal(0.0, 1.0):
            return call("torch.randn", *sizes, **options)
        case Normal(mean, std):
            draw = f"normal_({literal(mean)}, {literal(std)})"
        case Uniform(low, high):
            draw = f"uniform_({literal(low)}, {literal(high)})"
        case _:
            bound = _bound(initializer)
            draw = f"uniform_(-{atom(bound)}, {bound})"
    return f"{call('torch.empty', *sizes, **options)}.{draw}"


def _bound(initializer: Initializer) -> str:
    match initializer:
        case KaimingUniform(fan_in, a) if math.isclose(a, math.sqrt(5)) and fan_in > 0:
            return Infix(f"{fan_in}**-0.5")
        case KaimingUniform(fan_in, a):
            return literal(math.sqrt(6 / ((1 + a**2) * fan_in)) if fan_in > 0 else 0.0)
        case UniformFanIn(fan_in):
            return Infix(f"{fan_in}**-0.5") if fan_in > 0 else "0.0"
        case XavierUniform(fan_in, fan_out):
            return literal(math.sqrt(6 / (fan_in + fan_out)) if fan_in + fan_out > 0 else 0.0)
    raise TypeError(f"{initializer!r} cannot be written in PyTorch")


def _sizes(shape: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(str(dim) for dim in shape) or ("()",)


def _dtype(dtype: DType) -> dict[str, DType]:
    return {} if dtype is DType.f32 else {"dtype": dtype}


_PARAMETER = "nn.Parameter("


@dataclass
class WeightHolder:
    """A module for the borrowed weights of one layer.

    Attributes:
        path: of the layer.
        tensors: the expression of each stored tensor, by name.
        base: the class to make it of.
        axis: of a weight stored as int8, where there is a scale for each place.
    """

    path: str
    tensors: dict[str, str] = field(default_factory=dict)
    base: str = "nn.Module"
    axis: int | None = None

    @property
    def is_dict(self) -> bool:
        """Whether it has parameters and nothing else."""
        return all(text.startswith(_PARAMETER) for text in self.tensors.values())

    def constructor(self) -> str:
        """What makes the module; `registrations` add the tensors where it is no dictionary of them."""
        if self.is_dict:
            return (
                f"nn.ParameterDict({{{', '.join(f'{literal(name)}: {text}' for name, text in self.tensors.items())}}})"
            )
        return f"{self.base}()"

    def registrations(self, access: str) -> Iterator[str]:
        """The lines of `__init__` that give the module its tensors; `access` is its expression."""
        if self.is_dict:
            return
        if self.axis:
            yield from lines_of(f"{access}.axis = ", literal(self.axis), 2)
        for name, text in self.tensors.items():
            if text.startswith(_PARAMETER):
                yield from lines_of(f"{access}.{name} = ", text, 2)
            else:
                yield from lines_of("", f"{access}.register_buffer({literal(name)}, {text})", 2)


def weight_holders(graph: Graph) -> list[WeightHolder]:
    """The holders that a graph needs, in the order of its weights."""
    own = {path for node in graph.nodes() for name, path in node.weights.items() if owns(node, name)}
    found: dict[str, WeightHolder] = {}
    for path, weight in graph.weights.items():
        if path in own:
            continue
        layer, _, name = path.rpartition(".")
        holder = found.setdefault(layer, WeightHolder(layer))
        holder.tensors |= registrations(weight, name)
        if isinstance(weight.storage, Int8) and name == "weight":
            holder.base, holder.axis = "Int8Weight", weight.storage.axis
    return list(found.values())
