"""Layers' names: the paths that labels give, and that no two layers of a definition share one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archc.diagnostics import Note, Span
from archc.language.elaboration.environment import BlockRef
from archc.language.elaboration.frames import Frame, Labelled
from archc.language.elaboration.names import check_layer_name
from archc.language.syntax import tree
from archc.operator.base import Operator
from archc.operator.table import snake_case

if TYPE_CHECKING:
    from archc.language.elaboration.elaborate import Elaborator

LARGEST_INDEX = 1_000_000  # of a layer in a list


class Labels:
    """Names the layers of definitions."""

    def __init__(self, elaborator: Elaborator):
        self.elaborator = elaborator
        self.report = elaborator.report

    def path(self, frame: Frame, label: tree.Label) -> str:
        """The path that a label gives: `h[3]` is `h.3`."""
        path = label.name
        for part in label.parts:
            if isinstance(part, tree.Field):
                path += f".{part.name}"
                continue
            number = self.elaborator.expressions.evaluate(frame, part)
            if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < LARGEST_INDEX:
                self.report(
                    frame,
                    "wrong-type",
                    f"a layer's index is an integer from 0 to {LARGEST_INDEX - 1:,}",
                    part.span,
                )
            path += f".{number}"
        return path

    def enter(
        self, frame: Frame, callee: type[Operator] | BlockRef, label: tree.Label | None, span: Span
    ) -> str | None:
        """The path of a fresh layer; None for an operator without weights that nobody named."""
        if label is not None:
            check_layer_name(self.elaborator, frame, label)
            path = self.path(frame, label)
            self.register(frame, path, callee, label.span)
            return path
        if isinstance(callee, type):
            if not callee.parameters:
                return None
            base = callee.name
        else:
            base = snake_case(callee.definition.name.name)
        path = base
        while path in frame.labels or path in frame.lists:
            frame.counts[base] = frame.counts.get(base, 1) + 1
            path = f"{base}_{frame.counts[base]}"
        self.register(frame, path, callee, span)
        return path

    def register(self, frame: Frame, path: str, callee: type[Operator] | BlockRef, span: Span) -> None:
        """Enter a layer's path in its definition; it must be new, and no list of layers may have its name."""
        parts = path.split(".")
        around = [".".join(parts[:count]) for count in range(1, len(parts))]
        if path in frame.labels:
            self._taken(frame, f"two layers are called `{path}`", span, frame.labels[path].span)
        for outer in around:
            if outer in frame.labels:
                self._taken(
                    frame, f"`{outer}` is a layer, and cannot hold `{path}` too", span, frame.labels[outer].span
                )
        if path in frame.lists:
            self._taken(frame, f"`{path}` holds other layers, and cannot be one too", span, frame.lists[path])
        frame.labels[path] = Labelled(callee, span)
        for outer in around:
            frame.lists.setdefault(outer, span)

    def _taken(self, frame: Frame, message: str, span: Span, earlier: Span) -> None:
        """Report a name that is taken already."""
        if earlier == span:
            way = f"a loop makes it again: number it, `{span.text}[i]: ...`; to share weights, declare it with `layer`"
            self.report(frame, "duplicate-label", message, span, help=way)
        self.report(
            frame,
            "duplicate-label",
            message,
            span,
            notes=[Note("the name is given here first", earlier)],
            help="give one of them another name; to share weights, declare it with `layer` and use it twice",
        )
