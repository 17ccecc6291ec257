"""Selectors, compared with exhaustive glob matchers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.ir.selector import Selector, SelectorError
from tests.ir import globs

PARTS = st.sampled_from(["h", "0", "10", "up", "fc1", "fc10"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map(".".join)
GLOBS = st.lists(st.sampled_from(["h", "0", "*", "**", "f*", "*1", "fc?", "?", "up"]), min_size=1, max_size=4)


def part_matches(glob: str, part: str) -> bool:
    """Return whether a glob with `*` and `?` matches one name."""
    if not glob:
        return not part
    if glob[0] == "*":
        return any(part_matches(glob[1:], part[k:]) for k in range(len(part) + 1))
    return bool(part) and glob[0] in ("?", part[0]) and part_matches(glob[1:], part[1:])


def parts_match(globs: list[str], parts: list[str]) -> bool:
    """Return whether globs match the first names of a path.

    `**` matches any number of names; at the end of the globs, at least one.
    """
    if not globs:
        return True  # the globs match a block that contains the layer
    if globs == ["**"]:
        return bool(parts)  # `h.**` selects the layers in `h`, not `h`
    if globs[0] == "**":
        return any(parts_match(globs[1:], parts[k:]) for k in range(len(parts) + 1))
    return bool(parts) and part_matches(globs[0], parts[0]) and parts_match(globs[1:], parts[1:])


@given(GLOBS, PATHS)
def test_agreement_with_an_exhaustive_matcher(globs: list[str], path: str) -> None:
    assert Selector.of(".".join(globs)).matches(path) == parts_match(globs, path.split("."))


@pytest.mark.parametrize(
    ("pattern", "path", "selected"),
    [
        ("fc*", "fc1", True),
        ("fc*", "h.fc1", False),
        ("layers.1.*", "layers.10.up", False),
        ("h", "h.0.up", True),
        ("h.0", "h.01", False),
        ("**.query", "query", True),
        ("**.query", "h.0.attn.query", True),
        ("h.(0)", "h.0", False),
        ("h+", "hh", False),
    ],
)
def test_examples(pattern: str, path: str, selected: bool) -> None:
    assert Selector.of(pattern).matches(path) is selected


def test_several_globs_and_none() -> None:
    assert not Selector.of(None).matches("a")
    both = Selector.of(("a", "b*"))
    assert [both.matches(path) for path in ("a", "b2", "c")] == [True, True, False]


def test_each_glob_must_match_something() -> None:
    Selector.of(("fc*", "conv1")).check(["fc1", "conv1"])
    with pytest.raises(SelectorError, match="`cnv1` matches no layer") as problem:
        Selector.of(("fc*", "cnv1")).check(["fc1", "conv1"])
    assert problem.value.help == "did you mean `conv1`?"
    with pytest.raises(SelectorError) as problem:
        Selector.of("zz").check([])
    assert problem.value.help == "the model has no layers"


def test_kinds_of_operators() -> None:
    selector = Selector.of(("kind:conv*", "head"))
    assert selector.matches("stem", "conv2d") and selector.matches("head", "linear")
    assert not selector.matches("body", "linear") and not selector.matches("conv1", "linear")
    assert not Selector.of("kind:conv").matches("stem", "conv2d") and Selector.of("kind:conv2?").matches("a", "conv2d")
    assert not Selector.of("linear").matches("fc", "linear")


@pytest.mark.parametrize(
    ("glob", "way"),
    [
        ("conv", "did you mean `conv*`?"),
        ("h.*.u", "did you mean `h.*.u*`?"),
        ("kind:conv", "did you mean `kind:conv*`?"),
        ("kind:l", "the kinds are `kind:conv2d`, `kind:linear`"),
    ],
)
def test_the_beginning_of_a_name_is_completed(glob: str, way: str) -> None:
    with pytest.raises(SelectorError) as problem:
        Selector.of(glob).check(["conv1", "conv2", "h.0.up"], ["conv2d", "linear"])
    assert problem.value.help == way


def test_each_kind_must_be_in_the_model() -> None:
    Selector.of(("kind:lin*", "fc")).check(["fc"], ["linear", "relu"])
    with pytest.raises(SelectorError, match="`kind:linaer` matches no layer") as problem:
        Selector.of("kind:linaer").check(["fc"], ["linear", "relu", "linear"])
    assert (problem.value.code, problem.value.help) == ("selector-matches-nothing", "did you mean `kind:linear`?")
    with pytest.raises(SelectorError) as problem:
        Selector.of("kind:zz").check(["fc"], ["linear", "relu", "linear"])
    assert problem.value.help == "the kinds are `kind:linear`, `kind:relu`"
    with pytest.raises(SelectorError, match="at most 1,000 characters"):
        Selector.of("kind:" + "a" * 1000).check(["a"], ["a"])


def test_the_length_of_a_glob_is_limited() -> None:
    Selector.of("*a" * 500).check(["a" * 500])
    with pytest.raises(SelectorError, match=r"at most 1,000 characters, and `.*` has 120,000") as problem:
        Selector.of("*a" * 60_000).check(["a"])
    assert "several" in problem.value.help


LETTERS = st.lists(st.sampled_from(["a", "b", ".", "*", "**", "**.", "?"]), min_size=1, max_size=7).map("".join)
LAYERS = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3).map(".".join)


@given(LETTERS, LAYERS)
def test_agreement_for_any_characters(glob: str, path: str) -> None:
    assert Selector.of(glob).matches(path) == globs.matches(glob, path)


@pytest.mark.parametrize("glob", ["*a" * 60 + "*b", "**a" * 60 + "**b", "**.a." * 60 + "b", "*a" * 60 + ".b"])
def test_hostile_globs_end(glob: str) -> None:
    """Globs that would take years with backtracking are matched at once."""
    selector = Selector.of(glob)
    assert not selector.matches("a" * 200) and not selector.matches("a." * 200)
