"""Interleaved timing of candidates: changes in the speed of the machine affect all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def interleaved(
    candidates: Mapping[str, Callable[[], Any]],
    rounds: int = 15,
    seconds: float = 0.02,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds per call of each candidate over several rounds.

    A round runs all candidates in sequence.

    Args:
        rounds: number of measured rounds; two warm-up calls precede them.
        seconds: approximate duration of a candidate in one round; short calls are repeated.
        clock: returns the time in seconds.  For programs of one thread, `time.process_time` ignores the time in which
            the processor runs other processes.
    """
    repeats = {}
    for name, call in candidates.items():
        call()
        start = clock()
        call()
        repeats[name] = max(1, int(seconds / max(clock() - start, 1e-7)))
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            start = clock()
            for _ in range(repeats[name]):
                call()
            samples[name].append((clock() - start) / repeats[name])
    return {name: statistics.median(times) for name, times in samples.items()}
