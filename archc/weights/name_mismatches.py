"""Diagnostics for weights that a file lacks, and for tensors of a file that belong to no weight.

The help texts give rules of a `--rename` file that map tensors of the right shape to the missing weights.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from archc.diagnostics import Diagnostics, Note, nearest
from archc.weights.input_files import quoted
from archc.weights.rename_rules import Origin, is_name
from archc.weights.tensor import LazyTensor

Shapes = Mapping[str, tuple[tuple[int, ...], str]]

_MOST_OF_A_KIND = 20  # limit on the reported mismatches of one code; a wrong file has hundreds of mismatches
_MOST_PREFIXES = 20  # limit on the tested prefixes; each test takes time proportional to the number of names
_MOST_SUGGESTIONS = 1000  # limit on the names that are compared with each missing name


class NameMismatches:
    """Comparison of the names in a file with the paths of a graph.

    Args:
        expected: shapes and dtypes by path.
        given: tensors by name, after renaming.
        optional: paths that may be missing from `given` or from `expected`.
        origins: origins of the renamed tensors by name; None if no rules are given.
        found: receives the diagnostics.
    """

    def __init__(
        self,
        expected: Shapes,
        given: Mapping[str, LazyTensor],
        optional: Container[str],
        origins: Mapping[str, Origin] | None,
        found: Diagnostics,
    ):
        self._expected, self._given, self._optional, self._found = expected, given, optional, found
        self._origins = origins or {}
        self._has_rules = origins is not None
        self._full = {name: name for name in given}  # names before the removal of a prefix
        # The rule `model.* -> *` or `* -> model.*` that an earlier help text suggests.  It matches other names, too, so
        # later help texts suggest rules above it.
        self._prefix_rule: str | None = None
        self._missing: dict[str, None] = {}
        self._surplus: dict[str, None] = {}

    def report(self) -> None:
        """Report missing and surplus names; a missing name and the tensor for it share one report."""
        self._compare()
        prefix = _common_prefix([*self._missing], self._given)
        while prefix is not None:
            self._report_prefix(prefix)
            self._full = {name.removeprefix(prefix): full for name, full in self._full.items()}
            self._given = {name.removeprefix(prefix): tensor for name, tensor in self._given.items()}
            self._compare()
            prefix = _common_prefix([*self._missing], self._given)
        lacking = _common_prefix([*self._surplus], self._missing)
        if lacking is not None:
            self._report_lacking(lacking)
            self._missing = {path: None for path in self._missing if path.removeprefix(lacking) not in self._given}
            self._surplus = {path: None for path in self._surplus if lacking + path not in self._expected}
        self._report_missing()
        self._report_surplus()

    def _compare(self) -> None:
        expected, given, optional = self._expected, self._given, self._optional
        self._missing = {path: None for path in expected if path not in given and path not in optional}
        self._surplus = {path: None for path in given if path not in expected and path not in optional}

    def _report_prefix(self, prefix: str) -> None:
        path = next(path for path in self._missing if prefix + path in self._given)
        origin = self._origin(prefix + path)
        names = "in the file" if origin is None else "that the rules give"
        full = self._full[prefix + path]
        rule = f"{full.removesuffix(path)}* -> *"
        self._prefix_rule = None if origin else rule
        self._found.error(
            "weights-missing",
            f"the names {names} begin with {quoted(prefix)}, and those of the model do not",
            notes=() if origin is None else (_rule_note(origin, full),),
            help=_corrected_rule(origin, full, path)
            if origin is not None
            else f"remove the prefix with `--rename FILE`, a file with the line {quoted(rule)}"
            "; wrappers such as `DataParallel` or `torch.compile` add it",
        )

    def _report_lacking(self, prefix: str) -> None:
        path = next(path for path in self._surplus if prefix + path in self._missing)
        origin = self._origin(path)
        names = "in the file" if origin is None else "that the rules give"
        self._prefix_rule = None if origin else f"* -> {prefix}*"
        self._found.error(
            "weights-missing",
            f"the names of the model begin with {quoted(prefix)}, and those {names} do not",
            notes=() if origin is None else (_rule_note(origin, self._full[path]),),
            help=_corrected_rule(origin, self._full[path], prefix + path)
            if origin is not None
            else f"add the prefix with `--rename FILE`, a file with the line {quoted('* -> ' + prefix + '*')}",
        )

    def _report_missing(self) -> None:
        reported = 0
        wanted: dict[tuple[int, ...], int] = {}  # number of missing weights of each shape
        for path in self._missing:
            wanted[self._expected[path][0]] = wanted.get(self._expected[path][0], 0) + 1
        likely: dict[tuple[int, ...], dict[str, None]] = {}  # surplus tensors by shape
        for name in [*self._surplus][:_MOST_SUGGESTIONS]:
            likely.setdefault(self._given[name].shape, {})[name] = None
        for path in [*self._missing]:
            if path not in self._missing:
                continue  # the rule that `_report_renamed` corrected for an earlier path also provides this weight
            if reported == _MOST_OF_A_KIND:
                break
            reported += 1
            del self._missing[path]
            shape = self._expected[path][0]
            same_shape = [name for name in likely.get(shape, ()) if name in self._surplus]
            meant = nearest(path, same_shape)
            if meant is None and len(same_shape) == wanted[shape] == 1:
                meant = same_shape[0]
            if meant is not None:
                wanted[shape] -= 1
                self._report_renamed(path, meant)
                continue
            first = next((name for name in same_shape if self._origin(name) is None), None)
            help_ = (
                None if first is None else f"if it is {quoted(self._full[first])} in the file, {self._way(first, path)}"
            )
            self._found.error("weights-missing", f"the file has no weight {quoted(path)}", help=help_)
        if self._missing:
            self._found.error("weights-missing", f"{len(self._missing)} more weights are missing")

    def _report_renamed(self, path: str, name: str) -> None:
        """Report a missing weight with the surplus tensor that is meant.

        If a rule renamed the tensor, the help text corrects the rule.  Other missing weights that the corrected rule
        provides are then removed from `_missing`, and are not reported.
        """
        del self._surplus[name]
        origin = self._origin(name)
        message = f"the file has no weight {quoted(path)}"
        if origin is None:
            self._found.error("weights-missing", message, help=self._way(name, path))
            return
        given_name = self._full[name]
        self._found.error(
            "weights-missing",
            message,
            notes=(_rule_note(origin, given_name),),
            help=_corrected_rule(origin, given_name, path),
        )
        target = origin.target.corrected(origin.captures, path)
        if target is None:
            return
        for other in [*self._surplus]:
            also = self._origin(other)
            if also is not None and also.target is origin.target and target.fill(also.captures) in self._missing:
                del self._surplus[other]
                del self._missing[target.fill(also.captures)]

    def _report_surplus(self) -> None:
        for name in [*self._surplus][:_MOST_OF_A_KIND]:
            origin, shown = self._origin(name), quoted(self._full[name])
            if origin is None:
                message = f"the file has a weight {shown}, which is not in the model"
                self._found.error("weights-surplus", message, help=self._dropping(name))
            else:
                self._found.error(
                    "weights-surplus",
                    f"the rule gives {shown}, which is not in the model",
                    origin.rule.span,
                    help=f"correct the target, or write `nothing` as the target to drop {_names(origin)}",
                )
        if len(self._surplus) > _MOST_OF_A_KIND:
            self._found.error(
                "weights-surplus", f"{len(self._surplus) - _MOST_OF_A_KIND} more weights are not in the model"
            )

    def _origin(self, name: str) -> Origin | None:
        return self._origins.get(self._full[name])

    def _dropping(self, name: str) -> str:
        """Help text that drops a tensor of the file."""
        if not is_name(self._full[name]):
            return "remove it from the file"
        return f"to drop it, {self._way(name, 'nothing')}"

    def _way(self, name: str, path: str) -> str:
        """Help text that maps a tensor of the file to a path."""
        name = self._full[name]
        if not is_name(name):
            return f"rename {quoted(name)} to {quoted(path)} in the file"
        above = None if self._prefix_rule is None else f"above {quoted(self._prefix_rule)}"
        return add_rule(f"{name} -> {path}", self._has_rules, above)


def add_rule(rule: str, has_rules: bool, place: str | None = None) -> str:
    """Help text to add a rule to the file of rules; without such a file, to write one."""
    if place is not None:
        return f"write {quoted(rule)} {place}"
    if has_rules:
        return f"add the line {quoted(rule)} to the file of `--rename`"
    return f"write {quoted(rule)} into a file and give it with `--rename FILE`"


def _corrected_rule(origin: Origin, name: str, path: str) -> str:
    """Help text that corrects the target of a rule, so that it gives a path and not a name."""
    target = origin.target.corrected(origin.captures, path)
    if target is None:
        return f"change the target of the rule, so that it gives {quoted(path)} and not {quoted(name)}"
    return f"change the rule to {quoted(origin.with_target(target))}"


def _rule_note(origin: Origin, name: str) -> Note:
    return Note(f"this rule maps {_names(origin)} to {quoted(name)}, which is not in the model", origin.rule.span)


def _names(origin: Origin) -> str:
    return ", ".join(quoted(name) for name in origin.names)


def _common_prefix(paths: Sequence[str], others: Iterable[str]) -> str | None:
    """Return the shortest prefix that turns at least half of `paths` into elements of `others`, or None."""
    if len(paths) < 2:
        return None
    known = set(others)
    prefixes = {path.removesuffix(first) for first in paths[:10] for path in known if path.endswith("." + first)}
    for prefix in sorted(prefixes, key=len)[:_MOST_PREFIXES]:
        if 2 * sum(prefix + path in known for path in paths) >= len(paths):
            return prefix
    return None
