"""Groups that some best split has in one stage, merged before the search.

Both rules move one group u over a tensor that is dearer than what u would bring along, in all ways at once, so that no
load grows:

*Back*: everything that u makes goes to v alone.  Say that a split has u in stage A and v in a later stage B.  With u
in B instead, A does not do u, does not send u's results X, and sends or relays at most u's operands Y; B does u and
receives at most Y, and does not receive X; the stages between, where tensors are relayed, pass on Y at most and X no
more; who sent Y to A sends it still.  So if work(u) + time(Y) ≤ time(X) on every kind of device, no load grows, and no
edge goes back, since all that u made went to v.

*Forward*: everything that v needs comes from u alone, and X is what goes to v and to no other.  The same holds of v in
the stage of u, if work(v) + time(Z) ≤ time(X) on every kind for v's results Z.

Weights that are nodes of their own (no work, one result) and reshapes (no work, as much out as in) go this way; the
special case of a group without work and with one neighbour is in the program of Tarnawski et al. 2020.

Memory: moving must not overfill a device, so either no device could ever be too full or the group holds nothing.
A moved group may leave a stage empty, so none of this holds where every device must be used; `solver` knows.

Several groups move in one step if none of them is also moved to: a condition speaks only of the group's own work and
tensors and of their other ends, and stays true when those ends grow.
"""

from __future__ import annotations

from archc.partitioning.dag import Dag, merge


def reduce(dag: Dag) -> Dag:
    """The graph with all groups merged that the two rules allow."""
    while True:
        labels = _step(dag)
        if labels == list(range(len(dag))):
            return dag
        dag = merge(dag, labels)


def _step(dag: Dag) -> list[int]:
    """A label for each group; those of one label are merged."""
    import numpy as np

    made, needed, alone = (np.zeros_like(dag.work) for _ in range(3))
    ends: list[set[int]] = [set() for _ in range(len(dag))]
    starts: list[set[int]] = [set() for _ in range(len(dag))]
    for producer, consumers, output, time in zip(dag.producers, dag.consumers, dag.outputs, dag.time):
        if producer >= 0:
            made[producer] += time
            ends[producer].update(consumers)
            if output:
                ends[producer].add(-1)
        for consumer in consumers:
            needed[consumer] += time
            starts[consumer].add(producer)
        if len(consumers) == 1 and not output:
            alone[consumers[0]] += time
    backward = (dag.work + needed <= made).all(axis=1)
    forward = (dag.work + made <= alone).all(axis=1)
    moves = backward | forward
    if dag.memory_binds:
        moves &= dag.memory == 0
        moves[[group for groups in dag.shared for group in groups]] = False
    if dag.first is not None:
        moves[dag.first] = False

    labels = list(range(len(dag)))
    targets: set[int] = set()
    for group in np.flatnonzero(moves).tolist():
        if group in targets:
            continue
        for dearer, others in (backward[group], ends[group]), (forward[group], starts[group]):
            (other,) = others if dearer and len(others) == 1 else (-1,)
            if other >= 0 and labels[other] == other:
                labels[group] = other
                targets.add(other)
                break
    return labels
