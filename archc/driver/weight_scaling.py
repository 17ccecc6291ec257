"""Scaled copies of weights, for checks of networks whose initial weights attenuate the input.

PyTorch initializes a layer so that its results are smaller than its operand.  In a deep network the outputs then depend
almost only on the last biases, and two programs agree even if their early layers differ.  The check of such a network
runs once more, with the weights of each layer scaled so that its results have the standard deviation 1.  The method is
that of Mishkin and Matas (2016, "All you need is a good init"), without the orthogonal matrices.  The scaled weights
are never part of the output.
"""

from __future__ import annotations

import copy
import shutil
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from archc.declaration.traits import AFFINE_IN_WEIGHT
from archc.driver.target_files import reported, with_data_files
from archc.ir.graph import Graph
from archc.targets.registry import runnable_targets
from archc.weights.tensor import ComputedTensor, FileTensor, LazyTensor, Weights

if TYPE_CHECKING:
    import numpy as np
    import torch


def scaling_factors(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """The scaling factor of each weight by path, for affine layers that share no weight.

    If the weight and bias of such a layer are multiplied by a factor, its result is multiplied by the same factor.  One
    run of the graph therefore gives all factors.
    """
    from archc.interpreter.evaluate import evaluate_all

    users = Counter(path for node in graph.nodes() for path in node.weights.values())
    factors: dict[str, float] = {}
    for value, result in evaluate_all(graph, inputs):
        node = value.producer
        if node is None or not node.op.has(AFFINE_IN_WEIGHT) or not result.numel():
            continue
        paths = node.weights.values()
        if any(path in factors or users[path] > 1 or not graph.weights[path].storage.elementwise for path in paths):
            continue
        deviation = float(result.double().std(correction=0))
        if not 0 < deviation < float("inf"):
            continue
        result /= deviation  # in place: the next layers get the scaled result
        factors |= dict.fromkeys(paths, 1 / deviation)
    return factors


def with_factors(graph: Graph, factors: Mapping[str, float]) -> Graph:
    """Copy of a graph with scaled weights; each weight is scaled when it is read."""
    assert graph.tensors is not None, "only models with weights are checked"
    made = copy.copy(graph)
    made.tensors = Weights(
        {
            path: ComputedTensor(tensor.shape, tensor.dtype, partial(_times, tensor, factors[path]))
            if path in factors
            else tensor
            for path, tensor in graph.tensors.items()
        }
    )
    return made


def _times(tensor: LazyTensor, factor: float) -> np.ndarray:
    array = tensor.numpy()
    return (array * factor).astype(array.dtype)


def scaled_copies(files: Mapping[str, Path], factors: Mapping[str, float], folder: Path) -> dict[str, Path]:
    """Copy programs and their weights file into a folder, and scale all copies of the weights.

    The files that the programs import are copied, too.  Programs of targets that cannot scale the weights in a file
    (`Runtime.scale`) are left out.

    Args:
        files: paths of programs by suffix, such as `.py` and `.onnx`; the weights file, if there is one, is in the same
            folder.
    """
    copies: dict[str, Path] = {}
    for target in runnable_targets(files):
        if target.runtime is None or target.runtime.scale is None:
            continue
        path = files[target.suffix]
        weights = path.with_name(path.name.removesuffix(target.suffix) + ".safetensors")
        if not copies:
            for imported in path.parent.glob("archc_*"):  # see `WriteBeside`
                shutil.copyfile(imported, folder / imported.name)
            if weights.exists():
                shutil.copyfile(weights, folder / weights.name)
                _scale_safetensors(folder / weights.name, factors)
        copies[target.suffix] = folder / path.name
        for file in with_data_files(path):
            shutil.copyfile(file, folder / file.name)
        with reported(target, target.runtime.scale):
            target.runtime.scale(copies[target.suffix], factors)
    return copies


def _scale_safetensors(path: Path, factors: Mapping[str, float]) -> None:
    """Scale tensors in place, since ONNX models refer to the tensors by offset."""
    import numpy as np

    from archc.weights.safetensors import read

    for name, tensor in read(path).items():
        if name in factors and tensor.nbytes:
            assert isinstance(tensor, FileTensor)
            array = np.memmap(path, tensor.numpy().dtype, "r+", tensor.offset, tensor.shape)
            array[...] = _times(tensor, factors[name])
            array.flush()
