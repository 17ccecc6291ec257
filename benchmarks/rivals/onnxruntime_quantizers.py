"""Quantizers of ONNX Runtime: `quantize_dynamic`, `quantize_static`, and 4-bit weights.

`quantize_static` has two groups of rows: with its default settings, and with settings for Transformers.  The latter
quantize only products with stored weights, and have unsigned activations and scales for each output channel.  The
observer `Entropy` is not listed: on this model, it chooses the ranges of `MinMax`.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.embeddings import Feeds, batches
from benchmarks.programs import ONNX, Candidate, Program, in_onnxruntime

Quantize = Callable[[Path, Path, Feeds], None]
"""Function of the float model, the path of the result, and the calibration data."""

SENSITIVE = "/ff/down/"


def candidates(floats: Path) -> list[Candidate]:
    def candidate(title: str, quantize: Quantize) -> Candidate:
        return Candidate(title, (ONNX,), lambda calibration, folder: _build(floats, quantize, calibration, folder))

    return [
        candidate("ORT `quantize_dynamic`", _dynamic()),
        candidate("ORT `quantize_dynamic`, per channel", _dynamic(per_channel=True)),
        candidate("ORT `quantize_static`", _static_default),
        candidate("ORT `quantize_static`, tuned, min-max", _static("MinMax")),
        candidate("ORT `quantize_static`, tuned, percentile", _static("Percentile", CalibPercentile=99.99)),
        candidate("ORT `quantize_static`, tuned, `down` in float", _static("MinMax", exclude=SENSITIVE)),
        candidate(
            "ORT `quantize_static`, tuned, SmoothQuant", _static("MinMax", SmoothQuant=True, SmoothQuantAlpha=0.8)
        ),
        candidate("ORT int4, groups of 32", _int4()),
        candidate("ORT int4, groups of 32, HQQ", _int4("HQQ")),
        candidate("ORT int4, groups of 32, embedding too", _int4(embedding=True)),
        candidate("ORT int4, groups of 32, embedding too, int8 products", _int4(embedding=True, accuracy_level=4)),
    ]


def _build(floats: Path, quantize: Quantize, calibration: Feeds, folder: Path) -> Mapping[str, Program]:
    """Prepare the float model as ONNX Runtime recommends, and quantize it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        # Symbolic shape inference fails on the values of a shape that the model computes with.
        quant_pre_process(floats / "minilm.onnx", prepared, skip_symbolic_shape=True)
        quantize(prepared, folder / "minilm.onnx", calibration)
    return in_onnxruntime(folder / "minilm.onnx")


def _dynamic(per_channel: bool = False) -> Quantize:
    def quantize(source: Path, target: Path, calibration: Feeds) -> None:
        from onnxruntime.quantization import quantize_dynamic

        quantize_dynamic(source, target, per_channel=per_channel)

    return quantize


class _Reader:
    """Calibration data as ONNX Runtime reads them, one sentence at a time."""

    def __init__(self, calibration: Feeds) -> None:
        self.samples = [dict(sample) for sample in batches(calibration, 1)]
        self.rest = iter(self.samples)

    def get_next(self) -> dict[str, Any] | None:
        return next(self.rest, None)

    def rewind(self) -> None:
        self.rest = iter(self.samples)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.samples)

    def __deepcopy__(self, memory: dict[int, Any]) -> _Reader:
        other = copy.copy(self)
        other.rewind()
        return other

    def __len__(self) -> int:
        return len(self.samples)


def _static_default(source: Path, target: Path, calibration: Feeds) -> None:
    from onnxruntime.quantization import quantize_static

    quantize_static(source, target, _Reader(calibration))


def _static(observer: str, exclude: str = "", **options: Any) -> Quantize:
    """`quantize_static` with settings for Transformers.

    Args:
        observer: name of ONNX Runtime's calibration method.
        exclude: part of the names of weights of layers that stay in float.
        options: further entries of `extra_options`.
    """

    def quantize(source: Path, target: Path, calibration: Feeds) -> None:
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

        nodes = onnx.load(source).graph.node
        excluded = [node.name for node in nodes if exclude and exclude in f"/{'/'.join(node.input).replace('.', '/')}/"]
        assert bool(excluded) == bool(exclude), f"no layer has `{exclude}` in its name"
        quantize_static(
            str(source),  # SmoothQuant accepts no `Path`
            target,
            _Reader(calibration),
            per_channel=True,
            reduce_range=False,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            nodes_to_exclude=excluded,
            calibrate_method=getattr(CalibrationMethod, observer),
            extra_options={"MatMulConstBOnly": True, **options},
        )

    return quantize


def _int4(algorithm: str = "Default", embedding: bool = False, **settings: Any) -> Quantize:
    """Asymmetric 4-bit weights in groups of 32, by round to nearest or another algorithm."""

    def quantize(source: Path, target: Path, calibration: Feeds) -> None:
        import onnx
        from onnxruntime.quantization import matmul_nbits_quantizer as library

        axes = (("MatMul", 0), ("Gather", 1)) if embedding else (("MatMul", 0),)
        operators = tuple(operator for operator, _ in axes)
        make = getattr(library, f"{algorithm}WeightOnlyQuantConfig")
        config = make(block_size=32, op_types_to_quantize=operators, quant_axes=axes, **settings)
        quantizer = library.MatMulNBitsQuantizer(onnx.load(source), algo_config=config)
        quantizer.process()
        quantizer.model.save_model_to_file(str(target), False)

    return quantize
