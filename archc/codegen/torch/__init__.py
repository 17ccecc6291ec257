"""PyTorch target: `emit` gives the source of a module."""

from archc.codegen.torch.emit import emit, library_file
from archc.codegen.torch.names import class_name, reserved_member_names

__all__ = ["class_name", "emit", "library_file", "reserved_member_names"]
