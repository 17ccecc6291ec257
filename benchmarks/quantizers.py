"""Accuracy, size and speed of MiniLM, quantized by archc and by other quantizers.

The weights are trained, and the sentences are from the Lee corpus.  In each random split, all quantizers get the same
calibration sentences.  A quantized model computes the embeddings of the held-out sentences, one sentence at a time,
padded to 64 tokens.  They are compared with the embeddings of the float model: mean and minimum cosine, and the overlap
of the ten nearest neighbours among the held-out sentences.  The table has the medians over the splits.

Bytes are those of one deliverable: the ONNX file with its external data, or the module with its safetensors.  The speed
is relative to the float program of the same runtime.  All programs of the first split run interleaved, on one thread,
and are timed in processor time.  Programs of `torch.compile` are compared on the first split only.  A quantizer that
fails has a row with its message.

The other quantizers are no requirements of archc.  They install into a folder, without their dependencies, so that the
environment and its PyTorch stay as they are:

    .venv/bin/pip install --no-deps --only-binary :all: --target out/rivals \\
        nncf torchao onnx_ir ninja openvino-telemetry psutil pydot tabulate \\
        neural-compressor==2.6 deprecated schema prettytable py-cpuinfo opencv-python-headless pycocotools six \\
        "setuptools<81"
    PYTHONPATH=out/rivals .venv/bin/python -m benchmarks.quantizers [--recipes 'quant(scheme = "dynamic")' quant]
        [--rivals onnxruntime nncf torchao] [--splits 3] [--calibration 200] [--quick]

`onnx_ir` is for ONNX Runtime's 4-bit quantizer, and `neural-compressor` with the packages after it for the SmoothQuant
of `quantize_static`.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

import archc
from archc.driver.compiled import Compiled
from benchmarks.embeddings import Agreement, Array, Feeds, Split, agreement, batches, compile_minilm, rows, split
from benchmarks.programs import (
    COMPILED,
    EAGER,
    ONNX,
    Candidate,
    Program,
    bytes_of,
    in_onnxruntime,
    in_torch,
    load_emitted,
)
from benchmarks.rivals import LIBRARIES, candidates
from benchmarks.tables import markdown
from benchmarks.timing import interleaved

RECIPES = (
    'quant(scheme = "dynamic")',
    "quant",
    'quant(scheme = "weight")',
    "quant(int4, group = 32)",
    "quant(bytes = 14.5MB)",
    "quant(bytes = 12MB)",
    "quant(bytes = 10MB)",
)
RUNTIMES = {"onnx": ONNX, "eager": EAGER, "compiled": COMPILED}
VERSIONS = ("onnxruntime", "torch", "nncf", "torchao", "neural-compressor")
SHAPES = ((1, 64), (1, 16), (32, 64))
"""Sentences and tokens of the timed runs."""
FLOAT = "float"
T = TypeVar("T")
Key = tuple[str, str]
"""Runtime and title of a row."""


@dataclass
class Row:
    """Measurements of one quantizer in one runtime.

    Attributes:
        agreements: agreement with the float model, one for each split.
        seconds: processor time of the quantization, including the emission, one for each split.
        failure: reason why there is no program.
    """

    agreements: list[Agreement] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    bytes: int = 0
    failure: str = ""


def archc_candidate(passes: str, seen: Callable[[Compiled], object] = id) -> Candidate:
    """The programs that archc emits for a pipeline, each target in a folder of its own.

    Args:
        seen: called with the compiled model.
    """

    def build(calibration: Feeds, folder: Path) -> Mapping[str, Program]:
        compiled = compile_minilm(passes, calibration)
        seen(compiled)
        for target in ("onnx", "torch"):
            compiled.write(folder / target, emit=target, check=False)
        module = load_emitted(folder / "torch" / "minilm.py")
        return {**in_onnxruntime(folder / "onnx" / "minilm.onnx"), **in_torch(module, bytes_of(folder / "torch"))}

    return Candidate(f"archc `{passes}`" if passes else FLOAT, tuple(RUNTIMES.values()), build)


def embeddings(program: Program, feeds: Feeds) -> Array:
    """Embeddings of one sentence at a time: a dynamic range depends on all sentences of a batch."""
    return np.concatenate([program.run(sentence) for sentence in batches(feeds, 1)])


def measure(
    chosen: Sequence[Candidate], splits: Sequence[Split], runtimes: Sequence[str], folder: Path
) -> tuple[dict[Key, Row], dict[Key, Program]]:
    """Quantize and compare on every split; return the rows, and the programs of the first split."""
    found = {(name, each.title): Row() for name in runtimes for each in chosen if name in each.runtimes}
    programs: dict[Key, Program] = {}
    for number, sample in enumerate(splits):
        reference = archc_candidate("").build({}, _empty(folder / f"{number}-reference"))[ONNX]
        expected = embeddings(reference, sample.held_out)
        for place, each in enumerate(chosen):
            keys = [key for key, row in found.items() if key[1] == each.title and not row.failure]
            if not keys:
                continue
            logging.info("split %d of %d: %s", number + 1, len(splits), each.title)
            start = time.process_time()
            built = _attempt(partial(each.build, sample.calibration, _empty(folder / f"{number}-{place}")))
            seconds = time.process_time() - start
            for key in keys:
                if isinstance(built, str):
                    found[key].failure = built
                elif not number:
                    programs[key] = built[key[0]]
                    record(found[key], programs[key], seconds, sample.held_out, expected)
                elif key[0] != COMPILED:
                    record(found[key], built[key[0]], seconds, sample.held_out, expected)
    return found, {key: program for key, program in programs.items() if not found[key].failure}


def record(row: Row, program: Program, seconds: float, feeds: Feeds, expected: Array) -> None:
    """Add the measurements of one split to a row."""
    vectors = _attempt(partial(embeddings, program, feeds))
    if isinstance(vectors, str):
        row.failure = vectors
        return
    row.agreements.append(agreement(vectors, expected))
    row.seconds.append(seconds)
    row.bytes = program.bytes
    logging.info("  %s, %d bytes", row.agreements[-1], program.bytes)


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _attempt(call: Callable[[], T]) -> T | str:
    """Result of a call, or the message of its error; other quantizers raise errors of many classes."""
    try:
        return call()
    except archc.ArchcError as problem:
        return problem.diagnostics[0].message
    except ModuleNotFoundError as problem:
        return f"the package `{problem.name}` is not installed; `--help` has the command"
    except Exception as problem:
        return f"{type(problem).__name__}: {str(problem).strip().splitlines()[0][:200] if str(problem) else ''}"


def latencies(
    programs: Mapping[Key, Program], sample: Feeds, shape: tuple[int, int], rounds: int, seconds: float
) -> dict[Key, float]:
    """Median processor time in seconds of each program that runs at this shape."""
    count, length = shape
    feeds = {name: array[:, :length] for name, array in rows(sample, slice(count)).items()}
    calls = {" / ".join(key): partial(program.run, feeds) for key, program in programs.items()}
    calls = {name: call for name, call in calls.items() if not isinstance(_attempt(call), str)}
    times = interleaved(calls, rounds, seconds, time.process_time)
    return {key: times[name] for key in programs if (name := " / ".join(key)) in times}


def table(found: Mapping[Key, Row], times: Mapping[tuple[int, int], Mapping[Key, float]]) -> str:
    """Table with a row for each quantizer and runtime."""
    lines = []
    for (runtime, title), row in found.items():
        if row.failure:
            cells = [f"not built: {row.failure.replace('|', '/')}", *["–"] * (5 + len(times) - 1)]
        else:
            measured = row.agreements
            cells = [
                f"{statistics.median(each.mean for each in measured):.4f}",
                f"{statistics.median(each.least for each in measured):.4f}",
                f"{statistics.median(each.neighbours for each in measured):.3f}",
                f"{row.bytes / 1e6:.1f} MB",
                *(_speed(at, (runtime, title)) for at in times.values()),
                f"{statistics.median(row.seconds):.0f} s",
            ]
        lines.append([f"{title}, {runtime}", *cells])
    head = ["", "cosine", "minimum", "top 10", "bytes", *(f"{n} × {length}" for n, length in times), "quantization"]
    return markdown(head, lines)


def _speed(times: Mapping[Key, float], key: Key) -> str:
    if key not in times:
        return "fails"
    return f"{times[key[0], FLOAT] / times[key]:.2f}× ({times[key] * 1e3:.1f} ms)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="*", metavar="PIPELINE", default=RECIPES, help="pipelines of archc")
    parser.add_argument(
        "--rivals",
        nargs="*",
        choices=LIBRARIES,
        default=list(LIBRARIES),
        help="libraries to compare with (default: all)",
    )
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=list(RUNTIMES), help="default: all")
    parser.add_argument("--splits", type=int, default=3, help="number of random splits (default: %(default)s)")
    parser.add_argument("--calibration", type=int, default=200, help="calibration sentences (default: %(default)s)")
    parser.add_argument("--held", type=int, default=1000, help="held-out sentences (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=11, help="number of interleaved rounds (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=0.02, help="duration of a program in one round (default: %(default)s)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="at most one split, 40 calibration and 200 held-out sentences, and no `torch.compile`",
    )
    parser.add_argument("--out", type=Path, default=Path("out/quantizers"), help="default: %(default)s")
    options = parser.parse_args()
    if options.quick:
        options.splits = 1
        options.calibration, options.held = min(options.calibration, 40), min(options.held, 200)
        options.runtimes = [name for name in options.runtimes if name != "compiled"]
    options.out.mkdir(parents=True, exist_ok=True)
    quiet(options.out)
    torch.set_num_threads(1)
    samples = [split(seed, options.calibration, options.held, SHAPES[0][1]) for seed in range(options.splits)]
    runtimes = [RUNTIMES[name] for name in options.runtimes]
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        floats = Path(folder) / "float"
        compile_minilm().write(floats, emit=("torch", "onnx"), check=False)
        chosen = [*map(archc_candidate, ("", *options.recipes)), *candidates(options.rivals, floats)]
        found, programs = measure(chosen, samples, runtimes, Path(folder))
        times = {
            shape: latencies(programs, samples[0].held_out, shape, options.rounds, options.seconds) for shape in SHAPES
        }
    print(table(found, times))
    print(f"\n{', '.join(_versions())}; medians of {options.splits} splits")


def quiet(folder: Path) -> None:
    """Show the progress of this script only, and keep the cache of `torch.compile` in `folder`."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str((folder / "torchinductor").absolute())
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # NNCF needs a logger of its own class, and sets the level itself.
    for library in ("onnxruntime", "neural_compressor", "torch", "torchao"):
        logging.getLogger(library).setLevel(logging.ERROR)


def _versions() -> list[str]:
    """Versions of the libraries that are installed."""
    found = []
    for name in VERSIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
