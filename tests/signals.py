"""Signal handlers of processes that tests start."""

from __future__ import annotations

import signal


def restore_signals() -> None:
    """Restore the default handlers of signals that end a process; used as a `preexec_fn`.

    A shell starts background jobs with SIGINT ignored, and `nohup` starts a program with SIGHUP ignored.  Child
    processes inherit both settings.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
