"""Worker process of a campaign: test seeds in sequence, and print the text and results of each.

A crash of a runtime ends this process; the last line then names the seed.
"""

from __future__ import annotations

import gc
import json
import sys
import warnings
from collections import Counter
from pathlib import Path

import torch

from tests.fuzz.checks import Failure, check
from tests.fuzz.minimize import minimized
from tests.fuzz.models import Model, random_model
from tests.fuzz.programs import survives

DIES = "dies"


def results(seed: int, model: Model) -> dict[str, object]:
    """Results of a seed: failures, each with a failing text, and counts."""
    outcome = check(model.text, seed)
    failures = [(failure, model.text) for failure in outcome.failures]
    failures += [(Failure("operator", "cannot run", reason), text) for text, reason in model.broken]
    counts = outcome.counts + Counter({f"operator {name}": count for name, count in Counter(model.operators).items()})
    return {
        "seed": seed,
        "counts": dict(counts),
        "failures": [{"signature": one.signature, "detail": one.detail, "text": text} for one, text in failures],
    }


def smallest(text: str, seed: int, signature: str, seconds: float) -> str:
    """Shrink a text to a smaller one that fails in the same way."""
    stage, kind = signature.split(": ")[:2]
    if stage == "operator":
        return text

    def fails(candidate: str) -> bool:
        if kind == DIES:
            return not _survives(candidate, seed)
        return any(one.signature == signature for one in check(candidate, seed, only=stage).failures)

    return minimized(text, fails, seconds)


def _survives(text: str, seed: int) -> bool:
    return survives(lambda: check(text, seed))


def main(arguments: list[str]) -> None:
    """Run `seeds 0 100`, or `smallest FILE SEED SIGNATURE SECONDS`."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    gc.freeze()  # imported objects live until the end: the collector can skip them
    gc.set_threshold(100_000)
    if arguments[0] == "smallest":
        path, seed, signature, seconds = arguments[1:]
        print(smallest(Path(path).read_text(), int(seed), signature, float(seconds)), end="")
        return
    for seed in range(int(arguments[1]), int(arguments[2])):
        print(json.dumps({"begin": seed}), flush=True)
        model = random_model(seed)
        print(json.dumps({"text": model.text}), flush=True)
        print(json.dumps(results(seed, model)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
