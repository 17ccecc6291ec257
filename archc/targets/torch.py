"""The target `torch`: a PyTorch module, which reads the weights file in its folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from archc.codegen.target import ModelToEmit, Runtime, Target, reads_weights_file
from archc.passmanager.targets import BreakEven

if TYPE_CHECKING:
    import torch
    from torch import nn

    from archc.codegen.pipeline import ModelStage
    from archc.ir.graph import Graph


def source_of(model: ModelToEmit) -> str:
    """Source of the PyTorch module of a model.

    Raises:
        ArchcError: PyTorch cannot express the model.
    """
    from archc.codegen.torch import emit

    return emit(
        model.graph,
        source_name=model.source_name,
        weights_name=model.weights_name,
        compilation=model.compilation,
        write_beside=model.write_beside,
        activations=model.form.activations,
    )


def module_of(model: ModelToEmit, device: str | torch.device = "cpu") -> nn.Module:
    """The emitted module with its weights, in evaluation mode, with all stages on one device.

    The module is created in this process, without a file.

    Raises:
        ArchcError: PyTorch cannot express the model.
    """
    from archc.codegen.torch.load import live_model

    return live_model(model.graph, source_of(replace(model, write_beside=None)), device)


def _pipeline(graph: Graph, stages: Sequence[ModelStage], source_name: str, compilation: str) -> str:
    from archc.codegen import pipeline

    return pipeline.emit(graph, stages, source_name=source_name, compilation=compilation)


def _run(path: Path, inputs: Sequence[torch.Tensor]) -> torch.Tensor | Sequence[torch.Tensor]:
    from archc.codegen.torch import load

    outputs: torch.Tensor | Sequence[torch.Tensor] = load.load_model(path)(*inputs)
    return outputs


def _prepare(path: Path, inputs: Sequence[torch.Tensor]) -> Callable[[], object]:
    import torch

    from archc.codegen.torch import load

    module = load.load_model(path)

    def run() -> object:
        with torch.inference_mode():
            return module(*inputs)

    return run


_BREAK_EVEN = BreakEven(
    static=400_000,
    dynamic=500_000,
    integer_result=65_536,
    isolated=1_000_000,
    recurrent_step={"lstm": 300_000, "gru": 90_000, "rnn": 600_000},
)
"""Limits of PyTorch at batch 1 on one core with VNNI (Emerald Rapids).

- Linear layers of perceptrons (`benchmarks.int8_models --widths`): the speed of int8 is 0.6 times that of floats at
  width 384, 0.9 times at width 512 (262,144 multiply-adds), 1.1 times at width 640 (409,600) and 1.2 times at 768.
  With a dynamic range, it is 0.8 times at width 512 and 1.0 times at width 704 (495,616).
- Convolutions: at batch 32, the digit classifier is faster with int8 convolutions.  At batch 1, its convolutions
  compute in floats, and the quantization of their operands takes a fifth of the time.
- One layer of a recurrent operator in a step, for equal sizes of operand and state, and sequences of 64 steps
  (`benchmarks.recurrent_int8`).  LSTM: int8 has 0.5 times the speed of floats at size 128 (131,072 multiply-adds), 0.7
  to 1.1 times at size 192 (294,912), and 1.2 times at size 256.  GRU: 1.1 times at size 64 (24,576), and 1.2 to 1.7
  times at size 128 (98,304).  RNN: 0.4 to 0.6 times at size 384 (294,912), 0.9 to 1.3 times at size 512 (524,288), and
  1.5 times at size 640.  The batch size does not change these limits, which `least` in `archc/runtime/recurrent.py`
  has, too.

On a CPU without VNNI, PyTorch computes int8 layers in floats, so int8 is slower at every width.
"""

TORCH = Target(
    "torch",
    ".py",
    "PyTorch module",
    text=source_of,
    needs_weights=False,
    staged=True,
    has_activations=True,
    pipeline=_pipeline,
    runtime=Runtime("torch", "PyTorch", _run, scale=reads_weights_file, prepare=_prepare, break_even=_BREAK_EVEN),
)
