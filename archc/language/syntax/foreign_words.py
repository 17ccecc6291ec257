"""Spellings of PyTorch, Keras, NumPy, Python and C, each with the text to write instead.

The values are help texts.  All code in backticks is valid: `x` and `y` are tensors, `n` is an integer, and a test
checks each of them.  Names are compared without case and underscores: `max_pooling2d` also holds for `MaxPooling2D`.
Names that differ from an operator's only in case and underscores, such as `nn.Conv2d`, need no row.  The table of
layers and functions is in `foreign_operators`.
"""

from __future__ import annotations

from archc.language.syntax.foreign_operators import OPERATORS, TRAINING, TRANSPOSE, WITH_AXIS

__all__ = [
    "ATTRIBUTES",
    "DTYPES",
    "KEYWORDS",
    "MEANT",
    "NAMES",
    "NAMESPACES",
    "OPEN_SIZE",
    "OPERATORS",
    "RENAMED",
    "SYMBOLS",
    "TRAINING",
    "TRANSPOSE",
    "WITH_AXIS",
]

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
    **dict.fromkeys(_ACTIVATION_NAMES, "an activation is a stage of its own: `x -> linear(128) -> relu`"),
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
    "padding_mode": 'pad in a stage of its own: `x -> pad((1, 1, 1, 1), mode = "reflect") -> conv2d(64, 3)`',
    "padding_idx": "leave it out; the row of the padding comes with the weights",
    "track_running_stats": "leave it out; running statistics are always kept",
    "training": "leave it out; the emitted module has `train` and `eval`",
    "mask_zero": "leave it out; give `attention` a mask as another operand",
    "dropout_rate": "dropout is a stage of its own: `x -> linear(128) -> dropout(0.1)`",
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

_FUNCTION = "write a block: `block Twice { input x output x + x }`"
_IMPORT = (
    'leave it out: operators need no import; files of blocks have names in quotes, `import "std/attention.arch" as att`'
)
_NO_ERRORS = "check a condition of attributes with `assert n > 0`"
KEYWORDS = {
    "elif": "write `if n > 1 { z = x } else if n > 2 { z = y } else { z = x + y }`",
    "elseif": "write `if n > 1 { z = x } else if n > 2 { z = y } else { z = x + y }`",
    "switch": "write `if n > 1 { z = x } else if n > 2 { z = y } else { z = x + y }`",
    "return": "write `output x`",
    "def": _FUNCTION,
    "function": _FUNCTION,
    "func": _FUNCTION,
    "fn": _FUNCTION,
    "lambda": _FUNCTION,
    "class": "write a model, `model net { input x: f32[N, 8] output x -> relu }`, or a block, with `block`",
    "network": "write `model net { input x: f32[N, 8] output x -> relu }`",
    "struct": "write a model, `model net { input x: f32[N, 8] output x -> relu }`, or a block, with `block`",
    "module": "write a model, `model net { input x: f32[N, 8] output x -> relu }`, or a block, with `block`",
    "from": _IMPORT,
    "include": _IMPORT,
    "while": "loop a number of times: `for i in 0..3 { x = x -> relu }`",
    "repeat": "loop a number of times: `for i in 0..3 { x = x -> relu }`",
    "pass": "leave it out; a body may be empty",
    "break": "choose the number of rounds: `for i in 0..n { x = x -> relu }`",
    "continue": "choose by a condition: `for i in 0..3 { if i > 0 { x = x -> relu } }`",
    "try": _NO_ERRORS,
    "raise": _NO_ERRORS,
    "with": "leave it out; a text has no contexts",
    "del": "leave it out; a text manages no memory",
    "global": "leave it out; give a block attributes instead",
    "var": "write `z = x`",
    "auto": "write `z = x`",
    "const": "write `let k = 3`",
    "val": "write `let k = 3`",
    "param": "write `w = parameter((8, 8))`",
    "print": "leave it out; `archc show` prints every layer's shape",
    "self": "layers need no `self`: the name comes before the operator, `x -> fc: linear(10)`",
    "inputs": "write `input z: f32[N, 8]`",
    "outputs": "write `output x`",
    "async": "leave it out; a text has no order in time",
    "is": "write `given(x)` to ask for an optional input, and `n == 3` to compare",
}
"""Texts to write for keywords of other languages, by keyword."""

_BOTH = "write `and` between truth values; of tensors, `(x > 0, x < 1) -> logical_and`"
_EITHER = "write `or` between truth values; of tensors, `(x < 0, x > 1) -> logical_or`"
SYMBOLS = {
    "=>": "an arrow is `->`: `x -> relu`",
    "~>": "an arrow is `->`: `x -> relu`",
    "<-": "write `z = x`",
    "|>": "an arrow is `->`: `x -> relu`",
    ">>": "an arrow is `->`: `x -> relu`",
    ":=": "write `z = x`",
    "+=": "write `x = x + y`",
    "-=": "write `x = x - y`",
    "*=": "write `x = x * y`",
    "/=": "write `x = x / y`",
    "++": "write `x = x + 1`",
    "--": "write `x = x - 1`",
    "===": "write `n == 3`",
    "::": "a member is written with a point, and a slice has one colon: `x[:, 0]`",
    "/*": "a comment begins with `#` and ends with the line",
    "//": "a comment begins with `#` and ends with the line; `//` divides and rounds down",
    "**": "attributes are written out, one by one: `x -> linear(8, bias = false)`",
    "*": "attributes are written out, one by one: `x -> linear(8, bias = false)`",
    "@": "a matrix product is `(x, y) -> matmul`",
    ";": "statements need no separator",
    "\\": "an expression goes on over the end of a line by itself",
    "`": 'text is in quotes: `"same"`',
    "&": _BOTH,
    "&&": _BOTH,
    "|": _EITHER,
    "||": _EITHER,
    "~": "write `not`; of a tensor, `mask -> logical_not`",
    "$": "names are written alone: `x`",
    "“": 'text is in straight quotes: `"same"`',
    "”": 'text is in straight quotes: `"same"`',
    "‘": 'text is in straight quotes: `"same"`',
    "’": 'text is in straight quotes: `"same"`',
}
"""Texts to write for punctuation of other languages."""

MEANT = {
    "&&": "and",
    "&": "and",
    "||": "or",
    "|": "or",
    "!": "not",
    "^": "**",
    "|>": "->",
    "→": "->",
    "⇒": "->",
    "×": "*",
    "·": "*",
    "÷": "/",
    "−": "-",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
}
"""Punctuation that stands for one operator of this language, with that operator."""
