"""Pausing of Python's garbage collector.

While the number of objects grows, the collector repeatedly visits all objects.  The construction of a tree, a graph or
a model produces no garbage, but the visits take one to two thirds of the construction time of large models.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collector() -> Iterator[None]:
    """Pause the garbage collector in the context; reference counting still frees objects outside cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
