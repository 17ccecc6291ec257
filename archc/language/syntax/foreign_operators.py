"""Layers and functions of other libraries, each with the text to write instead.

The values of the table are help texts.  All code in backticks is valid if `x` and `y` are tensors and `n` is an
integer; a test checks each snippet.  The lookup ignores case and underscores: `max_pooling2d` also matches
`MaxPooling2D`.  A name that differs from an operator of archc only in case and underscores, such as `Conv2d`, needs no
row.
"""

from __future__ import annotations

_SPATIAL = "the number of axes is part of the name:"
_GLOBAL_AVERAGE = (
    "write the mean over the spatial axes, `x -> mean((2, 3))`, or `x -> adaptive_avg_pool2d(1) -> flatten`"
)
_GLOBAL_MAXIMUM = (
    "write the maximum over the spatial axes, `x -> max((2, 3))`, or `x -> adaptive_max_pool2d(1) -> flatten`"
)
_LINEAR = "write `x -> linear(128)`"
_BATCH_NORM = "write `x -> batch_norm`, for any number of axes"
_RESHAPE = "write `x -> reshape((2, -1))`; the shape is a tuple"
_REPEAT = "write `(x, x) -> concat(1)` for copies, or `x -> unsqueeze(0) -> expand((4, -1, -1, -1, -1))` for a new axis"
_DIVIDE = "write `x / y`"
TRAINING = "leave it out; losses and optimizers belong in the Python code that trains the emitted module"
_STEPS = "write the recurrence as a `scan`, or use an operator such as `x -> lstm(64)`"
_DTYPE = "write `x -> cast(f32)`"
_SELF_ATTENTION = 'import a block: `import "std/attention.arch" as att`, then `x -> att.SelfAttention(4)`'
_TRANSFORMER = 'import a block: `import "std/transformer.arch" as tr`, then `x -> tr.PreNormLayer(4, 32)`'
_RANDOM = "write `parameter((8, 8))` for random initial values; at run time, only `x -> dropout(0.1)` is random"
_CUT = "write `x -> cast(i64) -> cast(f32)`, which truncates the fraction"
_FLIP = (
    "write `(x, 8 - 1 - arange(8)) -> index_select(1)`, with the size of the axis in place of 8: "
    "it selects the elements in reverse order"
)
_ROLL = (
    "write `(x[:, -1:], x[:, :-1]) -> concat(1)`, which moves the last element of the axis to the front; "
    "for two elements, write -2 in both slices"
)
TRANSPOSE = "write `x -> transpose(0, 1)` with the two axes to exchange"
_SIZES = "name the sizes in the type of the input, `input z: f32[N, D]`, and use the names"

OPERATORS = {
    # Layers
    "conv": f"{_SPATIAL} `x -> conv2d(64, 3)`, `conv1d` or `conv3d`",
    "convolution": f"{_SPATIAL} `x -> conv2d(64, 3)`, `conv1d` or `conv3d`",
    "convolution2d": "write `x -> conv2d(64, 3)`",
    "lazy_conv2d": "write `x -> conv2d(64, 3)`; input channels follow from the operand",
    "separable_conv2d": "write two convolutions: `x -> conv2d(8, 3, groups = 8) -> conv2d(64, 1)`",
    "depthwise_conv2d": "write a convolution with one channel per group: `x -> conv2d(8, 3, groups = 8)`",
    "depthwise_conv": "write a convolution with one channel per group: `x -> conv2d(8, 3, groups = 8)`",
    "pointwise_conv": "write `x -> conv2d(64, 1)`",
    "conv2d_transpose": "write `x -> conv_transpose2d(64, 4)`",
    "conv_transpose": f"{_SPATIAL} `x -> conv_transpose2d(64, 4)`",
    "deconv": f"{_SPATIAL} `x -> conv_transpose2d(64, 4)`",
    "deconv2d": "write `x -> conv_transpose2d(64, 4)`",
    "deconvolution": f"{_SPATIAL} `x -> conv_transpose2d(64, 4)`",
    "dense": _LINEAR,
    "fc": f"{_LINEAR}, or with a name `x -> fc: linear(128)`",
    "fully_connected": _LINEAR,
    "affine": _LINEAR,
    "lazy_linear": _LINEAR,
    "mlp": "write `x -> linear(128) -> relu -> linear(10)`",
    "bilinear": 'write `x -> upsample(scale_factor = 2, mode = "bilinear")` to resize',
    "bn": f"{_BATCH_NORM}, or with a name `x -> bn: batch_norm`",
    "batch_norm1d": _BATCH_NORM,
    "batch_norm2d": _BATCH_NORM,
    "batch_norm3d": _BATCH_NORM,
    "batch_normalization": _BATCH_NORM,
    "sync_batch_norm": _BATCH_NORM,
    "layer_normalization": "write `x -> layer_norm`",
    "group_normalization": "write `x -> group_norm(4)`",
    "instance_norm1d": "write `x -> instance_norm`",
    "instance_norm2d": "write `x -> instance_norm`",
    "instance_norm3d": "write `x -> instance_norm`",
    "rms_normalization": "write `x -> rms_norm`",
    "normalize": "write `x / (x -> norm(1, keepdim = true))`",
    "l2_normalize": "write `x / (x -> norm(1, keepdim = true))`",
    "spatial_dropout2d": "write `x -> dropout2d(0.1)`",
    "feature_dropout": "write `x -> dropout2d(0.1)`",
    "embed": "write `tokens -> embedding(1000, 64)`",
    "embedding_bag": "write `tokens -> embedding(1000, 64) -> mean(1)`",
    "lstm_cell": _STEPS,
    "gru_cell": _STEPS,
    "rnn_cell": _STEPS,
    "simple_rnn": "write `x -> rnn(64)`",
    "bidirectional": "write an attribute: `x -> lstm(64, bidirectional = true)`",
    "time_distributed": "leave it out: `x -> linear(128)` applies to every position",
    "multihead_attention": _SELF_ATTENTION,
    "self_attention": _SELF_ATTENTION,
    "mha": _SELF_ATTENTION,
    "sdpa": "write `(q, k, v) -> scaled_dot_product_attention`",
    "flash_attention": "write `(q, k, v) -> scaled_dot_product_attention`",
    "transformer": _TRANSFORMER,
    "transformer_encoder_layer": _TRANSFORMER,
    "transformer_encoder": _TRANSFORMER,
    "transformer_decoder_layer": _TRANSFORMER,
    # Containers
    "input": "write `input z: f32[N, 8]`",
    "input_layer": "write `input z: f32[N, 8]`",
    "placeholder": "write `input z: f32[N, 8]`",
    "sequential": "write a chain: `x -> linear(128) -> relu -> linear(10)`",
    "module": "write `model net { input x: f32[N, 8] output x -> relu }`",
    "module_list": "name the layers by number in a loop: `for i in 0..3 { x = x -> h[i]: linear(8) }`",
    "module_dict": "name the layers: `x -> first: linear(8) -> second: linear(8)`",
    "parallel": "write branches and join them: `(x -> relu, x -> tanh) -> concat(1)`",
    "residual": "write `x + (x -> relu)`",
    "skip": "write `x + (x -> relu)`",
    "branch": "write branches and join them: `(x -> relu, x -> tanh) -> concat(1)`",
    "variable": "write `parameter((8, 8))`",
    "tensor": "write `constant((8, 8))`, with values from the weights file, or `full((8, 8), 0.5)`",
    "array": "write `constant((8, 8))`, with values from the weights file, or `full((8, 8), 0.5)`",
    "rand": _RANDOM,
    "randn": _RANDOM,
    "random": _RANDOM,
    "random_normal": _RANDOM,
    "register_buffer": "write `constant((8, 8))`, with values from the weights file",
    # Pooling and resizing
    "pool": f"{_SPATIAL} `x -> max_pool2d(2)` or `x -> avg_pool2d(2)`",
    "pooling": f"{_SPATIAL} `x -> max_pool2d(2)` or `x -> avg_pool2d(2)`",
    "max_pool": f"{_SPATIAL} `x -> max_pool2d(2)`",
    "max_pooling": f"{_SPATIAL} `x -> max_pool2d(2)`",
    "max_pooling1d": "write `x -> max_pool1d(2)`",
    "max_pooling2d": "write `x -> max_pool2d(2)`",
    "max_pooling3d": "write `x -> max_pool3d(2)`",
    "avg_pool": f"{_SPATIAL} `x -> avg_pool2d(2)`",
    "average_pool": f"{_SPATIAL} `x -> avg_pool2d(2)`",
    "average_pooling1d": "write `x -> avg_pool1d(2)`",
    "average_pooling2d": "write `x -> avg_pool2d(2)`",
    "average_pooling3d": "write `x -> avg_pool3d(2)`",
    "average_pool2d": "write `x -> avg_pool2d(2)`",
    "adaptive_avg_pool": f"{_SPATIAL} `x -> adaptive_avg_pool2d(1)`",
    "adaptive_max_pool": f"{_SPATIAL} `x -> adaptive_max_pool2d(1)`",
    "global_avg_pool": _GLOBAL_AVERAGE,
    "global_avg_pool2d": _GLOBAL_AVERAGE,
    "global_average_pool": _GLOBAL_AVERAGE,
    "global_average_pooling": _GLOBAL_AVERAGE,
    "global_average_pooling1d": "write `x -> mean(2)`",
    "global_average_pooling2d": _GLOBAL_AVERAGE,
    "gap": _GLOBAL_AVERAGE,
    "global_max_pool": _GLOBAL_MAXIMUM,
    "global_max_pooling1d": "write `x -> max(2)`",
    "global_max_pooling2d": _GLOBAL_MAXIMUM,
    "interpolate": 'write `x -> upsample(scale_factor = 2)` or `x -> upsample(32, mode = "bilinear")`',
    "resize": 'write `x -> upsample(32, mode = "bilinear")`',
    "up_sampling2d": "write `x -> upsample(scale_factor = 2)`",
    "upsampling_nearest2d": "write `x -> upsample(scale_factor = 2)`",
    "zero_padding2d": "write `x -> pad((1, 1, 1, 1))`; the padding of the last axis comes first",
    "zero_pad2d": "write `x -> pad((1, 1, 1, 1))`; the padding of the last axis comes first",
    "reflection_pad2d": 'write `x -> pad((1, 1, 1, 1), mode = "reflect")`',
    "replication_pad2d": 'write `x -> pad((1, 1, 1, 1), mode = "replicate")`',
    "constant_pad2d": "write `x -> pad((1, 1, 1, 1), value = 0.5)`",
    "padding": "write `x -> pad((1, 1, 1, 1))`, or the attribute: `x -> conv2d(64, 3, padding = 1)`",
    # Activations
    "activation": "write the activation as a separate step: `x -> relu`",
    "swish": "write `x -> silu`",
    "hswish": "write `x -> hardswish`",
    "hsigmoid": "write `x -> hardsigmoid`",
    "htanh": "write `x -> hardtanh`",
    "thresholded_relu": "write `x -> threshold(0.1, 0)`",
    "lrelu": "write `x -> leaky_relu(0.2)`",
    "parametric_relu": "write `x -> prelu`",
    "gelu_new": 'write `x -> gelu("tanh")`',
    "gelu_tanh": 'write `x -> gelu("tanh")`',
    "swiglu": 'import a block: `import "std/feed_forward.arch" as ff`, then `x -> ff.SwiGLU(32)`',
    "logit": "write `x -> clamp(0.001, 0.999)`, then the logarithm of `x / (1 - x)`",
    "sigm": "write `x -> sigmoid`",
    # Shapes
    "view": _RESHAPE,
    "view_as": _RESHAPE,
    "ravel": "write `x -> flatten(0)`",
    "contiguous": "leave it out; tensors have no memory layout in the language",
    "detach": "leave it out; the language has no gradients",
    "clone": "leave it out; a tensor is a value, and another name for it is `y = x`",
    "cat": "write `(x, y) -> concat(1)`",
    "concatenate": "write `(x, y) -> concat(1)`",
    "hstack": "write `(x, y) -> concat(1)`",
    "vstack": "write `(x, y) -> concat(0)`",
    "merge": "write `(x, y) -> concat(1)`, or `x + y`",
    "expand_dims": "write `x -> unsqueeze(1)`",
    "newaxis": "write `x -> unsqueeze(1)`",
    "flip": _FLIP,
    "reverse": _FLIP,
    "fliplr": _FLIP,
    "flipud": _FLIP.replace("(1)", "(0)"),
    "roll": _ROLL,
    "swapaxes": "write `x -> transpose(1, 2)`",
    "swap_dims": "write `x -> transpose(1, 2)`",
    "moveaxis": "write `x -> permute((0, 2, 3, 1))`",
    "movedim": "write `x -> permute((0, 2, 3, 1))`",
    "broadcast_to": "write `x -> unsqueeze(0) -> expand((4, -1, -1, -1, -1))`",
    "tile": _REPEAT,
    "repeat": _REPEAT,
    "repeat_vector": _REPEAT,
    "repeat_interleave": _REPEAT,
    "shape": _SIZES,
    "size": _SIZES,
    "numel": _SIZES,
    "ndim": _SIZES,
    "len": _SIZES,
    "unbind": "write indices: `x[0]`, `x[1]`",
    "select": "write an index: `x[:, 0]`",
    "narrow": "write a slice: `x[:, 0:4]`",
    "take": "write `(x, places) -> index_select(1)`, where `places` is a vector of indices",
    "take_along_axis": "write `(x, index) -> gather(1)`",
    "lambda": "write a block with a name: `block Twice { input x output x + x }`",
    # Arithmetic
    "einsum": 'order the axes with `x -> rearrange("n c h w -> n h c w")`, then write a product: `(x, y) -> matmul`',
    "bmm": "write `(x, y) -> matmul`",
    "mm": "write `(x, y) -> matmul`",
    "dot": "write `(x, y) -> matmul`",
    "tensordot": "write `(x, y) -> matmul`",
    "addmm": "write `x -> linear(128)`, or `n + ((x, y) -> matmul)`",
    "plus": "write `x + y`",
    "subtract": "write `x - y`",
    "multiply": "write `x * y`",
    "mult": "write `x * y`",
    "divide": _DIVIDE,
    "true_divide": _DIVIDE,
    "floor": f"{_CUT}, for numbers that are not negative",
    "trunc": _CUT,
    "round": "write `x + 0.5 -> cast(i64) -> cast(f32)`, for numbers that are not negative; halves round up",
    "ceil": f"{_CUT}, for numbers that are not positive",
    "floor_divide": "write `x / 2 -> cast(i64)`, for numbers that are not negative",
    "remainder": "write `x - (x / 2 -> cast(i64) -> cast(f32)) * 2`, for numbers that are not negative",
    "fmod": "write `x - (x / 2 -> cast(i64) -> cast(f32)) * 2`",
    "power": "write `x ** 2`",
    "negative": "write `-x`",
    "reciprocal": "write `1 / x`",
    "fmax": "write `(x, y) -> maximum`",
    "fmin": "write `(x, y) -> minimum`",
    "clip": "write `x -> clamp(0, 6)`",
    "clip_by_value": "write `x -> clamp(0, 6)`",
    "average": "write `x -> mean(1)`",
    "avg": "write `x -> mean(1)`",
    "reduce_mean": "write `x -> mean(1)`",
    "reduce_sum": "write `x -> sum(1)`",
    "reduce_max": "write `x -> max(1)`",
    "reduce_min": "write `x -> min(1)`",
    "amax": "write `x -> max(1)`",
    "amin": "write `x -> min(1)`",
    "stddev": "write `x -> std(1)`",
    "variance": "write `x -> var(1)`",
    "logsumexp": "write `(x -> exp -> sum(1)) -> log`",
    "cumsum": "write a product with a triangle of ones: "
    "`(x, (arange(16) -> reshape((16, 1))) <= arange(16) -> cast(f32)) -> matmul`",
    "cumprod": "write a loop over slices such as `x[:, 0:1]`",
    "prod": "write `x -> log -> sum(1) -> exp`, for positive numbers",
    "tan": "write `(x -> sin) / (x -> cos)`",
    "log1p": "write `x + 1 -> log`",
    "expm1": "write `(x -> exp) - 1`",
    "log2": "write `(x -> log) / log(2)`",
    "log10": "write `(x -> log) / log(10)`",
    "softmax2d": "write `x -> softmax(1)`",
    "greater": "write `x > y`",
    "less": "write `x < y`",
    "equal": "write `x == y`",
    "not_equal": "write `x != y`",
    "masked_fill": "write `(mask -> logical_not, x) -> where(other = 0.0)`: it is 0 where `mask` is true, else `x`",
    "tril": "write a comparison of positions: `(arange(8) -> reshape((8, 1))) >= arange(8)`",
    "triu": "write a comparison of positions: `(arange(8) -> reshape((8, 1))) <= arange(8)`",
    "zeros_like": "write `x * 0`",
    "ones_like": "write `x * 0 + 1`",
    "full_like": "write `x * 0 + 0.5`",
    "eye": "write a comparison of positions: `(arange(8) -> reshape((8, 1))) == arange(8) -> cast(f32)`",
    "linspace": "write `arange(8) -> cast(f32)`, and multiply it by the step",
    "one_hot": "write `(tokens -> unsqueeze(2)) == arange(10) -> cast(f32)`",
    "take_top": "write `x -> topk(5)`",
    "item": "write an index: `x[0]`",
    "astype": _DTYPE,
    "to": _DTYPE,
    "type": _DTYPE,
    # Training
    "cross_entropy": TRAINING,
    "binary_cross_entropy": TRAINING,
    "binary_cross_entropy_with_logits": TRAINING,
    "kl_div": TRAINING,
    "adam": TRAINING,
    "sgd": TRAINING,
    "optimizer": TRAINING,
    "backward": TRAINING,
    "no_grad": TRAINING,
    "cuda": "choose the device in the code that runs the emitted module, or use `devices` and the pass `partition`",
}
"""Help for layers and functions of other libraries, by name."""

WITH_AXIS = frozenset(
    """
    amax amin average avg cat concatenate expand_dims flip logsumexp prod reduce_max reduce_mean reduce_min reduce_sum
    reverse stddev variance
    """.split()  # noqa: SIM905 - a paragraph reads better than a list of quotes
)
"""Functions with one axis: the axis in the user's call replaces the `(1)` in their help."""
