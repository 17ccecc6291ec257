"""Quantize layers to int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn

from archc.analysis.layers import Layer
from archc.compression.quantization.observers import PERCENTILE, Observer
from archc.compression.quantization.weight_formats import GROUP, PACKED, Format, storage_of
from archc.ir.graph import Graph
from archc.passmanager import FLOAT_WEIGHTS, Context, Pass, select
from archc.types.attributes import AttributeProblem, attribute
from archc.types.storage import Storage
from archc.types.tensor_type import DType

from ._byte_budget import formats_within
from ._factor_formats import format_for
from ._fake_quantization import AskedFormat, convert, fake_quantize_layers, is_fake_quantized
from ._half_precision import compute_in
from ._int8_layers import Int8Layers
from ._int8_weights import Obstacles, obstacles_of_layers
from ._narrow_weights import formats_in_range, store_weights
from ._plain_method import warn_without_data
from ._quant_remarks import remark_on_foldable
from ._quant_warnings import warn_of_float_operands, warn_of_float_weights, warn_of_nearest
from ._schemes import Scheme, SchemeChoice


@dataclass(frozen=True)
class Quant(Pass):
    """Quantize layers: int8 weights and operands, or weights as integers of 2 to 6 bits or narrow floats.

    `int8` quantizes weights and, by `scheme`, operands, for integer kernels that are faster than floats.  The other
    formats make the file smaller, and layers compute in floats: `int6` to `int2` with a scale and a zero point for each
    `group` of elements of a channel, `f16` and `bf16` by rounding each element, and `f8e4m3` and `f8e5m2` as floats of
    8 bits with a scale for each channel.

    With calibration data, the integers of `int6` to `int2` are chosen by GPTQ: layer by layer, on the outputs of the
    quantized layers before, each rounding error is compensated in the columns that follow, and the bias absorbs the
    mean of the remaining error (Frantar et al. 2022, "GPTQ").  Without data, or with `method = "rtn"`, weights are
    rounded to the nearest integer.  GPTQ applies to linear layers, convolutions and embeddings with one use outside
    scans; other weights are rounded to nearest.

    `f16` and `bf16` are formats of the file, and layers compute in f32, unless `keep_io` is given: the operators then
    compute in f16 or bf16, with casts to f32 around the layers in `keep`.  With `keep_io = true`, the inputs and the
    outputs of the model stay in f32; with `keep_io = false`, they also become f16 or bf16.  Operators with weights,
    operands or results beyond the range of f16 on the calibration data stay in f32.

    `bytes = 12MB` chooses the format of each weight, of 2 to 8 bits, f16 or float, such that the emitted program has at
    most so many bytes and the expected error of its outputs is minimal.  The bytes are those of the program, its
    weights and the files that it imports, for the largest of the targets that `--emit` names.  The error of a layer is
    measured by the gradients of the outputs, without labels.

    With `training = true`, the same layers are quantized in the same format, but the weights stay floats: they are
    rounded in each run (`weight = fake_quantized(int4(group = 32))`), and operands by `fake_quantize`.  The emitted
    PyTorch module has straight-through gradients, and can be trained.  Without `training`, the pass converts such a
    graph to integers: it stores weights in the formats of the training, rounded to nearest, and quantizes no other
    layer.  The outputs stay the same, up to the rounding of floats.

    The rest of this text describes `int8`.

    Weights become signed integers with a scale: w ≈ s·q, s = max|w| / 127, one s for each output channel, so the error
    of an element is at most s/2.  The operands of layers become unsigned integers with a zero point, x ≈ s·(q - z), in
    one of three schemes:

    - `static`: s and z are constants, computed from the range of x over the calibration data.  This is the fastest
      scheme; the text shows a `quantize` and a `dequantize` before each layer.
    - `dynamic`: s and z are computed from x in each run.  The scheme needs no calibration data, and adapts to the range
      of each input.  With `granularity = "token"`, each token (a position of all axes but the last) has its own s, and
      z = 128: the results are more accurate, and take longer to compute, above all for large batches.  By default, an
      operand has such scales if they halve the squared error of its layers on the calibration data.
    - `weight`: x stays in floats.  The weights take a quarter of the bytes; the latency does not improve.

    `observer = "minmax"` uses the whole range of the calibration data.  The other observers clip this range, which
    gives a finer resolution at the cost of a few saturated elements: `"percentile"` clips equal shares of the elements
    at both ends, `"mse"` minimizes the squared error of the operand, and `"entropy"` minimizes the Kullback-Leibler
    divergence of its distribution (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference"; Wu et al. 2020, "Integer Quantization for Deep Learning Inference").  By
    default, each operand gets the observer with the least squared error in the results of its layers on the calibration
    data, and `"minmax"` if clipping does not reduce this error by a fifth.  Random inputs get `"minmax"`.

    With calibration data, weights are rounded by GPTQ, layer by layer on the operands of the quantized model, and
    biases absorb the mean of the remaining error.  `method = "rtn"` rounds weights to nearest and keeps the biases.

    Under `static` and `dynamic`, the operand of a linear layer is smoothed if this reduces the squared error of the
    result by 30 % or more on the calibration data: each channel of the operand is divided by a scale, and the column of
    the weight is multiplied by it, so that the channels of the operand have similar ranges (Xiao et al. 2023,
    "SmoothQuant").  `smooth` is the exponent α of s = max|x|^α / max|w|^(1-α).

    Where a layer can divide its own result, weights are rescaled and no operation is added, above all before depthwise
    convolutions (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction").

    Under any scheme, some layers get the scheme `weight`:

    - layers without integer kernels for the scheme: recurrent layers, embeddings, learned tensors, and, under
      `dynamic`, convolutions;
    - layers with fewer multiply-adds than `least`, except, under `static`, layers whose operand is the result of
      another integer layer, possibly after operators such as `relu`;
    - small convolutions, one or a chain, whose result is used in floats, for example by a `tanh`;
    - layers whose operand is zero in all calibration data.

    Weights that `lowrank` has stored as two factors, as in recurrent layers, stay factors: both get the format.

    All other weight matrices of a recurrent layer become integers; those of `lstm` and `rnn` are rounded by GPTQ if
    calibration data are given.  If int8 changes the result of one of their layers by more than 2 % on these data, a
    weight of this layer becomes f16.  Under `static` and `dynamic`, a recurrent layer quantizes its operands in each
    run where that is faster and, measured on the calibration data, changes the result of a layer by at most 5 %.
    The scales of a learned tensor are along the axis with the smallest error.  Vectors stay in floats.  A weight also
    stays in floats if it is shared with a layer that stays in floats.

    Integer kernels of convolutions return integers, so the result of a convolution is quantized as well.  Between two
    integer convolutions there is one `quantize`: for the result of the first and the operand of the second.

    Biases are stored in floats.  In an ONNX program, the bias b of a channel becomes the int32 b / (s_x·s_w), for the
    scales s_x of the operand and s_w of the weight.  If int32 cannot hold this number, the pass increases s_w.

    Kernels accumulate exactly on CPUs with VNNI and on GPUs.  On other CPUs, sums of two products saturate at 16
    bits.  An emitted PyTorch module therefore computes in floats on such a CPU.  ONNX Runtime accumulates exactly with
    the session option `session.x64quantprecision` = "1".  The option has no effect at optimization levels below
    EXTENDED.  With the option, ONNX Runtime 1.23 refuses models that use an integer layer twice.

    Small layers are slower in int8 than in floats, and more so in PyTorch than in ONNX Runtime.  An operand is
    quantized if int8 is faster in all targets that `--emit` names, or in those of `for`.  `for = "onnx"` quantizes
    linear layers from 100,000 multiply-adds on, `for = "torch"` from 400,000 on, and in the scheme `dynamic` from
    500,000 on.  `least` replaces these limits.
    """

    preserves = "approximate"
    ends = (FLOAT_WEIGHTS,)
    effective_with = {
        "percentile": ("observer", ("percentile",)),
        "observer": ("scheme", ("static",)),
        "smooth": ("scheme", ("static", "dynamic")),
        "least": ("scheme", ("static", "dynamic")),
        "for": ("scheme", ("static", "dynamic")),
        "scheme": ("format", ("int8", None)),
        "granularity": ("format", ("int8", None)),
        "group": ("format", tuple(PACKED)),
        "symmetric": ("format", tuple(PACKED)),
        "format": ("bytes", (None,)),
        "method": ("training", (False,)),
        "training": ("format", (None, "int8", *PACKED)),  # also a condition of `method`
        "keep_io": ("format", ("f16", "bf16")),
    }
    example = 'quant(int8, keep = "head")'

    format: Format | None = attribute(
        None,
        doc="storage of the quantized weights: integers of 2 to 8 bits, or narrow floats; default: `int8`, or the "
        "formats of fake quantization",
    )
    group: int | None = attribute(
        None, doc=f"elements of a channel with a common scale, for int2 to int6; default: {GROUP}", keyword=True
    )
    symmetric: bool = attribute(
        False, doc="no zero points, for int2 to int6: half of the range is negative", keyword=True
    )
    training: bool = attribute(
        False, doc="fake quantization for training; another `quant` then stores the integers", keyword=True
    )
    keep_io: bool | None = attribute(
        None,
        doc="compute in f16 or bf16, with inputs and outputs in f32 (true) or in the same dtype (false); default: "
        "layers compute in f32",
        keyword=True,
    )
    bytes: int | None = attribute(
        None,
        doc="bytes of the whole emitted program, such as `12MB` (12,000,000) or `12MiB` (12 · 2^20), also with `kB`, "
        "`GB`, `KiB` and `GiB`: each layer gets 2 to 8 bits or f16, or stays in floats; stages of `partition` are not "
        "counted",
        keyword=True,
    )
    method: Literal["gptq", "rtn"] | None = attribute(
        None,
        doc='"gptq" compensates rounding errors on the calibration data, "rtn" rounds to nearest; default: "gptq" if '
        "there are data",
        keyword=True,
    )
    granularity: Literal["channel", "tensor", "token"] | None = attribute(
        None,
        doc='one scale for each output channel of a weight, or one for the whole weight; `"token"`: also one scale for '
        'each token of an operand; default: `"channel"`, and dynamic operands by error on the calibration data',
        keyword=True,
    )
    scheme: Scheme = attribute("static", doc="how the operands of layers are quantized", keyword=True)
    on: str | tuple[str, ...] | None = attribute(
        None, doc="layers to quantize: one glob or several; `kind:linear` selects by operator", keyword=True
    )
    keep: str | tuple[str, ...] | None = attribute(None, doc="layers to exclude", keyword=True)
    observer: Observer | None = attribute(
        None, doc="how the quantization range follows from the calibration data; default: chosen by error", keyword=True
    )
    percentile: float = attribute(
        PERCENTILE,
        doc="at 99.99, the lowest 0.01 % and the highest 0.01 % of the elements are clipped",
        keyword=True,
    )
    smooth: float | None = attribute(
        None,
        doc="strength of SmoothQuant and of equalization, between 0 (off) and 1; default: chosen by error on the "
        "calibration data",
        keyword=True,
    )
    least: int | None = attribute(
        None,
        doc="least multiply-adds per sample of a linear layer whose operand is quantized, unless an integer layer "
        "computes this operand; default: 100,000 to 500,000, by the target and the scheme",
        keyword=True,
    )

    for_: str | tuple[str, ...] | None = attribute(
        None,
        doc="targets in which int8 must be faster, such as `onnx`, one or several; default: the emitted ones",
        keyword=True,
    )

    def check(self) -> None:
        def refuse(option: str, problem: str, help: str) -> NoReturn:
            raise AttributeProblem("bad-option", f"{problem}, got {getattr(self, option)}", option, help)

        for option, example in (("group", f"group = {GROUP}"), ("bytes", "bytes = 12MB")):
            value = getattr(self, option)
            if value is not None and value < 1:
                refuse(option, f"`{option}` of `quant` must be at least 1", f"for example `{example}`")
        if self.on == ():
            refuse("on", "`on` of `quant` must name a layer", 'for example `on = "*"`')
        if self.granularity == "token" and self.scheme != "dynamic":
            raise AttributeProblem(
                "bad-option",
                f'`granularity = "token"` of `quant` needs `scheme = "dynamic"`, got "{self.scheme}"',
                "granularity",
                help='write `quant(scheme = "dynamic", granularity = "token")`',
            )
        if self.training and self.format not in (None, "int8", *PACKED):
            refuse(
                "format",
                "`training` of `quant` is for formats of integers",
                "for example `quant(int8, training = true)`",
            )
        if self.least is not None and self.least < 0:
            refuse("least", "`least` of `quant` must not be below 0", "`least = 0` quantizes all operands")
        if self.smooth is not None and not 0 <= self.smooth <= 1:
            refuse("smooth", "`smooth` of `quant` must be between 0 and 1", "for example `smooth = 0.5`")
        if not 50 < self.percentile <= 100:
            example = f"for example `percentile = {PERCENTILE}`"
            refuse("percentile", "`percentile` of `quant` must be above 50 and at most 100", example)

    @property
    def changes_io(self) -> bool:
        return self.keep_io is False

    @property
    def remedy(self) -> str:
        if self.changes_io and self.format == "f16":
            return "leave the outputs in f32 with `keep_io = true`, or use `bf16`, which has the range of f32"
        return super().remedy

    def run(self, graph: Graph, context: Context) -> None:
        if not self.training and is_fake_quantized(graph):
            asked = AskedFormat(self.format, self.group, self.symmetric, self.bytes)
            convert(graph, context, asked, self.on, self.keep)
            return
        if self.bytes is None and self.format in ("f16", "bf16") and self.keep_io is not None:
            remark_on_foldable(graph, context, set(graph.nodes()))
            compute_in(graph, context, DType(self.format), self.keep_io, self.on, self.keep)
            return
        obstacles = obstacles_of_layers(graph, trains=self.training)
        warn_of_float_weights(graph, context, str(self), obstacles, select(graph, self.on, self.keep))
        if self.bytes is None and self.format in (None, "int8"):
            self._quantize_to_int8(graph, context, obstacles)
        else:
            self._store_weights(graph, context, obstacles)
        if self.method == "gptq" and not self.training:
            warn_of_nearest(context, str(self))

    def _quantize_to_int8(self, graph: Graph, context: Context, obstacles: Obstacles) -> None:
        """Store weights as int8, and quantize operands by `scheme`."""
        layers = Int8Layers(
            self._choice(self.scheme, context),
            self.granularity,
            self.observer,
            self.percentile,
            self.smooth,
            self.training,
            self._uses_data(context),
        )
        schemes = layers.quantize(graph, context, obstacles)
        if self.scheme != "weight":
            warn_of_float_operands(context, str(self), schemes)
        if schemes and not self.training:
            self._warn_without_data(context)

    def _store_weights(self, graph: Graph, context: Context, obstacles: Obstacles) -> None:
        """Store weights in fewer bits; operands stay in floats."""
        layers = list(self._choice("weight", context).schemes(graph, context, obstacles))
        names = {layer: [name for name in layer.weights if name not in obstacles[layer]] for layer in layers}
        formats: Mapping[Layer, Mapping[str, Storage]]
        if self.bytes is not None:
            formats = formats_within(graph, context, layers, names, self.bytes, self._uses_data(context))
            for layer, of_weights in formats.items():
                if not of_weights:
                    context.left(layer.path, "within the budget, its weight can stay in floats")
            formats = {layer: of_weights for layer, of_weights in formats.items() if of_weights}
        else:
            formats = {
                layer: {
                    name: format_for(
                        graph.weights[layer.weights[name]],
                        storage_of(
                            self.format or "int8",
                            graph.weight_values(layer.weights[name]),
                            layer.quantizable.channel_axis,
                            self.group,
                            self.symmetric,
                        ),
                    )
                    for name in names[layer]
                }
                for layer in layers
            }
        if self.training:
            fake_quantize_layers(graph, context, formats)
            return
        if formats:
            self._warn_without_data(context)
        formats = formats_in_range(graph, context, formats)
        store_weights(graph, context, formats, by_data=self._uses_data(context))

    def _choice(self, scheme: Scheme, context: Context) -> SchemeChoice:
        return SchemeChoice(scheme, self.on, self.keep, self.least, context.targets.break_even_for(self.for_))

    def _uses_data(self, context: Context) -> bool:
        """Return whether weights are chosen by the calibration data."""
        return self.method == "gptq" or (self.method is None and context.calibration.real)

    def _warn_without_data(self, context: Context) -> None:
        if self.method is None:
            effect = f"`{self}` rounds weights to nearest, since there are no calibration data"
            warn_without_data(context, effect, "a smaller error by GPTQ", 'method = "rtn"')
