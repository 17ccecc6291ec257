"""Names of values, attributes and dtypes in other languages, and help for unknown names.

The values of the tables `NAMES` and `ATTRIBUTES` are help texts.  All code in backticks is valid if `x` and `y` are
tensors and `n` is an integer; a test checks each snippet.  `foreign_operators` has the table of layers and functions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache

from archc.declaration.registry import find_operator, operator_names
from archc.diagnostics import did_you_mean, squashed
from archc.language.syntax import tree
from archc.language.syntax.foreign_operators import OPERATORS, TRAINING, TRANSPOSE, WITH_AXIS
from archc.types.tensor_type import DType

_INTEGER = re.compile(r"-?[0-9]{1,9}")

NAMESPACES = frozenset(
    """
    F flax functional jax jnp K keras layers math mx nn np numpy tf tensorflow torch torchvision einops self
    """.split()  # noqa: SIM905 - a paragraph reads better than a list of quotes
)
"""First parts of dotted names of other libraries and languages."""

NAMES = {
    "True": "write `true`",
    "False": "write `false`",
    "None": "leave the argument out: optional attributes are absent by default",
    "null": "leave the argument out: optional attributes are absent by default",
    "nil": "leave the argument out: optional attributes are absent by default",
    "nan": "the language has no NaN; `inf` is infinity",
    "infinity": "write `inf`",
    "pi": "write the number, `3.141592653589793`",
    "e": "write `exp(1)`",
    "range": "write `0..3` for the integers 0, 1 and 2: `for i in 0..3 { x = x -> relu }`",
    "xrange": "write `0..3` for the integers 0, 1 and 2: `for i in 0..3 { x = x -> relu }`",
    "enumerate": "loop over the integers: `for i in 0..3 { x = x -> relu }`",
    "zip": "loop over the integers, and use them as indices: `for i in 0..3 { x = x -> relu }`",
    "reversed": "count down with an index: `for i in 0..3 { x = x -> linear(8 + 2 - i) }`",
    "print": "leave it out; `archc show` prints every layer's shape",
    "float": "write `n / 1`, or write the number with a decimal point",
    "list": "write a tuple, `(1, 2, 3)`",
    "tuple": "write a tuple, `(1, 2, 3)`",
    "str": 'write a string in quotes, `"same"`',
    "self": "layers need no `self`: the name comes before the operator, `x -> fc: linear(10)`",
    "super": "leave it out; a model has no constructor",
    "isinstance": "leave it out; attributes have one type",
    "device": "choose the device in the code that runs the emitted module, or use `devices` and the pass `partition`",
}
"""Help for values such as `True` and functions such as `range`, by name in other languages."""

OPEN_SIZE = "name a size that is known only at run time: `input z: f32[N, 8]`"
"""Help for `None`, `-1` and `?` in place of a symbolic dimension."""

_ACTIVATION_NAMES = ("activation", "act", "nonlinearity", "activation_fn")
_INPUT_NAMES = ("input_size", "in_dim", "embed_dim", "d_model", "key_dim", "in_planes", "n_in", "nin", "in_ch")
ATTRIBUTES = {
    **dict.fromkeys(_ACTIVATION_NAMES, "write the activation as a separate step: `x -> linear(128) -> relu`"),
    "kernel_initializer": "load initial weights from a file with `--weights`; the default is PyTorch's initialization",
    "bias_initializer": "load initial weights from a file with `--weights`; the default is PyTorch's initialization",
    "kernel_regularizer": TRAINING,
    "inplace": "leave it out; tensors are values",
    "device": "leave it out; choose the device in the code that runs the emitted module",
    "requires_grad": TRAINING,
    "trainable": TRAINING,
    "name": "write the name before the operator: `x -> fc1: linear(128)`",
    **dict.fromkeys(_INPUT_NAMES, "leave it out; the size of the input follows from the operand"),
    "input_shape": "leave it out; shapes follow from the operand",
    "batch_first": "leave it out; the batch is always the first axis",
    "return_sequences": "leave it out; the result is a sequence; write `(x -> lstm(64))[:, -1]` for its last element",
    "data_format": "leave it out; channels are the second axis",
    "padding_mode": 'pad in a separate step: `x -> pad((1, 1, 1, 1), mode = "reflect") -> conv2d(64, 3)`',
    "padding_idx": "leave it out; the weights contain the row of the padding",
    "track_running_stats": "leave it out; running statistics are always kept",
    "training": "leave it out; the emitted module has `train` and `eval`",
    "mask_zero": "leave it out; pass a mask to `attention` as another operand",
    "dropout_rate": "write dropout as a separate step: `x -> linear(128) -> dropout(0.1)`",
}
"""Help for attributes of other libraries that no operator of archc has, by name."""

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
"""Attribute names in archc, by the name in other libraries.

The help suggests the first name that is an attribute of the operator.
"""

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
"""Dtypes of archc, by their names in other libraries."""


def operator_help(name: str, own: Iterable[str] = (), axis: str | None = None) -> str | None:
    """Help for the unknown name of a layer or function.

    Args:
        own: user-defined names; a user-defined name similar to `name` takes precedence over the tables.
        axis: axis in the arguments of the call, which replaces the axis of the example in the help.
    """
    help_ = member_help(name)
    if help_ is not None and axis is not None and squashed(name) in _squashed_with_axis():
        help_ = help_.replace("(1)", f"({axis})")
    return did_you_mean(name, own) or help_ or did_you_mean(name, operator_names())


def axis_text(arguments: Sequence[tree.Argument]) -> str | None:
    """Axis in a call with an integer as its only argument; None for a call with other arguments."""
    if len(arguments) != 1 or arguments[0].name not in (None, "dim", "axis"):
        return None
    text = arguments[0].value.span.text
    return text if _INTEGER.fullmatch(text) else None


def name_help(name: str, own: Iterable[str] = ()) -> str | None:
    """Help for the unknown name of a value.

    Args:
        own: user-defined names; a user-defined name similar to `name` takes precedence over the tables.
    """
    dtype = dtype_help(name)
    return (
        did_you_mean(name, own) or NAMES.get(name) or dtype or _operator(name) or did_you_mean(name, operator_names())
    )


def dtype_help(name: str) -> str | None:
    """Help for a dtype of another library, or for a dtype in quotes."""
    dtype = name if name in DType.__members__ else _squashed_dtypes().get(squashed(name))
    return None if dtype is None else f"write `{dtype}`"


def member_help(name: str) -> str | None:
    """Help for an unknown member of a tensor: `x.view(2, 3)`, `x.relu()`, `x.shape`, `x.float()`."""
    if name in ("T", "t"):
        return TRANSPOSE
    dtype = _squashed_dtypes().get(squashed(name))
    return _operator(name) or (f"write `x -> cast({dtype})`" if dtype is not None else None)


def dotted_help(node: tree.Expression) -> str | None:
    """Help for a dotted name of another library such as `nn.ReLU`; None for any other expression."""
    parts: list[str] = []
    while isinstance(node, tree.MemberExpression):
        parts.append(node.name)
        node = node.value
    if not parts or not isinstance(node, tree.Name) or node.name not in NAMESPACES:
        return None
    if node.name == "self":
        return NAMES["self"]
    known = name_help(parts[0])
    return known or f"names of `{node.name}` are not available; `archc ops` lists the operators"


def attribute_help(name: str, known: Collection[str]) -> str | None:
    """Help for an attribute that an operator does not have.

    Args:
        known: names of the operator's attributes.
    """
    near = did_you_mean(name, known)
    here = next((other for other in RENAMED.get(name, ()) if other in known), None)
    return f"write `{here}`" if here is not None else ATTRIBUTES.get(name) or near


def _operator(name: str) -> str | None:
    """Help from the table of operators, or for an operator's name with different case or underscores."""
    key = squashed(name)
    help_ = _squashed_operators().get(key)
    if help_ is not None:
        return help_
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
    return {squashed(name): help_ for name, help_ in OPERATORS.items()}


@cache
def _squashed_dtypes() -> Mapping[str, str]:
    return {squashed(name): dtype for name, dtype in DTYPES.items()}
