"""Layers that compute in integers in emitted PyTorch."""
