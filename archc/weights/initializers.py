"""How the weights of a fresh layer are drawn, as PyTorch draws them.

The formulas are those of `torch.nn.init` and of the layers' `reset_parameters`; the numbers differ, since
PyTorch's depend on the order in which layers are made.  Here every weight has a generator of its own, seeded
from the seed and the weight's path.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from archc.weights.dtype_conversion import numpy_dtype

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_CHUNK = 1 << 18  # elements drawn at a time: bounds memory, and belongs to no result


def generator(seed: int, path: str) -> np.random.Generator:
    """The random numbers of one weight: Philox (Salmon et al. 2011, counter based), keyed by seed and path."""
    import numpy as np

    key = blake2b(f"{seed}\0{path}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


class Initializer(ABC):
    """A distribution that the elements of a weight are drawn from, each on its own."""

    @abstractmethod
    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        """The next `count` elements, flat.  Random ones are drawn as float32, then rounded to the dtype."""

    def chunks(self, count: int, dtype: str, rng: np.random.Generator) -> Iterator[npt.NDArray[Any]]:
        """`count` elements as flat arrays, the same numbers as `sample` gives."""
        for start in range(0, count, _CHUNK):
            yield self.draw(min(_CHUNK, count - start), dtype, rng)

    def sample(self, shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        """A whole weight.  Beside the result only a chunk is held."""
        import numpy as np

        flat = np.empty(math.prod(shape), numpy_dtype(dtype))
        start = 0
        for chunk in self.chunks(flat.size, dtype, rng):
            flat[start : start + chunk.size] = chunk
            start += chunk.size
        return flat.reshape(shape)


@dataclass(frozen=True)
class Uniform(Initializer):
    """U(low, high), as `torch.nn.init.uniform_`."""

    low: float
    high: float

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        return _uniform(self.low, self.high, count, dtype, rng)


@dataclass(frozen=True)
class UniformFanIn(Initializer):
    """U(-1/√fan_in, 1/√fan_in): the biases in `torch.nn.Linear.reset_parameters` and that of the convolutions.

    `fan_in` is the number of inputs that one output sums over; with none the bias is zero.
    """

    fan_in: int

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        bound = 1 / math.sqrt(self.fan_in) if self.fan_in > 0 else 0.0
        return _uniform(-bound, bound, count, dtype, rng)


@dataclass(frozen=True)
class KaimingUniform(Initializer):
    """U(-b, b) with b = √(6 / ((1 + a²) · fan_in)); He et al. 2015, "Delving Deep into Rectifiers", eq. 10 and 15.

    `torch.nn.Linear` and the convolutions call `kaiming_uniform_` with a = √5, which makes b = 1/√fan_in.
    """

    fan_in: int
    a: float = math.sqrt(5)

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        bound = math.sqrt(6 / ((1 + self.a**2) * self.fan_in)) if self.fan_in > 0 else 0.0
        return _uniform(-bound, bound, count, dtype, rng)


@dataclass(frozen=True)
class XavierUniform(Initializer):
    """U(-b, b) with b = √(6 / (fan_in + fan_out)); Glorot and Bengio 2010, eq. 16; `torch.nn.MultiheadAttention`."""

    fan_in: int
    fan_out: int

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        fans = self.fan_in + self.fan_out
        bound = math.sqrt(6 / fans) if fans > 0 else 0.0
        return _uniform(-bound, bound, count, dtype, rng)


@dataclass(frozen=True)
class Normal(Initializer):
    """N(mean, std²); `torch.nn.Embedding.reset_parameters` with mean 0 and std 1."""

    mean: float = 0.0
    std: float = 1.0

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        import numpy as np

        unit = rng.standard_normal(count, dtype=np.float32)
        unit *= np.float32(self.std)
        unit += np.float32(self.mean)
        return unit.astype(numpy_dtype(dtype), copy=False)


@dataclass(frozen=True)
class ConstantInitializer(Initializer):
    """The same value everywhere."""

    value: float

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        import numpy as np

        return np.full(count, self.value, numpy_dtype(dtype))


@dataclass(frozen=True)
class ZerosInitializer(Initializer):
    """Zeros: the biases of the norms, running means, counters."""

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        import numpy as np

        return np.zeros(count, numpy_dtype(dtype))


@dataclass(frozen=True)
class OnesInitializer(Initializer):
    """Ones: the weights of the norms, running variances."""

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        import numpy as np

        return np.ones(count, numpy_dtype(dtype))


def _uniform(low: float, high: float, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
    import numpy as np

    unit = rng.random(count, dtype=np.float32)
    unit *= np.float32(high - low)
    unit += np.float32(low)
    return unit.astype(numpy_dtype(dtype), copy=False)
