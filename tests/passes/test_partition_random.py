"""Laws of `partition` on random models with blocks, shared layers, tied weights and skips of all kinds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import archc
from archc.analysis.devices import DEFAULT_LINK, Cpu
from archc.diagnostics import ArchcError
from archc.driver.binding import bind_fresh
from archc.ir.graph import Graph
from archc.ir.stages import Stages
from archc.passes.partition import Partition
from archc.passes.quant import Quant
from tests.language.random_graphs import random_graph
from tests.passes.graphs import outputs, run
from tests.passes.splits import best_bottleneck

MOST_OPERATORS = 9  # a split of more takes the brute force too long

SEEDS = st.integers(0, 10**9)


def model(seed: int) -> Graph:
    graph = random_graph(seed)
    bind_fresh(graph, 0)
    return graph


def bottleneck(graph: Graph, step: Partition) -> float:
    """That of the best split, infinite where the pass says that there is none."""
    try:
        (report,) = run(graph, step)
    except ArchcError as refused:
        assert {one.code for one in refused.diagnostics} <= {"does-not-fit", "too-many-stages"}
        return math.inf
    (figures,) = [remark.figures for remark in report.remarks if "bottleneck" in remark.figures]
    assert figures["lower_bound"] == figures["bottleneck"]
    return float(figures["bottleneck"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(SEEDS, st.integers(2, 3), st.sampled_from((None, 700, 1100, 2000)), st.sampled_from((1, 8, 64)))
def test_no_split_is_better(seed: int, count: int, memory: int | None, size: int) -> None:
    graph = model(seed)
    assume(2 <= len(graph) <= MOST_OPERATORS)
    limit = math.inf if memory is None else memory * size
    expected = best_bottleneck(graph, count, Cpu(), DEFAULT_LINK, {"N": size}, limit)
    step = Partition(count, memory=None if memory is None else memory * size, sizes=f"N={size}")
    assert bottleneck(graph, step) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 4), st.booleans())
def test_the_divided_model_is_the_model(seed: int, count: int, quantized: bool) -> None:
    graph = model(seed)
    if quantized:
        run(graph, Quant(least=0))
    expected = outputs(graph, seed=1)
    before = sum(not node.op.decodes for node in graph.nodes())
    assume(len(graph) >= count)
    assume(math.isfinite(bottleneck(graph, Partition(count))))
    assert Stages(graph).count == count
    actual = outputs(graph, seed=1)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    assert archc.parse(archc.print_graph(graph)) == graph
    entries = [node for node in graph.nodes() if node.op.enters_stage() is not None]
    assert len({(node.operands[0], node.op) for node in entries}) == len(entries)
    assert before == sum(node.op.enters_stage() is None and not node.op.decodes for node in graph.nodes())
