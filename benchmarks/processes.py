"""Process time and peak memory of child processes.

This module imports only the standard library, to keep the measuring process small: the memory of a process counts
towards the peak of the children that it starts.
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
    """Resource usage of one process.

    Attributes:
        seconds: user and system time together, without time spent waiting for other processes.
        peak: maximum resident memory in bytes.
    """

    seconds: float
    peak: int


def measure(arguments: Sequence[str | Path]) -> Usage:
    """Run `python` with arguments on one thread, in the root folder of the repository, and measure it.

    Raises:
        SystemExit: the process failed; the message contains its standard error.
    """
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        # An installed archc has its bytecode cached, so the measurement uses cached bytecode too.
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
