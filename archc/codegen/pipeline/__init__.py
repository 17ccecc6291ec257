"""The pipeline backend: `split` takes a divided graph apart, `emit` writes the program that runs the stages."""

from archc.codegen.pipeline.emit import emit, shared
from archc.codegen.pipeline.split import ModelStage, split

__all__ = ["ModelStage", "emit", "shared", "split"]
