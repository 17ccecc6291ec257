"""Initializers: the distributions of new weights, equal to the distributions in PyTorch.

The formulas come from `torch.nn.init` and from `reset_parameters` of PyTorch's layers.  The random numbers differ.
In PyTorch, they depend on the order in which layers are constructed.  In archc, each weight has its own random
generator, which is seeded from the seed of the compilation and the path of the weight.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from archc.frozen_dataclass import frozen_dataclass
from archc.weights.dtype_conversion import numpy_dtype

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_CHUNK = 1 << 18  # elements of one draw; the chunk size limits the memory and does not affect the numbers


def generator(seed: int, path: str) -> np.random.Generator:
    """Return the random generator of one weight: Philox (Salmon et al. 2011), keyed by seed and path."""
    import numpy as np

    key = blake2b(f"{seed}\0{path}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


class Initializer(ABC):
    """Distribution of the elements of a weight; the elements are independent."""

    @abstractmethod
    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        """Return the next `count` elements as a flat array; random elements are drawn in float32 and rounded."""

    def chunks(self, count: int, dtype: str, rng: np.random.Generator) -> Iterator[npt.NDArray[Any]]:
        """Yield `count` elements in flat arrays, with the same numbers as in `sample`."""
        for start in range(0, count, _CHUNK):
            yield self.draw(min(_CHUNK, count - start), dtype, rng)

    def sample(self, shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        """Return a whole weight; the memory holds only the result and one chunk."""
        import numpy as np

        flat = np.empty(math.prod(shape), numpy_dtype(dtype))
        start = 0
        for chunk in self.chunks(flat.size, dtype, rng):
            flat[start : start + chunk.size] = chunk
            start += chunk.size
        return flat.reshape(shape)


@frozen_dataclass
class Uniform(Initializer):
    """U(low, high), the distribution of `torch.nn.init.uniform_`."""

    low: float
    high: float

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        return _uniform(self.low, self.high, count, dtype, rng)


@frozen_dataclass
class UniformFanIn(Initializer):
    """U(-1/√fan_in, 1/√fan_in), for biases: `reset_parameters` of `torch.nn.Linear` and of convolutions.

    `fan_in` is the number of inputs of one output.  If it is 0, the bias is 0.
    """

    fan_in: int

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        bound = 1 / math.sqrt(self.fan_in) if self.fan_in > 0 else 0.0
        return _uniform(-bound, bound, count, dtype, rng)


@frozen_dataclass
class KaimingUniform(Initializer):
    """U(-b, b) with b = √(6 / ((1 + a²) · fan_in)).

    From He et al. 2015, "Delving Deep into Rectifiers", eq. 10 and 15.  `torch.nn.Linear` and convolutions call
    `kaiming_uniform_` with a = √5, so b = 1/√fan_in.
    """

    fan_in: int
    a: float = math.sqrt(5)

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        bound = math.sqrt(6 / ((1 + self.a**2) * self.fan_in)) if self.fan_in > 0 else 0.0
        return _uniform(-bound, bound, count, dtype, rng)


@frozen_dataclass
class XavierUniform(Initializer):
    """U(-b, b) with b = √(6 / (fan_in + fan_out)), for `torch.nn.MultiheadAttention`.

    From Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks", eq. 16.
    """

    fan_in: int
    fan_out: int

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        fans = self.fan_in + self.fan_out
        bound = math.sqrt(6 / fans) if fans > 0 else 0.0
        return _uniform(-bound, bound, count, dtype, rng)


@frozen_dataclass
class Normal(Initializer):
    """N(mean, std²); `torch.nn.Embedding.reset_parameters` has mean 0 and std 1."""

    mean: float = 0.0
    std: float = 1.0

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        import numpy as np

        unit = rng.standard_normal(count, dtype=np.float32)
        unit *= np.float32(self.std)
        unit += np.float32(self.mean)
        return unit.astype(numpy_dtype(dtype), copy=False)


@frozen_dataclass
class ConstantInitializer(Initializer):
    """One value for all elements."""

    value: float

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        import numpy as np

        return np.full(count, self.value, numpy_dtype(dtype))


@frozen_dataclass
class ZerosInitializer(Initializer):
    """Zeros, for biases of normalization layers, running means and counters."""

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        import numpy as np

        return np.zeros(count, numpy_dtype(dtype))


@frozen_dataclass
class OnesInitializer(Initializer):
    """Ones, for weights of normalization layers and running variances."""

    def draw(self, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
        import numpy as np

        return np.ones(count, numpy_dtype(dtype))


def _uniform(low: float, high: float, count: int, dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
    import numpy as np

    unit = rng.random(count, dtype=np.float32)
    unit *= np.float32(high - low)
    unit += np.float32(low)
    return unit.astype(numpy_dtype(dtype), copy=False)
