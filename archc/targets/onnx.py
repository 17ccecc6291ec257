"""The target `onnx`: an ONNX model, which ONNX Runtime runs.

If the weights have 100 MB or more (`LARGE` in `archc.codegen.onnx.emit`), the model contains only tensors of up to
1 KB.  The others are in the weights file or, if there is none, in a data file of the model, such as `gpt2.onnx.data`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from archc.codegen.target import ExactSums, Factors, ModelToEmit, RunError, Runtime, Target
from archc.diagnostics import error
from archc.ir.outside_operators import suspecting
from archc.passmanager.targets import BreakEven

if TYPE_CHECKING:
    import torch


def _write(model: ModelToEmit, path: Path) -> None:
    """Write the ONNX model of a graph and check it.

    Raises:
        ArchcError: ONNX cannot express the graph (`no-onnx-form`), or ONNX refuses the model (`onnx-invalid`).
    """
    from archc.codegen import onnx

    shared = model.weights
    onnx.emit(
        model.graph,
        path,
        shared.path if shared else None,
        shared.offsets if shared else {},
        _properties(model),
        contributed=model.form.onnx == "microsoft",
    )
    try:
        onnx.check(path)
    except onnx.InvalidModel as refusal:
        failure = error(
            "onnx-invalid",
            f"ONNX refuses the model emitted for `{model.graph.name}`: {refusal}",
            help="leave the ONNX model out with `--emit torch,arch`",
        )
        raise suspecting(model.graph, failure) from None


def _properties(model: ModelToEmit) -> dict[str, str]:
    """The metadata of a model, which do not depend on the time or folder of the compilation."""
    properties = {"model": model.graph.name, "source": model.source_name, "passes": ", ".join(model.passes)}
    properties["compilation"] = model.compilation or ""
    return {key: value for key, value in properties.items() if value}


def _contributed(path: Path) -> Sequence[str]:
    from archc.codegen.onnx.contributed import contributed_operators

    return contributed_operators(path)


def _run(path: Path, inputs: Sequence[torch.Tensor], exact: bool = False) -> Sequence[torch.Tensor]:
    from onnxruntime.capi import onnxruntime_pybind11_state as refusals

    from archc.codegen import onnx

    try:
        return onnx.run_tensors(path, inputs, exact=exact)
    except (refusals.Fail, refusals.InvalidArgument, refusals.InvalidGraph, refusals.InvalidProtobuf) as refusal:
        raise RunError(str(refusal), refused=True) from None
    except Exception as failure:
        if str(failure).startswith("[ONNXRuntimeError]"):  # the message names the kind of failure
            raise RunError(str(failure), refused=False) from failure
        raise


def _run_exactly(path: Path, inputs: Sequence[torch.Tensor], folder: Path) -> Sequence[torch.Tensor]:
    """Run a copy of a model that sums products of 8-bit integers exactly.

    Without VNNI instructions, x86 CPUs add two such products in 16 bits with saturation.  A session option avoids the
    saturation, but fails if nodes share an initializer (ONNX Runtime 1.23).  In the copy, therefore, no two nodes share
    an initializer.
    """
    from archc.codegen.onnx.unshared import copy_without_sharing

    return _run(copy_without_sharing(path, folder), inputs, exact=True)


def _scale(path: Path, factors: Factors) -> None:
    from archc.codegen.onnx.scaled import scale

    scale(path, factors)


def _prepare(path: Path, inputs: Sequence[torch.Tensor]) -> Callable[[], object]:
    from archc.codegen import onnx
    from archc.weights.dtype_conversion import from_torch

    ready = onnx.session(path)
    arrays = {each.name: from_torch(tensor) for each, tensor in zip(ready.get_inputs(), inputs, strict=True)}
    return lambda: onnx.run_session(ready, arrays)


_BREAK_EVEN = BreakEven(
    static=100_000,
    dynamic=100_000,
    integer_result=65_536,
    isolated=1_000_000,
    recurrent_step={"lstm": 100_000, "gru": 800_000, "rnn": 100_000},
)
"""Limits of ONNX Runtime at batch 1 on one core with VNNI.

- Linear layers of perceptrons (`benchmarks.int8_models --widths`): int8 is faster from width 256 on (AMD EPYC without
  VNNI) or 320 on (Emerald Rapids), and more than three times as fast at width 512 on the latter.  A layer of width 320
  has 102,400 multiply-adds.
- Convolutions: the digit classifier is faster with int8 convolutions at every batch size.
- Isolated convolutions: LeNet-5 ran half as fast with its two int8 convolutions, of 120,000 and 240,000 multiply-adds,
  each followed by a `tanh`.  The convolutions of ResNet-18 have ten times as many multiply-adds, and become faster.
- One layer of a recurrent operator in a step, for equal sizes of operand and state (`benchmarks.recurrent_int8`).
  LSTM: int8 has 0.7 times the speed of floats at size 64 (32,768 multiply-adds), 1.2 times at size 128 (131,072), and
  1.8 times at size 256.  GRU, a `Scan` with several operators in each step: 0.8 times at size 256 (393,216), 1.1 to 1.3
  times at size 384 (884,736), and 2 to 3 times at size 512.  RNN: 0.8 times at size 128 (32,768), and 1.1 to 1.3 times
  at size 256 (131,072).
"""

ONNX = Target(
    "onnx",
    ".onnx",
    "ONNX model",
    write=_write,
    holds_weights=True,
    staged=True,
    contributed=_contributed,
    runtime=Runtime(
        "onnxruntime",
        "ONNX Runtime",
        _run,
        scale=_scale,
        modules=("onnxruntime",),
        prepare=_prepare,
        break_even=_BREAK_EVEN,
        exact_sums=ExactSums(
            _run_exactly,
            "set the session option `session.x64quantprecision` to `1`.  If a layer is used twice, compile with\n"
            '`quant(scheme = "weight")` instead',
        ),
    ),
)
