"""Comparison of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

Tensor = torch.Tensor


def close(got: Sequence[Tensor], expected: Sequence[Tensor], rtol: float, atol: float, what: str) -> None:
    """Assert that tensors are equal in number, shape and dtype, and that their elements are close."""
    assert len(got) == len(expected), f"{what} gives {len(got)} results, not {len(expected)}"
    for number, (one, other) in enumerate(zip(got, expected)):
        torch.testing.assert_close(
            one,
            other,
            rtol=rtol,
            atol=atol,
            equal_nan=True,
            msg=lambda text: f"{what}, result {number}: {text}",  # noqa: B023  called before the next iteration
        )


def as_tuple(results: Any) -> tuple[Tensor, ...]:
    """Results of a call as a tuple, also for a single tensor."""
    return tuple(results) if isinstance(results, (tuple, list)) else (results,)


def to_tensors(arrays: Any) -> tuple[Tensor, ...]:
    """NumPy results as tensors; scalars may be numbers."""
    return tuple(torch.as_tensor(array) for array in arrays)
