"""Results compared, whatever gave them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

Tensor = torch.Tensor


def close(got: Sequence[Tensor], expected: Sequence[Tensor], rtol: float, atol: float, what: str) -> None:
    """Equal in number, shape, dtype, and value up to the tolerance."""
    assert len(got) == len(expected), f"{what} gives {len(got)} results, not {len(expected)}"
    for number, (one, other) in enumerate(zip(got, expected)):
        torch.testing.assert_close(
            one,
            other,
            rtol=rtol,
            atol=atol,
            equal_nan=True,
            msg=lambda text: f"{what}, result {number}: {text}",  # noqa: B023  called before the next turn of the loop
        )


def as_tuple(results: Any) -> tuple[Tensor, ...]:
    """The results of a call, be it one tensor or several."""
    return tuple(results) if isinstance(results, (tuple, list)) else (results,)


def to_tensors(arrays: Any) -> tuple[Tensor, ...]:
    """NumPy results as tensors; scalars may come as numbers."""
    return tuple(torch.as_tensor(array) for array in arrays)
