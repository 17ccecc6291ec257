"""Peak memory, time and disk space of quantizing a large language model.

The model has the shape of GPT-2 XL, with 1.5 billion parameters.  The script writes a checkpoint with seeded random
weights in f16, one tensor after the other, and deletes it afterwards.  `archc compile --no-check` runs in a separate
process.  Disk is the size of the checkpoint and of the result.

    python -m benchmarks.streaming_quant [--depth 48] [--width 1600] [--passes 'quant(int4)'] [--samples 8]
        [--emit onnx]
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import struct
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import archc
from benchmarks.processes import ROOT, measure
from benchmarks.tables import markdown

ROWS = 4096
"""Rows of a tensor that are generated at a time."""
LENGTH = 64
"""Tokens of a calibration sample."""
BYTES_PER_WEIGHT = 8
"""Free disk space that is required, for the checkpoint, scratch files and the result."""


def shapes(settings: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Shape of each weight by name."""
    graph = archc.parse(ROOT / "specs" / "gpt2.arch", "gpt2", settings)
    return {name: tuple(int(size) for size in weight.shape) for name, weight in graph.weights.items()}


def write_checkpoint(path: Path, sizes: Mapping[str, tuple[int, ...]], seed: int = 0) -> None:
    """Write normal weights of standard deviation 0.02 in f16, as safetensors."""
    header: dict[str, object] = {}
    start = 0
    for name, shape in sizes.items():
        end = start + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    generator = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in sizes.values():
            rows, columns = shape[0], math.prod(shape[1:])
            for first in range(0, rows, ROWS):
                part = generator.standard_normal((min(ROWS, rows - first), columns), np.float32)
                file.write((0.02 * part).astype(np.float16).tobytes())


def compile_model(settings: Mapping[str, int], passes: str, emit: str, out: Path, samples: int) -> list[str]:
    """Write a checkpoint, quantize it in a separate process, and return the row."""
    sizes = shapes(settings)
    count = sum(math.prod(shape) for shape in sizes.values())
    free = shutil.disk_usage(out).free
    if free < BYTES_PER_WEIGHT * count:
        raise SystemExit(f"`{out}` has {free / 1e9:.1f} GB free, but {BYTES_PER_WEIGHT * count / 1e9:.1f} are needed")
    with tempfile.TemporaryDirectory(dir=out) as place:
        folder = Path(place)
        checkpoint = folder / "checkpoint.safetensors"
        write_checkpoint(checkpoint, sizes)
        command = ["-m", "archc", "compile", "specs/gpt2.arch", "--model", "gpt2"]
        command += [text for name, value in settings.items() for text in ("--set", f"{name}={value}")]
        command += ["--weights", str(checkpoint), "--passes", passes, "--emit", emit, "--no-check"]
        if samples:
            tokens = np.random.default_rng(0).integers(0, 50_257, (samples, LENGTH))
            np.savez(folder / "calibration.npz", tokens=tokens)
            command += ["--calib", str(folder / "calibration.npz")]
        start = time.perf_counter()
        usage = measure([*command, "-o", folder / "result"])
        minutes = (time.perf_counter() - start) / 60
        result = sum(file.stat().st_size for file in (folder / "result").iterdir())
        return [
            f"`{passes}`, {count / 1e9:.2f} billion parameters",
            f"{usage.peak / 1e9:.2f} GB",
            f"{usage.seconds / 60:.1f} min",
            f"{minutes:.1f} min",
            f"{checkpoint.stat().st_size / 1e9:.2f} GB",
            f"{result / 1e9:.2f} GB",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=48, help="number of layers (default: %(default)s)")
    parser.add_argument("--width", type=int, default=1600, help="a multiple of 64 (default: %(default)s)")
    parser.add_argument(
        "--passes", nargs="+", default=['quant(scheme = "weight")', "quant(int4)"], help="default: %(default)s"
    )
    parser.add_argument(
        "--samples", type=int, default=8, help=f"calibration samples of {LENGTH} random tokens (default: %(default)s)"
    )
    parser.add_argument("--emit", default="onnx", help="targets (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/streaming_quant"), help="default: %(default)s")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    settings = {"width": options.width, "depth": options.depth, "heads": options.width // 64}
    rows = [compile_model(settings, passes, options.emit, options.out, options.samples) for passes in options.passes]
    print(markdown(["", "peak memory", "processor time", "time", "checkpoint", "result"], rows))


if __name__ == "__main__":
    main()
