"""Growth of compile time and peak memory with the number of operators.

Each model is a chain in one of four shapes: `loop` is a loop over `linear` and `relu`, `unrolled` has one line per
layer, `layers` has only `linear` operators in one chain, and `residual` is a loop over residual blocks.  `archc compile
--no-check` runs in a separate process and writes the weights and the formats of `--emit`.  It includes the full ONNX
check.  The exponent of two models of n₁ and n₂ operators is log(t₂ / t₁) / log(n₂ / n₁), where t₁ and t₂ are the
compile times.  For the second exponent, the time of a model of ten operators is subtracted from both times, because
this time is the time to start and import.

    python -m benchmarks.scaling [--operators 10000 100000] [--shapes loop unrolled] [--emit onnx torch,onnx]
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

from benchmarks.processes import Usage, measure
from benchmarks.tables import markdown

SMALL = 10
MILLION = 1_000_000


def loop(operators: int) -> str:
    """Text of a loop over pairs of `linear` and `relu`."""
    return (
        "model chain {\n    input x: f32[N, 8]\n"
        f"    for i in 0..{operators // 2} {{ x = x -> fc[i]: linear(8) -> relu }}\n"
        "    output y = x\n}\n"
    )


def unrolled(operators: int) -> str:
    """Text of the same chain without a loop, one line per layer."""
    lines = "".join(f"    x = x -> fc{i}: linear(8) -> relu\n" for i in range(operators // 2))
    return f"model chain {{\n    input x: f32[N, 8]\n{lines}    output y = x\n}}\n"


def layers(operators: int) -> str:
    """Text of one chain of `linear` operators only."""
    stages = " ".join(f"-> fc{i}: linear(8)" for i in range(operators))
    return f"model chain {{\n    input x: f32[N, 8]\n    output y = x {stages}\n}}\n"


def residual(operators: int) -> str:
    """Text of a loop over residual blocks of four operators."""
    return (
        "block Residual(width) {\n    input x: f32[B, D]\n"
        "    output x + (x -> up: linear(width) -> relu -> down: linear(D))\n}\n"
        "model chain {\n    input x: f32[N, 8]\n"
        f"    for i in 0..{math.ceil(operators / 4)} {{ x = x -> h[i]: Residual(8) }}\n"
        "    output y = x\n}\n"
    )


SHAPES = {shape.__name__: shape for shape in (loop, unrolled, layers, residual)}


def compile_model(shape: str, operators: int, emit: str, folder: Path) -> Usage:
    """Measure `archc compile` on a model with this number of operators."""
    file = folder / "chain.arch"
    file.write_text(SHAPES[shape](operators))
    return measure(["-m", "archc", "compile", file, "--emit", emit, "-o", folder / "out", "--no-check"])


def run(shapes: list[str], emits: list[str], small: int, large: int) -> str:
    """Compile all models, and return the table."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for emit in emits:
            for shape in shapes:
                start, first, second = (compile_model(shape, n, emit, Path(name)) for n in (SMALL, small, large))
                growth = math.log(large / small)
                exponent = math.log(second.seconds / first.seconds) / growth
                work = [max(usage.seconds - start.seconds, 1e-3) for usage in (first, second)]
                rows.append(
                    [
                        f"{shape}, `--emit {emit}`",
                        f"{start.seconds:.1f} s",
                        *(f"{usage.seconds:.1f} s, {usage.peak / MILLION:,.0f} MB" for usage in (first, second)),
                        f"{exponent:.2f}",
                        f"{math.log(work[1] / work[0]) / growth:.2f}",
                    ]
                )
    head = ["", f"{SMALL} operators", f"{small:,}", f"{large:,}", "exponent", "without the start"]
    return markdown(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operators", type=int, nargs=2, default=[10_000, 100_000], help="default: 10000 100000")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="default: all")
    parser.add_argument("--emit", nargs="+", default=["onnx", "torch,onnx"], help="default: onnx torch,onnx")
    options = parser.parse_args()
    print(run(options.shapes, options.emit, *options.operators))


if __name__ == "__main__":
    main()
