"""Names of PyTorch, Keras, NumPy and Python, each with the text to write instead.

The values are help texts.  All code in backticks is valid: `x` and `y` are tensors, `n` is an integer, and a test
checks each of them.  Names are compared without case and underscores: `max_pooling2d` also holds for `MaxPooling2D`.
Names that differ from an operator's only in case and underscores, such as `nn.Conv2d`, need no row.  The table of
layers and functions is in `foreign_operators`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache

from archc.diagnostics import did_you_mean, squashed
from archc.language.syntax import tree
from archc.language.syntax.foreign_operators import OPERATORS, TRAINING, TRANSPOSE, WITH_AXIS
from archc.operator.registry import find_operator, operator_names
from archc.types.tensor_type import DType

_INTEGER = re.compile(r"-?[0-9]{1,9}")

NAMESPACES = frozenset(
    """
    F flax functional jax jnp K keras layers math mx nn np numpy tf tensorflow torch torchvision einops self
    """.split()  # noqa: SIM905 - a paragraph reads better than a list of quotes
)
"""First parts of dotted names that belong to another library or language."""

NAMES = {
    "True": "write `true`",
    "False": "write `false`",
    "None": "leave the argument out: every attribute that may be absent is so by default",
    "null": "leave the argument out: every attribute that may be absent is so by default",
    "nil": "leave the argument out: every attribute that may be absent is so by default",
    "nan": "the language has no NaN; `inf` is infinity",
    "infinity": "write `inf`",
    "pi": "write the number, `3.141592653589793`",
    "e": "write `exp(1)`",
    "range": "write `0..3` for the integers 0, 1 and 2: `for i in 0..3 { x = x -> relu }`",
    "xrange": "write `0..3` for the integers 0, 1 and 2: `for i in 0..3 { x = x -> relu }`",
    "enumerate": "loop over the integers: `for i in 0..3 { x = x -> relu }`",
    "zip": "loop over the integers: `for i in 0..3 { x = x -> relu }`, and index",
    "reversed": "count down with an index: `for i in 0..3 { x = x -> linear(8 + 2 - i) }`",
    "print": "leave it out; `archc show` prints every layer's shape",
    "float": "write `n / 1`, or give the number with a point",
    "list": "write a tuple, `(1, 2, 3)`",
    "tuple": "write a tuple, `(1, 2, 3)`",
    "str": 'strings are in quotes, `"same"`',
    "self": "layers need no `self`: the name comes before the operator, `x -> fc: linear(10)`",
    "super": "leave it out; a model has no constructor",
    "isinstance": "leave it out; attributes have one type",
    "device": "devices are chosen where the emitted module runs, or by `devices` and the pass `partition`",
}
"""Texts to write for values and functions of values, by name."""

OPEN_SIZE = "a size that is known only when the model runs has a name of its own: `input z: f32[N, 8]`"
"""Help for `None`, `-1` and `?` in place of a symbolic size."""

_ACTIVATION_NAMES = ("activation", "act", "nonlinearity", "activation_fn")
_INPUT_NAMES = ("input_size", "in_dim", "embed_dim", "d_model", "key_dim", "in_planes", "n_in", "nin", "in_ch")
ATTRIBUTES = {
    **dict.fromkeys(_ACTIVATION_NAMES, "an activation is a step of its own: `x -> linear(128) -> relu`"),
    "kernel_initializer": "initial weights come from a file (`--weights`), or are drawn as PyTorch draws them",
    "bias_initializer": "initial weights come from a file (`--weights`), or are drawn as PyTorch draws them",
    "kernel_regularizer": TRAINING,
    "inplace": "leave it out; tensors are values",
    "device": "leave it out; devices are chosen where the emitted module runs",
    "requires_grad": TRAINING,
    "trainable": TRAINING,
    "name": "a name comes before the operator: `x -> fc1: linear(128)`",
    **dict.fromkeys(_INPUT_NAMES, "leave it out; the size of the input follows from the operand"),
    "input_shape": "leave it out; shapes follow from the operand",
    "batch_first": "leave it out; the batch is always the first axis",
    "return_sequences": "leave it out; the whole sequence is the result, and its end is `(x -> lstm(64))[:, -1]`",
    "data_format": "leave it out; channels are the second axis",
    "padding_mode": 'pad in a step of its own: `x -> pad((1, 1, 1, 1), mode = "reflect") -> conv2d(64, 3)`',
    "padding_idx": "leave it out; the row of the padding comes with the weights",
    "track_running_stats": "leave it out; running statistics are always kept",
    "training": "leave it out; the emitted module has `train` and `eval`",
    "mask_zero": "leave it out; give `attention` a mask as another operand",
    "dropout_rate": "dropout is a step of its own: `x -> linear(128) -> dropout(0.1)`",
}
"""Texts to write for attributes that no operator has."""

RENAMED = {
    "filters": ("out_channels",),
    "channels": ("out_channels", "num_features", "num_channels"),
    "out_dim": ("out_features", "out_channels"),
    "units": ("out_features", "hidden_size"),
    "neurons": ("out_features", "hidden_size"),
    "hidden_dim": ("hidden_size",),
    "kernel": ("kernel_size",),
    "ksize": ("kernel_size",),
    "pool_size": ("kernel_size",),
    "strides": ("stride",),
    "pad": ("padding",),
    "dilation_rate": ("dilation",),
    "rate": ("p", "dilation"),
    "use_bias": ("bias",),
    "axis": ("dim", "dims", "start_dim"),
    "axes": ("dim", "dims"),
    "keepdims": ("keepdim",),
    "keep_dims": ("keepdim",),
    "epsilon": ("eps",),
    "alpha": ("negative_slope",),
    "num_heads": ("heads",),
    "n_heads": ("heads",),
    "n_head": ("heads",),
    "is_causal": ("causal",),
    "input_dim": ("in_features", "num_embeddings", "in_channels"),
    "output_dim": ("out_features", "embedding_dim", "out_channels"),
    "vocab_size": ("num_embeddings",),
    "prob": ("p",),
    "probability": ("p",),
    "scale": ("scale_factor", "eps"),
    "factor": ("scale_factor",),
    "interpolation": ("mode",),
    "target_shape": ("shape",),
    "layers": ("num_layers",),
}
"""Names that attributes have elsewhere, with those that they may have here."""

DTYPES = {
    "float": "f32",
    "float32": "f32",
    "float64": "f64",
    "float16": "f16",
    "bfloat16": "bf16",
    "fp32": "f32",
    "fp16": "f16",
    "half": "f16",
    "double": "f64",
    "single": "f32",
    "long": "i64",
    "int": "i64",
    "int64": "i64",
    "int32": "i32",
    "int16": "i16",
    "int8": "i8",
    "short": "i16",
    "uint8": "u8",
    "byte": "u8",
    "char": "i8",
    "boolean": "bool",
    "bool_": "bool",
    "FloatTensor": "f32",
    "LongTensor": "i64",
}
"""Names that dtypes have elsewhere, with those that they have here."""


def operator_help(name: str, own: Iterable[str] = (), axis: str | None = None) -> str | None:
    """Help for the unknown name of a layer or function.

    Args:
        own: names that the user gave; one that is near precedes the tables.
        axis: the axis that the call has, for the text to write instead.
    """
    told = member_help(name)
    if told is not None and axis is not None and squashed(name) in _squashed_with_axis():
        told = told.replace("(1)", f"({axis})")
    return did_you_mean(name, own) or told or did_you_mean(name, operator_names())


def axis_text(arguments: Sequence[tree.Argument]) -> str | None:
    """Axis of a call with one argument, an integer; None for other arguments."""
    if len(arguments) != 1 or arguments[0].name not in (None, "dim", "axis"):
        return None
    text = arguments[0].value.span.text
    return text if _INTEGER.fullmatch(text) else None


def name_help(name: str, own: Iterable[str] = ()) -> str | None:
    """Help for the unknown name of a value; the arguments are those of `operator_help`."""
    dtype = dtype_help(name)
    return (
        did_you_mean(name, own) or NAMES.get(name) or dtype or _operator(name) or did_you_mean(name, operator_names())
    )


def dtype_help(name: str) -> str | None:
    """Help for a dtype of another library, or one in quotes."""
    dtype = name if name in DType.__members__ else _squashed_dtypes().get(squashed(name))
    return None if dtype is None else f"write `{dtype}`"


def member_help(name: str) -> str | None:
    """Help for a member of a tensor: `x.view(2, 3)`, `x.relu()`, `x.shape`, `x.float()`."""
    if name in ("T", "t"):
        return TRANSPOSE
    dtype = _squashed_dtypes().get(squashed(name))
    return _operator(name) or (f"a cast is a step: `x -> cast({dtype})`" if dtype is not None else None)


def dotted_help(node: tree.Expression) -> str | None:
    """Help for a dotted name of another library: `nn.ReLU`, `torch.float32`; None for any other expression."""
    parts: list[str] = []
    while isinstance(node, tree.MemberExpression):
        parts.append(node.name)
        node = node.value
    if not parts or not isinstance(node, tree.Name) or node.name not in NAMESPACES:
        return None
    if node.name == "self":
        return NAMES["self"]
    known = name_help(parts[0])
    return known or f"nothing of `{node.name}` is known here: `archc ops` lists the operators"


def attribute_help(name: str, known: Collection[str]) -> str | None:
    """Help for an attribute that an operator does not have.

    Args:
        known: the attributes that it has.
    """
    near = did_you_mean(name, known)
    here = next((other for other in RENAMED.get(name, ()) if other in known), None)
    return f"write `{here}`" if here is not None else ATTRIBUTES.get(name) or near


def _operator(name: str) -> str | None:
    """Help from the table of operators, or an operator whose name differs in case and underscores only."""
    key = squashed(name)
    told = _squashed_operators().get(key)
    if told is not None:
        return told
    if key.endswith("loss"):
        return TRAINING
    same = next((known for known in operator_names() if squashed(known) == key), None)
    if same is None:
        return None
    operator = find_operator(same)
    example = operator.example if operator is not None else ""
    return f"write `{same}`, for example `{example}`" if example else f"write `{same}`"


@cache
def _squashed_with_axis() -> Collection[str]:
    return frozenset(map(squashed, WITH_AXIS))


@cache
def _squashed_operators() -> Mapping[str, str]:
    return {squashed(name): told for name, told in OPERATORS.items()}


@cache
def _squashed_dtypes() -> Mapping[str, str]:
    return {squashed(name): dtype for name, dtype in DTYPES.items()}
