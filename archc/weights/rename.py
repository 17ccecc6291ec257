"""Renaming of weights from other sources, by rules from names in a file to paths in an `.arch` text.

    embeddings.word_embeddings.weight         -> wte.weight
    encoder.layer.{i}.attention.self.query.*  -> h[{i}].attn.q.*     # {i} and * have the same value on both sides
    h.{i}.mlp.c_fc.bias                       -> h[{i}].up.bias
    transpose(h.{i}.mlp.c_fc.weight)          -> h[{i}].up.weight    # transposed weight
    (l.{i}.q.weight, l.{i}.k.weight)          -> h[{i}].qk.weight    # concatenated along the first axis
    transpose(h.{i}.attn.c_attn.weight)       -> (h[{i}].attn.q.weight, h[{i}].attn.k.weight, h[{i}].attn.v.weight)
    *.position_ids                            -> nothing             # dropped

The first matching rule applies.  A name without a matching rule remains unchanged.  Renamed tensors are lazy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from archc.diagnostics import Diagnostics
from archc.weights.input_files import quoted
from archc.weights.rename_rules import Captures, NamePattern, Origin, Rule
from archc.weights.tensor import ComputedTensor, LazyTensor

if TYPE_CHECKING:
    import numpy.typing as npt

Shapes = Mapping[str, tuple[tuple[int, ...], str]]


MOST_IDLE_RULES = 20
"""Maximum number of rules without effect that are reported separately.

A `.names` file for another model can have hundreds of them.
"""


def rename(
    given: Mapping[str, LazyTensor],
    rules: Sequence[Rule],
    expected: Shapes,
    remarks: Diagnostics | None = None,
    origins: dict[str, Origin] | None = None,
) -> dict[str, LazyTensor]:
    """Rename the tensors of a file; return them by path in the `.arch` text.

    Args:
        given: tensors by the names in the file.
        rules: rules of the map, in order.
        expected: shapes and dtypes by path, which determine how a rule splits a tensor.
        remarks: collects a warning for each rule that matches no name (`rename-without-effect`).
        origins: collects the origins of the renamed tensors, by path.

    Raises:
        ArchcError: two tensors get the same path (`rename-clash`), or a rule cannot concatenate or split its tensors,
            because one is missing or has another shape or dtype (`rename-mismatch`).
    """
    renaming = _Renaming(given, expected)
    book = _RuleBook(rules)
    for name in given:
        renaming.take(name, book)
    renaming.diagnostics.check()
    if origins is not None:
        origins.update(renaming.origins)
    if remarks is not None:
        _warn_of_idle([rule for rule in rules if id(rule) not in renaming.applied], remarks)
    return renaming.made


class _RuleBook:
    """Index of rules: patterns without holes (`{i}`, `*`) in a dictionary, patterns with holes in a list."""

    def __init__(self, rules: Sequence[Rule]):
        self._exact: dict[str, tuple[int, Rule]] = {}
        self._holed: list[tuple[str, int, Rule, NamePattern]] = []
        for number, rule in enumerate(rules):
            holes = rule.sources[0].holes
            for source in rule.sources:
                if not source.holes >= holes:
                    continue  # a match of this source gives no value for some hole of the rule
                if holes:
                    self._holed.append((source.fixed, number, rule, source))
                else:
                    self._exact.setdefault(source.fill({}), (number, rule))

    def first(self, name: str) -> tuple[Rule, Captures] | None:
        """Return the first rule that matches a name, with its captures, or None."""
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
        self.origins: dict[str, Origin] = {}
        self.applied: set[int] = set()  # identities of the rules that matched a name
        self.used: set[str] = set()  # source names of the applied rules; a rule that concatenates has several
        self.diagnostics = Diagnostics()

    def take(self, name: str, book: _RuleBook) -> None:
        """Apply the first rule that matches a name, or keep the name if there is none."""
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
        targets = {target.fill(captures): target for target in rule.targets}
        self._apply(rule, names, [target.fill(captures) for target in rule.targets])
        self.origins |= {path: Origin(tuple(names), rule, target, captures) for path, target in targets.items()}

    def _apply(self, rule: Rule, names: Sequence[str], targets: Sequence[str]) -> None:
        missing = [name for name in names if name not in self.given]
        if missing:
            self._mismatch(
                rule, f"the file has {_listed(n for n in names if n in self.given)}, but not {quoted(missing[0])}"
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
                    rule,
                    f"{quoted(names[0])} is {_type(first)}, and {quoted(name)} is {_type(part)}: "
                    "they cannot be concatenated",
                )
                return None
        shape = (sum(part.shape[0] for part in parts), *first.shape[1:])
        return ComputedTensor(shape, first.dtype, partial(_concatenated, tuple(parts)))

    def _split(self, rule: Rule, name: str, targets: Sequence[str], whole: LazyTensor) -> list[LazyTensor]:
        rows = [self.expected[target][0][:1] for target in targets if target in self.expected]
        sizes = [size for (size,) in (row for row in rows if row)]
        if len(sizes) != len(targets):  # a target is not in the text; `archc.weights.match` reports it
            sizes = [whole.shape[0] // len(targets)] * len(targets) if whole.shape else []
        if sum(sizes) != (whole.shape or (0,))[0]:
            shown = " + ".join(map(str, sizes)) or "several"
            self._mismatch(rule, f"{quoted(name)} is {_type(whole)}, which cannot be split into {shown} rows")
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
                help="the first matching rule applies: move the more specific rule up, or drop one with `-> nothing`",
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
            f"no weight in the file matches {names}, or an earlier rule applies to all that match",
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
