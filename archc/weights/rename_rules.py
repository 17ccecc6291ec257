"""Rules that rename the weights of a file to the paths of a model, and the parser of these rules.

A map is a file with one rule on each line: `encoder.layer.{i}.output.* -> h[{i}].down.*`.  The parts `{i}` and `*` are
holes, which match any text; `{i}` matches no dot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from archc.diagnostics import Diagnostics, Source, Span
from archc.frozen_dataclass import frozen_dataclass
from archc.weights.input_files import file_size, opened, quoted

Captures = Mapping[str, str]

_PART = re.compile(r"\{([A-Za-z_]\w*)\}|(\*)|\[(\{[A-Za-z_]\w*\}|\d+)\]|([^{}*\[\]\s(),]+)")
_PLAIN = re.compile(r"[^{}*\[\]\s(),#]+")
_TRANSPOSE = re.compile(r"transpose\s*\((.*)\)", re.DOTALL)
_STAR = "*"
MOST_RULES = 10_000
"""Maximum number of rules of one map; each rule that has holes is tested with each name of a file."""
MOST_HOLES = 3
"""Maximum number of holes between two dots of a name.

Each further hole makes matching slower, because a match may try all ways to split the text among the holes.  For
example, `{a}{b}` can split `abcd` into `a` and `bcd`, into `ab` and `cd`, or into `abc` and `d`.
"""


@frozen_dataclass
class NamePattern:
    """A pattern of names of weights, with holes: `h.{i}.attn.*`.

    Attributes:
        parts: literal texts as strings, and holes as tuples of one item, which is the name of a capture or `*`.
    """

    parts: tuple[str | tuple[str], ...]

    @property
    def holes(self) -> set[str]:
        """Names of the holes."""
        return {part[0] for part in self.parts if isinstance(part, tuple)}

    @property
    def fixed(self) -> str:
        """Text before the first hole."""
        first = self.parts[0]
        return first if isinstance(first, str) else ""

    def match(self, name: str) -> Captures | None:
        """Return the captures of the holes in a name, or None.

        A named hole matches text without dots, `*` matches any text.
        """
        found = _expression(self).fullmatch(name)
        return None if found is None else {hole: found[_group(hole)] for hole in self.holes}

    def fill(self, captures: Captures) -> str:
        """Replace the holes by captures."""
        return "".join(part if isinstance(part, str) else captures[part[0]] for part in self.parts)

    def corrected(self, captures: Captures, name: str) -> NamePattern | None:
        """Return the pattern with one literal part changed so that `fill` returns `name`; None if impossible."""
        parts = (*(part for old in self.parts for part in ("", old)), "")  # each "" is a place for a new text
        texts = [number for number, part in enumerate(parts) if isinstance(part, str)]
        for number in sorted(texts, key=lambda number: not parts[number]):
            before = NamePattern(parts[:number]).fill(captures)
            after = NamePattern(parts[number + 1 :]).fill(captures)
            if len(before) + len(after) <= len(name) and name.startswith(before) and name.endswith(after):
                text = name[len(before) : len(name) - len(after)]
                return NamePattern(tuple(part for part in (*parts[:number], text, *parts[number + 1 :]) if part))
        return None

    def __str__(self) -> str:
        return "".join(
            part if isinstance(part, str) else part[0] if part[0] == _STAR else f"{{{part[0]}}}" for part in self.parts
        )


@cache
def _expression(name: NamePattern) -> re.Pattern[str]:
    pattern, seen = "", set[str]()
    for part in name.parts:
        if isinstance(part, str):
            pattern += re.escape(part)
        elif part[0] in seen:
            pattern += f"(?P={_group(part[0])})"
        else:
            pattern += f"(?P<{_group(part[0])}>{'.*' if part[0] == _STAR else '[^.]+'})"
            seen.add(part[0])
    return re.compile(pattern)


def _group(hole: str) -> str:
    return "star" if hole == _STAR else f"capture_{hole}"


@frozen_dataclass
class Rule:
    """One line of a map.

    Attributes:
        sources: patterns of names in the file; several tensors are concatenated along their first axis.
        transposed: for each source, True if its axes are reversed before the concatenation.
        targets: patterns of paths in the model; several targets split the tensor along its first axis, and without
            targets the tensor is dropped.
        span: position of the rule in the map.
    """

    sources: tuple[NamePattern, ...]
    transposed: tuple[bool, ...]
    targets: tuple[NamePattern, ...]
    span: Span


@frozen_dataclass
class Origin:
    """Origin of a renamed tensor.

    Attributes:
        names: names in the file; a rule that concatenates has several.
        rule: the rule that renamed the tensor.
        target: the target of the rule that gave the new name.
        captures: texts of the holes of the rule.
    """

    names: tuple[str, ...]
    rule: Rule
    target: NamePattern
    captures: Captures

    def with_target(self, target: NamePattern) -> str:
        """Text of the rule with another target for the tensor."""
        targets = [str(target if other is self.target else other) for other in self.rule.targets]
        left = self.rule.span.text.partition("->")[0].strip()
        return f"{left} -> {targets[0] if len(targets) == 1 else '(' + ', '.join(targets) + ')'}"


def is_name(name: str) -> bool:
    """Return whether a rule with the source `name` renames the weight `name` and no other weight.

    False if the name contains syntax of rules, such as `*`, `{i}` or `->`.
    """
    return _PLAIN.fullmatch(name) is not None and "->" not in name


def read_rules(path: Path) -> list[Rule]:
    """Read the rules of a map file.

    Raises:
        ArchcError: the file cannot be read (`file-not-found`, …) or has a syntax error (`rename-syntax`).
    """
    file_size(path)
    with opened(path) as stream:
        data = stream.read()
    diagnostics = Diagnostics()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        diagnostics.error("rename-syntax", f"{quoted(str(path))} is not a text in UTF-8")
    diagnostics.check()
    return parse_rules(Source(text, str(path), path))


def parse_rules(source: Source) -> list[Rule]:
    """Parse the text of a map, with one rule on each line and comments that begin with `#`.

    Raises:
        ArchcError: a diagnostic `rename-syntax` for each invalid line, or `too-many-rules`.
    """
    diagnostics = Diagnostics()
    rules: list[Rule] = []
    start = 0
    for line in source.text.splitlines(keepends=True):
        code = line.partition("#")[0]
        if code.strip():
            first = start + len(code) - len(code.lstrip())
            rule = _rule(code.strip(), Span(source, first, start + len(code.rstrip())), diagnostics)
            rules += [] if rule is None else [rule]
            if len(rules) > MOST_RULES:
                diagnostics.error(
                    "too-many-rules",
                    f"the map has more than {MOST_RULES:,} rules",
                    rules[-1].span,
                    help="use `{i}` and `*` for parts of names, so that one rule renames the layers of all blocks",
                )
                break
        start += len(line)
    diagnostics.check()
    return rules


def _rule(text: str, span: Span, diagnostics: Diagnostics) -> Rule | None:
    left, arrow, right = (part.strip() for part in text.partition("->"))
    try:
        if not arrow or not left or not right:
            raise ValueError("a rule must be a name, `->`, and a path")
        written = [_untransposed(item) for item in _items(left)]
        sources = tuple(_name(item) for item, _ in written)
        targets = () if right == "nothing" else tuple(_name(item) for item in _items(right))
        if len(sources) > 1 and len(targets) > 1:
            raise ValueError("a rule must map several names to one path, or one name to several paths")
        known = sources[0].holes
        for other in (*sources[1:], *targets):
            if other.holes - known:
                hole = min(other.holes - known)
                shown = hole if hole == _STAR else f"{{{hole}}}"
                raise ValueError(f"`{shown}` in `{other}` is not in `{sources[0]}`")
        return Rule(sources, tuple(transposed for _, transposed in written), targets, span)
    except ValueError as problem:
        diagnostics.error(
            "rename-syntax", str(problem), span, help="for example, `encoder.layer.{i}.output.* -> h[{i}].down.*`"
        )
        return None


def _items(text: str) -> list[str]:
    """Return the items of a list in parentheses; any other text is a list of one item."""
    if not text.startswith("("):
        return [text]
    if not text.endswith(")"):
        raise ValueError("`(` is not closed: write `)` at the end")
    depth, items = 0, [""]
    for character in text[1:-1]:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and not depth:
            items.append("")
        else:
            items[-1] += character
    return [item.strip() for item in items]


def _untransposed(text: str) -> tuple[str, bool]:
    found = _TRANSPOSE.fullmatch(text)
    return (text, False) if found is None else (found[1].strip(), True)


def _name(text: str) -> NamePattern:
    parts: list[str | tuple[str]] = []
    position = 0
    while position < len(text):
        found = _PART.match(text, position)
        if found is None:
            raise ValueError(f"`{text}` is not the name of a weight")
        capture, star, index, plain = found.groups()
        if index is not None:  # the path `h[{i}]` of a text matches `h.0` in a file
            parts.append(".")
            parts.append((index[1:-1],) if index.startswith("{") else index)
        else:
            parts.append(plain if plain is not None else (capture or star,))
        position = found.end()
    if not parts:
        raise ValueError("a name is missing")
    if any(count > MOST_HOLES for count in _holes_between_dots(parts)):
        raise ValueError(f"`{text}` has more than {MOST_HOLES} holes in one part; dots separate the parts")
    if parts.count((_STAR,)) > 1:
        raise ValueError(f"`{text}` has more than one `*`: use `{{name}}` for a part between dots")
    return NamePattern(tuple(parts))


def _holes_between_dots(parts: Sequence[str | tuple[str]]) -> list[int]:
    """Return the number of holes in each part of a name; dots separate the parts."""
    counts = [0]
    for part in parts:
        if isinstance(part, tuple):
            counts[-1] += 1
        else:
            counts += [0] * part.count(".")
    return counts
