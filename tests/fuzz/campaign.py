"""Fuzzing campaigns: blocks of seeds in child processes, with a file of finished blocks for resuming."""

from __future__ import annotations

import json
import queue
import re
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.worker import DIES

ROOT = Path(__file__).parents[2]
WORKER = ("-m", "tests.fuzz.worker")
BLOCK = 100
"""Number of seeds per process: the start of a process takes as long as about ten seeds."""
PATIENCE = 120.0
"""Time limit of a seed, in seconds."""
MINIMIZING = 25.0
"""Processor time limit for shrinking a text, in seconds."""


@dataclass
class Tally:
    """Accumulated results of seeds."""

    seeds: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def add(self, result: dict[str, Any]) -> None:
        self.seeds += 1
        self.counts.update(result["counts"])
        self.failures += [{"seed": result["seed"], **failure} for failure in result["failures"]]


def run_seeds(start: int, end: int) -> Tally:
    """Test seeds in a child process; after a crash, continue with the next seed in a new process."""
    tally = Tally()
    for result in _results(start, end):
        tally.add(result)
    return tally


def _results(start: int, end: int) -> Iterator[dict[str, Any]]:
    while start < end:
        process = _child("seeds", str(start), str(end))
        begun, text = start, None
        for line in _lines(process):
            said = json.loads(line)
            if "begin" in said:
                begun, text = said["begin"], None
            text = said.get("text", text)
            if "seed" in said:
                yield said
                start = said["seed"] + 1
        process.wait()
        if start < end:  # the process ended within a seed
            yield {"seed": begun, "counts": {}, "failures": [_death(process, text)]}
            start = begun + 1


def _death(process: subprocess.Popen[str], text: str | None) -> dict[str, str]:
    """Failure of a seed that ended its process; without a text, the generator failed."""
    code = process.returncode
    reason = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
    said = "".join(process.stderr or ()).strip().splitlines()[-1:] if process.stderr else []
    if text is None:
        words = " ".join([reason, *said])
        return {"signature": f"generator: {words[:100]}", "detail": words, "text": ""}
    kind = f"plain: {DIES}: {reason}" if code < 0 else f"fuzzer: {' '.join(said)[:100]}"
    return {"signature": kind, "detail": " ".join([reason, *said]), "text": text}


def _child(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, *WORKER, *arguments]
    environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """Yield the output lines of a process until it ends or a timeout without output passes."""
    assert process.stdout is not None
    while True:
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        if not ready:
            process.kill()
            return
        line = process.stdout.readline()
        if not line:
            return
        yield line


# A campaign ------------------------------------------------------------------------------------------------------


class Campaign:
    """Range of seeds in blocks, with a file that records the finished blocks.

    Args:
        folder: holds `START-END.jsonl`, a line for each block, and `failures/`, a text for each kind of failure.
        shrink: shrink the first text of each kind of failure.
    """

    def __init__(self, start: int, end: int, folder: Path, say: Callable[[str], None] = print, shrink: bool = True):
        self.start, self.end, self.folder, self.say, self.shrink = start, end, folder, say, shrink
        self.state = folder / f"{start}-{end}.jsonl"
        self.lock = threading.Lock()
        self.kinds: Counter[str] = Counter()
        self.began = time.monotonic()

    def done(self) -> list[dict[str, Any]]:
        if not self.state.exists():
            return []
        return [json.loads(line) for line in self.state.read_text().splitlines()]

    def run(self, jobs: int) -> bool:
        """Run all remaining blocks; return whether no seed failed, earlier runs included."""
        (self.folder / "failures").mkdir(parents=True, exist_ok=True)
        before = self.done()
        known = {tuple(block["seeds"]) for block in before}
        for block in before:
            self.kinds.update(failure["signature"] for failure in block["failures"])
        blocks: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        for first in range(self.start, self.end, BLOCK):
            block = (first, min(first + BLOCK, self.end))
            if block not in known:
                blocks.put(block)
        self.say(f"{len(known)} blocks were done before, {blocks.qsize()} are left, {jobs} processes")
        threads = [threading.Thread(target=self._work, args=(blocks,), daemon=True) for _ in range(jobs)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.2)
        self.say(self.summary())
        return not self.kinds

    def _work(self, blocks: queue.SimpleQueue[tuple[int, int]]) -> None:
        while True:
            try:
                start, end = blocks.get_nowait()
            except queue.Empty:
                return
            tally = run_seeds(start, end)
            for failure in tally.failures:
                self._save(failure)
            with self.lock:
                self._note(start, end, tally)

    def _note(self, start: int, end: int, tally: Tally) -> None:
        failures = [{key: one[key] for key in ("seed", "signature", "detail")} for one in tally.failures]
        entry = {"seeds": [start, end], "commit": commit(), "counts": tally.counts, "failures": failures}
        with self.state.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")
        done = sum(last - first for first, last in (one["seeds"] for one in self.done()))
        total = sum(self.kinds.values())
        spent = time.monotonic() - self.began
        self.say(
            f"[{spent:6.0f} s] {done} of {self.end - self.start} seeds, {total} failures of {len(self.kinds)} kinds"
        )

    def _save(self, failure: dict[str, Any]) -> None:
        """Save the text of a failure; shrink and print the first one of its kind."""
        signature = failure["signature"]
        with self.lock:
            self.kinds[signature] += 1
            new = self.kinds[signature] == 1
        if not new:
            return
        path = self.folder / "failures" / f"{re.sub(r'[^a-z0-9]+', '-', signature.lower())[:80]}-{failure['seed']}.arch"
        header = f"# seed {failure['seed']}: {signature}\n# {failure['detail'][:300]!r}\n"
        path.write_text(header + failure["text"])
        text = shrunk(path, failure) if self.shrink else failure["text"]
        path.write_text(header + text)
        self.say(f"\n{header}{text}\n")

    def summary(self) -> str:
        """Summary by commit: seeds, comparisons, refusals, failures."""
        blocks = self.done()
        commits, counts = Counter[str](), Counter[str]()
        for block in blocks:
            commits[block["commit"]] += block["seeds"][1] - block["seeds"][0]
            counts.update(block["counts"])
        kinds = Counter(failure["signature"] for block in blocks for failure in block["failures"])
        operators = [name for name in counts if name.startswith("operator ")]
        lines = [f"{number} seeds on {name}" for name, number in commits.items()]
        lines.append(f"{len(operators)} operators, {sum(counts[name] for name in operators)} uses")
        lines += [f"{number} {name}" for name, number in counts.most_common() if name not in operators]
        lines += [f"FAILED {number}: {signature}" for signature, number in kinds.most_common()]
        return "\n".join(lines)


def shrunk(path: Path, failure: dict[str, Any]) -> str:
    """Shrink the text of a failure in a child process; return it unchanged if that fails."""
    child = _child("smallest", str(path), str(failure["seed"]), failure["signature"], str(MINIMIZING))
    try:
        text, _ = child.communicate(timeout=10 * MINIMIZING)
    except subprocess.TimeoutExpired:
        child.kill()
        return str(failure["text"])
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return "\n".join(lines) + "\n" if lines and child.returncode == 0 else str(failure["text"])


def commit() -> str:
    """Commit of the working tree, marked if it has uncommitted changes."""
    found = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"
