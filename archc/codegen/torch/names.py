"""Names in emitted PyTorch source: classes, members and variables.

Members keep their names from the text, since these are the names in the state dict.  Variables and arguments may be
renamed.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable

_MODULE_MEMBERS = frozenset({
    "T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children", "compile", "cpu",
    "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward", "get_buffer", "get_extra_state",
    "get_parameter", "get_submodule", "half", "ipu", "load_state_dict", "modules", "mtia", "named_buffers",
    "named_children", "named_modules", "named_parameters", "parameters", "register_backward_hook", "register_buffer",
    "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_load_state_dict_post_hook", "register_load_state_dict_pre_hook",
    "register_module", "register_parameter", "register_state_dict_post_hook", "register_state_dict_pre_hook",
    "requires_grad_", "set_extra_state", "set_submodule", "share_memory", "state_dict", "to", "to_empty", "train",
    "training", "type", "xpu", "zero_grad",
})  # fmt: skip
CONTAINER_MEMBERS = frozenset({"append", "clear", "extend", "insert", "items", "keys", "pop", "update", "values"})
"""Methods of `nn.ModuleDict` and `nn.Sequential`; a layer in such a container cannot have these names."""

MODULE_NAMES = frozenset({
    "torch", "nn", "F", "Tensor", "Path", "OrderedDict", "Any", "Callable", "Sequence", "math", "c_float",
    "load", "load_file", "COMPILATION",
    "beside", "archc_int8", "sys", "ModuleType", "module_from_spec", "spec_from_file_location",
    "ToStage", "STAGES", "DEVICES", "SHARED", "place", "stay_home",
    "MaskedLinear", "MaskedEmbedding", "MaskedConv1d", "MaskedConv2d", "MaskedConv3d",
    "MaskedConvTranspose1d", "MaskedConvTranspose2d", "MaskedConvTranspose3d",
    "Scale", "Quantized", "QuantizedTokens", "ONE", "pooled", "Keeping", "version_of", "Grid", "OnGrid", "Quantize",
    "quantize", "quantize_tokens", "range_of", "Int8Weight", "Int8Layer", "ONES", "MKLDNN", "adds_exactly", "EXACT",
    "ending", "Int8Linear", "product_of_bytes", "Int8Conv2d", "in_dynamo", "in_trace", "recorded",
    "recorded_range_of", "compiled",
    "DecodedWeight", "DecodedConv", "DecodedConvTranspose", "Int8WeightLinear", "Int8WeightEmbedding",
    "Int8WeightConv1d", "Int8WeightConv2d", "Int8WeightConv3d",
    "Int8WeightConvTranspose1d", "Int8WeightConvTranspose2d", "Int8WeightConvTranspose3d",
    "archc_weight_only", "archc_packed", "PLANES", "packed_bytes", "unpack", "Packing", "EncodedWeights",
    "PackedWeights", "PackedWeight", "NarrowWeight",
    "EncodedLinear", "EncodedEmbedding", "EncodedConv", "EncodedConvTranspose",
    "PackedLinear", "PackedEmbedding", "PackedConv1d", "PackedConv2d", "PackedConv3d",
    "PackedConvTranspose1d", "PackedConvTranspose2d", "PackedConvTranspose3d",
    "NarrowLinear", "NarrowEmbedding", "NarrowConv1d", "NarrowConv2d", "NarrowConv3d",
    "NarrowConvTranspose1d", "NarrowConvTranspose2d", "NarrowConvTranspose3d",
    "archc_recurrent", "Int8Recurrent", "Int8LSTM", "Int8GRU", "Int8RNN", "packed_product",
    "has_exact_recurrent_kernels", "EXACT_RECURRENT", "warnings",
    "archc_sparse", "SparseWeights",
    "archc_fake_quantized", "fake_quantized", "rounded_to_int8", "rounded_in_groups", "FakeQuantizedWeight",
    "FakeQuantizedLinear", "FakeQuantizedEmbedding", "FakeQuantizedConv", "FakeQuantizedConvTranspose",
    "FakeQuantizedConv1d", "FakeQuantizedConv2d", "FakeQuantizedConv3d",
    "FakeQuantizedConvTranspose1d", "FakeQuantizedConvTranspose2d", "FakeQuantizedConvTranspose3d",
})  # fmt: skip
"""Names that an emitted module imports or defines, except the classes of the model and its blocks."""

VARIABLES = MODULE_NAMES | {
    "self", "super", "range", "zip", "min", "max", "round", "float", "int", "tuple", "str",
}  # fmt: skip
"""Names that the methods of an emitted class may refer to, so variables must not shadow them."""


IN_CONSTRUCTORS = VARIABLES - {
    "F", "load", "place", "stay_home", "quantize", "quantize_tokens", "pooled", "c_float", "unpack", "packed_bytes",
    "fake_quantized", "rounded_to_int8", "rounded_in_groups", "zip", "min", "max", "round",
}  # fmt: skip
"""Names that the constructor of an emitted class may refer to."""


def reserved_member_names() -> frozenset[str]:
    """Names of the members of `torch.nn.Module`; no layer of a model can have these names.

    Names with a leading underscore are reserved too, but are not in the set.
    """
    return _MODULE_MEMBERS


def class_name(model_name: str, doc: str = "") -> str:
    """The class name of a model or block: `CNN` for `cnn`, `LinearRegression` for `linear_regression`.

    A name of at most three letters becomes an abbreviation in capitals, except consonant-vowel-consonant names such as
    `net`.  Capitals of the name are kept.  A class name that emitted modules need for another object gets an ending:
    `PathModel` for `path`.

    Args:
        doc: the comment above the definition; with `ResNet-50` in it, `resnet50` becomes `ResNet50`.
    """
    words = _spelled(model_name, doc) or _words(model_name)
    if len(words) == 1 and len(words[0]) <= 3 and words[0].islower() and words[0].isalpha():
        name = words[0].capitalize() if _SPOKEN.fullmatch(words[0]) else words[0].upper()
    else:
        name = identifier("".join(word[0].upper() + word[1:] for word in words), "Model")
    return f"{name}Model" if name in MODULE_NAMES else name


_SPOKEN = re.compile("[^aeiou][aeiou][^aeiou]")


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", text) if word]


def _spelled(name: str, doc: str) -> list[str]:
    """The words of a comment that equal a name except for case and punctuation.

    The words must have a capital letter.  The list is empty if the comment has no such words.
    """
    wanted, words = "".join(_words(name)).lower(), _words(doc)
    for start in range(len(words)):
        for end in range(start + 1, len(words) + 1):
            found = "".join(words[start:end])
            if found.lower() == wanted and not found.islower():
                return words[start:end]
            if len(found) >= len(wanted):
                break
    return []


def identifier(name: str, fallback: str = "x") -> str:
    """A Python identifier similar to a name, neither a keyword nor with a leading underscore."""
    cleaned = re.sub(r"\W", "_", unicodedata.normalize("NFKC", name)).lstrip("_") or fallback
    if not cleaned.isidentifier():
        cleaned = f"{fallback}_{cleaned}"
    return f"{cleaned}_" if keyword.iskeyword(cleaned) or cleaned in ("match", "case") else cleaned


def is_attribute(name: str) -> bool:
    """Return whether `self.<name>` refers to exactly this name.

    Return False for a keyword, and for a name that Python mangles or normalizes.
    """
    return (
        name.isidentifier()
        and not keyword.iskeyword(name)
        and not name.startswith("__")
        and unicodedata.normalize("NFKC", name) == name
    )


class PythonNames:
    """Unique names in one Python scope."""

    def __init__(self, taken: Iterable[str] = VARIABLES):
        self.taken = set(taken)

    def take(self, name: str) -> str:
        """Take a name as an identifier, with a number appended if it is taken already."""
        base = identifier(name)
        candidate, number = base, 1
        while candidate in self.taken:
            number += 1
            candidate = f"{base}{number}" if not base[-1].isdigit() else f"{base}_{number}"
        self.taken.add(candidate)
        return candidate

    def copy(self) -> PythonNames:
        """A copy, for an inner scope that takes more names."""
        return PythonNames(self.taken)

    def __contains__(self, name: str) -> bool:
        return name in self.taken


def snake_case(name: str) -> str:
    """Convert a class name to snake case: `SelfAttention` becomes `self_attention`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def is_reserved_member(name: str) -> bool:
    """Return whether PyTorch reserves a name, so that no layer can have it."""
    return name in _MODULE_MEMBERS or name.startswith("_")
