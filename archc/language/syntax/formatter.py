"""Text of a syntax tree in the canonical layout, for `archc fmt` and the graph printer.

The layout depends on the tree.  If the tree was parsed from a text, the comments, the blank lines and the line
breaks in chains of that text are kept.  The `File` of a tree that was not parsed has an empty source.

A comment between the lines of a chain stays between these lines.  Any other comment inside a statement moves above
the statement.  If there is a comment among the attributes of a definition, each attribute is on a separate line.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from archc.language.syntax import tree
from archc.language.syntax.unparse import COMFORTABLE, WIDTH, Unparser, has_groups

_INDENT = 4


def format(file: tree.File) -> str:
    """Text of a tree.

    The text parses to an equal tree, and that tree has the same text.
    """
    return _Formatter(file).text()


class _Formatter:
    """Text of one file, written line by line."""

    def __init__(self, file: tree.File):
        self._file = file
        self._source = file.source
        self._text = file.source.text
        self._comments = file.comments
        self._starts = [comment.span.start for comment in file.comments]
        self._placed = [False] * len(file.comments)
        self._next = 0  # all comments before this position are placed
        self._at = 0  # offset in the source; the nodes and comments before it are written
        self._lines: list[str] = []
        self._body_opened = 0  # number of lines up to the last `{`, after which no blank line is written

    def text(self) -> str:
        """Text of the file."""
        previous: tree.Item | None = None
        for item in self._file.items:
            separate = previous is not None and _is_long(previous, item)
            self._place(item, 0, separate)
            previous = item
        self._comments_before(len(self._text) + 1, 0, False)
        return "".join(line + "\n" for line in self._lines)

    # Lines ----------------------------------------------------------------------------------------------

    def _place(
        self, node: tree.Statement | tree.Item | tree.LinkStatement, indent: int, separate: bool = False
    ) -> None:
        """Write a statement or an item, with the comments above it and at the end of its last line.

        `separate` requires a blank line above.
        """
        if isinstance(node, tree.Derivation):
            self._set_aside(self._between(node.span.start, node.span.end))
        commented = self._comments_before(node.span.start, indent, separate)
        self._blank_line(node.span.start, separate and not commented)
        if isinstance(node, tree.Definition | tree.Derivation) and node.doc and not self._text:
            self._lines += [f"# {line}".rstrip() for line in node.doc.split("\n")]
        if isinstance(node, tree.Definition):
            self._definition(node)
        elif isinstance(node, tree.DevicesStatement):
            self._braced(f"devices {node.name.name}", node.items, node.name.span.end, node.span.end, indent)
        elif isinstance(node, tree.For):
            self._for(node, indent)
        elif isinstance(node, tree.ScanStatement):
            self._scan(node, indent)
        elif isinstance(node, tree.If):
            self._if(node, indent)
        else:
            self._simple(node, indent)
        self._finish(node.span.end)

    def _finish(self, end: int, separator: str = "") -> None:
        """Mark the source up to `end` as written, and write the comment that follows on the same line.

        `separator` is a character that may be between `end` and the comment.
        """
        self._at = max(self._at, end)
        self._skip_placed()
        if self._next < len(self._comments):
            comment = self._comments[self._next]
            if not comment.own_line and self._text[end : comment.span.start].strip() in ("", separator):
                self._lines[-1] += f"  {comment.text}"
                self._mark(comment)

    def _blank_line(self, start: int, separate: bool) -> None:
        """Write a blank line above the node at `start`, if the source has one or `separate` requires it."""
        wanted = separate or self._text.count("\n", self._at, start) > 1
        if wanted and len(self._lines) > self._body_opened and self._lines[-1]:
            self._lines.append("")

    def _comments_before(self, offset: int, indent: int, separate: bool) -> bool:
        """Write the comments before an offset, each on a separate line; returns whether there are any."""
        written = False
        self._skip_placed()
        while self._next < len(self._comments) and self._starts[self._next] < offset:
            comment = self._comments[self._next]
            self._blank_line(comment.span.start, separate and not written)
            self._lines.append(" " * indent + comment.text)
            self._mark(comment)
            self._skip_placed()
            written = True
        return written

    def _set_aside(self, comments: Sequence[tree.Comment]) -> None:
        """Write the comments inside a derivation as a separate paragraph above the derivation.

        A blank line ends the paragraph, because comments directly above a derivation are its documentation.  The
        source before the derivation is written after this paragraph, so `_at` is restored.
        """
        at = self._at
        if comments and self._lines and self._lines[-1]:
            self._lines.append("")
        for comment in comments:
            self._lines.append(comment.text)
            self._mark(comment)
        if comments:
            self._lines.append("")
        self._at = at

    def _skip_placed(self) -> None:
        """Advance `_next` to the first comment that is not placed."""
        while self._next < len(self._comments) and self._placed[self._next]:
            self._next += 1

    def _mark(self, comment: tree.Comment) -> None:
        """Mark a comment as placed."""
        self._placed[bisect_left(self._starts, comment.span.start)] = True
        self._at = max(self._at, comment.span.end)

    def _between(self, start: int, end: int) -> Sequence[tree.Comment]:
        """Comments between two offsets, without those that are already placed."""
        first, last = bisect_left(self._starts, start), bisect_left(self._starts, end)
        return [self._comments[position] for position in range(first, last) if not self._placed[position]]

    # Statements -----------------------------------------------------------------------------------------

    def _simple(self, node: tree.Statement | tree.Item | tree.LinkStatement, indent: int) -> None:
        """Write a statement without a body, in the first layout of the `Unparser` that fits."""
        comfortable = COMFORTABLE if not self._text and has_groups(node) else WIDTH
        blank = Unparser(indent, self._source, self._between)
        unparser = blank.fitted(lambda unparser: _statement(node, unparser), comfortable)
        for comment in unparser.placed:
            self._mark(comment)
        self._at = node.span.end  # drops blank lines inside the statement
        self._comments_before(node.span.end, indent, False)
        first, *rest = unparser.text.split("\n")
        self._lines += [" " * indent + first, *rest]

    def _definition(self, node: tree.Definition) -> None:
        """Write a model or a block."""
        unparser = Unparser()
        attributes = [
            attribute.name.name + ("" if attribute.default is None else f" = {unparser.choice(attribute.default)}")
            for attribute in node.attributes
        ]
        head = f"{node.kind} {node.name.name}"
        if attributes:
            on_one_line = f"{head}({', '.join(attributes)})"
            closed = self._find(")", node.attributes[-1].span.end)
            if len(on_one_line) + 2 <= WIDTH and not self._between(node.name.span.end, closed):
                head = on_one_line
            else:
                self._lines.append(f"{head}(")
                self._finish(self._find("(", node.name.span.end) + 1)
                self._body_opened = len(self._lines)
                for attribute, text in zip(node.attributes, attributes):
                    self._comments_before(attribute.span.start, _INDENT, False)
                    self._lines.append(f"{' ' * _INDENT}{text},")
                    self._finish(attribute.span.end, ",")
                self._comments_before(closed, _INDENT, False)
                head = ")"
        end = (node.attributes[-1] if node.attributes else node.name).span.end
        self._braced(head, node.body, end, node.span.end, 0)

    def _for(self, node: tree.For, indent: int) -> None:
        """Write a loop."""
        head = f"for {node.variable.name} in {Unparser().expression(node.iterable)}"
        if not self._on_one_line(head, node.body, node, indent):
            self._braced(head, node.body, node.iterable.span.end, node.span.end, indent)

    def _scan(self, node: tree.ScanStatement, indent: int) -> None:
        """Write a scan."""
        write = Unparser().expression
        parts = [
            f"{part.name.name} {'in' if isinstance(part, tree.ScanSequence) else '='} {write(part.value)}"
            for part in node.parts
        ]
        head = f"scan {', '.join(parts)}"
        if not self._on_one_line(head, node.body, node, indent):
            self._braced(head, node.body, node.parts[-1].span.end, node.span.end, indent)

    def _if(self, node: tree.If, indent: int) -> None:
        """Write a conditional with all its branches."""
        head = f"if {Unparser().expression(node.condition)}"
        if not node.otherwise and self._on_one_line(head, node.body, node, indent):
            return
        while True:
            end = node.span.end
            if node.otherwise:
                end = self._find("}", node.body[-1].span.end if node.body else node.condition.span.end) + 1
            self._braced(head, node.body, node.condition.span.end, end, indent)
            if not node.otherwise:
                return
            head = f"{self._lines.pop().strip()} else"
            match node.otherwise:
                case (tree.If() as node,):
                    head += f" if {Unparser().expression(node.condition)}"
                case _:
                    break
        self._braced(head, node.otherwise, end, node.span.end, indent)

    def _on_one_line(
        self, head: str, body: Sequence[tree.Statement], node: tree.For | tree.ScanStatement | tree.If, indent: int
    ) -> bool:
        """Write a head and a body of one short statement on one line; return False if they do not fit.

        Also return False if the source has a line break in this statement.
        """
        if len(body) != 1 or isinstance(body[0], tree.For | tree.ScanStatement | tree.If) or "\n" in node.span.text:
            return False
        line = f"{' ' * indent}{head} {{ {_statement(body[0], Unparser())} }}"
        if len(line) > WIDTH:
            return False
        self._lines.append(line)
        return True

    def _braced(
        self, head: str, body: Sequence[tree.Statement | tree.LinkStatement], head_end: int, end: int, indent: int
    ) -> None:
        """Write a head, and a body in braces.

        `head_end` and `end` are the offsets in the source at which the head and the node end.
        """
        margin = " " * indent
        brace = self._find("{", head_end) + 1
        has_comments = bool(self._text) and any(
            not self._placed[i] for i in range(self._next, bisect_left(self._starts, end))
        )
        if not body and not has_comments:
            self._lines.append(f"{margin}{head} {{}}")
            return
        self._lines.append(f"{margin}{head} {{")
        self._finish(brace)
        self._body_opened = len(self._lines)
        starts = []
        for statement in body:
            starts.append(len(self._lines))
            self._place(statement, indent + _INDENT)
        if not self._text and not indent:
            heights = [after - start for start, after in zip(starts, [*starts[1:], len(self._lines)])]
            for position in reversed(list(_blank_lines(body, heights))):
                self._lines.insert(starts[position], "")
        self._comments_before(end, indent + _INDENT, False)
        self._lines.append(f"{margin}}}")
        self._at = max(self._at, end)

    def _find(self, character: str, start: int) -> int:
        """Offset of a character at or after `start`, outside comments."""
        if not self._text:
            return start
        while True:
            found = self._text.find(character, start)
            comment = self._text.find("#", start, found)
            if comment < 0:
                return found
            start = self._text.find("\n", comment)


def _is_long(previous: tree.Item, item: tree.Item) -> bool:
    """Return whether a blank line is required between two items, because one of them has a body."""
    bodies = tree.Definition | tree.DevicesStatement
    return isinstance(previous, bodies) or isinstance(item, bodies)


def _blank_lines(body: Sequence[tree.SyntaxNode], heights: Sequence[int]) -> Iterator[int]:
    """Positions of statements with a blank line above them, for a tree without a source.

    Blank lines separate the declarations, the computation and the outputs, unless these parts are short.  In the
    computation, blank lines also separate statements of several lines from their neighbours.

    Args:
        heights: number of lines of each statement.
    """
    parts = _parts(body)
    steps = [position for position, part in enumerate(parts) if part == 1]
    tall = [heights[position] > 1 for position in range(len(body))]
    for position in range(1, len(body)):
        before, part = parts[position - 1], parts[position]
        if part == before:
            declares = isinstance(body[position - 1], tree.Let | tree.LayerStatement)
            separate = part == 1 and (tall[position] or tall[position - 1]) and not declares
        elif part == 2 and before == 1:
            separate = len(steps) > 1 or tall[position] or tall[position - 1]
        else:
            separate = bool(steps) or any(tall[position:])
        if separate:
            yield position


def _parts(body: Sequence[tree.SyntaxNode]) -> list[int]:
    """Part of each statement: 0 for the first declarations, 1 for the computation, 2 for outputs."""
    found: list[int] = []
    for statement in body:
        if isinstance(statement, tree.Output):
            found.append(2)
        elif isinstance(statement, tree.Input | tree.LayerStatement | tree.Assert) and not any(found[-1:]):
            found.append(0)
        else:
            found.append(1)
    return found


def _statement(node: tree.Statement | tree.Item | tree.LinkStatement, unparser: Unparser) -> str:
    """Text of a statement or an item that has no body."""
    write = unparser.expression
    match node:
        case tree.Input():
            type_ = "" if node.type is None else f": {unparser.type(node.type)}"
            return f"input {node.name.name}{type_}{'?' * node.optional}"
        case tree.Output():
            if node.name is None:
                return f"output {write(node.value)}"
            type_ = "" if node.type is None else f": {unparser.type(node.type)}"
            return f"output {node.name.name}{type_} = {write(node.value)}"
        case tree.LayerStatement():
            return f"layer {unparser.label(node.name)} = {write(node.value)}"
        case tree.Let():
            return f"let {node.name.name} = {write(node.value)}"
        case tree.Assign():
            return f"{', '.join(target.name for target in node.targets)} = {write(node.value)}"
        case tree.Yield():
            return f"yield {node.name.name} = {write(node.value)}"
        case tree.Assert():
            message = "" if node.message is None else f", {write(node.message)}"
            return f"assert {write(node.condition)}{message}"
        case tree.LinkStatement():
            return f"link {node.left.name} <-> {node.right.name} = {write(node.value)}"
        case tree.PipelineStatement():
            first, *rest = node.passes
            return f"pipeline {node.name.name} = {unparser.chain(first, rest)}"
        case tree.Derivation():
            arguments = unparser.arguments(node.arguments, node.base, node.span.end) if node.arguments else ""
            return f"model {node.name.name} = {write(node.base)}{arguments}"
        case tree.Import():
            alias = "" if node.alias is None else f" as {node.alias.name}"
            return f"import {write(node.path)}{alias}"
        case _:
            raise AssertionError(f"{type(node).__name__} has a body")
