"""int8 layers in emitted PyTorch."""
