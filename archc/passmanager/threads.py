"""Computing so that the same input gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread.

    What a sum of floating-point numbers comes to depends on how many threads share it.  Scales that were measured go
    into the files, so without this what a compilation gives would depend on how many cores it may use.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
