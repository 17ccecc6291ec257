"""The digit classifier with half of its channels, and with a tenth of its weights.

Trains `specs/cnn.arch` as `benchmarks.digits` does, prunes it, trains what is left for two more epochs in the same way,
and compiles the text that pruning left with the weights that came of it.  A mask outlasts the training.  The table
gives the accuracy on the 1,000 digits held out, before and after those epochs, and what ONNX Runtime takes for 32
digits on one thread: the programs take turns, and the whole is repeated, since machines are noisy; the median, and the
speed relative to the float program with the least and the most of it.

    python -m benchmarks.pruning [--epochs 6] [--further 2] [--repetitions 5] [--out out/pruning]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import archc
from archc.driver.emitted_programs import load_module
from benchmarks.digits import SPEC, Digits, Program, load_digits, load_programs, measure, pick, save, train, trained
from benchmarks.tables import markdown

PIPELINES: Mapping[str, str] = {
    "half the channels": 'prune(0.5, scheme = "channel")',
    "a tenth of the weights": "prune(0.9)",
}
FLOAT = "float"
BATCH = 32


@dataclass(frozen=True)
class Variant:
    """A classifier: in PyTorch and in ONNX Runtime, right after its pass, and as it is in the end.

    Attributes:
        nonzero: how many numbers of its trainable weights are not zero in the end.
    """

    title: str
    untrained: list[Program]
    programs: list[Program]
    nonzero: int


def build(
    out: Path, digits: Digits, weights: Path, further: int = 2, say: Callable[[str], None] = print
) -> list[Variant]:
    """Prune the trained classifier, and train it further; the float one comes first."""
    compiled = archc.compile(SPEC, weights=weights)
    compiled.write(out / FLOAT)
    programs = load_programs(out / FLOAT, FLOAT)
    variants = [Variant(FLOAT, programs, programs, _nonzero(compiled.graph))]
    for title, passes in PIPELINES.items():
        say(f"prune with `{passes}`, and train {further} epochs further")
        folder = out / title.replace(" ", "-")
        archc.compile(SPEC, weights=weights, passes=passes).write(folder / "pruned")
        model = train(load_module(folder / "pruned" / "cnn.py").load(), digits, further)
        save(model, folder / "trained.safetensors")
        compiled = archc.compile(folder / "pruned" / "cnn.arch", weights=folder / "trained.safetensors")
        compiled.write(folder / "done")
        before, after = (load_programs(folder / name, title) for name in ("pruned", "done"))
        variants.append(Variant(title, before, after, _nonzero(compiled.graph)))
    return variants


def _nonzero(graph: archc.Graph) -> int:
    trainable = (path for path, weight in graph.weights.items() if weight.trainable)
    return sum(int(np.count_nonzero(graph.weight_values(path))) for path in trainable)


def accuracy(programs: list[Program], digits: Digits) -> dict[str, float]:
    """The share of the digits held out that each program gets right, by its title."""
    labels = digits.test_labels.numpy()
    return {title: float(np.mean(picked == labels)) for title, picked in pick(programs, digits).items()}


def table(variants: list[Variant], digits: Digits, repetitions: int) -> str:
    """All that is compared, as a Markdown table."""
    in_onnxruntime = [variant.programs[1] for variant in variants]
    times = [measure(in_onnxruntime, digits, BATCH) for _ in range(repetitions)]
    reference = in_onnxruntime[0].title
    rows = []
    for variant, program in zip(variants, in_onnxruntime):
        shares = [accuracy(programs, digits)[program.title] for programs in (variant.untrained, variant.programs)]
        milliseconds = statistics.median(time[program.title] for time in times) * 1e3
        ratios = sorted(time[reference] / time[program.title] for time in times)
        rows.append(
            [
                variant.title,
                *(f"{share:.1%}" for share in shares),
                f"{variant.nonzero:,}",
                f"{program.report['multiply_adds']:,}",
                f"{milliseconds:.3f} ms",
                f"{statistics.median(ratios):.1f}× ({ratios[0]:.1f} to {ratios[-1]:.1f})",
            ]
        )
    head = ["", "accuracy at once", "after training", "weights not zero", "multiply-adds", f"batch {BATCH}", "speed"]
    return markdown(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6, help="of the float classifier (default: %(default)s)")
    parser.add_argument("--further", type=int, default=2, help="after pruning (default: %(default)s)")
    parser.add_argument("--repetitions", type=int, default=5, help="of the measurement (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/pruning"), help="where the programs are written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    digits = load_digits()
    variants = build(options.out, digits, trained(options.out, digits, options.epochs), options.further)
    print()
    print(table(variants, digits, options.repetitions))


if __name__ == "__main__":
    main()
