"""Which devices are spent after some stages, as numbered states."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from archc.partitioning.problem import Problem


@dataclass(frozen=True)
class Lineup:
    """The ways to take devices one after the other.

    Attributes:
        states: for each, how many devices of each kind are spent or passed over.
        total: how many there are of each kind.
        moves: for each state, the kinds that may come next, and the state after.
        final: the states in which a split may end.

    A state comes before those that follow it.
    """

    states: list[tuple[int, ...]]
    total: tuple[int, ...]
    moves: list[list[tuple[int, int]]]
    final: list[int]

    def kind(self, before: int, after: int) -> int:
        """The kind of device that led from one state to the next."""
        return next(kind for kind, state in self.moves[before] if state == after)


def lineup(problem: Problem, groups: int, all_used: bool) -> Lineup:
    """The ways to take the devices of a problem for at most as many stages as there are groups."""
    if problem.order is not None:
        return _fixed(problem.order, len(problem.kinds), all_used)
    total = tuple(kind.count if all_used else min(kind.count, groups) for kind in problem.kinds)
    states = list(itertools.product(*(range(count + 1) for count in total)))
    number = {state: index for index, state in enumerate(states)}
    moves: list[list[tuple[int, int]]] = []
    for state in states:
        following = [(*state[:kind], state[kind] + 1, *state[kind + 1 :]) for kind in range(len(total))]
        moves.append([(kind, number[after]) for kind, after in enumerate(following) if after in number])
    return Lineup(states, total, moves, [len(states) - 1] if all_used else list(range(len(states))))


def _fixed(order: tuple[int, ...], kinds: int, all_used: bool) -> Lineup:
    """A fixed sequence.  Who passes devices over takes the next of its kind: a later one leaves fewer for others."""
    places = range(len(order) + 1)
    states = [tuple(order[:place].count(kind) for kind in range(kinds)) for place in places]
    moves: list[list[tuple[int, int]]] = []
    for place in places:
        rest = order[place : place + 1] if all_used else order[place:]
        moves.append([(kind, place + rest.index(kind) + 1) for kind in sorted(set(rest))])
    return Lineup(states, states[-1], moves, [len(order)] if all_used else list(places))
