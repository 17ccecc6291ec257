"""Starting the processes of a pipeline, and making sure that all of them end."""

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
"""Seconds after which a test gives up; importing torch takes many on a busy machine."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """The environment of a child: one thread, and none of the variables of an outer pipeline."""
    plain = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    return {**plain, "OMP_NUM_THREADS": "1", **more}


@contextmanager
def started(commands: Sequence[Sequence[str]], *environments: dict[str, str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes with these commands and environments; none is left behind."""
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
    """Run a script as the processes of a pipeline, and fail with what they say if one fails."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    environments = [environment(**common, RANK=str(number)) for number in range(count)]
    command = [sys.executable, str(script), *arguments]
    with started([command] * count, *environments) as processes:
        for number, process in enumerate(processes):
            _, said = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, f"stage {number}: {said}"


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def wait_until_gone(pids: Sequence[int], seconds: float) -> list[int]:
    """Those of some processes that are still there after so many seconds."""
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
