"""Inference time of image networks in channels-last and contiguous layout, on one CPU thread.

`load` returns modules in channels-last layout.  Weights are random, times are process times, and runs of both layouts
are interleaved.  The ratio is the median over the pairs of runs, with the minimum and maximum.  Below 1, channels-last
is faster.

    python -m benchmarks.memory_format [--models resnet50 unet] [--batches 1 32] [--pixels 224] [--pairs 5]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping

import torch

from benchmarks.references import in_turns, load, milliseconds
from benchmarks.tables import markdown

MODELS: Mapping[str, tuple[int, int]] = {
    "lenet5": (1, 28),
    "cnn": (1, 28),
    "resnet18": (3, 224),
    "resnet50": (3, 224),
    "vgg16": (3, 224),
    "mobilenet_v2": (3, 224),
    "densenet121": (3, 224),
    "inception_v1": (3, 224),
    "inception_v3": (3, 299),
    "unet": (1, 224),
    "ssd300": (3, 300),
    "vit": (3, 224),
}
"""Channels and side of an image, by spec."""


def row(spec: str, pixels: int, batch: int, pairs: int) -> list[str]:
    """Table row with the times of both layouts and their ratio."""
    ordered, usual = load(spec), load(spec).to(memory_format=torch.contiguous_format)
    images = torch.randn(batch, MODELS[spec][0], pixels, pixels)
    repeats = 1 if pixels > 64 else 20  # one call of a small network is below the clock resolution

    def own() -> None:
        for _ in range(repeats):
            ordered(images)

    def other() -> None:
        for _ in range(repeats):
            usual(images)

    for run in (own, other):  # warm-up: first runs are slower
        run()
    times = [in_turns(own, other, "cpu", first=pair % 2) for pair in range(pairs)]
    ratios = [mine / theirs for mine, theirs in times]
    return [
        f"`{spec}`, {pixels} × {pixels}",
        str(batch),
        *(f"{milliseconds(statistics.median(column) / repeats)} ms" for column in zip(*times, strict=True)),
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS, help="default: all")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="default: 1 8")
    parser.add_argument(
        "--pixels", type=int, help="height and width of the images (default: the usual size of the network)"
    )
    parser.add_argument("--pairs", type=int, default=5, help="runs of each layout (default: 5)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.no_grad():
        rows = [
            row(spec, options.pixels or MODELS[spec][1], batch, options.pairs)
            for spec in options.models
            for batch in options.batches
        ]
    print(markdown(["", "batch", "channels last", "default", "ratio"], rows))


if __name__ == "__main__":
    main()
