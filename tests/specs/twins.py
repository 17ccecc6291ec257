"""Comparison of a spec with an independent implementation that has the same weights.

Layers are matched by their order of execution, and the tensors of two matched layers by name, such as `weight`.
A wrong match changes the outputs.
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
from archc.codegen.torch.load import load_module
from archc.ir.graph import Graph

TOLERANCE = 1e-4
"""Largest allowed error of an output, relative to its largest element, for single precision."""


@dataclass(frozen=True)
class Twins:
    """Compiled spec and its reference.

    Attributes:
        reference: independent implementation.
        module: PyTorch module that the spec was compiled to.
        paths: name in the reference for the path of each weight of the spec; empty if a map matched the weights.
    """

    reference: nn.Module
    module: nn.Module
    onnx_file: Path
    graph: Graph
    paths: Mapping[str, str] = field(default_factory=dict)

    def agree(self, *inputs: Tensor) -> None:
        """Check that the outputs in PyTorch and in ONNX Runtime agree with those of the reference."""
        with torch.no_grad():
            expected = _sequence(self.reference(*inputs))
            found = _sequence(self.module(*inputs))
        names = [value.name or "" for value in self.graph.inputs]
        arrays = onnx.run(self.onnx_file, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
        for name, wanted, tensor in zip(self.graph.outputs, expected, found, strict=True):
            assert_close(name, tensor, wanted)
            assert_close(name, torch.from_numpy(arrays[name]), wanted)
            # Outputs that do not depend on the inputs would agree even if the first layers were wrong.
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
        spec: file or text of the spec.
        values: attribute values that give the spec the sizes of the reference.
        inputs: inputs of the reference for the statistics of its batch norms.
    """
    settle(reference, inputs)
    graph = archc.parse(spec, values=values)
    paths = matched(graph, layers_as_run(reference, inputs))
    own = reference.state_dict()
    assert sorted(paths.values()) == sorted(own), "every tensor of the reference has its place"
    shapes = {path: weight.shape for path, weight in graph.weights.items()}
    # The reference may have a 1×1 convolution instead of a dense layer; its weight has two more axes.
    save_file(
        {path: own[name].reshape(shapes[path]).clone() for path, name in paths.items()}, folder / "weights.safetensors"
    )
    compiled = archc.compile(spec, values=values, weights=folder / "weights.safetensors")
    compiled.write(folder, emit=("torch", "onnx"))
    module = load_module(folder / f"{compiled.name}.py").load()
    return Twins(reference, module, folder / f"{compiled.name}.onnx", compiled.graph, paths)


def settle(reference: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Give a reference seeded weights that keep the scale of signals, and norms with scales other than 1.

    Running statistics of batch norms become those of the inputs.
    """
    torch.manual_seed(0)
    with torch.no_grad():
        reference(*inputs)  # initializes lazy layers
    norms = [module for module in reference.modules() if isinstance(module, nn.BatchNorm2d)]
    for name, parameter in reference.named_parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter)
        else:
            nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.2)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # running statistics become those of the batch
    with torch.no_grad():
        reference.train()(*inputs)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    reference.eval()


def layers_as_run(model: nn.Module, inputs: Sequence[Tensor]) -> list[str]:
    """Return the names of the modules with tensors of their own, in the order of execution."""
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
    """Return the name in the reference for the path of each weight of a graph."""
    nodes = [node for node in graph.nodes() if node.weights]
    return {
        path: f"{layer}.{parameter}"
        for node, layer in zip(nodes, layers, strict=True)
        for parameter, path in node.weights.items()
    }


def _sequence(results: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return (results,) if isinstance(results, Tensor) else results


def assert_same_gradients(both: Twins, inputs: Sequence[Tensor], loss: Callable[..., Tensor]) -> None:
    """Check that the gradients of a loss of the outputs agree in training mode, for all parameters."""
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
