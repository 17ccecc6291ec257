"""The targets of emission: the forms in which a model can be written.

This module imports nothing, so that `archc compile --help` is fast.
"""

from __future__ import annotations

TARGETS = ("torch", "onnx", "arch")
"""All targets: a PyTorch module, an ONNX model, and .arch text."""

WEIGHTLESS_TARGETS = ("torch", "arch")
"""Targets that need no weights."""
