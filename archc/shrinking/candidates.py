"""Candidates of a search: pipelines of pruning, low rank and quantization, coarse ones first.

A candidate divides what must remain between two passes: of a share m, channel pruning keeps m^t and low rank m^(1-t).
The bits follow, since a quantized weight can be neither pruned nor factorized.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from archc.frozen_dataclass import frozen_dataclass
from archc.shrinking.choice import best_of
from archc.shrinking.goal import Figures, Goal, Quantity
from archc.shrinking.trial import Trial

Order = Literal["prune first", "lowrank first"]

DYNAMIC = 'quant(scheme = "dynamic")'
COARSE = (0.85, 0.7)
"""Shares of the parameters that remain before quantization, for a limit on the bytes."""
BYTES = (0.5, 0.25, 0.16, 0.12, 0.09)
"""Shares of the bytes, for a search without limits."""
LEAST_SHARE = 0.05
ROUNDS = 3
"""Number of rounds after the coarse one; each divides the distances between candidates by two."""


@frozen_dataclass
class Candidate:
    """A pipeline, and the numbers that it is made of.

    Attributes:
        share: what channel pruning and low rank together keep of the parameters or multiply-adds.
        split: t of the division m^t, m^(1-t); 0 for low rank only, 1 for channel pruning only.
        bits: the last pass; empty for floats.
    """

    share: float = 1.0
    split: float = 1.0
    order: Order = "prune first"
    bits: str = ""


class CandidatePlan:
    """The candidates of a search, round by round.

    Args:
        goal: the goal.
        original: figures of the original model.
        before: passes that every candidate begins with, such as `fold`.
    """

    def __init__(self, goal: Goal, original: Figures, before: Sequence[str] = ()):
        self._goal, self._original, self._before = goal, original, list(before)
        counted: list[Quantity] = ["macs", "params"]
        self._counted: Quantity = next((each for each in counted if each in goal.limits), "params")
        self._made: dict[str, Candidate] = {}

    def first(self) -> list[str]:
        """The coarse candidates."""
        limits, found = self._goal.limits, [Candidate(bits=bits) for bits in ("", "quant", DYNAMIC)]
        if "bytes" not in limits and self._counted not in limits:
            found += [Candidate(bits=self._quant(share)) for share in BYTES]
        last = f"quant(bytes = {limits['bytes']})" if "bytes" in limits else ""
        if last:
            found.append(Candidate(bits=last))
        shares = (limits[self._counted] / self._original.of(self._counted),) if self._counted in limits else COARSE
        for share in shares if self._counted in limits or "bytes" in limits else ():
            found += [
                Candidate(share, 0.0, bits=last),
                Candidate(share, 1.0, bits=last),
                Candidate(share, 0.5, bits=last),
                Candidate(share, 0.5, "lowrank first", bits=last),
            ]
        return self._new(found)

    def refined(self, trials: Sequence[Trial], round: int) -> list[str]:
        """Candidates around the best trial so far.

        Args:
            round: number of the round, from 1.
        """
        best = best_of(trials, self._goal)
        candidate = self._made.get(best.passes) if best is not None else None
        if candidate is None:
            return []
        step = 0.5 ** (round + 1)
        found: list[Candidate] = []
        if candidate.share < 1:
            found += [replace(candidate, split=candidate.split + sign * step) for sign in (-1, 1)]
            found += [] if candidate.bits else [replace(candidate, bits=bits) for bits in ("quant", DYNAMIC)]
        if self._counted not in self._goal.limits:
            if "bytes" in self._goal.limits:
                nearer = (1 - COARSE[0]) * 2 * step
                found += [replace(candidate, share=candidate.share + sign * nearer) for sign in (-1, 1)]
                found += [replace(candidate, share=1 - nearer, split=split) for split in (0.0, 1.0)]
            else:
                found += self._smaller(trials)
        return self._new(found)

    def predicted(self, passes: str) -> Figures:
        """Estimate of the figures of a candidate.

        Budgets are used up, and `quant` without a budget stores a quarter of the bytes.
        """
        candidate, before = self._made[passes], self._original
        limited = candidate.bits.removeprefix("quant(bytes = ").removesuffix(")")
        weights = before.bytes * candidate.share / (4 if candidate.bits else 1)
        size = int(limited) if limited.isdigit() else int(weights)
        return Figures(size, int(before.macs * candidate.share), int(before.params * candidate.share), {})

    def _smaller(self, trials: Sequence[Trial]) -> list[Candidate]:
        """Sizes between the smallest model that agrees enough and the next smaller one."""
        sizes = sorted(trial.figures.bytes for trial in trials if trial.figures is not None)
        best = best_of(trials, self._goal)
        assert best is not None and best.figures is not None, "there is a best trial"
        below = max((size for size in sizes if size < best.figures.bytes), default=best.figures.bytes // 2)
        middle = (below + best.figures.bytes) / 2 / self._original.bytes
        return [Candidate(share, split, bits=self._quant(middle)) for share, split in ((1, 1), (0.9, 0), (0.9, 1))]

    def _quant(self, share: float) -> str:
        return f"quant(bytes = {int(share * self._original.bytes)})"

    def _new(self, candidates: Sequence[Candidate]) -> list[str]:
        """Pipelines of the candidates that are valid and were not returned before."""
        found = []
        for candidate in candidates:
            if LEAST_SHARE <= candidate.share <= 1 and 0 <= candidate.split <= 1:
                text = self._pipeline(candidate)
                if text not in self._made:
                    self._made[text] = candidate
                    found.append(text)
        return found

    def _pipeline(self, candidate: Candidate) -> str:
        total, share = self._original.of(self._counted), candidate.share
        prune_first = candidate.order == "prune first"
        after_first = share ** (candidate.split if prune_first else 1 - candidate.split)
        steps = []
        if share < 1:
            remains = {"prune": candidate.split > 0, "lowrank": candidate.split < 1}
            order = ["prune", "lowrank"] if prune_first else ["lowrank", "prune"]
            used = [name for name in order if remains[name]]
            for place, name in enumerate(used):
                left = int(total * (share if place == len(used) - 1 else after_first))
                scheme = ', scheme = "channel"' if name == "prune" else ""
                steps.append(f"{name}({self._counted} = {left}{scheme})")
        return " -> ".join([*self._before, *steps, *([candidate.bits] if candidate.bits else [])])
