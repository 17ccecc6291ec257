"""PyTorch modules and functions of emitted programs.

The files import torch alone, and one another, so that copies of them run without archc.
Copies of `int8.py`, `weight_only.py`, `packed.py`, `sparse.py`, `recurrent.py` and
`fake_quantized.py`, with the definitions that they import, are written beside an emitted
program.  The PyTorch emitter copies other definitions into the program, or, for a program
of a single file, all definitions; the comments `# if:` control the copy (see
`archc.codegen.python_source`).
"""
