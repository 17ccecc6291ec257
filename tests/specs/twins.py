"""A spec beside an independent implementation with the same weights.

Layers are matched in the order in which they run, and their tensors by name: `weight` is `weight` on both sides,
whatever the paths are.  A wrong match would show in the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import archc
from archc.codegen import onnx
from archc.driver.emitted_programs import load_module
from archc.ir.graph import Graph

TOLERANCE = 1e-4
"""The largest error of an output, relative to its largest element; both compute in single precision."""


@dataclass(frozen=True)
class Twins:
    """A compiled spec and its reference.

    Attributes:
        reference, module: the independent implementation, and what the spec was compiled to.
        paths: the reference's name of each tensor of the spec, where the two were matched layer by layer.
    """

    reference: nn.Module
    module: nn.Module
    onnx_file: Path
    graph: Graph
    paths: Mapping[str, str] = field(default_factory=dict)

    def agree(self, *inputs: Tensor) -> None:
        """The same inputs give the same outputs, in PyTorch and in ONNX Runtime."""
        with torch.no_grad():
            expected = _sequence(self.reference(*inputs))
            found = _sequence(self.module(*inputs))
        names = [value.name or "" for value in self.graph.inputs]
        arrays = onnx.run(self.onnx_file, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
        for name, wanted, tensor in zip(self.graph.outputs, expected, found, strict=True):
            assert_close(name, tensor, wanted)
            assert_close(name, torch.from_numpy(arrays[name]), wanted)
            # Outputs that do not depend on the inputs would agree whatever happens before the last layer.
            assert wanted.std(0).max() > 0.05 * wanted.abs().max(), f"{name} hardly depends on the inputs"


def assert_close(name: str, found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape, name
    error = (found - wanted).abs().max() / wanted.abs().max()
    assert error <= TOLERANCE, f"{name} differs by {error:.1e}"


def twins(
    spec: Path | str, values: Mapping[str, Any], reference: nn.Module, inputs: Sequence[Tensor], folder: Path
) -> Twins:
    """Compile a spec with the weights of its reference.

    Args:
        spec: its file, or its text.
        values: the attributes of the sibling that the reference is.
        inputs: what the reference's statistics are made of.
    """
    settle(reference, inputs)
    graph = archc.parse(spec, values=values)
    paths = matched(graph, layers_as_run(reference, inputs))
    own = reference.state_dict()
    assert sorted(paths.values()) == sorted(own), "every tensor of the reference has its place"
    shapes = {path: weight.shape for path, weight in graph.weights.items()}
    # A convolution of size 1 over a single place is a dense layer, with two axes less.
    save_file(
        {path: own[name].reshape(shapes[path]).clone() for path, name in paths.items()}, folder / "weights.safetensors"
    )
    compiled = archc.compile(spec, values=values, weights=folder / "weights.safetensors")
    compiled.write(folder, emit=("torch", "onnx"))
    module = load_module(folder / f"{compiled.name}.py").load()
    return Twins(reference, module, folder / f"{compiled.name}.onnx", compiled.graph, paths)


def settle(reference: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Seeded weights of which all matter: signals neither die nor explode on their way, and no scale is 1."""
    torch.manual_seed(0)
    with torch.no_grad():
        reference(*inputs)  # lazy layers learn their sizes
    norms = [module for module in reference.modules() if isinstance(module, nn.BatchNorm2d)]
    for name, parameter in reference.named_parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter)
        else:
            nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.2)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become those of the batch
    with torch.no_grad():
        reference.train()(*inputs)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    reference.eval()


def layers_as_run(model: nn.Module, inputs: Sequence[Tensor]) -> list[str]:
    """The names of the modules that hold tensors themselves, in the order in which they run."""
    names: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, arguments, name=name: names.append(name))
        for name, module in model.named_modules()
        if module.state_dict() and not list(module.children())
    ]
    with torch.no_grad():
        model(*inputs)
    for hook in hooks:
        hook.remove()
    return names


def matched(graph: Graph, layers: Iterable[str]) -> dict[str, str]:
    """The reference's name of each weight of a graph."""
    nodes = [node for node in graph.nodes() if node.weights]
    return {
        path: f"{layer}.{parameter}"
        for node, layer in zip(nodes, layers, strict=True)
        for parameter, path in node.weights.items()
    }


def _sequence(results: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return (results,) if isinstance(results, Tensor) else results


def assert_same_gradients(both: Twins, inputs: Sequence[Tensor], loss: Callable[..., Tensor]) -> None:
    """In training, a loss of the outputs has the same gradient by each parameter of the two."""
    for model in (both.reference, both.module):
        loss(*_sequence(model.train()(*inputs))).backward()
    expected = dict(both.reference.named_parameters())
    found = dict(both.module.named_parameters())
    assert found.keys() | dict(both.module.named_buffers()).keys() == both.paths.keys()
    for path, parameter in found.items():
        wanted = expected[both.paths[path]].grad
        assert parameter.grad is not None and wanted is not None, path
        assert wanted.abs().max() > 0, path
        assert (parameter.grad - wanted).abs().max() <= TOLERANCE * wanted.abs().max(), path
