"""Names that a text gives to definitions, values and layers."""

from __future__ import annotations

import contextlib
import keyword
import sys

from archc.declaration.base import Operator
from archc.declaration.table import snake_case
from archc.diagnostics import Note, Span
from archc.ir.graph import Value
from archc.language.elaboration.context import Elaboration, Instance, NamedLayer
from archc.language.elaboration.environment import ABSENT, POISON, BlockRef, Failed, describe_value
from archc.language.syntax import tree

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
"""Members of `torch.nn.Module`: a layer with such a name would replace the member."""
_IMPORTED = frozenset({
    "torch", "numpy", "onnx", "onnxruntime", "safetensors",
    "archc_int8", "archc_weight_only", "archc_packed", "archc_recurrent", "archc_sparse", "archc_fake_quantized",
    "filelock", "fsspec", "functorch", "google", "jinja2", "markupsafe", "ml_dtypes", "mpmath", "networkx", "packaging",
    "setuptools", "sympy", "torchgen", "triton", "typing_extensions",
})  # fmt: skip
"""Packages and files that emitted modules import, and the dependencies of these packages."""
LONGEST_NAME = 100
"""Limit on the characters of a name.

The name of a model becomes the name of a file, and file systems limit the length of such names.
"""
LARGEST_INDEX = 1_000_000
"""Limit on the index of a layer in a list."""


def check_name(
    elaboration: Elaboration, instance: Instance, name: tree.Name | tree.Label | tree.Field, what: str
) -> None:
    """Refuse a name that is not valid in emitted Python.

    Raises:
        Failed: the name is refused; the reason is reported.
    """
    if keyword.iskeyword(name.name) or name.name == "self":
        meaning = "the module itself in emitted methods" if name.name == "self" else "a keyword of Python"
        elaboration.report(
            instance,
            "reserved-name",
            f"`{name.name}` is {meaning} and cannot name {what}",
            name.span,
            help=f"rename it, for instance to `{name.name}_`",
        )
    if name.name.startswith("__"):
        elaboration.report(
            instance,
            "reserved-name",
            f"`{name.name}` cannot name {what}: names that begin with two underscores are reserved in Python",
            name.span,
            help=f"rename it, for instance to `{name.name.strip('_') or 'x'}_`",
        )
    if len(name.name) > LONGEST_NAME:
        elaboration.report(
            instance,
            "name-too-long",
            f"the name of {what} has {len(name.name):,} characters; the limit is {LONGEST_NAME}",
            name.span,
        )


def check_definition_name(elaboration: Elaboration, instance: Instance, definition: tree.Definition) -> None:
    """Refuse a name of a definition that is not valid in Python, or that would hide a Python module.

    Raises:
        Failed: the name is refused; the reason is reported.
    """
    name = definition.name
    check_name(elaboration, instance, name, f"a {definition.kind}")
    if definition.kind == "model" and (name.name in _IMPORTED or name.name in sys.stdlib_module_names):
        elaboration.report(
            instance,
            "reserved-name",
            f"`{name.name}` cannot name a model: its file `{name.name}.py` would hide Python's module of that name",
            name.span,
            help=f"rename it, for instance to `{name.name}_net`",
        )


def check_instance_name(elaboration: Elaboration, instance: Instance) -> None:
    """Report an invalid name of a definition, without raising `Failed`."""
    with contextlib.suppress(Failed):
        check_definition_name(elaboration, instance, instance.definition)


def check_layer_name(elaboration: Elaboration, instance: Instance, label: tree.Label) -> None:
    """Refuse a label that is not valid as an attribute of a PyTorch module.

    Raises:
        Failed: the label is refused; the reason is reported.
    """
    named: list[tree.Label | tree.Field] = [label]
    named += (part for part in label.parts if isinstance(part, tree.Field))
    for part in named:
        check_name(elaboration, instance, part, "a layer")
        if part.name in RESERVED_LAYER_NAMES or part.name.startswith("_"):
            elaboration.report(
                instance,
                "reserved-name",
                f"`{part.name}` cannot name a layer: every PyTorch module has a member of that name"
                if part.name in RESERVED_LAYER_NAMES
                else f"`{part.name}` cannot name a layer: names that begin with an underscore are reserved in PyTorch",
                part.span,
                help=f"rename it, for instance to `{part.name.strip('_') or 'x'}_layer`",
            )


# Names of values -----------------------------------------------------------------------------------------


def check_new(elaboration: Elaboration, instance: Instance, name: tree.Name, plural: str, kind: str) -> None:
    """Refuse the name of an input, attribute or layer if the name is already bound.

    Args:
        plural: the plural of the kind of the new name, for the message: "inputs".
        kind: the kind of the new binding; see `Binding.kind`.

    Raises:
        Failed: the name is bound; the reason is reported.
    """
    earlier = instance.environment.bindings.get(name.name)
    if earlier is not None and (earlier.span is not None or earlier.value not in (POISON, ABSENT)):
        elaboration.report(
            instance,
            "duplicate-name",
            f"two {plural} are called `{name.name}`"
            if earlier.kind == kind
            else f"`{name.name}` already names {'an' if earlier.kind[0] in 'ai' else 'a'} {earlier.kind}",
            name.span,
            notes=[
                Note("this is the first" if earlier.kind == kind else f"the {earlier.kind} is given here", earlier.span)
            ]
            if earlier.span is not None
            else (),
            help="give one of them another name",
        )


def check_free(elaboration: Elaboration, instance: Instance, name: tree.Name, what: str) -> None:
    """Refuse the name of a tensor if it already names a size, an attribute or a layer.

    Raises:
        Failed: the name is refused; the reason is reported.
    """
    previous = instance.environment.bindings.get(name.name)
    if previous is not None and previous.kind in ("size", "attribute", "layer") and previous.value is not POISON:
        other = "the attribute" if previous.kind == "attribute" else describe_value(previous.value)
        elaboration.report(
            instance,
            "duplicate-name",
            f"`{name.name}` already names {other}",
            name.span,
            notes=[Note("it is given here", previous.span)] if previous.span is not None else (),
            help=f"begin a tuple of tensors without `let`: `{name.name} = ()`"
            if previous.kind == "size" and previous.value == ()
            else f"give the {what} another name",
        )


def name_value(instance: Instance, value: Value, name: str) -> None:
    """Name a tensor of an instance or of its blocks, unless the instance already gave it a name."""
    if value.producer is None:
        return
    if value.producer.scope is instance.scope:
        value.name = value.name or name
    elif instance.scope in value.producer.scope.ancestors():
        instance.scope.names.setdefault(value, name)


def name_of(instance: Instance, value: Value) -> str | None:
    """Name of a tensor in an instance; None if the instance gives it no name."""
    own = value.producer is None or value.producer.scope is instance.scope
    return value.name if own else instance.scope.names.get(value)


# Names of layers -----------------------------------------------------------------------------------------


def label_path(elaboration: Elaboration, instance: Instance, label: tree.Label) -> str:
    """Path of a label within the instance: `h.3` for `h[3]`.

    Raises:
        Failed: an index is not an integer in range; the reason is reported.
    """
    path = label.name
    for part in label.parts:
        if isinstance(part, tree.Field):
            path += f".{part.name}"
            continue
        number = elaboration.evaluate(instance, part)
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < LARGEST_INDEX:
            elaboration.report(
                instance,
                "wrong-type",
                f"a layer's index is an integer from 0 to {LARGEST_INDEX - 1:,}",
                part.span,
            )
        path += f".{number}"
    return path


def name_layer(
    elaboration: Elaboration,
    instance: Instance,
    callee: type[Operator] | BlockRef,
    label: tree.Label | None,
    span: Span,
) -> str | None:
    """Name a new layer, and return its path; None for an operator with neither weights nor a label.

    A layer without a label is named after its operator or block, with a number if that name is taken (`linear_2`).

    Raises:
        Failed: the label is not valid or in use; the reason is reported.
    """
    if label is not None:
        check_layer_name(elaboration, instance, label)
        path = label_path(elaboration, instance, label)
        register_layer(elaboration, instance, path, callee, label.span)
        return path
    if isinstance(callee, type):
        if not callee.parameters:
            return None
        base = callee.name
    else:
        base = snake_case(callee.definition.name.name)
    path = base
    while path in instance.layers or path in instance.layer_lists:
        instance.name_counts[base] = instance.name_counts.get(base, 1) + 1
        path = f"{base}_{instance.name_counts[base]}"
    register_layer(elaboration, instance, path, callee, span)
    return path


def register_layer(
    elaboration: Elaboration, instance: Instance, path: str, callee: type[Operator] | BlockRef, span: Span
) -> None:
    """Add a layer to an instance under a path.

    Raises:
        Failed: another layer or a list of layers has the path; the reason is reported.
    """
    parts = path.split(".")
    around = [".".join(parts[:count]) for count in range(1, len(parts))]
    if path in instance.layers:
        _taken(elaboration, instance, f"two layers are called `{path}`", span, instance.layers[path].span)
    for outer in around:
        if outer in instance.layers:
            _taken(
                elaboration,
                instance,
                f"`{outer}` is a layer, and cannot hold `{path}` too",
                span,
                instance.layers[outer].span,
            )
    if path in instance.layer_lists:
        _taken(
            elaboration,
            instance,
            f"`{path}` holds other layers, and cannot be a layer itself",
            span,
            instance.layer_lists[path],
        )
    instance.layers[path] = NamedLayer(callee, span)
    for outer in around:
        instance.layer_lists.setdefault(outer, span)


def _taken(elaboration: Elaboration, instance: Instance, message: str, span: Span, earlier: Span) -> None:
    """Report that the path of a new layer is in use."""
    if earlier == span:
        way = f"a loop repeats the layer: number it, `{span.text}[i]: ...`; to share weights, declare it with `layer`"
        elaboration.report(instance, "duplicate-label", message, span, help=way)
    elaboration.report(
        instance,
        "duplicate-label",
        message,
        span,
        notes=[Note("the name is given here first", earlier)],
        help="give one of them another name; to share weights, declare one layer with `layer` and use it twice",
    )
