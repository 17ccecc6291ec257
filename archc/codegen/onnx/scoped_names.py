"""Names that show the blocks: `h.3/attn/softmax` for `softmax` in the block `h.3.attn`."""

from __future__ import annotations

from archc.ir.graph import Node, Scope


def layer_name(node: Node) -> str:
    """The name of a layer, or of the operator of a node without a layer."""
    return _scoped(node.scope, node.path) if node.path else name_in(node.scope, node.op.name)


def name_in(scope: Scope, name: str) -> str:
    """The name of a value or operator in a scope."""
    return _scoped(scope, scope.within(name))


def _scoped(scope: Scope, path: str) -> str:
    """A path in the model, with `/` after each block that contains it.

    A layer that is declared outside a scope, but used in it, may have a path outside the scope.
    """
    parts = []
    place = ""
    for block in scope.ancestors():
        prefix = f"{block.path}."
        if path.startswith(prefix) and len(prefix) > len(place):
            parts.append(prefix[len(place) : -1])
            place = prefix
    return "/".join([*parts, path[len(place) :]])
