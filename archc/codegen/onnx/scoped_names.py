"""Names that show the blocks: `h.3/attn/softmax` for `softmax` in the block `h.3.attn`."""

from __future__ import annotations

from archc.ir.graph import Node, Scope


class ScopedNames:
    """Names of layers and values in the scopes of one graph."""

    def __init__(self) -> None:
        self._prefixes: dict[Scope, list[str]] = {}

    def layer(self, node: Node) -> str:
        """The name of a layer, or of the operator of a node without a layer."""
        return self._scoped(node.scope, node.path) if node.path else self.name_in(node.scope, node.op.name)

    def name_in(self, scope: Scope, name: str) -> str:
        """The name of a value or operator in a scope."""
        return self._scoped(scope, scope.within(name))

    def _scoped(self, scope: Scope, path: str) -> str:
        """A path in the model, with `/` after each block that contains it.

        A layer that is declared outside a scope, but used in it, may have a path outside the scope.
        """
        prefixes = self._prefixes.get(scope)
        if prefixes is None:
            prefixes = self._prefixes[scope] = [f"{block.path}." for block in scope.ancestors()]
        parts = []
        place = ""
        for prefix in prefixes:
            if path.startswith(prefix) and len(prefix) > len(place):
                parts.append(prefix[len(place) : -1])
                place = prefix
        return "/".join([*parts, path[len(place) :]])
