"""Accuracy and latency of the digit classifier with half of its channels, or a tenth of its weights.

The script trains `specs/cnn.arch` like `benchmarks.digits`, prunes the network, and fine-tunes the pruned module for
two epochs.  Masked weights stay zero in fine-tuning.  The script then compiles the pruned text with the fine-tuned
weights.  The table has the accuracy on the 1,000 test digits before and after fine-tuning, and the latency for 32
digits in ONNX Runtime on one thread.  Runs are interleaved, and the measurement is repeated, because of noise.  The
table has the median latency, and the median, minimum and maximum of the speed relative to the float program.

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
from archc.codegen.torch.load import load_module
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
    """Classifier of one pipeline, in PyTorch and in ONNX Runtime.

    Attributes:
        untrained: programs before fine-tuning.
        programs: programs after fine-tuning.
        nonzero: number of nonzero elements of the trainable weights after fine-tuning.
    """

    title: str
    untrained: list[Program]
    programs: list[Program]
    nonzero: int


def build(
    out: Path, digits: Digits, weights: Path, further: int = 2, say: Callable[[str], None] = print
) -> list[Variant]:
    """Prune and fine-tune the trained classifier with each pipeline; the float variant comes first."""
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
    """Accuracy of each program on the test digits, by program title."""
    labels = digits.test_labels.numpy()
    return {title: float(np.mean(picked == labels)) for title, picked in pick(programs, digits).items()}


def table(variants: list[Variant], digits: Digits, repetitions: int) -> str:
    """Compare the variants in a Markdown table."""
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
    head = [
        "",
        "accuracy before fine-tuning",
        "after fine-tuning",
        "nonzero weights",
        "multiply-adds",
        f"batch {BATCH}",
        "speed",
    ]
    return markdown(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6, help="epochs of the float classifier (default: %(default)s)")
    parser.add_argument("--further", type=int, default=2, help="epochs of fine-tuning (default: %(default)s)")
    parser.add_argument(
        "--repetitions", type=int, default=5, help="repetitions of the measurement (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/pruning"), help="folder for the programs (default: %(default)s)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    digits = load_digits()
    variants = build(options.out, digits, trained(options.out, digits, options.epochs), options.further)
    print()
    print(table(variants, digits, options.repetitions))


if __name__ == "__main__":
    main()
