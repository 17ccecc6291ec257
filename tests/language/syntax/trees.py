"""Syntax trees for tests: random trees, and comparison of trees without spans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from hypothesis import strategies as st

from archc.diagnostics import Diagnostics, Source, Span
from archc.language.syntax import tree
from archc.language.syntax.literals import UNITS
from archc.language.syntax.parser import parse

SOURCE = Source("")
SPAN = Span(SOURCE, 0, 0)
KEYWORDS = frozenset(
    {"model", "block", "pipeline", "import", "as", "devices", "link", "input", "output", "layer", "let"}
    | {"for", "in", "scan", "yield", "if", "else", "assert", "or", "and", "not", "true", "false"}
)


def plain(node: Any) -> Any:
    """Tree as nested tuples without spans, source and comments."""
    if isinstance(node, tree.SyntaxNode):
        kept = [field.name for field in fields(node) if field.name not in ("span", "source", "comments")]
        return (type(node).__name__, *(plain(getattr(node, name)) for name in kept))
    if isinstance(node, tuple):
        return tuple(plain(part) for part in node)
    return type(node).__name__, node


def parsed(text: str) -> tree.File:
    """Tree of a valid text."""
    diagnostics = Diagnostics()
    file = parse(Source(text), diagnostics)
    diagnostics.check()
    return file


@dataclass(frozen=True)
class Drawn:
    """Random tree, which a failing test shows as text.

    By default, Hypothesis formats the calls that created the tree two or three times at each level to find the best
    layout.  A tree of depth 20 takes hours.
    """

    tree: Any
    write: Callable[[Any], str]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self.write(self.tree))


def drawn(trees: st.SearchStrategy[Any], write: Callable[[Any], str]) -> st.SearchStrategy[Drawn]:
    """Trees that a failing test shows as the text that `write` returns."""
    return trees.map(lambda tree: Drawn(tree, write))


def value_of(text: str) -> tree.Expression:
    """Tree of an expression in a text."""
    statement = parsed("model m { output %s }" % text).items[0].body[0]  # noqa: UP031 - braces in the text
    assert isinstance(statement, tree.Output)
    return statement.value


identifiers = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True).filter(lambda name: name not in KEYWORDS)
names = st.builds(tree.Name, st.just(SPAN), identifiers)
numbers = st.builds(
    tree.Number,
    st.just(SPAN),
    st.integers(0, 2**63 - 1) | st.floats(0, allow_infinity=False, allow_nan=False).map(abs),
    st.none() | st.sampled_from(sorted(UNITS)),
)
strings = st.builds(tree.String, st.just(SPAN), st.text(max_size=8))
booleans = st.builds(tree.Boolean, st.just(SPAN), st.booleans())
dotted = st.recursive(
    names, lambda inner: st.builds(tree.MemberExpression, st.just(SPAN), inner, identifiers), max_leaves=3
)


def _tuples(parts: st.SearchStrategy[Any], least: int = 0, most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(parts, min_size=least, max_size=most).map(tuple)


def _slices(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[tree.SliceExpression]:
    part = st.none() | inner
    return st.builds(tree.SliceExpression, st.just(SPAN), part, part, part)


def _arguments(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[tree.Argument, ...]]:
    by_position = st.builds(tree.Argument, st.just(SPAN), st.none(), inner | _slices(inner))
    by_name = st.builds(tree.Argument, st.just(SPAN), identifiers, inner)
    unique = st.lists(by_name, max_size=2, unique_by=lambda argument: argument.name)
    return st.tuples(st.lists(by_position, max_size=2), unique).map(lambda both: (*both[0], *both[1]))


def _labels(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[tree.Label]:
    parts = inner | st.builds(tree.Field, st.just(SPAN), identifiers)
    return st.builds(tree.Label, st.just(SPAN), identifiers, _tuples(parts, most=2))


def _paths(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return dotted | st.builds(tree.IndexExpression, st.just(SPAN), dotted, st.tuples(inner))


def _steps(
    callees: st.SearchStrategy[Any], inner: st.SearchStrategy[Any], labels: st.SearchStrategy[Any]
) -> st.SearchStrategy[tree.ChainStep]:
    bare = st.builds(tree.ChainStep, st.just(SPAN), labels, callees, st.just(()), st.just(value=False))
    called = st.builds(tree.ChainStep, st.just(SPAN), labels, callees, _arguments(inner), st.just(value=True))
    return bare | called


def _compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    span = st.just(SPAN)
    operators = ["or", "and", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "//", "%", "**"]
    steps = _tuples(_steps(_paths(inner), inner, st.none() | _labels(inner)), least=1)
    items = _tuples(inner | _slices(inner) | st.builds(tree.Ellipsis, span), least=1)
    return st.one_of(
        st.builds(tree.MemberExpression, span, inner, identifiers),
        st.builds(tree.IndexExpression, span, inner, items),
        st.builds(tree.Call, span, inner, _arguments(inner)),
        st.builds(tree.UnaryExpression, span, st.sampled_from(["-", "not"]), inner),
        st.builds(tree.BinaryExpression, span, st.sampled_from(operators), inner, inner),
        st.builds(tree.Tuple, span, _tuples(inner)),
        st.builds(tree.List, span, _tuples(inner)),
        st.builds(tree.RangeExpression, span, inner, inner),
        st.builds(tree.Conditional, span, inner, inner, inner),
        st.builds(tree.Chain, span, inner, steps),
    )


expressions = st.recursive(names | numbers | strings | booleans, _compound, max_leaves=10)


def _statements() -> st.SearchStrategy[Any]:
    span = st.just(SPAN)
    dims = st.builds(tree.Dim, span, expressions, st.none() | expressions)
    types = st.builds(tree.TypeExpression, span, identifiers, _tuples(dims))
    made = dotted | st.builds(tree.Call, span, dotted, _arguments(expressions))
    simple = st.one_of(
        st.builds(tree.Input, span, names, st.none() | types, st.booleans()),
        st.builds(tree.Output, span, st.none(), st.none(), expressions),
        st.builds(tree.Output, span, names, st.none() | types, expressions),
        st.builds(tree.LayerStatement, span, _labels(expressions), made),
        st.builds(tree.Let, span, names, expressions),
        st.builds(tree.Assign, span, _tuples(names, least=1), expressions),
        st.builds(tree.Yield, span, names, expressions),
        st.builds(tree.Assert, span, expressions, st.none() | expressions),
    )
    parts = st.builds(tree.ScanSequence, span, names, expressions) | st.builds(tree.ScanState, span, names, expressions)
    return st.recursive(
        simple,
        lambda inner: st.one_of(
            st.builds(tree.For, span, names, expressions, _tuples(inner)),
            st.builds(tree.ScanStatement, span, _tuples(parts, least=1), _tuples(inner)),
            st.builds(tree.If, span, expressions, _tuples(inner), _tuples(inner)),
        ),
        max_leaves=4,
    )


def _items() -> st.SearchStrategy[Any]:
    span = st.just(SPAN)
    attributes = st.builds(tree.Attribute, span, names, st.none() | expressions)
    doc_lines = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), max_size=10)
    docs = st.lists(doc_lines.map(str.rstrip), max_size=3).map("\n".join)
    devices = st.builds(tree.Assign, span, st.tuples(names), expressions)
    derivations = st.builds(tree.Derivation, span, names, dotted, _arguments(expressions), docs)
    links = st.builds(tree.LinkStatement, span, names, names, expressions)
    passes = _tuples(_steps(dotted, expressions, st.none()), least=1)
    return st.one_of(
        st.builds(
            tree.Definition,
            span,
            st.sampled_from(["model", "block"]),
            names,
            _tuples(attributes),
            _tuples(_statements()),
            docs,
        ),
        derivations,
        st.builds(tree.PipelineStatement, span, names, passes),
        st.builds(tree.Import, span, strings, st.none() | names),
        st.builds(tree.DevicesStatement, span, names, _tuples(devices | links)),
    )


# Deferred: otherwise a failing test shows the whole strategy, which is very long.
files = st.deferred(lambda: st.builds(tree.File, st.just(SPAN), st.just(SOURCE), _tuples(_items()), st.just(())))
