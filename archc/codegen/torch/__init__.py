"""PyTorch target: `emit` gives the source of a module."""

from archc.codegen.torch.emit import INT8_FILE, emit
from archc.codegen.torch.names import class_name, reserved_member_names

__all__ = ["INT8_FILE", "class_name", "emit", "reserved_member_names"]
