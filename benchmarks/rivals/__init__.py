"""Other quantizers, one file for each library, which is imported only when its quantizer runs.

The libraries are no requirements of archc.  `python -m benchmarks.quantizers --help` has a command that installs them.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.programs import Candidate
from benchmarks.rivals import nncf_quantizers, onnxruntime_quantizers, torchao_quantizers

LIBRARIES = {
    "onnxruntime": onnxruntime_quantizers.candidates,
    "nncf": nncf_quantizers.candidates,
    "torchao": torchao_quantizers.candidates,
}
"""Quantizers of each library: a function from the folder of the float model to candidates."""


def candidates(libraries: list[str], floats: Path) -> list[Candidate]:
    """Quantizers of these libraries; the folder of the float model has `minilm.onnx` and `minilm.py`."""
    return [each for library in libraries for each in LIBRARIES[library](floats)]
