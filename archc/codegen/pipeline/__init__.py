"""The pipeline backend: `split` takes a divided graph apart, `emit` writes the program that runs the stages."""

from archc.codegen.pipeline.program import emit, shared
from archc.codegen.pipeline.split import Stage, split

__all__ = ["Stage", "emit", "shared", "split"]
