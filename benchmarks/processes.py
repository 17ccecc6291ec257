"""Measuring whole processes: the time that the processor spent on one, and the most memory that it held.

Whoever measures must be small itself, and so imports the standard library alone: what a process holds when it starts
another one counts towards the other one's peak.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SINGLE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Usage:
    """What one process took.

    Attributes:
        seconds: process time, user and system together; it does not count waiting for others on the machine.
        peak: the largest resident memory, in bytes.
    """

    seconds: float
    peak: int


def measure(arguments: Sequence[str | Path]) -> Usage:
    """Run `python` with arguments, on one thread, from the root of the repository.

    Raises:
        SystemExit: it failed; its standard error is the message.
    """
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        # Whoever has installed archc has its bytecode too, and does not compile it anew each time.
        env={**os.environ, **SINGLE_THREAD, "PYTHONDONTWRITEBYTECODE": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    message = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with status {process.returncode}\n{message}")
    return Usage(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
