"""PyTorch modules and functions of emitted programs.

The files import torch alone, so that they run without archc.  `int8.py` is copied beside
an emitted program.  The PyTorch emitter copies other definitions into the program, or, for
a program of a single file, all definitions; the comments `# if:` control the copy (see
`archc.codegen.python_source`).
"""
