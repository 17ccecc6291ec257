"""PyTorch modules and functions of emitted programs.

The files import torch alone, so that they run without archc.  The PyTorch emitter
copies from their source the definitions that a program needs; the comments `# if:`
control the copy (see `archc.codegen.python_source`).
"""
