"""Storage formats of weights: floats, masked or sparse floats, integers, low-rank factors."""

from archc.types.storage.base import STORAGES, Shape, Storage, Stored
from archc.types.storage.elementwise import Dense, Masked
from archc.types.storage.fake_quantized import FakeQuantized
from archc.types.storage.float8 import F8E4M3, F8E5M2, Float8Storage
from archc.types.storage.int8 import Int8
from archc.types.storage.integers import Integers
from archc.types.storage.low_rank import LowRankStorage
from archc.types.storage.narrow_float import NarrowFloat
from archc.types.storage.packed import Int2, Int3, Int4, Int5, Int6, PackedIntegers
from archc.types.storage.sparse import Sparse, unpacked_mask
from archc.types.storage.weight import Weight

__all__ = [
    "F8E4M3",
    "F8E5M2",
    "STORAGES",
    "Dense",
    "FakeQuantized",
    "Float8Storage",
    "Int2",
    "Int3",
    "Int4",
    "Int5",
    "Int6",
    "Int8",
    "Integers",
    "LowRankStorage",
    "Masked",
    "NarrowFloat",
    "PackedIntegers",
    "Shape",
    "Sparse",
    "Storage",
    "Stored",
    "Weight",
    "unpacked_mask",
]
