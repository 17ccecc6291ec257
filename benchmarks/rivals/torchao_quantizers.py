"""Quantizers of torchao: int8 activations and weights, and int4 weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.programs import COMPILED, EAGER, Candidate, Program, bytes_of, in_torch, load_emitted


def candidates(floats: Path) -> list[Candidate]:
    def candidate(title: str, config: Callable[[], Any], embeddings: bool = False) -> Candidate:
        return Candidate(
            title, (EAGER, COMPILED), lambda calibration, folder: _build(floats, config, embeddings, folder)
        )

    return [
        candidate("torchao int8, dynamic activations", _int8_dynamic),
        candidate("torchao int8, dynamic activations, embedding too", _int8_dynamic, embeddings=True),
        candidate("torchao int8 weights", _int8_weights),
        candidate("torchao int4 weights, groups of 32", _int4_weights),
    ]


def _build(floats: Path, config: Callable[[], Any], embeddings: bool, folder: Path) -> Mapping[str, Program]:
    """Quantize all linear layers of the float module, and with `embeddings` also its embeddings."""
    from torchao.quantization import IntxWeightOnlyConfig, PerAxis, quantize_

    module = load_emitted(floats / "minilm.py")
    quantize_(module, config())
    if embeddings:
        rows = IntxWeightOnlyConfig(weight_dtype=torch.int8, granularity=PerAxis(0))
        quantize_(module, rows, lambda layer, name: isinstance(layer, nn.Embedding))
    # safetensors has no form for torchao's tensors.
    torch.save(module.state_dict(), folder / "minilm.pt")
    return in_torch(module, bytes_of(folder))


def _int8_dynamic() -> Any:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    return Int8DynamicActivationInt8WeightConfig()


def _int8_weights() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig

    return Int8WeightOnlyConfig()


def _int4_weights() -> Any:
    from torchao.quantization import Int4WeightOnlyConfig

    return Int4WeightOnlyConfig(group_size=32)
