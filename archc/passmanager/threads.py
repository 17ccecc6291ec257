"""Computation on one thread, so that equal inputs give equal bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit PyTorch to one thread.

    The rounding of a floating-point sum depends on the number of threads.  Measured scales are part of the output, so
    without this limit the output would depend on the number of cores.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
