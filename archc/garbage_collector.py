"""Python's garbage collector, paused or slowed down while the number of objects grows.

During this growth, the collector repeatedly visits all objects.  The construction of a tree, a graph or a model
produces no garbage, but the visits take one to two thirds of the construction time of large models.
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


def collect_less_often() -> None:
    """Run the collector after 50,000 new objects, not after 700; imports create no garbage."""
    gc.set_threshold(50_000)


def skip_last_collection() -> None:
    """Keep the collector from visiting all objects when the process ends; their memory is freed anyway."""
    gc.freeze()
