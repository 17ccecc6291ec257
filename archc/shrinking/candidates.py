"""Candidates of a search: pipelines that remove a part of a model and store the rest in fewer bits.

A candidate divides what must remain among one or two structural passes: of a share m, a pass with the exponent t keeps
m^t, and the exponents add up to 1.  The bits follow, since a quantized weight can be neither pruned nor factorized.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace

from archc.frozen_dataclass import frozen_dataclass
from archc.shrinking.choice import best_of
from archc.shrinking.goal import Figures, Goal, Quantity
from archc.shrinking.trial import Trial

Structure = tuple[tuple[str, float], ...]
"""Structural passes in their order, by kind, each with its exponent."""

KINDS: Mapping[str, str] = {
    "channels": 'prune({counted} = {left}, scheme = "channel")',
    "rank": "lowrank({counted} = {left})",
    "depth": 'prune({counted} = {left}, scheme = "depth")',
}
"""Pass of each kind, as text, with the name of the counted quantity and the amount that remains."""
DYNAMIC = 'quant(scheme = "dynamic")'
INT8 = ("quant", DYNAMIC)
COARSE = (0.85, 0.7)
"""Shares of the parameters that remain before quantization, for a limit on the bytes."""
BYTES = (0.5, 0.25, 0.16, 0.12, 0.09)
"""Shares of the bytes, for a search without limits."""
INT8_LATENCY = 0.45
"""Share of the latency that int8 layers take, before it is measured."""
LARGEST_STEP = 3
"""Ratio of the shares of two rounds, at most, under a limit on the latency."""
LEAST_SHARE = 0.05
MOST_SPARSE = 0.9
"""Largest share of weights that are masked."""
CERTAIN = 1.1
"""Ratio of an estimate to its limit above which a candidate is not tried."""
MASK = 1 / 32
"""Share of the bytes of an f32 weight that its mask takes."""
ROUNDS = 2
"""Number of rounds after the coarse one.

The first adds a second structural pass to the best one, and the others move shares between the two.
"""


@frozen_dataclass
class Candidate:
    """A pipeline, and the numbers that it is made of.

    Attributes:
        share: what the structural passes together keep of the counted quantity.
        structure: the structural passes; without effect if the share is 1.
        bits: the last pass; empty for floats.
        sparsity: share of the weights that are masked and left out of the file.
    """

    share: float = 1.0
    structure: Structure = ()
    bits: str = ""
    sparsity: float = 0.0


@frozen_dataclass
class Model:
    """Facts about the model of a search.

    Attributes:
        figures: those of the original model.
        prunable: number of the weights of which single ones can be masked.
        before: passes that every candidate begins with, such as `fold`.
    """

    figures: Figures
    prunable: int = 0
    before: Sequence[str] = field(default_factory=tuple)


class CandidatePlan:
    """The candidates of a search, round by round."""

    def __init__(self, goal: Goal, model: Model, kinds: Mapping[str, str] = KINDS):
        self._goal, self._model, self._kinds = goal, model, kinds
        self._counted: Quantity = "params"
        for each in ("params", "macs"):
            if each in goal.limits or (each == "macs" and goal.latency is not None):
                self._counted = each
        self._made: dict[str, Candidate] = {}

    def first(self) -> list[str]:
        """The coarse candidates, with one structural pass at most."""
        limits = self._goal.limits
        found = [Candidate(bits=bits) for bits in ("", *INT8)]
        if "bytes" in limits:
            found.append(Candidate(bits=self._last))
        elif self._counted not in limits and self._goal.latency is None:
            found += [Candidate(bits=self._quant(share)) for share in BYTES]
        found += self._sparse()
        for kind in self._kinds:
            found += [Candidate(share, ((kind, 1.0),), self._last) for share in self._shares()]
            if self._goal.latency is not None:
                share = min(1.0, self._goal.latency / INT8_LATENCY)
                found += [Candidate(share, ((kind, 1.0),), bits) for bits in INT8]
        return self._new(found)

    def refined(self, trials: Sequence[Trial], round: int) -> list[str]:
        """Candidates around the best trial so far.

        Args:
            round: number of the round, from 1.
        """
        best = best_of(trials, self._goal)
        candidate = self._made.get(best.passes) if best is not None else None
        if best is None or candidate is None:
            return []
        step = 0.5**round
        found: list[Candidate] = []
        if candidate.share < 1:
            found += [replace(candidate, structure=each) for each in self._neighbours(candidate.structure, step)]
        if self._goal.latency is not None:
            found += self._faster_or_slower(best, candidate)
        elif "bytes" in self._goal.limits and self._counted not in self._goal.limits:
            nearer = (1 - COARSE[0]) * step
            if candidate.share < 1:
                found += [replace(candidate, share=candidate.share + sign * nearer) for sign in (-1, 1)]
            found += [Candidate(1 - nearer, ((kind, 1.0),), self._last) for kind in self._kinds]
        elif not self._goal.limited:
            found += self._smaller(trials)
        return self._new(found)

    def predicted(self, passes: str) -> Figures:
        """Estimate of the figures of a candidate.

        Budgets are used up, and `quant` without a budget stores a quarter of the bytes.
        """
        return self._predicted(self._made[passes])

    def _predicted(self, candidate: Candidate) -> Figures:
        before = self._model.figures
        limited = candidate.bits.removeprefix("quant(bytes = ").removesuffix(")")
        removed = candidate.sparsity * self._model.prunable
        weights = before.bytes * candidate.share / (4 if candidate.bits else 1) - 4 * removed
        size = int(limited) if limited.isdigit() else int(weights)
        params = int(before.params * candidate.share - removed)
        return Figures(size, int(before.macs * candidate.share), params, {})

    @property
    def _last(self) -> str:
        """The last pass of a candidate with structural passes."""
        limits = self._goal.limits
        return f"quant(bytes = {limits['bytes']})" if "bytes" in limits else ""

    def _shares(self) -> Sequence[float]:
        """Shares of the counted quantity that remain in the first round."""
        limits = self._goal.limits
        if self._counted in limits:
            return (limits[self._counted] / max(self._model.figures.of(self._counted), 1),)
        if self._goal.latency is not None:
            return (self._goal.latency,)
        return COARSE if "bytes" in limits else ()

    def _neighbours(self, structure: Structure, step: float) -> Iterator[Structure]:
        """Structures in which a pass leaves more or less to another one, before or after it."""
        if len(structure) == 1:
            ((kind, _),) = structure
            for other in self._kinds:
                if other != kind:
                    yield ((kind, 1 - step), (other, step))
                    yield ((other, step), (kind, 1 - step))
            return
        (one, t), (other, _) = structure
        for moved in (t - step, t + step):
            if moved in (0.0, 1.0):
                yield ((one if moved else other, 1.0),)
            else:
                yield ((one, moved), (other, 1 - moved))

    def _sparse(self) -> list[Candidate]:
        """A model with masked weights that are not stored, if this can meet the limits."""
        limits, figures, prunable = self._goal.limits, self._model.figures, self._model.prunable
        if not prunable or "macs" in limits or self._goal.latency is not None:
            return []
        needed = [0.5] if not limits else []
        if "params" in limits:
            needed.append((figures.params - limits["params"]) / prunable)
        if "bytes" in limits:
            needed.append((figures.bytes - limits["bytes"]) / (4 * prunable) + MASK)
        sparsity = round(max(needed) + 0.005, 2)
        return [Candidate(sparsity=sparsity)] if 0 < sparsity <= MOST_SPARSE else []

    def _smaller(self, trials: Sequence[Trial]) -> list[Candidate]:
        """Sizes between the smallest model that agrees enough and the next smaller one."""
        sizes = sorted(trial.figures.bytes for trial in trials if trial.figures is not None)
        best = best_of(trials, self._goal)
        assert best is not None and best.figures is not None, "there is a best trial"
        below = max((size for size in sizes if size < best.figures.bytes), default=best.figures.bytes // 2)
        middle = (below + best.figures.bytes) / 2 / self._model.figures.bytes
        singles = [Candidate(0.9, ((kind, 1.0),), self._quant(middle)) for kind in self._kinds]
        return [Candidate(bits=self._quant(middle)), *singles]

    def _faster_or_slower(self, best: Trial, candidate: Candidate) -> list[Candidate]:
        """Candidates at the limit on the latency, on a line through the best one and the whole model.

        A program has a part of its latency for every operator, however few channels it has.
        """
        assert best.figures is not None and self._goal.latency is not None
        limit, latency, share = self._goal.latency, best.figures.slowest, candidate.share
        if share == 1:
            structures: list[Structure] = [((kind, 1.0),) for kind in self._kinds]
            return [replace(candidate, share=min(1.0, limit / latency), structure=each) for each in structures]
        whole = INT8_LATENCY if candidate.bits else 1.0
        found = 1 - (whole - limit) * (1 - share) / max(whole - latency, 1e-9)
        return [replace(candidate, share=min(1.0, max(found, share / LARGEST_STEP)))]

    def _quant(self, share: float) -> str:
        return f"quant(bytes = {int(share * self._model.figures.bytes)})"

    def _new(self, candidates: Sequence[Candidate]) -> list[str]:
        """Pipelines of the candidates that are valid, can meet the limits, and were not returned before."""
        found = []
        sizes = replace(self._goal, latency=None)  # only a measurement can tell the latency
        for candidate in candidates:
            if LEAST_SHARE <= candidate.share <= 1 and sizes.excess(self._predicted(candidate)) <= CERTAIN:
                text = self._pipeline(candidate)
                if text not in self._made:
                    self._made[text] = candidate
                    found.append(text)
        return found

    def _pipeline(self, candidate: Candidate) -> str:
        steps, gone = [*self._model.before], 0.0
        for kind, exponent in candidate.structure if candidate.share < 1 else ():
            gone += exponent
            left = int(self._model.figures.of(self._counted) * candidate.share ** min(gone, 1.0))
            steps.append(self._kinds[kind].format(counted=self._counted, left=left))
        if candidate.sparsity:
            steps.append(f'prune({candidate.sparsity:g}, storage = "sparse")')
        return " -> ".join([*steps, *([candidate.bits] if candidate.bits else [])])
