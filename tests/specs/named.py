"""Specs compiled with the weights of a reference; a map of `specs/names` translates the names.

So the maps are tested, too: a tensor without a rule is an error, and a wrong rule changes the outputs.  `twins.py`
needs no map, since it matches layers by their order of execution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import archc
from archc.codegen.torch.load import load_module
from archc.weights.load import load
from archc.weights.rename import rename
from archc.weights.rename_rules import read_rules
from tests.specs.siblings import SPECS
from tests.specs.twins import Twins, settle

NAMES = SPECS / "names"


class Reference(nn.Module):
    """Model of `transformers` or torch.nn with the inputs and outputs of a spec, which are tensors."""

    def __init__(self, model: nn.Module, call: Callable[..., Any]):
        super().__init__()
        self.model = model
        self.call = call

    def forward(self, *inputs: Tensor) -> Any:
        return self.call(self.model, *inputs)

    def save(self, folder: Path) -> Path:
        """Save the weights in a file with the names of published files, which `save_pretrained` writes."""
        save_pretrained = getattr(self.model, "save_pretrained", None)
        path = folder / "model.safetensors"
        if save_pretrained is None:
            save_file(self.model.state_dict(), path)
        else:
            save_pretrained(folder)
        return path


def named_twins(
    spec: Path | str,
    values: Mapping[str, Any],
    reference: Reference,
    inputs: Sequence[Tensor],
    folder: Path,
    names: str,
) -> Twins:
    """Compile a spec with the weights of its reference.

    Args:
        spec: file or text of the spec.
        values: attribute values that give the spec the sizes of the reference.
        inputs: inputs of the reference for the statistics of its batch norms.
        names: name of the map.
    """
    settle(reference, inputs)
    weights = reference.save(folder)
    compiled = archc.compile(spec, values=values, weights=weights, renaming=NAMES / f"{names}.names")
    compiled.write(folder / "out", emit=("torch", "onnx"))
    module = load_module(folder / "out" / f"{compiled.name}.py").load()
    return Twins(reference, module, folder / "out" / f"{compiled.name}.onnx", compiled.graph)


def renamed(tensors: Mapping[str, Tensor], both: Twins, folder: Path, names: str) -> dict[str, Tensor]:
    """Translate the names of a reference's tensors, such as gradients, to the paths of a spec."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "tensors.safetensors")
    shapes = {path: (weight.shape, weight.dtype.value) for path, weight in both.graph.weights.items()}
    found = rename(load(folder / "tensors.safetensors"), read_rules(NAMES / f"{names}.names"), shapes)
    return {path: torch.from_numpy(tensor.numpy().copy()) for path, tensor in found.items()}
