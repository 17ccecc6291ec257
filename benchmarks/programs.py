"""Embedding models in ONNX Runtime and PyTorch, each with the size of its files."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import torch
from torch import nn

from benchmarks.embeddings import Array, Feeds

ONNX, EAGER, COMPILED = "ONNX Runtime", "PyTorch", "PyTorch, compiled"
"""Runtimes; the last one is PyTorch with `torch.compile`."""


@dataclass(frozen=True)
class Program:
    """Embedding model in one runtime.

    Attributes:
        run: function from tokens and mask to embeddings [N, D].
        bytes: size of all files that are needed to run the model.
    """

    run: Callable[[Feeds], Array]
    bytes: int


@dataclass(frozen=True)
class Candidate:
    """Quantizer with its settings.

    Attributes:
        runtimes: runtimes of the results, of which at least one is measured.
        build: quantizes the model with calibration data, writes its files into an empty folder, and returns a program
            for each runtime.
    """

    title: str
    runtimes: tuple[str, ...]
    build: Callable[[Feeds, Path], Mapping[str, Program]]


def in_onnxruntime(path: Path, without: Sequence[str] = ()) -> dict[str, Program]:
    """Load an ONNX model on one thread; its folder has no other files than its external data.

    Args:
        without: names of optimizations of ONNX Runtime that are disabled.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal errors only: the other messages are also raised
    ready = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"], disabled_optimizers=[*without])
    (output,) = (each.name for each in ready.get_outputs())
    return {ONNX: Program(lambda feeds: ready.run([output], dict(feeds))[0], bytes_of(path.parent))}


def load_emitted(path: Path) -> nn.Module:
    """Load an emitted module with its weights, as a module of its own name.

    `torch.compile` imports the module of an inlined function by its name.
    """
    name = f"{path.stem}_{sum(each.startswith(path.stem) for each in sys.modules)}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model: nn.Module = module.load()
    return model


def in_torch(module: nn.Module, size: int) -> dict[str, Program]:
    """Run a module eagerly and with `torch.compile`, which compiles it for each input shape."""

    def run(model: Callable[..., torch.Tensor], feeds: Feeds) -> Array:
        with torch.no_grad():
            return model(torch.from_numpy(feeds["tokens"]), torch.from_numpy(feeds["mask"])).numpy()

    compiled = torch.compile(module, dynamic=False)
    return {
        EAGER: Program(lambda feeds: run(module, feeds), size),
        COMPILED: Program(lambda feeds: run(compiled, feeds), size),
    }


def bytes_of(folder: Path) -> int:
    """Size of the files of a model, without archc's report."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.name != "report.json")
