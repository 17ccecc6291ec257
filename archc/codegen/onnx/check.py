"""Checking what was emitted: ONNX's own checker, and strict shape inference against the declared outputs."""

from __future__ import annotations

from pathlib import Path

import onnx


class InvalidModel(Exception):
    """A model that ONNX refuses: a bug in an operator's spelling, never the user's mistake."""


def check(model: onnx.ModelProto | Path | str) -> None:
    """Check a model: in memory, or in a file (with its weights beside it), which may be of any size.

    Raises:
        InvalidModel: ONNX's checker or its strict shape inference refuses the model, or the weights that it
            points to are not there.
    """
    # The checker serializes a model that it is given in memory, and protobuf ends at 2 GB; it reads a path itself.
    subject = str(model) if isinstance(model, (Path, str)) else model
    try:
        onnx.checker.check_model(subject, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as refusal:
        raise InvalidModel(str(refusal)) from None
