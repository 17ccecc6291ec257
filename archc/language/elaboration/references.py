"""References: the meaning of names, and of paths such as `h[0].attn` and `wte.weight`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from archc.declaration.registry import find_operator, operator_names
from archc.diagnostics import did_you_mean
from archc.ir.graph import Value
from archc.language.elaboration.arithmetic import describe_kind
from archc.language.elaboration.context import Elaboration, Instance, NamedLayer
from archc.language.elaboration.environment import BlockRef, Failed, LayerRef, WeightRef
from archc.language.elaboration.storages import as_storage
from archc.language.syntax import tree
from archc.language.syntax.foreign_names import dotted_help, member_help
from archc.types.storage import STORAGES, Storage
from archc.types.tensor_type import DType


def lookup(instance: Instance, name: str) -> Any | None:
    """Meaning of a name in an instance, else in its module, else in the language; None if unknown."""
    value = instance.environment.get(name)
    return lookup_global(instance, name) if value is None else value


def lookup_global(instance: Instance, name: str) -> Any | None:
    """Block, model, operator, dtype or storage that a name means; None if unknown.

    A block hides an operator of the same name.  A model hides no operator, because no other definition can use a
    model.
    """
    definition = instance.module.definitions.get(name)
    own = None if definition is None else BlockRef(definition, instance.module)
    if own is not None and own.definition.kind == "block":
        return own
    builtin = _builtin(name)
    return own if builtin is None else builtin


def _builtin(name: str) -> Any | None:
    """Meaning of a name that the language defines; None if unknown."""
    if name in STORAGES:
        return STORAGES[name]
    if name in DType.__members__:
        return DType(name)
    return math.inf if name == "inf" else find_operator(name)


def known_names(instance: Instance) -> Iterable[str]:
    """User-defined names that are visible in an instance, and the names of all operators, for suggestions."""
    return [*visible_names(instance), *operator_names()]


def visible_names(instance: Instance) -> list[str]:
    """User-defined names that are visible in an instance."""
    return [*instance.environment.bindings, *instance.module.definitions, *instance.module.imports]


def _find_layer(layers: Mapping[str, NamedLayer], path: str) -> NamedLayer | None:
    """Layer with a path, which may be inside blocks (`h.0.attn.query`); None if there is no such layer."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        found = layers.get(".".join(parts[:count]))
        if found is not None:
            return found if count == len(parts) else _find_layer(found.inner, ".".join(parts[count:]))
    return None


def _layer_paths(layers: Mapping[str, NamedLayer]) -> Iterator[str]:
    """Yield the paths of all layers, each block before the layers in it."""
    for path, layer in layers.items():
        yield path
        yield from (f"{path}.{inner}" for inner in _layer_paths(layer.inner))


def evaluate_member(elaboration: Elaboration, instance: Instance, node: tree.MemberExpression) -> Any:
    """Value of `att.SelfAttention`, `encoder.first`, `wte.weight` or `wte.weight.T`.

    Raises:
        Failed: the expression has no value; the reason is reported.
    """
    declared = declared_layer(elaboration, instance, node)
    if declared is not None:
        return declared
    if node.name == "T" and isinstance(node.value, tree.MemberExpression):
        weight = elaboration.evaluate(instance, node.value)
        if isinstance(weight, WeightRef):
            return replace(weight, transposed=not weight.transposed)
    if isinstance(node.value, tree.Name) and instance.environment.get(node.value.name) is None:
        module = instance.module.imports.get(node.value.name)
        if module is not None:
            definition = module.definitions.get(node.name)
            if definition is not None:
                return BlockRef(definition, module)
            elaboration.report(
                instance,
                "unknown-name",
                f"{module.source.name} defines no `{node.name}`",
                node.span,
                help=did_you_mean(node.name, module.definitions),
            )
    foreign = dotted_help(node)
    if foreign is not None and _root_is_unknown(instance, node):
        elaboration.report(
            instance, "unknown-name", f"nothing is called `{node.span.text}` here", node.span, help=foreign
        )
    path = _path(elaboration, instance, node.value)
    if path is None:
        value = elaboration.evaluate(instance, node.value)
        if isinstance(value, Value):
            elaboration.report(
                instance,
                "no-member",
                f"a tensor has no `{node.name}`",
                node.span,
                help=member_help(node.name) or "its sizes have names: declare it as `f32[N, D]`, and use `D`",
            )
        elaboration.report(instance, "no-member", f"{describe_kind(value)} has no `{node.name}`", node.span)
    return _weight(elaboration, instance, node, path)


def _root_is_unknown(instance: Instance, node: tree.MemberExpression) -> bool:
    """Return whether the first part of a dotted name is not user-defined."""
    root: tree.Expression = node
    while isinstance(root, tree.MemberExpression):
        root = root.value
    return isinstance(root, tree.Name) and root.name not in visible_names(instance) and root.name not in instance.layers


def declared_layer(
    elaboration: Elaboration, instance: Instance, node: tree.MemberExpression | tree.IndexExpression
) -> Any | None:
    """Layer `h[0]` or `encoder.first`, if it is declared with `layer`; None otherwise."""
    path = _path(elaboration, instance, node)
    return instance.environment.get(path) if path is not None else None


def _weight(elaboration: Elaboration, instance: Instance, node: tree.MemberExpression, path: str) -> WeightRef:
    """Reference to `wte.weight` or `h[0].up.weight`.

    Args:
        path: the path of the layer.
    """
    layer = _find_layer(instance.layers, path)
    if layer is None and any(path == lost or path.startswith(f"{lost}.") for lost in instance.failed_layers):
        raise Failed
    if layer is None:
        elaboration.report(
            instance,
            "unknown-layer",
            f"no layer or import is called `{_written(path)}` here",
            node.value.span,
            help=did_you_mean(_written(path), [*map(_written, _layer_paths(instance.layers)), *instance.module.imports])
            or "a layer is known after the line that names it, and the layers of a block after its first use",
        )
    if isinstance(layer.callee, BlockRef):
        inner = ", ".join(f"`{_written(f'{path}.{name}')}`" for name in _layer_paths(layer.inner))
        elaboration.report(
            instance,
            "unknown-parameter",
            f"`{_written(path)}` is a block, and has no parameter `{node.name}` of its own",
            node.span,
            help=f"name a layer of the block before the parameter: {inner}"
            if inner
            else "its layers are known after its first use",
        )
    if node.name not in layer.callee.parameters:
        owned = ", ".join(f"`{name}`" for name in layer.callee.parameters)
        elaboration.report(
            instance,
            "unknown-parameter",
            f"`{_written(path)}` has no parameter `{node.name}`",
            node.span,
            help=did_you_mean(node.name, layer.callee.parameters) or (f"it has {owned}" if owned else None),
        )
    declared = instance.environment.get(path)
    if isinstance(declared, LayerRef):  # the layer may have no use yet, so its declaration determines the weight
        own = _declared_weight(elaboration, instance, declared, node)
    else:
        own = layer.ties.get(node.name)
    if isinstance(own, WeightRef):  # the layer shares a weight of another layer
        return replace(own, span=node.span)
    return WeightRef(f"{instance.path_in_model(path)}.{node.name}", node.span, own)


def _declared_weight(
    elaboration: Elaboration, instance: Instance, layer: LayerRef, node: tree.MemberExpression
) -> WeightRef | Storage | None:
    """Weight or storage that the declaration of a layer gives to a parameter; None if it gives neither."""
    parameter = (layer, node.name)
    if parameter in elaboration.open_weights:
        elaboration.report(
            instance,
            "circular-weight",
            f"`{_written(layer.name)}.{node.name}` refers back to itself: no layer owns it",
            node.span,
            help=f"leave out `{node.name} = ...` in one of the layers",
        )
    elaboration.open_weights.append(parameter)
    try:
        with instance.environment.rebound(layer.captured):
            values = [
                as_storage(elaboration, instance, elaboration.evaluate_argument(instance, a), a.value.span)
                for a in layer.arguments
                if a.name == node.name
            ]
    finally:
        elaboration.open_weights.pop()
    return next((value for value in values if isinstance(value, WeightRef | Storage)), None)


def _path(elaboration: Elaboration, instance: Instance, node: tree.Expression) -> str | None:
    """Path of an expression, such as `h.3.attn` for `h[3].attn`; None if it is not a path of a layer."""
    if isinstance(node, tree.Name):
        value = instance.environment.bindings.get(node.name)
        layer = value is None or isinstance(value.value, LayerRef) or node.name in instance.layers
        return node.name if layer else None
    if isinstance(node, tree.MemberExpression):
        inner = _path(elaboration, instance, node.value)
        return None if inner is None else f"{inner}.{node.name}"
    if isinstance(node, tree.IndexExpression) and len(node.items) == 1:
        inner = _path(elaboration, instance, node.value)
        item = node.items[0]
        if inner is None or isinstance(item, (tree.SliceExpression, tree.Ellipsis)):
            return None
        number = elaboration.evaluate(instance, item)
        return f"{inner}.{number}" if isinstance(number, int) else None
    return None


def _written(path: str) -> str:
    """Path of a layer in the syntax of the language: `h[0].attn` for `h.0.attn`."""
    return re.sub(r"\.([0-9]+)(?=\.|$)", r"[\1]", path)
