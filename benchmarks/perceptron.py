"""Latency of a factorized perceptron, in float and int8, in ONNX Runtime on one thread.

The perceptron is 1024 → 4096 → 1024 → 4096, with random weights.  The factors of a weight have rank 256, which is 25 %
of the smaller side.  Two layers with 1.31 million multiply-adds together replace each layer of 4.19 million.  Runs of
the three programs are interleaved, and the measurement is repeated, because machines are noisy.  The table has the
median over the repetitions and, in brackets, the minimum and maximum.

    python -m benchmarks.perceptron [--batch 32] [--repetitions 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np

import archc
from archc.codegen import onnx
from archc.diagnostics import Source
from benchmarks.tables import markdown
from benchmarks.timing import interleaved

TEXT = """
model perceptron(width = 1024, hidden = 4096) {
    input x: f32[N, width]
    output y = x -> up: linear(hidden) -> relu -> down: linear(width) -> relu -> out: linear(hidden)
}
"""
PIPELINES = {
    "float": "",
    "rank 25 %": "lowrank(ratio = 0.25)",
    "rank 25 %, int8": "lowrank(ratio = 0.25), quant",
}


def compiled(folder: Path, width: int, hidden: int) -> dict[str, Path]:
    """Compile each pipeline to an ONNX file, calibrated on the distribution of the timed inputs."""
    calibration = {"x": np.random.default_rng(1).standard_normal((256, width), np.float32)}
    files = {}
    for number, (title, passes) in enumerate(PIPELINES.items()):
        program = archc.compile(
            Source(TEXT, "perceptron.arch"),
            set={"width": width, "hidden": hidden},
            passes=passes,
            calib=calibration if passes else None,
        )
        program.write(folder / str(number), emit=("onnx",))
        files[title] = folder / str(number) / "perceptron.onnx"
    return files


def run(width: int, hidden: int, batch: int, repetitions: int, rounds: int, seconds: float) -> str:
    """Compile and time the programs, and return the table."""
    x = np.random.default_rng(0).standard_normal((batch, width), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        sessions = {title: onnx.session(file) for title, file in compiled(Path(folder), width, hidden).items()}
        calls = {title: lambda session=session: session.run(None, {"x": x}) for title, session in sessions.items()}
        times = [interleaved(calls, rounds, seconds) for _ in range(repetitions)]
    rows = []
    for title in calls:
        milliseconds = statistics.median(time[title] for time in times) * 1e3
        ratios = sorted(time["float"] / time[title] for time in times)
        spread = f"{statistics.median(ratios):.1f}× ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        rows.append([title, f"{milliseconds:.3f} ms", spread])
    return markdown([f"{width} → {hidden} → {width} → {hidden}, batch {batch}", "median", "speed against float"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--width", type=int, default=1024, help="width of the input and of the narrow layer (default: %(default)s)"
    )
    parser.add_argument("--hidden", type=int, default=4096, help="width of the wide layers (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="batch size (default: %(default)s)")
    parser.add_argument(
        "--repetitions", type=int, default=5, help="repetitions of the measurement (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=15, help="interleaved rounds in one repetition (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=0.02, help="duration of a program in one round (default: %(default)s)"
    )
    options = parser.parse_args()
    print(run(options.width, options.hidden, options.batch, options.repetitions, options.rounds, options.seconds))


if __name__ == "__main__":
    main()
