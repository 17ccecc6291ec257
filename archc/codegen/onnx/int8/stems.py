"""Integer form of a model's stem, its first convolution and max pool, by im2col.

ONNX Runtime's integer convolution processes four input channels at a time.  With one or three channels it is ten times
slower than the float kernel, so such convolutions stay in floats (see `archc.ops.conv`).  If a max pool and a quantizer
follow the convolution, an integer form by im2col is faster: gather patches of the image, multiply the patches by the
weights of all phases of the pool, and take the maximum over the phases (see `archc.codegen.onnx.int8.patches`).

    QuantizeLinear ─ patches ─ Conv 1×1 ─ Relu ─ QuantizeLinear ─ MaxPool over the phases

The maximum can follow the quantization, since quantization is monotone.  The bias is rounded to a multiple of the
product of the scales of image and weight, as in every integer layer.

The form was measured on the digit classifier's first convolution at batch 32 (Emerald Rapids, one thread):

- In floats, convolution, pool and quantization take 430 µs of the network's 770 µs.  In this form they take 220 µs of
  530 µs.  At batch 1 the whole network takes 37 µs in floats, and 39 µs in this form.
- The convolution of patches of 16 elements by a 1×1 kernel takes 110 µs.  A 2×2 kernel over blocks of 2×2 pixels
  (`SpaceToDepth`) takes 170 µs: integer kernels other than 1×1 load each pixel through a pointer.
- The samples of the batch are the innermost axis, so that gathering a patch takes few long copies.  With the batch as
  the first axis, a `Gather` would copy single bytes, and take longer than the convolution.
- A pool over one axis takes 60 µs.  A pool over two axes takes 80 µs, because it also loads each pixel through a
  pointer.  A `Max` of several tensors, one for each phase, takes 500 µs: ONNX Runtime has no `Max` of 8-bit integers,
  so it dequantizes all these tensors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from archc.codegen.onnx.decode import DecodedWeights, IntegerBias, rounded_bias
from archc.codegen.onnx.int8.patches import Along, Patches
from archc.codegen.onnx.onnx_graph import NodeRecord
from archc.frozen_dataclass import frozen_dataclass
from archc.types.storage import Int8, Weight
from archc.types.tensor_type import DType, TensorType

LANES = 4
"""Number of input (and of output) channels that ONNX Runtime's integer kernels process at a time."""

LONGEST_PATCH = 16
"""Largest patch, in elements, for which the integer form is used.

The limit was measured with networks of two convolutions.  With larger patches (from a 5×5 kernel, or from an image
with three channels), the integer form makes these networks 1.35 times as fast at batch 32, but 0.86 times as fast at
batch 1, where gathering the patches takes a larger share of the time.
"""

LEAST_RESULTS = 128
"""Smallest product of the numbers of phases and output channels for which the integer form is used.

With a product of 64, the integer form makes the same networks 1.13 times as fast at batch 32, and 0.85 times as fast
at batch 1.
"""

_OF_CONV = frozenset(("kernel_shape", "pads", "strides"))
_OF_POOL = frozenset(("kernel_shape", "strides"))
"""The supported attributes of the two operators.

The emitter omits attributes with default values.  An attribute outside these sets is therefore not at its default, and
a stem with such an attribute is not replaced.
"""


@frozen_dataclass
class Stem:
    """The nodes that are replaced, and their operands and parameters.

    Attributes:
        image: the quantized operand of the convolution, its scale and its zero point.
        replaced: the convolution, the `Relu` and `MaxPool` after it in any order, and the quantizer.
        weight, bias: the parameters of the convolution; the bias as integers, or None without a bias.
    """

    image: list[str]
    replaced: list[NodeRecord]
    patches: Patches
    weight: Weight
    bias: IntegerBias | None


def pooled_stems(weights: DecodedWeights, records: list[NodeRecord], outputs: Collection[str]) -> list[NodeRecord]:
    """Replace the first convolutions and pools of a graph by their integer form.

    Args:
        weights: the weights, to which initializers are added.
        records: the nodes in topological order.
        outputs: the names that are used outside these nodes.
    """
    quantizers = [record for record in records if record.op_type == "QuantizeLinear"]
    if not quantizers:
        return records
    producers = {name: record for record in records for name in record.outputs}
    uses = Counter(name for record in records for name in record.inputs)
    uses.update(outputs)
    made: dict[int, list[NodeRecord]] = {}
    for quantizer in quantizers:
        stem = _stem(weights, quantizer, producers, uses)
        if stem is not None:
            made |= {id(record): [] for record in stem.replaced}
            made[id(quantizer)] = _spelled(weights, stem)
    if not made:
        return records
    kept = [one for record in records for one in made.get(id(record), [record])]
    return _without_unused(weights, kept, [record for record in records if id(record) in made], outputs)


# Finding ------------------------------------------------------------------------------------------------------


def _stem(
    weights: DecodedWeights, quantizer: NodeRecord, producers: dict[str, NodeRecord], uses: Counter[str]
) -> Stem | None:
    """The stem that ends in a quantizer, if there is one."""
    replaced = [quantizer]
    while replaced[0].op_type != "Conv":
        name = replaced[0].inputs[0]
        producer = producers.get(name)
        if producer is None or uses[name] != 1 or producer.op_type not in ("Conv", "MaxPool", "Relu"):
            return None
        replaced.insert(0, producer)
    conv, pools = replaced[0], [record for record in replaced if record.op_type == "MaxPool"]
    image, weight = producers.get(conv.inputs[0]), weights.decoded_by(conv.inputs[1])
    if len(pools) != 1 or image is None or image.op_type != "DequantizeLinear" or not _is_by_channel(weight):
        return None
    if not (_is_on_a_grid(weights, image) and _is_on_a_grid(weights, quantizer)):
        return None
    patches = _patches(weights.onnx.types.get(conv.inputs[0]), conv.attributes, pools[0].attributes, weight.shape)
    if patches is None or not _pays(patches, weight.shape[0]):
        return None
    bias = None
    if len(conv.inputs) > 2:
        found = weights.decoded_by(conv.inputs[2])
        bias = None if found is None else rounded_bias(weights.onnx, found.path, weight, image.inputs[1])
        if bias is None:
            return None
    return Stem(image.inputs, replaced, patches, weight, bias)


def _is_by_channel(weight: Weight | None) -> TypeGuard[Weight]:
    """Return whether a weight is stored as int8 with a scale per tensor or per output channel."""
    return weight is not None and isinstance(weight.storage, Int8) and weight.storage.axis in (None, 0)


def _is_on_a_grid(weights: DecodedWeights, record: NodeRecord) -> bool:
    """Return whether a node quantizes or dequantizes u8 with one stored scale; i8 kernels are slow."""
    scale, zero_point = record.inputs[1:]
    tensors = weights.onnx.tensors
    known = scale in weights.onnx.initializers and zero_point in weights.onnx.initializers
    return known and record.attributes.get("axis") is None and tensors[zero_point].dtype == DType.u8.value


def _patches(
    image: TensorType | None, conv: Mapping[str, Any], pool: Mapping[str, Any], kernel: Sequence[int]
) -> Patches | None:
    """The patches of a 2D convolution and pool, from their attributes; None for unsupported attributes."""
    if image is None or image.rank != 4:
        return None
    channels, *extents = image.shape[1:]
    strides, pads, window = conv.get("strides", [1, 1]), conv.get("pads", [0] * 4), pool["kernel_shape"]
    if not (isinstance(channels, int) and set(conv) <= _OF_CONV and set(pool) <= _OF_POOL):
        return None
    known = [extent for extent in extents if isinstance(extent, int)]
    if pool.get("strides") != window or len(known) != len(extents):
        return None
    rows, columns = (
        Along(extent, pads[axis], pads[axis + 2], kernel[axis + 2], strides[axis], window[axis])
        for axis, extent in enumerate(known)
    )
    return Patches(channels, rows, columns, LANES)


def _pays(patches: Patches, out_channels: int) -> bool:
    """Return whether ONNX Runtime has a fast kernel for the patches."""
    results = patches.phases * out_channels
    return patches.count > 0 and patches.size <= LONGEST_PATCH and results >= LEAST_RESULTS and results % LANES == 0


# Spelling -----------------------------------------------------------------------------------------------------


def _spelled(weights: DecodedWeights, stem: Stem) -> list[NodeRecord]:
    """The nodes that replace a stem; the result of the last node has the name of the quantizer's result."""
    conv, quantizer = stem.replaced[0], stem.replaced[-1]
    patches, out = stem.patches, stem.weight.shape[0]
    chain = _Chain(weights, conv.outputs[0])
    x = chain.title
    inputs = [chain.patches(stem), *chain.weights(stem)]
    chain.records.append(NodeRecord("Conv", inputs, [x], {"kernel_shape": [1]}, name=x))
    if any(record.op_type == "Relu" for record in stem.replaced):
        x = chain.add("Relu", x)
    x = chain.add("QuantizeLinear", x, *quantizer.inputs[1:])
    x = chain.moved(x, [0, 2, 1])
    x = chain.moved(chain.reshaped(x, [0, patches.count * patches.phases, out]), [0, 2, 1])
    x = chain.add("MaxPool", x, kernel_shape=[patches.phases], strides=[patches.phases])
    x = chain.reshaped(chain.moved(x, [0, 2, 1]), [0, patches.rows.count, patches.columns.count, out])
    chain.moved(x, [0, 3, 1, 2])
    chain.records[-1].outputs = list(quantizer.outputs)
    return chain.records


class _Chain:
    """A chain of nodes, named after the convolution that they replace."""

    def __init__(self, weights: DecodedWeights, title: str):
        self.records: list[NodeRecord] = []
        self._weights, self._onnx, self.title = weights, weights.onnx, title

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = self._onnx.fresh(f"{self.title}/{op_type}")
        self.records.append(NodeRecord(op_type, list(inputs), [name], attributes, name=name))
        return name

    def reshaped(self, x: str, shape: list[int]) -> str:
        return self.add("Reshape", x, self._onnx.constant(shape))

    def moved(self, x: str, perm: list[int]) -> str:
        return self.add("Transpose", x, perm=perm)

    def patches(self, stem: Stem) -> str:
        """The patches of all samples: [N, elements of a patch, patches]."""
        patches = stem.patches
        image, scale, zero_point = stem.image
        x = self.moved(image, [1, 2, 3, 0])  # samples as the innermost axis
        (above, below), (left, right) = patches.padding
        if above or below or left or right:
            ends = self._onnx.constant([0, above, left, 0, 0, below, right, 0])
            x = self.add("Pad", x, ends, zero_point)
        x = self.add("Gather", x, self._onnx.constant(patches.row_indices), axis=1)
        channels, rows, height, blocks = patches.channels, patches.rows.count, patches.height, patches.blocks
        if channels == 1:  # another axis of size 1 would double the latency at batch 1
            x = self.moved(self.reshaped(x, [rows, height, blocks, -1]), [0, 2, 1, 3])
        else:
            x = self.moved(self.reshaped(x, [channels, rows, height, blocks, -1]), [1, 3, 0, 2, 4])
        x = self.add("Gather", x, self._onnx.constant(patches.block_indices), axis=1)
        x = self.moved(self.reshaped(x, [patches.count, patches.size, -1]), [2, 1, 0])
        return self.add("DequantizeLinear", x, scale, zero_point)

    def weights(self, stem: Stem) -> list[str]:
        """The names of the weight of all phases and, if there is a bias, of the bias of all phases."""
        phases = stem.patches.phases
        tensors = self._onnx.tensors
        kernel, scale = (tensors[name].numpy() for name in stem.weight.tensors)
        merged = stem.patches.weights(kernel)[..., None]
        scales = np.tile(scale, phases) if scale.ndim else scale
        found = [self._decoded(f"{stem.weight.path}/phases", merged, scales, DType.i8)]
        if stem.bias is not None:
            counts, steps = (np.tile(values, phases) for values in stem.bias)
            found.append(self._decoded(f"{stem.replaced[0].inputs[2]}/phases", counts, steps, DType.i32))
        return found

    def _decoded(self, name: str, integers: np.ndarray[Any, Any], scale: np.ndarray[Any, Any], dtype: DType) -> str:
        q, scales = self._onnx.derived(name, integers), self._onnx.derived(f"{name}_scale", scale)
        if dtype is DType.i8:
            zeros = self._weights.zero_points(name, scale.shape)
        else:
            zeros = self._onnx.constant(np.zeros_like(scale), dtype)
        return self.add("DequantizeLinear", q, scales, zeros, axis=0 if scale.ndim else None)


def _without_unused(
    weights: DecodedWeights, records: list[NodeRecord], replaced: list[NodeRecord], outputs: Collection[str]
) -> list[NodeRecord]:
    """Remove nodes and initializers that only the replaced nodes used."""
    uses = Counter(name for record in records for name in record.inputs)
    uses.update(outputs)
    producers = {name: record for record in records for name in record.outputs}
    waiting = [name for record in replaced for name in record.inputs]
    gone: set[int] = set()
    while waiting:
        name = waiting.pop()
        producer = producers.get(name)
        if uses[name]:
            continue
        if producer is None:
            weights.onnx.initializers.drop(name)
        elif id(producer) not in gone and not any(uses[output] for output in producer.outputs):
            gone.add(id(producer))
            uses.subtract(producer.inputs)
            waiting += producer.inputs
    return [record for record in records if id(record) not in gone]
