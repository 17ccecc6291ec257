"""Quality and speed of the partitioner on cost graphs.

The quality of a split is its bottleneck, the time of the slowest stage.  The table compares the bottleneck of the found
split with that of the even split, which cuts one topological order into stages of about equal work, one per
accelerator.  The speed is the median process time of several runs.

Input files have the format of https://github.com/msr-fiddle/dnn-partitioning, which accompanies Tarnawski et al. 2020,
"Efficient Algorithms for Device Placement of DNN Graph Operators".  A folder selects all files in it.  By default, the
graphs are synthetic: residual chains and blocks of parallel branches.  `--peer` also runs the program of the authors,
which is built from `throughput-dp` in their repository.

    python -m benchmarks.partitioning [FOLDER_OR_FILE ...] [--runs 3] [--seconds 60] [--peer PROGRAM]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from archc.partitioning import DeviceKind, Infeasible, PipelineSplit, Problem, Task, Tensor, solve
from archc.partitioning.problem import measure_stages
from archc.partitioning.task_graph import build_task_graph
from benchmarks.tables import markdown

PROVEN = {
    ("bert24_inference", 32): 17.7899,
    ("resnet50_inference", 177): 33.7747,
    ("bert_l-3_inference", 235): 27.9186,
    ("bert_l-6_inference", 418): 29.5795,
    ("bert_l-12_inference", 783): 147.478,
    ("resnet50_inference", 604): 124.349,
    ("gnmt_inference", 96): 32.9107,
}
"""Optimal bottleneck from the exact program of the authors, by name and number of nodes."""


def read(file: Path) -> Problem:
    """Read a cost graph.

    Transfers cost time on accelerators, but not on processors, which share the host memory.

    Raises:
        SystemExit: the file is not a cost graph.
    """
    try:
        graph = json.loads(file.read_text(encoding="utf-8"))
        return _problem(graph)
    except KeyError as problem:
        raise SystemExit(f"{file} is no cost graph: it lacks {problem}") from None
    except (ValueError, TypeError, AttributeError) as problem:
        raise SystemExit(f"{file} is no cost graph: {problem}") from None


def _problem(graph: dict[str, Any]) -> Problem:
    number = {node["id"]: place for place, node in enumerate(graph["nodes"])}
    consumers: dict[int, set[int]] = {}
    cost: dict[int, float] = {}
    for edge in graph["edges"]:
        source = number[edge["sourceId"]]
        consumers.setdefault(source, set()).add(number[edge["destId"]])
        if not math.isclose(cost.setdefault(source, edge["cost"]), edge["cost"], abs_tol=1e-6):
            raise ValueError(f"the edges out of node {edge['sourceId']} have different costs")
    tasks = [
        Task(
            name=str(node.get("name", node["id"])),
            work=(node["fpgaLatency"] if node["supportedOnFpga"] else math.inf, node["cpuLatency"]),
            memory=node.get("size", 0.0),
            together=node.get("colorClass"),
        )
        for node in graph["nodes"]
    ]
    tensors = [
        Tensor(tasks[source].name, source, tuple(sorted(needing)), (cost[source], 0.0))
        for source, needing in consumers.items()
    ]
    kinds = (
        DeviceKind("accelerator", graph["maxFPGAs"], graph["maxSizePerFPGA"]),
        DeviceKind("processor", graph["maxCPUs"]),
    )
    return Problem(tuple(tasks), tuple(tensors), kinds)


def residual(operators: int) -> Problem:
    """Chain with a skip connection over four operators after every fourth operator, for eight devices."""
    edges = {at: [at + 1, at + 4] if at % 4 == 0 else [at + 1] for at in range(operators)}
    return _made(operators, edges, devices=8)


def branches(blocks: int, width: int, length: int) -> Problem:
    """Sequence of blocks of `width` parallel chains of `length` operators, for six devices."""
    edges: dict[int, list[int]] = {}
    size = width * length + 1
    for start in range(0, blocks * size, size):
        firsts = [start + 1 + branch * length for branch in range(width)]
        edges[start] = firsts
        for first in firsts:
            edges |= {at: [at + 1] for at in range(first, first + length - 1)}
            edges[first + length - 1] = [start + size]
    return _made(blocks * size + 1, edges, devices=6)


def _made(operators: int, edges: dict[int, list[int]], devices: int) -> Problem:
    random_ = random.Random(0)
    tasks = tuple(Task(f"task {at}", (random_.uniform(0.1, 2.0),)) for at in range(operators))
    tensors = []
    for at, needing in edges.items():
        consumers = tuple(consumer for consumer in needing if consumer < operators)
        if consumers:
            tensors.append(Tensor(f"result {at}", at, consumers, (random_.uniform(0.1, 1.0),)))
    return Problem(tasks, tuple(tensors), (DeviceKind("device", devices),))


MADE = {
    "residual chain": lambda: residual(1_000),
    "long residual chain": lambda: residual(100_000),
    "4 × 3 branches": lambda: branches(8, 4, 3),
    "6 × 4 branches": lambda: branches(8, 6, 4),
}


def even(problem: Problem) -> float:
    """Bottleneck of the even split over devices of the first kind; infinite if the split cannot run."""
    dag = build_task_graph(problem)
    device = problem.kinds[0]
    total = math.fsum(dag.work[:, 0].tolist())
    if not 0 < total < math.inf:
        return total
    stages: list[list[int]] = [[] for _ in range(device.count)]
    done = 0.0
    for group, work in enumerate(dag.work[:, 0].tolist()):
        stages[min(int((done + work / 2) / total * device.count), device.count - 1)] += dag.tasks([group])
        done += work
    stages = [tasks for tasks in stages if tasks]
    measured = measure_stages(problem, stages, [0] * len(stages), list(range(len(stages))))
    return max(stage.load if stage.memory <= device.memory else math.inf for stage in measured)


def timed(problem: Problem, runs: int, limit: float | None) -> tuple[PipelineSplit, float]:
    """Best split, and the median process time of several runs in seconds."""
    samples = []
    for _ in range(runs):
        start = time.process_time()
        split = solve(problem, seconds=limit)
        samples.append(time.process_time() - start)
    return split, statistics.median(samples)


def ask_peer(program: Path, file: Path, limit: float | None) -> str:
    """Run the program of the authors; return its bottleneck and its process time as text."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    try:
        with file.open() as stream:
            answer = subprocess.run([program], stdin=stream, capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"none in {limit:g} s"
    if answer.returncode:
        return "failed"
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    return f"{json.loads(answer.stdout)['maxLoad']:.4f} in {seconds:.2f} s"


def row(name: str, problem: Problem, options: argparse.Namespace) -> list[str]:
    """Table row of one graph."""
    edges = sum(len(tensor.consumers) for tensor in problem.tensors)
    try:
        split, seconds = timed(problem, options.runs, options.seconds)
    except Infeasible as failure:
        raise SystemExit(f"{name}: {failure}") from None
    proven = PROVEN.get((name, len(problem.tasks)))
    found = _figure(split.bottleneck)
    if not split.exact:
        found += f" (at least {_figure(split.lower_bound)})"
    return [
        name,
        f"{len(problem.tasks):,}",
        f"{edges:,}",
        _figure(even(problem)),
        found,
        "not known" if proven is None else f"{proven:g}",
        f"{seconds:.2f} s",
        f"{split.downsets:,}",
        f"{split.stages_tried:,}",
    ]


def _figure(bottleneck: float) -> str:
    return f"{bottleneck:.4f}" if math.isfinite(bottleneck) else "does not fit"


def files(paths: list[Path]) -> Iterator[Path]:
    """Yield the given files, and the files of folders in order of their names."""
    for path in paths:
        yield from sorted(path.glob("*.json")) if path.is_dir() else [path]


def run(options: argparse.Namespace) -> str:
    """Solve all graphs, and return the table."""
    head = [
        "graph",
        "tasks",
        "edges",
        "even split",
        "found",
        "proven by others",
        "time",
        "downsets",
        "stages tried",
    ]
    if not options.graphs:
        return markdown(head, [row(name, make(), options) for name, make in MADE.items()])
    rows = []
    for file in files(options.graphs):
        cells = row(file.stem, read(file), options)
        rows.append(cells if options.peer is None else [*cells, ask_peer(options.peer, file, options.seconds)])
    return markdown(head if options.peer is None else [*head, "their program"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", nargs="*", type=Path, metavar="FOLDER_OR_FILE", help="default: synthetic graphs")
    parser.add_argument("--runs", type=int, default=3, help="runs for each median (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="time limit for each graph (default: none)")
    parser.add_argument("--peer", type=Path, metavar="PROGRAM", help="program of the paper's authors")
    options = parser.parse_args()
    for path in options.graphs:
        if not path.exists():
            parser.error(f"there is no `{path}`")
    print(run(options))


if __name__ == "__main__":
    main()
