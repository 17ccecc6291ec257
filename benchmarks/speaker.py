"""Accuracy, bytes and latency of the quantized speaker encoder of `resemblyzer`.

The weights are the trained ones.

The utterances are synthetic: voices with a fundamental frequency, formants that move between vowels, breath and noise.
Their mel spectrograms have the parameters of `resemblyzer.hparams`: power, not its logarithm, at 16 kHz.  The voices of
the calibration data and those of the measured utterances are different.

A row has the cosine of quantized and float embeddings (mean and minimum), the bytes of the ONNX model and of the
PyTorch module with its weights relative to float, and the latency of one and of 32 utterances of 160 frames, on one
thread, with the speed relative to float in brackets.

    python -m benchmarks.speaker [--voices 24] [--pipelines 'quant(scheme = "dynamic")']
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

import archc
from archc.codegen import onnx
from archc.codegen.torch.load import load_module
from benchmarks.processes import ROOT
from benchmarks.tables import markdown
from benchmarks.timing import interleaved

Array = np.ndarray[Any, Any]
Program = Callable[[Array], Array]

RATE, WINDOW, HOP, BANDS, FRAMES = 16_000, 400, 160, 40, 160
LOUDNESS = -30.0  # dB relative to full scale, as `resemblyzer` normalizes utterances
VOWELS = np.array(
    [[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410], [490, 1350, 1690]]
)
"""First three formants in Hz (Peterson and Barney 1952, "Control Methods in a Study of the Vowels")."""
PIPELINES = ('quant(scheme = "weight")', 'quant(scheme = "dynamic")')


# Utterances -------------------------------------------------------------------------------------------------


def mel_to_hertz(mel: Array) -> Array:
    """Frequencies on the mel scale of Slaney (1998, "Auditory Toolbox"): linear below 1000 Hz."""
    return np.where(mel >= 15, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)), mel * 200 / 3)


def mel_filters() -> Array:
    """Triangular filters of equal area, [bands, frequencies]."""
    frequencies = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    highest = 15 + np.log(RATE / 2 / 1000) * 27 / np.log(6.4)
    edges = mel_to_hertz(np.linspace(0, highest, BANDS + 2))
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)


def mel_spectrogram(wave: Array) -> Array:
    """Power in each band, [frames, bands], of windows of 25 ms every 10 ms."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(wave, WINDOW // 2), WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    return (np.abs(np.fft.rfft(windows * hann)) ** 2 @ mel_filters().T).astype(np.float32)


def speech(voice: np.random.Generator, seconds: float) -> Array:
    """Synthetic speech; the first draws of `voice` set the pitch, vocal tract and breath."""
    pitch, tract = np.exp(voice.uniform(np.log(85), np.log(255))), voice.uniform(0.88, 1.2)
    tilt, breath, vibrato = voice.uniform(0.8, 1.8), voice.uniform(0.02, 0.15), voice.uniform(0.01, 0.06)
    bandwidth = voice.uniform(60, 140)
    time_axis = np.arange(int(seconds * RATE)) / RATE
    starts = np.cumsum(voice.uniform(0.09, 0.28, int(seconds / 0.09) + 2))
    formants = VOWELS[voice.integers(len(VOWELS), size=len(starts))] * tract
    tracks = [np.interp(time_axis, starts, formants[:, number]) for number in range(3)]
    loudness = np.interp(time_axis, starts, voice.choice([1, 1, 1, 0.6, 0.05], len(starts)))
    melody = np.interp(time_axis, starts, voice.uniform(0.9, 1.15, len(starts)))
    frequency = pitch * melody * (1 + vibrato * np.sin(2 * np.pi * 5 * time_axis))
    phase = 2 * np.pi * np.cumsum(frequency) / RATE
    wave = np.zeros_like(time_axis)
    for harmonic in range(1, int(7600 / pitch / 1.25) + 1):
        heard = harmonic * frequency
        gain = np.full_like(wave, 0.01)
        for number, (track, share) in enumerate(zip(tracks, (1, 0.6, 0.3), strict=True)):
            gain += share / (1 + ((heard - track) / (bandwidth * (1 + number / 2))) ** 2)
        wave += np.where(heard < 7800, gain * harmonic**-tilt * np.sin(harmonic * phase), 0)
    hiss = (
        np.convolve(voice.standard_normal(len(wave)), [1, -0.9], "same") * breath * (loudness + 0.8 * (loudness < 0.2))
    )
    wave = wave * loudness + 0.1 * hiss + 1e-3 * voice.standard_normal(len(wave))
    return wave * 10 ** (LOUDNESS / 20) / np.sqrt(np.mean(wave**2))


def utterances(voices: int, each: int, seed: int) -> Array:
    """Mel spectrograms [voices * each, frames, bands]."""
    made = []
    for number in range(voices):
        spectrogram = mel_spectrogram(speech(np.random.default_rng([seed, number]), each * FRAMES * HOP / RATE))
        made.append(spectrogram[: each * FRAMES].reshape(each, FRAMES, BANDS))
    return np.concatenate(made)


# Programs ---------------------------------------------------------------------------------------------------


def load(passes: str, calibration: Array, folder: Path) -> tuple[dict[str, Program], dict[str, int]]:
    """Compile the encoder; return its programs, and the bytes of each with its weights."""
    package = find_spec("resemblyzer")
    assert package is not None and package.submodule_search_locations, "install resemblyzer"
    compiled = archc.compile(
        ROOT / "specs" / "speaker_encoder.arch",
        weights=Path(package.submodule_search_locations[0]) / "pretrained.pt",
        allow_pickle=True,
        renaming=ROOT / "specs" / "names" / "speaker_encoder.names",
        passes=passes,
        calib={"mels": calibration} if passes else None,
    )
    compiled.write(folder, emit=("torch", "onnx"))
    module = load_module(folder / "speaker_encoder.py").load()
    session = onnx.session(folder / "speaker_encoder.onnx")

    def in_torch(mels: Array) -> Array:
        with torch.inference_mode():
            found: Array = module(torch.from_numpy(mels)).numpy()
        return found

    for remark in (remark for report in compiled.passes for remark in report.remarks):
        print(f"{passes}: {remark.layer}: {remark.message}")
    programs: dict[str, Program] = {
        "PyTorch": in_torch,
        "ONNX Runtime": lambda mels: session.run(None, {"mels": mels})[0],
    }
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    of_onnx = sum(size for name, size in sizes.items() if ".onnx" in name)
    of_torch = sum(size for name, size in sizes.items() if name.endswith((".py", ".safetensors")))
    return programs, {"PyTorch": of_torch, "ONNX Runtime": of_onnx}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voices", type=int, default=24, help="measured voices, with 6 utterances each")
    parser.add_argument("--pipelines", nargs="+", default=PIPELINES)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    calibration, mels = utterances(8, 4, seed=1), utterances(options.voices, 6, seed=2)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        titles = ["float", *options.pipelines]
        made = [
            load("" if number == 0 else title, calibration, Path(folder) / str(number))
            for number, title in enumerate(titles)
        ]
        for runtime in ("PyTorch", "ONNX Runtime"):
            programs = {title: programs[runtime] for title, (programs, _) in zip(titles, made, strict=True)}
            expected = made[0][0][runtime](mels)
            times = {count: timed(programs, mels[:count], options.rounds) for count in (1, 32)}
            for title, (_, sizes) in zip(titles, made, strict=True):
                cosines = np.concatenate(
                    [(programs[title](mel[None]) * wanted).sum(1) for mel, wanted in zip(mels, expected)]
                )
                share = sizes[runtime] / made[0][1][runtime]
                rows.append([f"{runtime}, `{title}`", f"{cosines.mean():.5f} ({cosines.min():.4f})"])
                rows[-1].append(f"{sizes[runtime]:,} ({share:.1%})")
                rows[-1] += [
                    f"{each[title] * 1e3:.1f} ms ({each['float'] / each[title]:.2f}×)" for each in times.values()
                ]
    print(markdown(["", "cosine", "bytes", "1 utterance", "32 utterances"], rows))


def timed(programs: Mapping[str, Program], mels: Array, rounds: int) -> dict[str, float]:
    """Seconds of processor time for a batch, by pipeline."""
    return interleaved({title: partial(run, mels) for title, run in programs.items()}, rounds, 0.1, time.process_time)


if __name__ == "__main__":
    main()
