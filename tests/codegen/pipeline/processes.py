"""Start and end the processes of a pipeline."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 180.0
"""Timeout of a process in seconds; on a busy machine, the import of torch alone takes many seconds."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """Environment of a child process: one thread, and no variables of an outer pipeline."""
    plain = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    return {**plain, "OMP_NUM_THREADS": "1", **more}


@contextmanager
def started(commands: Sequence[Sequence[str]], *environments: dict[str, str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Start processes with these commands and environments; kill all of them at the end."""
    processes = [
        subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for command, env in zip(commands, environments, strict=True)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def run_stages(script: Path, arguments: Sequence[str], count: int) -> None:
    """Run a script as the processes of a pipeline; show the error output of a process that fails."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    environments = [environment(**common, RANK=str(number)) for number in range(count)]
    command = [sys.executable, str(script), *arguments]
    with started([command] * count, *environments) as processes:
        for number, process in enumerate(processes):
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, f"stage {number}: {errors}"


def children(pid: int) -> list[int]:
    """Return the ids of a process's child processes."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def wait_until_gone(pids: Sequence[int], seconds: float) -> list[int]:
    """Wait until processes have ended; return those that still run after a number of seconds."""
    end = time.monotonic() + seconds
    left = list(pids)
    while left and time.monotonic() < end:
        time.sleep(0.05)
        left = [pid for pid in left if _runs(pid)]
    return left


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
