"""Peak memory of compilation for models of growing depth and layers of constant size.

A model is a chain of layers of 4 MB each, 128 → 8192 and back, with random weights that are generated lazily.  `archc
compile --no-check` runs in a separate process and writes all output formats.  The first column is for a model of two
layers.  It shows the memory of Python and the imports, and with passes also that of PyTorch, which runs the model to
measure the effect of passes.  An ONNX file below 100 MB contains its weights.  protobuf and the ONNX checker copy such
a file, which takes at most 300 MB.

    python -m benchmarks.memory [--megabytes 100 400 1600] [--passes "" "lowrank(ratio=0.5), quant"]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.processes import Usage, measure
from benchmarks.tables import markdown

MILLION = 1_000_000
NARROW, WIDE = 128, 8192
LAYER_BYTES = 4 * NARROW * WIDE
PIPELINES = ["", "quant", "lowrank(ratio=0.5), quant"]


def chain(megabytes: int) -> str:
    """Text of a model with about `megabytes` million bytes of weights, and at least one pair of layers."""
    pairs = max(1, round(megabytes * MILLION / (2 * LAYER_BYTES)))
    return (
        f"model chain {{\n    input x: f32[N, {NARROW}]\n"
        f"    for i in 0..{pairs} {{ x = x -> up[i]: linear({WIDE}) -> relu -> down[i]: linear({NARROW}) }}\n"
        "    output y = x\n}\n"
    )


def compile_model(megabytes: int, passes: str, folder: Path) -> Usage:
    """Measure `archc compile` on a model of this size."""
    file = folder / "chain.arch"
    file.write_text(chain(megabytes))
    return measure(["-m", "archc", "compile", file, "--passes", passes, "-o", folder / "out", "--no-check"])


def run(pipelines: list[str], sizes: list[int]) -> str:
    """Compile every size with every pipeline, and return the table."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for passes in pipelines:
            peaks = [compile_model(megabytes, passes, Path(name)).peak for megabytes in (0, *sizes)]
            title = f'`--passes "{passes}"`' if passes else "no passes"
            rows.append([title, *(f"{peak / MILLION:,.0f} MB" for peak in peaks)])
    return markdown(
        ["peak of `archc compile --no-check`", "8 MB of weights", *(f"{size:,} MB" for size in sizes)], rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 400, 1600], help="default: 100 400 1600")
    parser.add_argument(
        "--passes",
        nargs="+",
        metavar="PIPELINE",
        default=PIPELINES,
        help="default: no passes, `quant`, and `lowrank` before `quant`",
    )
    options = parser.parse_args()
    print(run(options.passes, options.megabytes))


if __name__ == "__main__":
    main()
