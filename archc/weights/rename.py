"""Weights that somebody else named: maps from their names to the paths of a text.

    embeddings.word_embeddings.weight         -> wte.weight
    encoder.layer.{i}.attention.self.query.*  -> h[{i}].attn.q.*     # {i} and * stand for the same on both sides
    h.{i}.mlp.c_fc.bias                       -> h[{i}].up.bias
    transpose(h.{i}.mlp.c_fc.weight)          -> h[{i}].up.weight    # for what stores them the other way round
    (l.{i}.q.weight, l.{i}.k.weight)          -> h[{i}].qk.weight    # several into one, below one another
    transpose(h.{i}.attn.c_attn.weight)       -> (h[{i}].attn.q.weight, h[{i}].attn.k.weight, h[{i}].attn.v.weight)
    *.position_ids                            -> nothing

The first rule that fits a name holds; a name that none fits stays what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from archc.diagnostics import Diagnostics
from archc.weights.input_files import quoted
from archc.weights.rename_rules import Captures, NamePattern, Rule
from archc.weights.tensor import ComputedTensor, LazyTensor

if TYPE_CHECKING:
    import numpy.typing as npt

Shapes = Mapping[str, tuple[tuple[int, ...], str]]


MOST_IDLE_RULES = 20
"""The most rules without effect that are reported one by one; a map for another model has hundreds."""


def rename(
    given: Mapping[str, LazyTensor], rules: Sequence[Rule], expected: Shapes, remarks: Diagnostics | None = None
) -> dict[str, LazyTensor]:
    """The tensors of a file under the paths of a text.

    Args:
        given: by the names that the file has.
        expected: shape and dtype by path: what several targets of one rule share of it.
        remarks: receives a warning for each rule that matches no name (`rename-without-effect`).

    Raises:
        ArchcError: two tensors become one path (`rename-clash`), or what a rule joins or splits is not all there or
            does not fit (`rename-mismatch`).
    """
    renaming = _Renaming(given, expected)
    book = _RuleBook(rules)
    for name in given:
        renaming.take(name, book)
    renaming.diagnostics.check()
    if remarks is not None:
        _warn_of_idle([rule for rule in rules if id(rule) not in renaming.applied], remarks)
    return renaming.made


class _RuleBook:
    """Index of the rules of a map: names without holes in a dictionary, names with holes in order."""

    def __init__(self, rules: Sequence[Rule]):
        self._exact: dict[str, tuple[int, Rule]] = {}
        self._holed: list[tuple[str, int, Rule, NamePattern]] = []
        for number, rule in enumerate(rules):
            holes = rule.sources[0].holes
            for source in rule.sources:
                if not source.holes >= holes:
                    continue  # it does not tell what the other names are
                if holes:
                    self._holed.append((source.fixed, number, rule, source))
                else:
                    self._exact.setdefault(source.fill({}), (number, rule))

    def first(self, name: str) -> tuple[Rule, Captures] | None:
        """The first rule that matches a name, with its captures; None without a match."""
        number, exact = self._exact.get(name, (None, None))
        for fixed, own, rule, source in self._holed:
            if number is not None and own > number:
                break
            if name.startswith(fixed):
                captures = source.match(name)
                if captures is not None:
                    return rule, captures
        return None if exact is None else (exact, {})


class _Renaming:
    def __init__(self, given: Mapping[str, LazyTensor], expected: Shapes):
        self.given, self.expected = given, expected
        self.made: dict[str, LazyTensor] = {}
        self.sources: dict[str, str] = {}
        self.applied: set[int] = set()  # the rules that matched, by identity: equal rules have different spans
        self.used: set[str] = set()  # by a rule that joins several, of which another was met first
        self.diagnostics = Diagnostics()

    def take(self, name: str, book: _RuleBook) -> None:
        """Enter what a name becomes."""
        if name in self.used:
            return
        found = book.first(name)
        if found is None:
            self._enter(name, name, self.given[name], None)
            return
        rule, captures = found
        names = [other.fill(captures) for other in rule.sources]
        assert name in names
        self.applied.add(id(rule))
        self.used.update(names)
        self._apply(rule, names, [target.fill(captures) for target in rule.targets])

    def _apply(self, rule: Rule, names: Sequence[str], targets: Sequence[str]) -> None:
        missing = [name for name in names if name not in self.given]
        if missing:
            self._mismatch(
                rule, f"the file has {_listed(n for n in names if n in self.given)}, and no {quoted(missing[0])}"
            )
            return
        parts = [
            _transposed(self.given[name]) if transposed else self.given[name]
            for name, transposed in zip(names, rule.transposed, strict=True)
        ]
        whole = parts[0] if len(parts) == 1 else self._joined(rule, names, parts)
        if whole is None or not targets:
            return
        if len(targets) == 1:
            self._enter(names[0], targets[0], whole, rule)
            return
        for target, part in zip(targets, self._split(rule, names[0], targets, whole), strict=False):
            self._enter(names[0], target, part, rule)

    def _joined(self, rule: Rule, names: Sequence[str], parts: Sequence[LazyTensor]) -> LazyTensor | None:
        first = parts[0]
        for name, part in zip(names, parts, strict=True):
            if part.dtype != first.dtype or not part.shape or part.shape[1:] != first.shape[1:]:
                self._mismatch(
                    rule, f"{quoted(names[0])} is {_type(first)}, and {quoted(name)} is {_type(part)}: they do not join"
                )
                return None
        shape = (sum(part.shape[0] for part in parts), *first.shape[1:])
        return ComputedTensor(shape, first.dtype, partial(_concatenated, tuple(parts)))

    def _split(self, rule: Rule, name: str, targets: Sequence[str], whole: LazyTensor) -> list[LazyTensor]:
        rows = [self.expected[target][0][:1] for target in targets if target in self.expected]
        sizes = [size for (size,) in (row for row in rows if row)]
        if len(sizes) != len(targets):  # a path that the text does not know is reported when all is matched
            sizes = [whole.shape[0] // len(targets)] * len(targets) if whole.shape else []
        if sum(sizes) != (whole.shape or (0,))[0]:
            shown = " + ".join(map(str, sizes)) or "several"
            self._mismatch(rule, f"{quoted(name)} is {_type(whole)}, which does not split into {shown} rows")
            return []
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        return [
            ComputedTensor((size, *whole.shape[1:]), whole.dtype, partial(_rows, whole, start, start + size))
            for start, size in zip(starts, sizes, strict=True)
        ]

    def _enter(self, source: str, target: str, tensor: LazyTensor, rule: Rule | None) -> None:
        other = self.sources.setdefault(target, source)
        if target in self.made:
            self.diagnostics.error(
                "rename-clash",
                f"{quoted(other)} and {quoted(source)} both become {quoted(target)}",
                rule.span if rule is not None else None,
                help="the first rule that fits holds: put the narrower one first, or `-> nothing` for one of them",
            )
            return
        self.made[target] = tensor

    def _mismatch(self, rule: Rule, message: str) -> None:
        self.diagnostics.error("rename-mismatch", message, rule.span)


def _warn_of_idle(idle: Sequence[Rule], remarks: Diagnostics) -> None:
    for rule in idle[:MOST_IDLE_RULES]:
        names = _listed(str(source) for source in rule.sources)
        remarks.warn(
            "rename-without-effect",
            f"the file holds no weight that fits {names}, or an earlier rule took it",
            rule.span,
            help="remove the rule, or correct its name",
        )
    if len(idle) > MOST_IDLE_RULES:
        remarks.warn("rename-without-effect", f"{len(idle) - MOST_IDLE_RULES} more rules have no effect")


def _transposed(tensor: LazyTensor) -> LazyTensor:
    return ComputedTensor(tensor.shape[::-1], tensor.dtype, lambda: tensor.numpy().T)


def _concatenated(parts: Sequence[LazyTensor]) -> npt.NDArray[Any]:
    import numpy as np

    return np.concatenate([part.numpy() for part in parts])


def _rows(whole: LazyTensor, start: int, stop: int) -> npt.NDArray[Any]:
    return whole.numpy()[start:stop]


def _type(tensor: LazyTensor) -> str:
    return f"{tensor.dtype}[{', '.join(map(str, tensor.shape))}]"


def _listed(names: Any) -> str:
    return ", ".join(quoted(name) for name in names)
