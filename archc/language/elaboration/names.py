"""Which names a user may give: not Python's keywords, and not what every module already has."""

from __future__ import annotations

import keyword
import sys
from typing import TYPE_CHECKING

from archc.language.syntax import tree

if TYPE_CHECKING:
    from archc.language.elaboration.elaborate import Elaborator
    from archc.language.elaboration.frames import Frame

RESERVED_LAYER_NAMES = frozenset(
    """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval
    extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules
    mtia named_buffers named_children named_modules named_parameters parameters register_backward_hook
    register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook
    register_module register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
    set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu zero_grad
    """.split()  # noqa: SIM905 - a paragraph reads better than a list of quotes
)
"""What `torch.nn.Module` itself calls its members: a layer of that name would take its place."""

_IMPORTED = frozenset({
    "torch", "numpy", "onnx", "onnxruntime", "safetensors",
    "filelock", "fsspec", "functorch", "google", "jinja2", "markupsafe", "ml_dtypes", "mpmath", "networkx", "packaging",
    "setuptools", "sympy", "torchgen", "triton", "typing_extensions",
})  # fmt: skip
"""Packages that emitted modules import, with their dependencies."""
LONGEST_NAME = 100  # characters; a model's name becomes one of a file, and a path of twenty a line


def check_name(elaborator: Elaborator, frame: Frame, name: tree.Name | tree.Label | tree.Field, what: str) -> None:
    """Refuse a name that the generated Python could not have.

    Raises:
        Failed: the name was refused.
    """
    if keyword.iskeyword(name.name) or name.name == "self":
        elaborator.report(
            frame,
            "reserved-name",
            f"`{name.name}` is a word of Python and cannot name {what}",
            name.span,
            help=f"for instance `{name.name}_`",
        )
    if name.name.startswith("__"):
        elaborator.report(
            frame,
            "reserved-name",
            f"`{name.name}` cannot name {what}: Python keeps names that begin with two underscores to itself",
            name.span,
            help=f"for instance `{name.name.strip('_') or 'x'}_`",
        )
    if len(name.name) > LONGEST_NAME:
        elaborator.report(
            frame,
            "name-too-long",
            f"the name of {what} has {len(name.name):,} characters; the limit is {LONGEST_NAME}",
            name.span,
        )


def check_definition_name(elaborator: Elaborator, frame: Frame, definition: tree.Definition) -> None:
    """Refuse the name of a definition that its class could not have, or of a model whose file would hide a module.

    Raises:
        Failed: the name was refused.
    """
    name = definition.name
    check_name(elaborator, frame, name, f"a {definition.kind}")
    if definition.kind == "model" and (name.name in _IMPORTED or name.name in sys.stdlib_module_names):
        elaborator.report(
            frame,
            "reserved-name",
            f"`{name.name}` cannot name a model: its file `{name.name}.py` would hide Python's module of that name",
            name.span,
            help=f"for instance `{name.name}_net`",
        )


def check_layer_name(elaborator: Elaborator, frame: Frame, label: tree.Label) -> None:
    """Refuse a name that a layer's attribute in the generated module could not have.

    Raises:
        Failed: the name was refused.
    """
    named: list[tree.Label | tree.Field] = [label]
    named += (part for part in label.parts if isinstance(part, tree.Field))
    for part in named:
        check_name(elaborator, frame, part, "a layer")
        if part.name in RESERVED_LAYER_NAMES or part.name.startswith("_"):
            elaborator.report(
                frame,
                "reserved-name",
                f"`{part.name}` cannot name a layer: every PyTorch module has a member of that name"
                if part.name in RESERVED_LAYER_NAMES
                else f"`{part.name}` cannot name a layer: PyTorch keeps names with a leading underscore to itself",
                part.span,
                help=f"for instance `{part.name.strip('_') or 'x'}_layer`",
            )
