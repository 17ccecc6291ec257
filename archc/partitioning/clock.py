"""A budget of time."""

from __future__ import annotations

import time


class Clock:
    """Says when some seconds are over; None for as long as it takes."""

    def __init__(self, seconds: float | None):
        self.end = None if seconds is None else time.monotonic() + seconds

    def over(self) -> bool:
        return self.end is not None and time.monotonic() >= self.end
