"""What names, and paths such as `h[0].attn` and `wte.weight`, refer to."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from archc.diagnostics import did_you_mean
from archc.ir.graph import Value
from archc.language.elaboration.arithmetic import kind
from archc.language.elaboration.environment import BlockRef, Failed, LayerRef, WeightRef
from archc.language.elaboration.frames import Frame, find_layer, layer_paths
from archc.language.syntax import tree
from archc.language.syntax.foreign_names import dotted_help, member_help
from archc.operator.registry import find_operator, operator_names
from archc.types.storage import STORAGES, Storage
from archc.types.tensor_type import DType

if TYPE_CHECKING:
    from archc.language.elaboration.expressions import Expressions


def lookup(frame: Frame, name: str) -> Any | None:
    """What a name means: a value of the frame, a block of the file, an operator, a dtype, a storage; or None."""
    value = frame.environment.get(name)
    return meaning(frame, name) if value is None else value


def meaning(frame: Frame, name: str) -> Any | None:
    """Meaning of a name that the definition itself does not bind.

    A block hides an operator of its name.  A model does not: no other text can use it.
    """
    definition = frame.module.definitions.get(name)
    own = None if definition is None else BlockRef(definition, frame.module)
    if own is not None and own.definition.kind == "block":
        return own
    builtin = _builtin(name)
    return own if builtin is None else builtin


def _builtin(name: str) -> Any | None:
    """Meaning of a name in the language itself."""
    if name in STORAGES:
        return STORAGES[name]
    if name in DType.__members__:
        return DType(name)
    return math.inf if name == "inf" else find_operator(name)


def known_names(frame: Frame) -> Iterable[str]:
    """All names that mean something here, for suggestions."""
    return [*own_names(frame), *operator_names()]


def own_names(frame: Frame) -> list[str]:
    """User-defined names that are visible in a frame."""
    return [*frame.environment.bindings, *frame.module.definitions, *frame.module.imports]


class References:
    """Finds what the members of expressions refer to; their own parts are expressions again."""

    def __init__(self, expressions: Expressions):
        self.expressions = expressions
        self._asked: list[tuple[LayerRef, str]] = []

    def member(self, frame: Frame, node: tree.MemberExpression) -> Any:
        """The value of `att.SelfAttention`, `encoder.first`, `wte.weight` or `wte.weight.T`.

        Raises:
            Failed: it has none; that was reported.
        """
        declared = self.declared(frame, node)
        if declared is not None:
            return declared
        if node.name == "T" and isinstance(node.value, tree.MemberExpression):
            weight = self.expressions.evaluate(frame, node.value)
            if isinstance(weight, WeightRef):
                return replace(weight, transposed=not weight.transposed)
        if isinstance(node.value, tree.Name) and frame.environment.get(node.value.name) is None:
            module = frame.module.imports.get(node.value.name)
            if module is not None:
                definition = module.definitions.get(node.name)
                if definition is not None:
                    return BlockRef(definition, module)
                self.expressions.report(
                    frame,
                    "unknown-name",
                    f"{module.source.name} defines no `{node.name}`",
                    node.span,
                    help=did_you_mean(node.name, module.definitions),
                )
        foreign = dotted_help(node)
        if foreign is not None and self._root_is_unknown(frame, node):
            self.expressions.report(
                frame, "unknown-name", f"nothing is called `{node.span.text}` here", node.span, help=foreign
            )
        path = self._path(frame, node.value)
        if path is None:
            value = self.expressions.evaluate(frame, node.value)
            if isinstance(value, Value):
                self.expressions.report(
                    frame,
                    "no-member",
                    f"a tensor has no `{node.name}`",
                    node.span,
                    help=member_help(node.name) or "its sizes have names: declare it as `f32[N, D]`, and use `D`",
                )
            self.expressions.report(frame, "no-member", f"{kind(value)} has no `{node.name}`", node.span)
        return self._weight(frame, node, path)

    def _root_is_unknown(self, frame: Frame, node: tree.MemberExpression) -> bool:
        """Return whether the first part of a dotted name is not user-defined."""
        root: tree.Expression = node
        while isinstance(root, tree.MemberExpression):
            root = root.value
        return isinstance(root, tree.Name) and root.name not in own_names(frame) and root.name not in frame.labels

    def declared(self, frame: Frame, node: tree.MemberExpression | tree.IndexExpression) -> Any | None:
        """The layer `h[0]` or `encoder.first`, if it was declared with `layer`."""
        path = self._path(frame, node)
        return frame.environment.get(path) if path is not None else None

    def _weight(self, frame: Frame, node: tree.MemberExpression, path: str) -> WeightRef:
        """`wte.weight` or `h[0].up.weight`: the layer must be known here, and own such a parameter."""
        layer = find_layer(frame.labels, path)
        if layer is None and any(path == lost or path.startswith(f"{lost}.") for lost in frame.lost):
            raise Failed
        if layer is None:
            self.expressions.report(
                frame,
                "unknown-layer",
                f"no layer or import is called `{_written(path)}` here",
                node.value.span,
                help=did_you_mean(_written(path), [*map(_written, layer_paths(frame.labels)), *frame.module.imports])
                or "a layer is known below the line that names it, and those of a block below its first use",
            )
        if isinstance(layer.callee, BlockRef):
            inner = ", ".join(f"`{_written(f'{path}.{name}')}`" for name in layer_paths(layer.inner))
            self.expressions.report(
                frame,
                "unknown-parameter",
                f"`{_written(path)}` is a block, and owns no parameter `{node.name}` itself",
                node.span,
                help=f"its layers do: {inner}" if inner else "its layers are known below its first use",
            )
        if node.name not in layer.callee.parameters:
            owned = ", ".join(f"`{name}`" for name in layer.callee.parameters)
            self.expressions.report(
                frame,
                "unknown-parameter",
                f"`{_written(path)}` has no parameter `{node.name}`",
                node.span,
                help=did_you_mean(node.name, layer.callee.parameters) or (f"it has {owned}" if owned else None),
            )
        declared = frame.environment.get(path)
        if isinstance(declared, LayerRef):  # perhaps used for the first time here, so its own say counts
            own = self._declared_weight(frame, declared, node)
        else:
            own = layer.ties.get(node.name)
        if isinstance(own, WeightRef):  # not this layer's own either
            return replace(own, span=node.span)
        return WeightRef(f"{frame.within(path)}.{node.name}", node.span, own)

    def _declared_weight(
        self, frame: Frame, layer: LayerRef, node: tree.MemberExpression
    ) -> WeightRef | Storage | None:
        """What a layer that is declared says of one of its parameters."""
        parameter = (layer, node.name)
        if parameter in self._asked:
            self.expressions.report(
                frame,
                "circular-weight",
                f"`{_written(layer.name)}.{node.name}` is the weight of a layer that has it from this one",
                node.span,
                help="one of them has to own it",
            )
        self._asked.append(parameter)
        try:
            with frame.environment.meaning(layer.meanings):
                values = [self.expressions.argument(frame, a) for a in layer.arguments if a.name == node.name]
        finally:
            self._asked.pop()
        values = [value() if isinstance(value, type) and issubclass(value, Storage) else value for value in values]
        return next((value for value in values if isinstance(value, WeightRef | Storage)), None)

    def _path(self, frame: Frame, node: tree.Expression) -> str | None:
        """The path that `h[3].attn` writes, or None for what writes none."""
        if isinstance(node, tree.Name):
            value = frame.environment.bindings.get(node.name)
            layer = value is None or isinstance(value.value, LayerRef) or node.name in frame.labels
            return node.name if layer else None
        if isinstance(node, tree.MemberExpression):
            inner = self._path(frame, node.value)
            return None if inner is None else f"{inner}.{node.name}"
        if isinstance(node, tree.IndexExpression) and len(node.items) == 1:
            inner = self._path(frame, node.value)
            item = node.items[0]
            if inner is None or isinstance(item, (tree.SliceExpression, tree.Ellipsis)):
                return None
            number = self.expressions.evaluate(frame, item)
            return f"{inner}.{number}" if isinstance(number, int) else None
        return None


def _written(path: str) -> str:
    """A layer's path as the text has it: `h[0].attn` for `h.0.attn`."""
    return re.sub(r"\.([0-9]+)(?=\.|$)", r"[\1]", path)
