"""Parameters and buffers of a class: registration, initialization, and decoding of stored weights.

A stage of a pipeline may read a weight of a layer in another stage.  The stage then has a copy of the weight under the
same path, in a module that only holds weights: a `WeightHolder`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from archc.codegen.torch.formatting import lines_of
from archc.codegen.torch.layer_classes import owns, storage_arguments
from archc.declaration.spelling import Infix, atom, call, literal
from archc.ir.graph import Graph
from archc.types.storage import (
    Dense,
    FakeQuantized,
    Float8Storage,
    Int8,
    LowRankStorage,
    Masked,
    NarrowFloat,
    PackedIntegers,
    Sparse,
    Storage,
    Weight,
)
from archc.types.tensor_type import DType, StoredDType
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

TRAINED = (Dense, Masked, LowRankStorage, FakeQuantized)
"""The storages whose tensors are parameters, if the weight is trainable.

The tensors of other storages are buffers.
"""

ENCODED = (PackedIntegers, NarrowFloat, Float8Storage, Sparse)
"""The storages that `EncodedWeights` and its subclasses `PackedWeights` and `SparseWeights` decode."""

DECODABLE = (*TRAINED, Int8, *ENCODED)
"""The storages that emitted code can decode."""


def is_trained(weight: Weight) -> bool:
    """Return whether the stored tensors of a weight are parameters; otherwise they are buffers."""
    storage = weight.storage.of_factors if isinstance(weight.storage, LowRankStorage) else weight.storage
    return weight.trainable and isinstance(storage, TRAINED)


def registrations(weight: Weight, name: str) -> dict[str, str]:
    """The initial value of each stored tensor, as text, by name; see `registration_lines`.

    The text is `nn.Parameter(...)` for trainable tensors.  For a storage of `ENCODED`, it is the call of a method of
    `EncodedWeights`, which adds all stored tensors.
    """
    if isinstance(weight.storage, Dense | Masked | FakeQuantized):
        made = _fresh(weight.initializer, weight.shape, weight.dtype)
        found = {name: f"nn.Parameter({made})" if weight.trainable else made}
        if isinstance(weight.storage, Masked):
            found[f"{name}_mask"] = call("torch.ones", *_sizes(weight.shape), dtype=DType.bool)
        return found
    if isinstance(weight.storage, LowRankStorage) and weight.storage.format is not None:
        storage, parts = weight.storage.format, weight.storage.factors(name, weight.shape)
        rows = [registrations(replace(weight, shape=own, storage=storage), part) for part, own in parts.items()]
        return rows[0] | rows[1]
    if isinstance(weight.storage, LowRankStorage):
        # With this scale, the product of the two factors has the variance of a dense weight.
        (left, _), (right, _) = weight.storage.tensors(name, weight.shape, weight.dtype).values()
        scale = Normal(0.0, weight.storage.rank**-0.5)
        factors = {name: (scale, left), f"{name}_right": (weight.initializer, right)}
        texts = {stored: _fresh(how, shape, weight.dtype) for stored, (how, shape) in factors.items()}
        return {stored: f"nn.Parameter({text})" if weight.trainable else text for stored, text in texts.items()}
    if isinstance(weight.storage, PackedIntegers):
        return {name: call(f"{_ADD}packed", literal(name), literal(weight.shape), **_options(weight.storage))}
    if isinstance(weight.storage, NarrowFloat | Float8Storage):
        axis = {"axis": weight.storage.axis} if isinstance(weight.storage, Float8Storage) else {}
        dtype = literal(weight.storage.dtype)
        return {name: call(f"{_ADD}narrow", literal(name), literal(weight.shape), dtype, **axis)}
    if isinstance(weight.storage, Sparse):
        sizes = literal(weight.shape), literal(weight.storage.count)
        return {name: call(f"{_ADD}sparse", literal(name), *sizes, **_dtype(weight.dtype))}
    # Integer weights have no random initialization: a new layer has zeros until its weights are loaded.
    stored = weight.storage.tensors(name, weight.shape, weight.dtype)
    return {path: call("torch.zeros", *_sizes(shape), **_dtype(dtype)) for path, (shape, dtype) in stored.items()}


def decoded(storage: Storage, owner: str, name: str, rank: int, caches: bool = True) -> str:
    """The expression of a decoded weight.

    Args:
        owner: the expression of the module that has the stored tensors.
        name: the name of the weight in that module.
        rank: the number of axes of the weight.
        caches: False to use methods that do not cache their result.
    """
    access = f"{owner}.{name}"
    if isinstance(storage, Masked):
        return Infix(f"{access} * {access}_mask")
    if isinstance(storage, LowRankStorage):
        # The product is cached, if its factors are not trained.
        left = decoded(storage.of_factors, owner, name, 2, caches=False)
        right = decoded(storage.of_factors, owner, f"{name}_right", rank, caches=False)
        return Infix(f"{atom(left)} @ {atom(right)}") if rank == 2 else call("torch.tensordot", left, right, 1)
    if isinstance(storage, FakeQuantized):
        return call("fake_quantized", access, **_options(storage))
    if isinstance(storage, ENCODED):
        return f"{owner}.{'floats' if caches else 'decode_weight'}({literal(name)})"  # methods of `EncodedWeights`
    if not isinstance(storage, Int8):
        return access
    if name == "weight":
        return f"{owner}.{'decoded' if caches else 'decode'}()"  # methods of `Int8Weight`
    scale = f"{access}_scale"
    if storage.axis is not None:
        axes = ", ".join(":" if axis == storage.axis else "None" for axis in range(rank))
        scale = f"{scale}[{axes}]"
    return Infix(f"{access} * {scale}")


def _options(storage: PackedIntegers | FakeQuantized) -> dict[str, object]:
    """The arguments of a storage format that differ from their defaults."""
    return {key: value for key, (value, default) in storage_arguments(storage).items() if value != default}


def _fresh(initializer: Initializer | None, shape: tuple[int, ...], dtype: DType) -> str:
    """The expression of a new tensor with PyTorch's initialization."""
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
    """The bound of a symmetric uniform initialization, as text."""
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


def _dtype(dtype: StoredDType) -> dict[str, StoredDType]:
    return {} if dtype is DType.f32 else {"dtype": dtype}


_PARAMETER, _ADD = "nn.Parameter(", "add_"


def registration_lines(owner: str, name: str, text: str) -> list[str]:
    """The lines of `__init__` that register a stored tensor.

    Args:
        owner: the expression of the module that gets the tensor.
        name, text: an item of `registrations`.
    """
    if text.startswith(_PARAMETER):
        return lines_of(f"{owner}.{name} = ", text, 2)
    if text.startswith(_ADD):
        return lines_of("", f"{owner}.{text}", 2)
    return lines_of("", f"{owner}.register_buffer({literal(name)}, {text})", 2)


def of_stored(storages: Mapping[str, Storage]) -> dict[str, Storage]:
    """The storages with those of factors in place of `low_rank`, by name."""
    found: dict[str, Storage] = {}
    for name, storage in storages.items():
        if isinstance(storage, LowRankStorage):
            found |= {name: storage.of_factors, f"{name}_right": storage.of_factors}
        else:
            found[name] = storage
    return found


def base_classes(storages: Mapping[str, Storage]) -> str:
    """The base classes of a module with stored tensors of these storages, by name; see `of_stored`."""
    found = ["Int8Weight"] if isinstance(storages.get("weight"), Int8) else []
    if any(isinstance(storage, Sparse) for storage in storages.values()):
        found.append("SparseWeights")
    elif any(isinstance(storage, PackedIntegers) for storage in storages.values()):
        found.append("PackedWeights")
    elif any(isinstance(storage, NarrowFloat | Float8Storage) for storage in storages.values()):
        found.append("EncodedWeights")
    if not found and any(isinstance(storage, Int8) for storage in storages.values()):
        return "Keeping"  # `decoded` caches the weights
    return ", ".join(found) or "nn.Module"


@dataclass
class WeightHolder:
    """A module with copies of the weights of a layer in another stage.

    Attributes:
        path: the path of the layer.
        tensors: the initial value of each stored tensor, by name; see `registrations`.
        storages: the storage of each weight, by name.
    """

    path: str
    tensors: dict[str, str] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)

    @property
    def is_dict(self) -> bool:
        """Return whether all tensors are parameters; the module is then an `nn.ParameterDict`."""
        return all(text.startswith(_PARAMETER) for text in self.tensors.values())

    def constructor(self) -> str:
        """The constructor call; only a `ParameterDict` takes the tensors, otherwise `registrations` adds them."""
        if self.is_dict:
            return (
                f"nn.ParameterDict({{{', '.join(f'{literal(name)}: {text}' for name, text in self.tensors.items())}}})"
            )
        return f"{base_classes(of_stored(self.storages))}()"

    def registrations(self, access: str) -> Iterator[str]:
        """Yield the lines of `__init__` that register the tensors; `access` is the expression of the module."""
        if self.is_dict:
            return
        storage = of_stored(self.storages).get("weight")
        if isinstance(storage, Int8) and storage.axis:
            yield from lines_of(f"{access}.axis = ", literal(storage.axis), 2)
        for name, text in self.tensors.items():
            yield from registration_lines(access, name, text)


def weight_holders(graph: Graph) -> list[WeightHolder]:
    """The holders for the weights that no layer of a graph owns, in the order of the weights."""
    own = {path for node in graph.nodes() for name, path in node.weights.items() if owns(node, name)}
    found: dict[str, WeightHolder] = {}
    for path, weight in graph.weights.items():
        if path in own:
            continue
        layer, _, name = path.rpartition(".")
        holder = found.setdefault(layer, WeightHolder(layer))
        holder.tensors |= registrations(weight, name)
        holder.storages[name] = weight.storage
    return list(found.values())
