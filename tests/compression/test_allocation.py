"""Allocation: within the budget, and as good as brute force at the costs of its own choices."""

from __future__ import annotations

from itertools import product
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from archc.compression.allocation import Option, allocate

options = st.lists(
    st.builds(Option, st.just(""), st.integers(0, 50), st.floats(0, 10, allow_subnormal=False)), min_size=1, max_size=4
)


@given(st.lists(options, min_size=1, max_size=4), st.integers(0, 200))
def test_a_choice_is_within_the_budget_and_near_the_best(table: list[list[Option[str]]], budget: int) -> None:
    layers = dict(enumerate(table))
    found = allocate(layers, budget)
    fitting = [row for row in product(*table) if sum(option.cost for option in row) <= budget]
    if found is None:
        assert not fitting
        return
    assert found.keys() == layers.keys() and all(found[key] in layers[key] for key in layers)
    cost, loss = (sum(getattr(option, name) for option in found.values()) for name in ("cost", "loss"))
    assert cost <= budget
    # No single change within the budget is better.
    for key, each in layers.items():
        for option in each:
            if cost - found[key].cost + option.cost <= budget:
                assert option.loss >= found[key].loss - 1e-12
    # The loss is at most that of the best choice plus the loss of one layer, the gap of the Lagrangian relaxation.
    best = min(sum(option.loss for option in row) for row in fitting)
    assert loss <= best + max(option.loss for each in table for option in each) + 1e-9


def test_sensitive_layers_get_more_bytes() -> None:
    bits = (2, 3, 4, 8)
    table = {layer: [Option(b, 100 * b, weight * 4.0**-b) for b in bits] for layer, weight in (("a", 1), ("b", 100))}
    found = allocate(table, 1000)
    assert found is not None and found["b"].choice > found["a"].choice
    assert allocate(table, 399) is None
    everything = allocate(table, 10_000)
    assert everything is not None and {option.choice for option in everything.values()} == {8}


def test_no_choice_of_the_same_cost_is_better_on_the_convex_hull() -> None:
    """At the cost of a choice that minimizes loss + λ · cost, the allocation has the loss of that choice."""
    for seed in range(50):
        generator = Random(seed)
        layers = {
            layer: [Option("", generator.randrange(1, 1000), generator.random()) for _ in range(5)]
            for layer in range(6)
        }
        price = 10 ** generator.uniform(-4, -2)
        best = [min(each, key=lambda option: option.loss + price * option.cost) for each in layers.values()]
        found = allocate(layers, sum(option.cost for option in best))
        assert found is not None
        assert sum(option.loss for option in found.values()) <= sum(option.loss for option in best) + 1e-9
