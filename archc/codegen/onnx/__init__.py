"""The ONNX backend: `emit` and `to_model` make models; `check`, `as_text` and `run` use them."""

from archc.codegen.onnx.emit import emit, to_model
from archc.codegen.onnx.runtime import InvalidModel, check, run, run_session, run_tensors, session
from archc.codegen.onnx.text import as_text

__all__ = ["InvalidModel", "as_text", "check", "emit", "run", "run_session", "run_tensors", "session", "to_model"]
