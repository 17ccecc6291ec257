"""Agreement of the outputs of a compressed model with those of the original one."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from archc.diagnostics import did_you_mean, error
from archc.interpreter.evaluate import evaluate
from archc.ir.graph import Graph
from archc.passmanager.calibration import Calibration
from archc.passmanager.threads import one_thread

if TYPE_CHECKING:
    import numpy as np
    import torch

    Arrays = Mapping[str, np.ndarray[Any, Any]]
    Outputs = Mapping[str, torch.Tensor]

Measure = Callable[["Outputs", "Outputs", "Arrays"], float]
"""Function of the outputs of a model, the expected outputs and the inputs, by name.

It returns 1 for equal outputs.  The samples are along the first axis.
"""


def measure_of(name: str) -> Measure:
    """The measure with a name: `cosine`, `top1`, or `package:function`.

    Raises:
        ArchcError: there is no such measure, or it cannot be imported (`unknown-measure`).
    """
    if name in MEASURES:
        return MEASURES[name]
    module, colon, function = name.partition(":")
    if not colon:
        way = did_you_mean(name, MEASURES) or "write `cosine`, `top1`, or `package.module:function`"
        raise error("unknown-measure", f"there is no measure `{name}`", help=way)
    try:
        found = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as failure:  # the import runs the user's code
        reason = f"{type(failure).__name__}: {failure}"
        raise error(
            "unknown-measure",
            f"the measure `{name}` cannot be imported: {reason}",
            help="write `package.module:function`, for a module that Python finds (see PYTHONPATH)",
        ) from None
    return _checked(name, found)


def outputs_on(graph: Graph, data: Arrays) -> dict[str, torch.Tensor]:
    """Outputs of a graph for all samples, one batch at a time."""
    import torch

    calibration = Calibration(graph, data)
    parts: dict[str, list[torch.Tensor]] = {}
    with one_thread(), calibration.explained():
        for batch in calibration.batches():
            for name, tensor in evaluate(graph, batch).items():
                parts.setdefault(name, []).append(tensor)
    return {name: torch.cat(each) if each[0].ndim else each[0] for name, each in parts.items()}


def cosine(found: Outputs, expected: Outputs, inputs: Arrays) -> float:
    """Mean cosine of the angle between the outputs of each sample and the expected ones, over all outputs.

    A sample whose elements are all zero in both has a cosine of 1.
    """
    import torch

    means = []
    for name, one in expected.items():
        rows, other = (tensor.double().reshape(len(tensor) if tensor.ndim else 1, -1) for tensor in (one, found[name]))
        norms, equal = rows.norm(dim=1) * other.norm(dim=1), (rows == other).all(1).double()
        cosines = torch.where(norms > 0, (rows * other).sum(1) / norms.clamp(min=1e-300), equal)
        means.append(float(cosines.mean()))
    return sum(means) / len(means)


def top1(found: Outputs, expected: Outputs, inputs: Arrays) -> float:
    """Share of equal predictions: largest elements along the last axis of the outputs."""
    shares = [
        float((found[name].argmax(-1) == one.argmax(-1)).double().mean()) for name, one in expected.items() if one.ndim
    ]
    return sum(shares) / max(len(shares), 1)


MEASURES: Mapping[str, Measure] = {"cosine": cosine, "top1": top1}


def _checked(name: str, function: Callable[..., Any]) -> Measure:
    """The user's function, whose failures become diagnostics."""

    def measure(found: Outputs, expected: Outputs, inputs: Arrays) -> float:
        try:
            number = float(function(found, expected, inputs))
            if not math.isfinite(number):
                raise ValueError(f"it returned {number}")
            return number
        except (Exception, SystemExit) as failure:
            reason = f"{type(failure).__name__}: {failure}"
            raise error(
                "measure-failed",
                f"the measure `{name}` failed: {reason}",
                help="it gets the outputs, the expected outputs and the inputs, each by name, and returns a number",
            ) from None

    return measure
