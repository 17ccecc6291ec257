"""Latency of models with pruned channels, with exact widths and with widths rounded to multiples.

Each model is compiled unpruned and pruned by 30 % with `multiple` 1, 8 and 16.  It runs on one thread in PyTorch and in
ONNX Runtime at batch 1, with interleaved runs.  The table has the median over the rounds, and the speed relative to the
unpruned model.

    python -m benchmarks.pruned_widths [--rounds 15] [--out out/pruned_widths]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
import torch

import archc
from archc.codegen.torch.load import load_module
from benchmarks.tables import markdown
from benchmarks.timing import interleaved

UNALIGNED = """
model widths() {
    input x: f32[N, 16, 56, 56]
    for i in 0..5 { x = x -> c[i]: conv2d(40, 3, padding = 1) -> relu }
    output y = x -> mean((2, 3)) -> f: linear(10)
}
"""
MODELS: dict[str, tuple[str | Path, str, tuple[int, ...]]] = {
    "five convolutions of 40": (UNALIGNED, "x", (1, 16, 56, 56)),
    "mobilenet_v2": (Path("specs/mobilenet_v2.arch"), "image", (1, 3, 224, 224)),
}
MULTIPLES = (1, 8, 16)


def variants() -> dict[str, str]:
    """Passes of each variant, by title."""
    pruned = {f"multiple = {k}": f"prune(0.3, scheme = 'channel', multiple = {k})" for k in MULTIPLES}
    return {"as it is": "", **pruned}


def measured(model: str, out: Path, rounds: int) -> list[list[str]]:
    """Table row of each variant: multiply-adds, and latency and relative speed in both runtimes."""
    text, name, shape = MODELS[model]
    sizes = {"H": shape[2], "W": shape[3]} if isinstance(text, Path) else {}
    image = torch.randn(shape)
    reports: dict[str, dict[str, Any]] = {}
    calls: dict[str, dict[str, Callable[[], Any]]] = {"PyTorch": {}, "ONNX Runtime": {}}
    for title, passes in variants().items():
        compiled = archc.compile(text, passes=passes, sizes=sizes)
        folder = out / model.replace(" ", "-") / title.replace(" ", "")
        reports[title] = compiled.write(folder, check=False)
        module = load_module(folder / f"{compiled.name}.py").load()
        calls["PyTorch"][title] = partial(module, image)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(folder / f"{compiled.name}.onnx", options)
        calls["ONNX Runtime"][title] = partial(session.run, None, {name: image.numpy()})
    with torch.inference_mode():
        times = {runtime: interleaved(candidates, rounds) for runtime, candidates in calls.items()}
    return [
        [
            model,
            title,
            f"{report['multiply_adds']:,}",
            *(f"{time[title] * 1e3:.2f} ms ({time['as it is'] / time[title]:.2f}×)" for time in times.values()),
        ]
        for title, report in reports.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="number of interleaved rounds (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("out/pruned_widths"), help="folder for the programs (default: %(default)s)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [row for model in MODELS for row in measured(model, options.out, options.rounds)]
    print(markdown(["model", "widths", "multiply-adds", "PyTorch", "ONNX Runtime"], rows))


if __name__ == "__main__":
    main()
