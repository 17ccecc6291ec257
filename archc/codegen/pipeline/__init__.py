"""The pipeline backend: `split` makes a graph for each stage, `emit` the program that runs them."""

from archc.codegen.pipeline.emit import emit, shared
from archc.codegen.pipeline.split import ModelStage, split

__all__ = ["ModelStage", "emit", "shared", "split"]
