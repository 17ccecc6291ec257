"""Properties of `partition` on random models with blocks, shared layers and tied weights."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

import archc
from archc.analysis.devices import DEFAULT_LINK, Cpu, StageDevice
from archc.declaration.traits import DECODES
from archc.diagnostics import ArchcError
from archc.driver.binding import bind_fresh
from archc.ir.given_sizes import read_sizes
from archc.ir.graph import Graph
from archc.ir.stages import Stages, entered_stage
from archc.partitioning import Infeasible, solve
from archc.passes._stage_problem import StageProblem
from archc.passes._stage_refinement import stage_numbers
from archc.passes.partition import Partition
from archc.passes.quant import Quant
from tests.language.random_graphs import random_graph
from tests.passes.graphs import outputs, run
from tests.passes.splits import best_bottleneck

MOST_OPERATORS = 9  # brute force takes too long for larger models

SEEDS = st.integers(0, 10**9)


def model(seed: int) -> Graph:
    graph = random_graph(seed)
    bind_fresh(graph, 0)
    return graph


def reads_sizes(graph: Graph, step: Partition) -> bool:
    """Return whether a stage of the best split must receive an input only to read a size from it.

    The search for the best split does not count the time to receive such inputs.
    """
    devices = [StageDevice("cpu", Cpu())] * (step.stages or 1)
    limit = math.inf if step.memory is None else step.memory
    problem = StageProblem(graph, devices, read_sizes(step.sizes or "N=1"), limit, all_used=True)
    try:
        split = solve(problem.problem())
    except Infeasible:
        return False
    return problem.add_size_sources(stage_numbers(problem.nodes, split.stages))


def decoding(graph: Graph) -> int:
    """Return the number of operators that decode integers, such as `dequantize`."""
    return sum(node.op.has(DECODES) for node in graph.nodes())


def bounds(graph: Graph, step: Partition) -> tuple[float, float]:
    """Return the reported lower bound and bottleneck; both are infinite if the pass finds no split.

    The lower bound leaves out two costs: inputs that a stage receives only to read a size, and repeated operators that
    decode integers.  Without these costs, the two numbers are equal.
    """
    reading, decoders = reads_sizes(graph, step), decoding(graph)
    try:
        (report,) = run(graph, step)
    except ArchcError as refused:
        assert {one.code for one in refused.diagnostics} <= {"does-not-fit", "too-many-stages"}
        return math.inf, math.inf
    (figures,) = [remark.figures for remark in report.remarks if "bottleneck" in remark.figures]
    lower, bottleneck = float(figures["lower_bound"]), float(figures["bottleneck"])
    assert lower == bottleneck or (lower < bottleneck and (reading or decoding(graph) > decoders))
    return lower, bottleneck


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(SEEDS, st.integers(2, 3), st.sampled_from((None, 700, 1100, 2000)), st.sampled_from((1, 8, 64)))
def test_no_split_is_better(seed: int, count: int, memory: int | None, size: int) -> None:
    graph = model(seed)
    assume(2 <= len(graph) <= MOST_OPERATORS)
    limit = math.inf if memory is None else memory * size
    expected = best_bottleneck(graph, count, Cpu(), DEFAULT_LINK, {"N": size}, limit)
    step = Partition(count, memory=None if memory is None else memory * size, sizes=f"N={size}")
    lower, bottleneck = bounds(graph, step)
    if lower == bottleneck:
        assert bottleneck == pytest.approx(expected, rel=1e-9)
    else:
        assert lower <= expected * (1 + 1e-9) and expected <= bottleneck * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 4), st.booleans())
@example(seed=583919, count=2, quantized=True)  # the second stage repeats a `dequantize`
def test_the_divided_model_computes_the_same(seed: int, count: int, quantized: bool) -> None:
    graph = model(seed)
    if quantized:
        run(graph, Quant(least=0))
    expected = outputs(graph, seed=1)
    before = sum(not node.op.has(DECODES) for node in graph.nodes())
    assume(len(graph) >= count)
    assume(math.isfinite(bounds(graph, Partition(count))[1]))
    assert Stages(graph).count == count
    actual = outputs(graph, seed=1)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    assert archc.parse(archc.print_graph(graph)) == graph
    entries = [node for node in graph.nodes() if entered_stage(node.op) is not None]
    assert len({(node.operands[0], node.op) for node in entries}) == len(entries)
    assert before == sum(entered_stage(node.op) is None and not node.op.has(DECODES) for node in graph.nodes())
