"""Comparison of the hashes of two commits."""

from __future__ import annotations

from tests.unchanged import differences


def test_each_entry_is_compared() -> None:
    before = {"cnn|": {"cnn.py": "1", "cnn.onnx": "1"}, "mlp|": {"mlp.py": "1"}}
    after = {"cnn|": {"cnn.py": "2", "cnn.arch": "1"}, "mlp|": {"mlp.py": "1"}}
    assert differences(before, before) == []
    assert differences(before, after) == ["cnn|: cnn.arch is new", "cnn|: cnn.onnx is missing", "cnn|: cnn.py differs"]
