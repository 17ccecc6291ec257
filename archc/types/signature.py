"""Index signatures: `x[*b, i], weight[o, i], bias[o]? -> y[*b, o]`.

A signature names the index of every axis of an operator's operands and results, as einsum does.  An axis is a sum of
products of indices (`p + q`, `g*i`), or a function of an index that the operator defines (`conv(h)`).  `*b` is any
number of axes, equal at all occurrences.  `~s` is any number of axes that broadcast.

This module has the classes of a signature, its parser, and its expansion for operands of given ranks.
`archc.types.extent_solver` computes the extents of the indices.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

from archc.frozen_dataclass import frozen_dataclass


@frozen_dataclass
class Index:
    """An index: axes that share it have equal extents, and their elements correspond by coordinate."""

    name: str

    def __str__(self) -> str:
        return self.name


@frozen_dataclass
class Apply:
    """A function of an index, such as `conv(h)`; `Operator.function_extent` computes its extent."""

    function: str
    index: Index

    def __str__(self) -> str:
        return f"{self.function}({self.index})"


@frozen_dataclass
class Spread:
    """Any number of axes: `*b` (equal everywhere), `~s` (broadcast) or `prod(d)` (flattened to one)."""

    name: str
    kind: str  # "*", "~" or "prod"

    def __str__(self) -> str:
        return f"prod({self.name})" if self.kind == "prod" else f"{self.kind}{self.name}"


Factor = Index | Apply | int | Spread


@frozen_dataclass
class Axis:
    """A sum of products; the first factor of a product varies slowest, as in a row-major reshape."""

    terms: tuple[tuple[Factor, ...], ...]

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Factors of all terms."""
        return tuple(factor for term in self.terms for factor in term)

    @property
    def index(self) -> Index | None:
        """The index that is the whole axis; None if the axis is any other expression."""
        factor = self.factors[0] if len(self.terms) == 1 and len(self.terms[0]) == 1 else None
        return factor if isinstance(factor, Index) else None

    def __str__(self) -> str:
        return " + ".join("*".join(str(factor) for factor in term) or "1" for term in self.terms)


UNIT = Axis(((),))
"""An axis of size 1 without an index."""


@frozen_dataclass
class Pattern:
    """The axes of one operand, parameter or result."""

    name: str
    axes: tuple[Axis, ...]
    optional: bool = False

    @property
    def indices(self) -> tuple[str, ...]:
        """Names of the indices and spreads of the axes, with repetitions."""
        factors = (
            factor.index if isinstance(factor, Apply) else factor for axis in self.axes for factor in axis.factors
        )
        return tuple(factor.name for factor in factors if not isinstance(factor, int))

    def __str__(self) -> str:
        return f"{self.name}[{', '.join(str(axis) for axis in self.axes)}]{'?' if self.optional else ''}"


@frozen_dataclass
class Signature:
    """Patterns of operands and parameters, and patterns of results."""

    operands: tuple[Pattern, ...]
    results: tuple[Pattern, ...]

    def __str__(self) -> str:
        left = ", ".join(str(pattern) for pattern in self.operands)
        return f"{left} -> {', '.join(str(pattern) for pattern in self.results)}"

    def operand(self, name: str) -> Pattern:
        """Return the pattern of an operand or parameter by its name."""
        return next(pattern for pattern in self.operands if pattern.name == name)


class SignatureSyntaxError(ValueError):
    """Syntax error in the text of a signature: a mistake in the declaration of an operator."""


_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<number>\d+)|(?P<arrow>->)|(?P<mark>[\[\](),+*~?]))")


@cache
def parse_signature(text: str) -> Signature:
    """Parse a signature such as `x[*b, i], weight[o, i], bias[o]? -> y[*b, o]`.

    Raises:
        SignatureSyntaxError: the text is not a signature.
    """
    return _Parser(text).signature()


class _Parser:
    """Recursive-descent parser of a signature."""

    def __init__(self, text: str):
        self.text = text
        self.tokens = list(self._tokens(text))
        self.position = 0

    def _tokens(self, text: str) -> Iterator[str]:
        offset = 0
        text = text.rstrip()
        while offset < len(text):
            match = _TOKEN.match(text, offset)
            if match is None:
                raise SignatureSyntaxError(f"unexpected {text[offset:]!r} in signature {text!r}")
            offset = match.end()
            yield match.group().strip()

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self, expected: str | None = None) -> str:
        token = self.peek()
        if not token or (expected is not None and token != expected):
            raise SignatureSyntaxError(f"expected {expected or 'more'} after token {self.position} of {self.text!r}")
        self.position += 1
        return token

    def signature(self) -> Signature:
        operands: list[Pattern] = []
        while self.peek() != "->":
            operands.append(self.pattern())
            if self.peek() == ",":
                self.take()
        self.take("->")
        results = [self.pattern()]
        while self.peek() == ",":
            self.take()
            results.append(self.pattern())
        if self.peek():
            raise SignatureSyntaxError(f"surplus {self.peek()!r} in {self.text!r}")
        return Signature(tuple(operands), tuple(results))

    def pattern(self) -> Pattern:
        name = self.take()
        self.take("[")
        axes: list[Axis] = []
        while self.peek() != "]":
            axes.append(self.axis())
            if self.peek() == ",":
                self.take()
        self.take("]")
        optional = self.peek() == "?"
        if optional:
            self.take()
        return Pattern(name, tuple(axes), optional)

    def axis(self) -> Axis:
        if self.peek() in ("*", "~"):
            return Axis(((Spread(kind=self.take(), name=self.take()),),))
        terms = [self.term()]
        while self.peek() == "+":
            self.take()
            terms.append(self.term())
        return Axis(tuple(terms))

    def term(self) -> tuple[Factor, ...]:
        factors = [self.factor()]
        while self.peek() == "*":
            self.take()
            factors.append(self.factor())
        return tuple(factor for factor in factors if factor != 1)

    def factor(self) -> Factor:
        token = self.take()
        if token.isdigit():
            return int(token)
        if self.peek() != "(":
            return Index(token)
        self.take()
        argument = self.take()
        self.take(")")
        return Spread(argument, "prod") if token == "prod" else Apply(token, Index(argument))


def expand(signature: Signature, ranks: Mapping[str, int]) -> Signature:
    """Replace every spread of a signature by single axes, for operands of given ranks.

    `*b` becomes `b.0, b.1, …`, numbered from the left.  `~s` becomes `s.0, s.1, …`, numbered by the axes of the
    broadcast result; an operand of lower rank has only the last of these axes.  The operands determine the length of a
    spread in parameters and results.

    Raises:
        RankMismatch: an operand has too few or too many axes, or a spread has different lengths in two operands.
    """
    lengths: dict[str, int] = {}
    for pattern in signature.operands:
        if pattern.name not in ranks:
            continue
        fixed = sum(1 for axis in pattern.axes if _spread(axis) is None)
        spread = next((s for axis in pattern.axes if (s := _spread(axis)) is not None), None)
        length = ranks[pattern.name] - fixed
        if length < 0 or (spread is None and length):
            raise RankMismatch(pattern, ranks[pattern.name])
        if spread is not None:
            if spread.kind == "*" and lengths.setdefault(spread.name, length) != length:
                raise RankMismatch(pattern, ranks[pattern.name], lengths[spread.name] + fixed)
            lengths[spread.name] = max(lengths.get(spread.name, 0), length)

    def written_out(pattern: Pattern) -> Pattern:
        own = ranks.get(pattern.name)
        axes: list[Axis] = []
        for axis in pattern.axes:
            spread = _spread(axis)
            if spread is None:
                axes.append(_expand_products(axis, lengths))
                continue
            length = lengths.get(spread.name, 0)
            first = 0
            if spread.kind == "~" and own is not None:  # an operand of lower rank omits the leading axes
                first = length - (own - len(pattern.axes) + 1)
            axes += [Axis(((Index(f"{spread.name}.{k}"),),)) for k in range(first, length)]
        return Pattern(pattern.name, tuple(axes), pattern.optional)

    return Signature(
        tuple(written_out(pattern) for pattern in signature.operands),
        tuple(written_out(pattern) for pattern in signature.results),
    )


def rank_of(signature: Signature, name: str, ranks: Mapping[str, int]) -> int | None:
    """Return the rank of an operand or a result for operands of given ranks; None if it is unknown.

    If the ranks of two operands contradict each other, the rank of a result follows from the first of them.
    """
    if name in ranks:
        return ranks[name]
    lengths: dict[str, int] = {}
    for pattern in signature.operands:
        spreads = _spreads(pattern)
        if pattern.name in ranks and len(spreads) == 1:
            length = ranks[pattern.name] - len(pattern.axes) + 1
            known = lengths.get(spreads[0].name, length)
            lengths[spreads[0].name] = max(known, length) if spreads[0].kind == "~" else known
    result = next((pattern for pattern in signature.results if pattern.name == name), None)
    if result is None or any(spread.name not in lengths for spread in _spreads(result)):
        return None
    spreads = _spreads(result)
    return len(result.axes) - len(spreads) + sum(lengths[spread.name] for spread in spreads)


class RankMismatch(Exception):
    """Error for an operand whose rank does not fit its pattern.

    Attributes:
        expected: rank that the other operands require, or None.
    """

    def __init__(self, pattern: Pattern, rank: int, expected: int | None = None):
        super().__init__(f"{pattern} cannot have {rank} axes")
        self.pattern, self.rank, self.expected = pattern, rank, expected


def broadcasts(signature: Signature) -> frozenset[str]:
    """Return the names of the spreads that broadcast (`~s`) in an unexpanded signature."""
    spreads = (_spread(axis) for pattern in signature.operands for axis in pattern.axes)
    return frozenset(spread.name for spread in spreads if spread is not None and spread.kind == "~")


def _spreads(pattern: Pattern) -> list[Spread]:
    return [spread for axis in pattern.axes if (spread := _spread(axis)) is not None]


def _spread(axis: Axis) -> Spread | None:
    factor = axis.factors[0] if axis.factors else None
    return factor if isinstance(factor, Spread) and factor.kind != "prod" else None


def _expand_products(axis: Axis, lengths: Mapping[str, int]) -> Axis:
    def factors(term: tuple[Factor, ...]) -> Iterator[Factor]:
        for factor in term:
            if isinstance(factor, Spread):
                yield from (Index(f"{factor.name}.{k}") for k in range(lengths.get(factor.name, 0)))
            else:
                yield factor

    return Axis(tuple(tuple(factors(term)) for term in axis.terms))
