"""Signals for processes that tests start."""

from __future__ import annotations

import signal


def restore_signals() -> None:
    """A `preexec_fn` that lets signals end a process, though a shell started the tests in the background.

    Such a shell has its children ignore SIGINT, and `nohup` SIGHUP, and every process inherits that.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
