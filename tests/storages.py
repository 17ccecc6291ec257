"""Random storage formats of weights."""

from __future__ import annotations

import math
from random import Random

from archc.types.storage import (
    F8E4M3,
    F8E5M2,
    Dense,
    FakeQuantized,
    Int2,
    Int3,
    Int4,
    Int5,
    Int6,
    Int8,
    LowRankStorage,
    Masked,
    NarrowFloat,
    PackedIntegers,
    Sparse,
    Storage,
)
from archc.types.tensor_type import DType

PACKED: tuple[type[PackedIntegers], ...] = (Int2, Int3, Int4, Int5, Int6)


def random_packed(chance: Random, rank: int) -> PackedIntegers:
    """Packed integers for a weight with `rank` axes."""
    return chance.choice(PACKED)(
        axis=chance.randrange(rank) if chance.random() < 0.4 else 0,
        group=chance.choice((None, 1, 2, 3, 5, 8, 16, 32)),
        symmetric=chance.random() < 0.3,
        scale=chance.choice((DType.f16, DType.f32)),
    )


def random_storage(chance: Random, shape: tuple[int, ...], dtype: DType) -> Storage:
    """A format in which a weight can be stored; packed integers in half of all cases."""
    found: list[Storage] = [Dense(), Masked(), Int8(None), NarrowFloat(DType.f16), NarrowFloat(DType.bf16)]
    found.append(Sparse(chance.randint(0, math.prod(shape))))
    if shape:
        found += [kind(chance.randrange(len(shape))) for kind in (F8E4M3, F8E5M2)]
        found.append(Int8(chance.randrange(len(shape))))
        found += [random_packed(chance, len(shape)) for _ in range(6)]
        found += [FakeQuantized(Int8(chance.randrange(len(shape)))), FakeQuantized(random_packed(chance, len(shape)))]
    if len(shape) > 1:
        kinds = (NarrowFloat(DType.f16), Int8(0), F8E4M3(0), random_packed(chance, len(shape)))
        found.append(LowRankStorage(chance.randint(1, 3), chance.choice((None, *kinds))))
    return chance.choice([storage for storage in found if storage.misfit(shape, dtype) is None])
