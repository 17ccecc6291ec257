"""Quantizers of NNCF on ONNX: static int8 with SmoothQuant, and int8 and int4 weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.embeddings import Feeds, batches
from benchmarks.programs import ONNX, Candidate, Program, in_onnxruntime

Quantize = Callable[[Any, Any, int], Any]
"""Function from a float `ModelProto`, an `nncf.Dataset` and its length to a quantized `ModelProto`."""


GROUPS = {"group_size": 32, "ratio": 1.0}


def candidates(floats: Path) -> list[Candidate]:
    def candidate(title: str, quantize: Quantize) -> Candidate:
        return Candidate(title, (ONNX,), lambda calibration, folder: _build(floats, quantize, calibration, folder))

    return [
        candidate("NNCF int8", _int8),
        candidate("NNCF int8 weights", _weights("INT8_ASYM")),
        candidate("NNCF int4, groups of 32", _weights("INT4_ASYM", **GROUPS)),
        candidate("NNCF int4, groups of 32, scale estimation", _weights("INT4_ASYM", estimate=True, **GROUPS)),
    ]


def _build(floats: Path, quantize: Quantize, calibration: Feeds, folder: Path) -> Mapping[str, Program]:
    import nncf
    import onnx

    nncf.set_log_level(logging.ERROR)
    samples = [dict(sample) for sample in batches(calibration, 1)]
    made = quantize(onnx.load(floats / "minilm.onnx"), nncf.Dataset(samples), len(samples))
    onnx.save(made, folder / "minilm.onnx")
    # ONNX Runtime 1.31 moves a quantizer across a reshape, and loses the dtype of its zero point.
    return in_onnxruntime(folder / "minilm.onnx", without=["QDQPropagationTransformer"])


def _int8(model: Any, data: Any, count: int) -> Any:
    """Static int8 with SmoothQuant and bias correction."""
    import nncf

    return nncf.quantize(model, data, subset_size=count, model_type=nncf.ModelType.TRANSFORMER)


def _weights(mode: str, estimate: bool = False, **settings: Any) -> Quantize:
    """Quantized weights; with int4, the embeddings are int8.

    NNCF's AWQ finds no pattern in this model.  With the option `all_layers`, embeddings become int4, too, but in groups
    along the wrong axis, and ONNX Runtime refuses the model.
    """

    def quantize(model: Any, data: Any, count: int) -> Any:
        import nncf

        data_settings = {"dataset": data, "subset_size": count, "scale_estimation": True} if estimate else {}
        return nncf.compress_weights(model, mode=getattr(nncf.CompressWeightsMode, mode), **data_settings, **settings)

    return quantize
