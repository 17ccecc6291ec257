"""Copies of ONNX models in which no two nodes share an initializer."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import onnx


def copy_without_sharing(path: Path, folder: Path) -> Path:
    """Copy an ONNX model to a folder, so that each initializer has only one use; return the path."""
    model = onnx.load(path, load_external_data=False)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    _part_decoders(model.graph, tensors)
    uses: Counter[str] = Counter()
    for node in _all_nodes(model.graph):
        for position, name in enumerate(node.input):
            uses[name] += name in tensors
            if uses[name] > 1:
                node.input[position] = f"{name}/{uses[name]}"
                copy = model.graph.initializer.add()
                copy.CopyFrom(tensors[name])
                copy.name = node.input[position]
    onnx.save(model, folder / path.name)
    for name in {e.value for tensor in tensors.values() for e in tensor.external_data if e.key == "location"}:
        if not (folder / name).exists():
            try:
                os.link(path.with_name(name), folder / name)
            except OSError:  # a file system without hard links
                shutil.copyfile(path.with_name(name), folder / name)
    return folder / path.name


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of the bodies of its scans, which can use values of the graph."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _all_nodes(attribute.g)


def _part_decoders(graph: onnx.GraphProto, tensors: Collection[str]) -> None:
    """Give each use of a dequantized initializer, except the first use, its own `DequantizeLinear`."""
    decoders = {
        node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in tensors
    }
    uses: Counter[str] = Counter()
    copies = []
    for node in _all_nodes(graph):
        for position, name in enumerate(node.input):
            uses[name] += 1
            if name in decoders and uses[name] > 1:
                node.input[position] = f"{name}/{uses[name]}"
                copies.append(onnx.NodeProto())
                copies[-1].CopyFrom(decoders[name])
                copies[-1].name = copies[-1].output[0] = node.input[position]
    nodes = [*copies, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
