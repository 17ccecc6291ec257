"""Comparison of ONNX Runtime's `quantize_static` with archc's scheme `static`, on one thread.

The models classify images, or segment them, and have random weights with a fixed seed.  Both quantizers start from the
float model without batch norms, and have the same random images for calibration.  `quantize_static` writes the format
QDQ with unsigned activations, since signed ones are slower than floats; all other options are its defaults.  A second
form leaves the global pool, the flattening and the last linear layer in floats.

With `--observed-norms`, batch norms get the mean and the variance of the calibration images, as in training.  Without
it, they are 0 and 1, and the activations of a deep model without residual additions vanish.

The runs of all programs are interleaved, and timed in processor time, which depends less on other work on the machine.
A speed is the median, over rounds, of the float program's time in a round divided by the time of the int8 program in
the same round.  The error is the Euclidean norm of the difference to the float outputs, over the norm of these outputs,
for images that are not among the calibration data.

    python -m benchmarks.resnet_static [--models resnet18 mobilenet_v2] [--batches 1 4] [--side 224]
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from safetensors.torch import save_file

import archc
from archc.codegen.onnx import run_session, session
from archc.codegen.torch.load import load_module
from benchmarks.processes import ROOT
from benchmarks.tables import markdown

MODELS = ("resnet18",)
FLOAT = "float"
OURS, OURS_FLOAT_HEAD = "archc `quant`", 'archc `quant(keep = "fc")`'
PIPELINES = {
    FLOAT: "fold, simplify",
    OURS: "fold, simplify, quant",
    OURS_FLOAT_HEAD: 'fold, simplify, quant(keep = "fc")',
}
PEER, PEER_FLOAT_HEAD = "`quantize_static`", "`quantize_static`, pool and head in float"
HEAD = frozenset(("GlobalAveragePool", "ReduceMean", "AveragePool", "Flatten", "Reshape", "Gemm", "MatMul"))
"""Operators at the end of a model that the second form of `quantize_static` leaves in floats."""


@dataclass(frozen=True)
class Program:
    """ONNX model, loaded in ONNX Runtime.

    Attributes:
        operators: number of the nodes of the optimized graph, by operator.
    """

    run: Callable[[Mapping[str, np.ndarray[Any, Any]]], Mapping[str, np.ndarray[Any, Any]]]
    operators: Counter[str]


class Images(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Calibration data for `quantize_static`, one image at a time."""

    def __init__(self, name: str, images: np.ndarray[Any, Any]):
        self._feeds: Iterator[dict[str, np.ndarray[Any, Any]]] = ({name: image[None]} for image in images)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        return next(self._feeds, None)


def loaded(path: Path) -> Program:
    """Load a model, and write the graph that ONNX Runtime optimized beside it."""
    ready = session(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path.with_suffix(".optimized.onnx"))
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    return Program(lambda feeds: run_session(ready, feeds), Counter(node.op_type for node in nodes))


def head(path: Path) -> list[str]:
    """Names of the last nodes, which the second form of `quantize_static` leaves in floats."""
    found: list[str] = []
    for node in reversed(onnx.load(path).graph.node):
        if node.op_type not in HEAD:
            return found
        found.append(node.name)
    return found


def image_shape(text: Path, side: int) -> tuple[int, int, int]:
    """Shape of an image; a model that fixes the size of its images decides the size."""
    channels, *sizes = next(iter(archc.parse(text).inputs)).type.shape[1:]
    height, width = (size if isinstance(size, int) else side for size in sizes)
    return int(channels), height, width


def observe_norms(text: Path, images: np.ndarray[Any, Any], folder: Path) -> Path:
    """Write weights in which each batch norm has the mean and the variance of its operand for the images."""
    archc.compile(text).write(folder, emit="torch", check=False)
    module = load_module(folder / f"{text.stem}.py").load().train()
    for layer in module.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.momentum = None  # the average over all calls
    with torch.no_grad():
        module(torch.from_numpy(images))
    save_file(
        {name: tensor.contiguous() for name, tensor in module.state_dict().items()}, folder / "observed.safetensors"
    )
    return folder / "observed.safetensors"


def programs(
    spec: str, images: np.ndarray[Any, Any], observed_norms: bool, folder: Path
) -> tuple[str, dict[str, Program]]:
    """The name of the input of a model, and its programs."""
    text = ROOT / "specs" / f"{spec}.arch"
    feed = next(iter(archc.parse(text).inputs)).name or ""
    weights = observe_norms(text, images, folder) if observed_norms else None
    has_head = any(node.path == "fc" for node in archc.parse(text).nodes())
    files: dict[str, Path] = {}
    for title, passes in PIPELINES.items():
        if title == OURS_FLOAT_HEAD and not has_head:
            continue
        files[title] = folder / str(len(files)) / f"{spec}.onnx"
        compiled = archc.compile(text, weights=weights, passes=passes, calib={feed: images})
        compiled.write(files[title].parent, emit="onnx", check=False)
    for title, excluded in ((PEER, []), (PEER_FLOAT_HEAD, head(files[FLOAT]))):
        files[title] = folder / f"{len(files)}.onnx"
        quantize_static(
            files[FLOAT],
            files[title],
            Images(feed, images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded,
        )
    return feed, {title: loaded(file) for title, file in files.items()}


def speeds(calls: Mapping[str, Callable[[], Any]], reference: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds of each call, and the median over rounds of its speed relative to the reference."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for round in range(rounds + 2):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if round >= 2:  # the first rounds are slower
                samples[name].append(time.process_time() - start)
    pairs = {name: [a / b for a, b in zip(samples[reference], times)] for name, times in samples.items()}
    return {name: (statistics.median(samples[name]), statistics.median(pairs[name])) for name in calls}


def error(found: Mapping[str, np.ndarray[Any, Any]], wanted: Mapping[str, np.ndarray[Any, Any]]) -> float:
    """Relative error over all outputs."""
    pairs = [(found[name].ravel(), wanted[name].ravel()) for name in wanted]
    actual, exact = (np.concatenate(side).astype(np.float64) for side in zip(*pairs))
    return float(np.linalg.norm(actual - exact) / np.linalg.norm(exact))


def compare(
    spec: str, batches: Sequence[int], side: int, rounds: int, calibration: int, observed_norms: bool
) -> list[list[str]]:
    """Rows of one model: a row for each program and batch size."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        shape = image_shape(ROOT / "specs" / f"{spec}.arch", side)
        images = rng.standard_normal((calibration, *shape), np.float32)
        feed, made = programs(spec, images, observed_norms, Path(folder))
    test = {feed: rng.standard_normal((8, *shape), np.float32)}
    outputs = {title: program.run(test) for title, program in made.items()}
    rows = []
    for batch in batches:
        calls = {title: partial(program.run, {feed: test[feed][:batch]}) for title, program in made.items()}
        for title, (seconds, speed) in speeds(calls, FLOAT, rounds).items():
            wrong = f"{error(outputs[title], outputs[FLOAT]):.4f}"
            rows.append([f"{spec}, batch {batch}, {title}", f"{seconds * 1e3:.2f} ms", f"{speed:.2f}×", wrong])
    for title, program in made.items():
        print(f"{spec}, {title}:", ", ".join(f"{count} {kind}" for kind, count in program.operators.most_common()))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, help="specs of models of images")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--side", type=int, default=224, help="height and width of an image (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=21, help="number of measured rounds (default: %(default)s)")
    parser.add_argument(
        "--calibration", type=int, default=8, help="number of calibration images (default: %(default)s)"
    )
    parser.add_argument("--observed-norms", action="store_true", help="batch norms have the statistics of the images")
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)  # `quantize_static` advises to preprocess the model
    rows = [
        row
        for spec in options.models
        for row in compare(
            spec, options.batches, options.side, options.rounds, options.calibration, options.observed_norms
        )
    ]
    print()
    print(markdown(["", "latency", "speed", "error"], rows))


if __name__ == "__main__":
    main()
