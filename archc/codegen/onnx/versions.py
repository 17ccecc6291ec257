"""What the emitted models declare about themselves, in one place."""

from __future__ import annotations

OPSET = 21
"""The version of the default operator set: the first whose DequantizeLinear and Cast know all of archc's dtypes."""

IR_VERSION = 10
"""The version of the file format that came with `OPSET`; newer ones would shut out older runtimes for nothing."""

PRODUCER = "archc"

CONTRIB_DOMAIN = "com.microsoft"
"""The operators that only ONNX Runtime has; their version is 1, always."""
