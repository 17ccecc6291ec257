"""A spec beside a reference whose weights come to it by the map of names that ships with the spec.

Twins match layers in the order in which they run; here the map does it, so that it is checked as well: a tensor that it
forgets is an error, and one that it brings to the wrong place shows in the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import archc
from archc.driver.emitted_programs import load_module
from archc.weights.load import load
from archc.weights.rename import rename
from archc.weights.rename_rules import read_rules
from tests.specs.siblings import SPECS
from tests.specs.twins import Twins, settle

NAMES = SPECS / "names"


class Reference(nn.Module):
    """A model of `transformers`, or of torch.nn, called as the spec is: with tensors only, and giving tensors only."""

    def __init__(self, model: nn.Module, call: Callable[..., Any]):
        super().__init__()
        self.model = model
        self.call = call

    def forward(self, *inputs: Tensor) -> Any:
        return self.call(self.model, *inputs)

    def save(self, folder: Path) -> Path:
        """Its weights in a file, as people have them: `save_pretrained` gives them the names of published files."""
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
        spec: its file, or its text.
        values: the attributes of the sibling that the reference is.
        inputs: what the reference is settled on.
        names: the map's name.
    """
    settle(reference, inputs)
    weights = reference.save(folder)
    compiled = archc.compile(spec, values=values, weights=weights, renaming=NAMES / f"{names}.names")
    compiled.write(folder / "out", emit=("torch", "onnx"))
    module = load_module(folder / "out" / f"{compiled.name}.py").load()
    return Twins(reference, module, folder / "out" / f"{compiled.name}.onnx", compiled.graph)


def renamed(tensors: Mapping[str, Tensor], both: Twins, folder: Path, names: str) -> dict[str, Tensor]:
    """Tensors by the reference's names, such as gradients, as a map brings them to the paths of a spec."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "tensors.safetensors")
    shapes = {path: (weight.shape, weight.dtype.value) for path, weight in both.graph.weights.items()}
    found = rename(load(folder / "tensors.safetensors"), read_rules(NAMES / f"{names}.names"), shapes)
    return {path: torch.from_numpy(tensor.numpy().copy()) for path, tensor in found.items()}
