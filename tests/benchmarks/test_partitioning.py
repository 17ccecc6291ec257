"""The partitioning benchmark reads cost graphs, and finds the same optimum as a brute-force search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.partitioning import branches, even, read, residual
from tests.benchmarks.test_scripts import table
from tests.docs.examples import python
from tests.partitioning.brute_force import least_bottleneck

LATENCIES = [3.0, 2.0, 4.0, 1.0, 2.0, 5.0]
EDGES = [(10, 11), (10, 12), (11, 13), (12, 13), (13, 14), (14, 15), (10, 15)]
GRAPH: dict[str, Any] = {
    "maxSizePerFPGA": 8.0,
    "maxFPGAs": 2,
    "maxCPUs": 1,
    "nodes": [
        {
            "id": number + 10,
            "supportedOnFpga": number != 4,
            "cpuLatency": 3 * latency,
            "fpgaLatency": latency,
            "size": 3.0,
            "isBackwardNode": False,
            "colorClass": {1: 7, 2: 7}.get(number, 100 + number),
        }
        for number, latency in enumerate(LATENCIES)
    ],
    "edges": [{"sourceId": a, "destId": b, "cost": 0.25 * (a - 9)} for a, b in EDGES],
}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    file = tmp_path / "small.json"
    file.write_text(json.dumps(GRAPH))
    return file


def test_graph_is_read(graph: Path) -> None:
    problem = read(graph)
    assert [task.memory for task in problem.tasks] == [3.0] * 6
    assert problem.tasks[4].work == (float("inf"), 6.0)
    assert problem.tasks[1].together == problem.tasks[2].together != problem.tasks[3].together
    assert {tensor.producer: tensor.consumers for tensor in problem.tensors}[0] == (1, 2, 5)
    assert [tensor.time for tensor in problem.tensors] == [(0.25 * number, 0.0) for number in range(1, 6)]
    assert [(kind.count, kind.memory) for kind in problem.kinds] == [(2, 8.0), (1, float("inf"))]


def test_table_has_the_optimum(graph: Path) -> None:
    ((name, tasks, edges, split_evenly, found, _, seconds, *_),) = table(
        python("-m", "benchmarks.partitioning", str(graph.parent), "--runs", "1")
    )
    best = least_bottleneck(read(graph))
    assert best is not None
    assert (name, tasks, edges, found) == ("small", "6", "7", f"{best:.4f}")
    assert split_evenly == "does not fit"  # no accelerator runs the fifth node
    assert float(seconds.removesuffix(" s")) >= 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "it lacks 'nodes'"),
        ("[]", "is no cost graph"),
        ("nodes", "is no cost graph"),
        (json.dumps(GRAPH | {"edges": [{"sourceId": 10, "destId": 3, "cost": 1.0}]}), "it lacks 3"),
        (
            json.dumps(GRAPH | {"edges": [*GRAPH["edges"], {"sourceId": 10, "destId": 13, "cost": 9.0}]}),
            "out of node 10",
        ),
    ],
)
def test_other_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(SystemExit, match=message):
        read(file)


def test_made_graphs_are_split_evenly() -> None:
    for problem in residual(40), branches(2, 3, 2):
        total = sum(task.work[0] for task in problem.tasks)
        assert total / problem.kinds[0].count < even(problem) < total
