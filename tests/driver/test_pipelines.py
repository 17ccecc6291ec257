"""Texts of pipelines: their parsing and printing, and pipelines that a file defines."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import archc
from archc.diagnostics import ArchcError, Diagnostics, Source
from archc.driver.parsing import open_module, parse_settings
from archc.driver.pipelines import check_pipelines, parse_passes
from archc.passmanager import load_pass, pass_names
from archc.passmanager.registry import FOREIGN_NAMES as FOREIGN
from archc.passmanager.registry import pass_help
from archc.types.tensor_type import DType

MODEL = "model m { input x: f32[N, 8]  output y = x -> fc1: linear(8) -> relu -> fc2: linear(4) }\n"


def texts(passes: str, file: str = "") -> list[str]:
    module = open_module(Source(file + MODEL), Diagnostics()) if file else None
    return [str(step) for step in parse_passes(passes, module)]


def code(passes: str, file: str = "") -> str:
    with pytest.raises(ArchcError) as failure:
        texts(passes, file)
    return failure.value.diagnostics[0].code


PASSES = st.one_of(
    st.just("simplify"),
    st.just("fold"),
    st.builds("lowrank(energy = {})".format, st.floats(0.05, 0.99)),
    st.builds("lowrank(rank = {}, on = {!r})".format, st.integers(1, 64), st.sampled_from(["fc*", "h.*.up"])),
    st.builds("quant(int8, keep = {!r})".format, st.sampled_from(["fc2", "**.head"])),
)


IN_ORDER = st.lists(PASSES, max_size=4).map(lambda given: sorted(given, key=lambda text: text.startswith("quant")))


@given(IN_ORDER)
def test_printed_passes_parse_to_equal_passes(given: list[str]) -> None:
    passes = parse_passes(", ".join(given))
    assert len(passes) == len(given)
    assert parse_passes(", ".join(map(str, passes))) == passes == parse_passes(" -> ".join(map(str, passes)))


def test_pipelines_of_the_file() -> None:
    file = "pipeline small = fold -> lowrank(ratio = 0.5)\npipeline tiny = small -> quant(int8)\n"
    assert texts("tiny, simplify", file) == [*texts("fold, lowrank(ratio = 0.5), quant(int8)"), "simplify"]
    assert texts("") == []


def test_pipelines_that_do_not_end() -> None:
    circle = "pipeline a = fold -> b\npipeline b = a\n"
    assert code("a", circle) == "recursive-pipeline"
    deep = "".join(f"pipeline p{k} = p{k + 1}\n" for k in range(2000)) + "pipeline p2000 = fold\n"
    assert code("p0", deep) == "nesting-too-deep"
    for leaf, expected in (("fold", "too-many-passes"), ("fold(zz = 1)", "unknown-option")):
        many = "".join(f"pipeline p{k} = p{k + 1} -> p{k + 1}\n" for k in range(40)) + f"pipeline p40 = {leaf}\n"
        assert code("p0", many) == expected
    diagnostics = Diagnostics()
    check_pipelines(open_module(Source(circle + MODEL), Diagnostics()), diagnostics)
    assert [found.code for found in diagnostics.errors] == ["recursive-pipeline"]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("pipeline a = quant\npipeline b = a -> lowrank(rank = 3)\n", ["pass-order"]),
        ("pipeline b = a -> lowrank(rank = 3)\npipeline a = quant\n", ["pass-order"]),
        ("pipeline a = quant -> lowrank(rank = 3)\npipeline b = fold -> a\npipeline c = b\n", ["pass-order"]),
        ("pipeline a = fold(zz = 1)\npipeline b = a -> a\n", ["unknown-option"]),
        (
            "pipeline a = fold -> b\npipeline b = a\npipeline c = a -> quant -> lowrank(rank = 3)\n",
            ["pass-order", "recursive-pipeline"],
        ),
        (
            "".join(f"pipeline p{k} = p{k + 1} -> p{k + 1}\n" for k in range(12)) + "pipeline p12 = fold\n",
            ["too-many-passes"],
        ),
        ("".join(f"pipeline p{k} = p{k + 1}\n" for k in range(2000)) + "pipeline p2000 = fold\n", ["nesting-too-deep"]),
        ("pipeline a = fold\npipeline b = a -> quant\n", []),
    ],
)
def test_a_check_follows_nested_pipelines(file: str, expected: list[str]) -> None:
    diagnostics = Diagnostics()
    check_pipelines(open_module(Source(file + MODEL), Diagnostics()), diagnostics)
    assert [found.code for found in diagnostics.errors] == expected


@pytest.mark.parametrize(
    ("passes", "expected"),
    [
        ("lowrnk", "unknown-pass"),
        ("lowrank(rnk = 3)", "unknown-option"),
        ("lowrank(rank = 3, rank = 4)", "duplicate-argument"),
        ("lowrank(rank = 'x')", "wrong-type"),
        ("lowrank(rank = 1 + 2)", "wrong-type"),
        ("quant(int9)", "wrong-type"),
        ("fold fold", "syntax-error"),
    ],
)
def test_mistakes(passes: str, expected: str) -> None:
    assert code(passes) == expected


@pytest.mark.parametrize(
    ("passes", "plain"),
    [
        ("partition(2, memory = '2GB')", "2GB"),
        ("partition(2, memory = '1.5GiB')", "1.5GiB"),
        ("partition(2, memory = '2000')", "2000"),
        ("partition('2')", "2"),
    ],
)
def test_the_help_for_an_option_in_quotes_removes_them(passes: str, plain: str) -> None:
    with pytest.raises(ArchcError) as failure:
        parse_passes(passes)
    (mistake,) = failure.value.diagnostics
    assert mistake.help == f"remove the quotes: `{plain}`"
    assert parse_passes(passes.replace(f"'{plain}'", plain))


@pytest.mark.parametrize(
    ("number", "help"),
    [
        ("12 MB", "write the unit directly after the number: `12MB`"),
        ("1.5 kB", "write the unit directly after the number: `1.5kB`"),
        ("12Mb", "did you mean `12MB`?"),
    ],
)
def test_the_help_for_a_unit_corrects_it(number: str, help: str) -> None:
    with pytest.raises(ArchcError) as failure:
        parse_passes(f"quant(bytes = {number})")
    assert failure.value.diagnostics[0].help == help


@pytest.mark.parametrize("passes", ["partition(2, memory = '2parsecs')", "partition(2, memory = 'all')"])
def test_an_option_that_is_no_number_without_its_quotes_has_no_such_help(passes: str) -> None:
    with pytest.raises(ArchcError) as failure:
        parse_passes(passes)
    assert failure.value.diagnostics[0].help is None


def test_every_pass_is_found_by_its_entry_point() -> None:
    for name in ("simplify", "fold", "lowrank", "quant"):
        assert name in pass_names() and load_pass(name).name == name
        assert load_pass(name).__module__.startswith("archc.passes.")


def test_settings_are_values_of_the_language() -> None:
    assert parse_settings(["a=3", "b = -1.5", "c=true", "d=f16", "e=(1, 2)", 'f="x"']) == {
        "a": 3,
        "b": -1.5,
        "c": True,
        "d": DType.f16,
        "e": (1, 2),
        "f": "x",
    }
    for wrong in ("a", "=3", "a=", "a=1 +", "a=x -> relu"):
        with pytest.raises(ArchcError):
            parse_settings([wrong])


def test_the_reports_come_in_the_order_of_the_passes() -> None:
    reports = archc.compile(MODEL, passes="simplify, lowrank(rank = 2, on = 'fc1'), simplify").passes
    assert [report.text.partition("(")[0] for report in reports] == ["simplify", "lowrank", "simplify"]
    assert reports[0].after == reports[1].before and reports[1].after == reports[2].before
    assert [remark.layer for remark in reports[1].remarks if remark.kind == "rewrote"] == ["fc1"]
    assert reports[1].after.parameters == 2 * 8 + 8 * 2 + 8 + 8 * 4 + 4


@pytest.mark.parametrize(
    "passes", ["quant;fold", "quant fold", "quant | fold", "prune 0.5", "prune = 0.5", "['quant']"]
)
def test_the_help_for_a_malformed_text_is_a_pipeline(passes: str) -> None:
    with pytest.raises(ArchcError) as failure:
        parse_passes(passes)
    told = {found.help for found in failure.value.diagnostics}
    (example,) = {snippet for text in told for snippet in re.findall("`([^`]+)`", text or "")}
    assert [step.name for step in parse_passes(example)] == ["fold", "prune", "quant"]


def test_the_help_for_names_of_other_programs_is_a_pass() -> None:
    assert not {name for name in FOREIGN if name in pass_names()}
    for told in set(FOREIGN.values()):
        for snippet in re.findall("`([^`]+)`", told):
            assert len(parse_passes(snippet)) == 1
    assert pass_help("Quantize", pass_names()) == FOREIGN["quantize"]
    assert pass_help("lowrnk", pass_names()) == "did you mean `lowrank`?"
    with pytest.raises(ArchcError, match="write `quant`"):
        parse_passes("fold, quantization")
