"""Siblings of the specs: attribute values that make their models small enough for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SPECS = Path(__file__).resolve().parents[2] / "specs"

SIBLINGS: Mapping[str, Mapping[str, Any]] = {
    "bert": {"width": 32, "depth": 2, "heads": 4, "vocab": 50},
    "clip": {
        "size": 32,
        "patch": 8,
        "image_width": 32,
        "image_depth": 2,
        "image_heads": 4,
        "vocab": 50,
        "text_width": 24,
        "text_depth": 3,
        "text_heads": 3,
        "shared": 16,
    },
    "crepe": {"width": 2, "samples": 512, "pitches": 20},
    "deepfm": {"fields": 5, "numbers": 3, "vocab": 11, "width": 4, "hidden": (12, 12, 8)},
    "densenet121": {"growth": 4, "depths": (2, 3, 2), "classes": 10},
    "elman": {"features": 5, "hidden": 7, "classes": 3},
    "gpt2": {"width": 32, "depth": 2, "heads": 4, "vocab": 50},
    "inception_v1": {"width": 16, "classes": 10},
    "inception_v3": {"width": 8, "classes": 10},
    "large_model": {"width": 40},
    "llama": {"width": 32, "depth": 2, "heads": 4, "kv_heads": 2, "hidden": 40, "vocab": 50, "base": 500},
    "minilm": {"width": 32, "depth": 2, "heads": 4, "vocab": 50},
    "mobilenet_v2": {"width": 8, "features": 40, "classes": 10},
    "resnet101": {"width": 4, "depths": (2, 1, 3, 1), "classes": 10},
    "resnet18": {"width": 8, "classes": 10},
    "resnet34": {"width": 4, "depths": (1, 2, 3, 1), "classes": 10},
    "resnet50": {"width": 4, "depths": (2, 2, 1, 2), "classes": 10},
    "small_model": {"width": 24},
    "ssd300": {"width": 4, "classes": 3},
    "speaker_encoder": {"bands": 6, "hidden": 10, "depth": 2, "width": 8},
    "speech_recognizer": {"bands": 17, "channels": 3, "hidden": 8, "depth": 2, "symbols": 6},
    "tagger": {"vocab": 50, "width": 8, "hidden": 10, "tags": 5},
    "text_classifier": {"vocab": 50, "width": 8, "hidden": 10, "classes": 3},
    "transformer": {"vocab": 50, "width": 32, "depth": 2, "heads": 4, "hidden": 40},
    "translator": {"source_vocab": 40, "target_vocab": 30, "width": 6, "hidden": 8},
    "two_tower": {
        "items": 40,
        "user_fields": 3,
        "item_fields": 2,
        "vocab": 11,
        "width": 6,
        "hidden": (16, 12),
        "shared": 8,
    },
    "unet": {"width": 4},
    "vgg16": {"width": 4, "size": 32, "hidden": 24, "classes": 10},
    "vit": {"width": 32, "depth": 2, "heads": 4, "size": 32, "patch": 8, "classes": 10},
    "whisper": {"vocab": 50, "mels": 8, "frames": 40, "width": 32, "depth": 2, "heads": 4},
    "wide_deep": {
        "fields": 5,
        "numbers": 3,
        "vocab": 11,
        "crosses": ((0, 1), (4, 2)),
        "width": 4,
        "hidden": (16, 12),
    },
}
"""Attribute values by spec; the other specs are small with their defaults."""


def sibling(path: Path) -> Mapping[str, Any]:
    """Return the attribute values that make a spec small; no values for a file that is no spec."""
    return SIBLINGS.get(path.stem, {}) if path.resolve().parent == SPECS else {}
