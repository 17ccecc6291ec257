"""Maps from the names in a weights file to the paths of a text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given as given_
from hypothesis import settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import archc
from archc.diagnostics import ArchcError, Diagnostic, Source
from archc.weights.match import match
from archc.weights.rename import _RuleBook, rename
from archc.weights.rename_rules import Captures, Origin, Rule, parse_rules
from archc.weights.tensor import ArrayTensor


def tensors(**shapes: tuple[int, ...]) -> dict[str, ArrayTensor]:
    """Return random tensors by name; `__` in a name means a dot."""
    random = np.random.default_rng(0)
    return {
        name.replace("__", "."): ArrayTensor(random.standard_normal(shape, np.float32))
        for name, shape in shapes.items()
    }


def renamed(text: str, given: dict[str, ArrayTensor], **expected: tuple[int, ...]) -> dict[str, np.ndarray]:
    shapes = {name.replace("__", "."): (shape, "f32") for name, shape in expected.items()}
    return {name: tensor.numpy() for name, tensor in rename(given, parse_rules(Source(text)), shapes).items()}


def codes(error: ArchcError) -> list[str]:
    return [found.code for found in error.diagnostics]


def test_captures_and_a_star_have_equal_text_on_both_sides() -> None:
    given = tensors(encoder__layer__11__query__weight=(2, 3), encoder__layer__11__query__bias=(2,), other=(1,))
    made = renamed("encoder.layer.{i}.query.* -> h[{i}].attn.q.*", given)
    assert list(made) == ["h.11.attn.q.weight", "h.11.attn.q.bias", "other"]
    np.testing.assert_array_equal(made["h.11.attn.q.weight"], given["encoder.layer.11.query.weight"].numpy())


def test_a_capture_does_not_cross_a_dot() -> None:
    assert list(renamed("a.{i}.w -> b.{i}", tensors(a__1__w=(1,), a__1__2__w=(1,)))) == ["b.1", "a.1.2.w"]


def test_the_first_rule_that_fits_holds() -> None:
    rules = "a.special -> b.one   # the narrow one\n\na.* -> b.*\n"
    assert list(renamed(rules, tensors(a__special=(1,), a__rest=(1,)))) == ["b.one", "b.rest"]


def test_a_name_that_does_not_determine_the_captures_of_its_rule_goes_to_the_next_rule() -> None:
    book = _RuleBook(parse_rules(Source("(x.{i}, b) -> c.{i}\nb -> d\n* -> m.*")))
    found = book.first("b")
    assert found is not None and str(found[0].targets[0]) == "d"


RULES = [
    *("a -> o", "b -> o", "a.b -> o", "* -> m.*", "a* -> o.*", "{i} -> o.{i}", "a.{i} -> nothing", "{i}.{i} -> o.{i}"),
    *("{i}.{j} -> o", "(a.{i}, b) -> o.{i}", "(b.{i}, a.{i}) -> o", "(a, b.a) -> o", "(a.{i}.{j}, b.{j}) -> o"),
]


@settings(max_examples=500)
@given_(st.lists(st.sampled_from(RULES), min_size=1, max_size=8), st.sampled_from(["a", "b", "a.b", "b.a", "a.b.a"]))
def test_the_index_of_rules_finds_what_a_loop_over_them_finds(lines: list[str], name: str) -> None:
    rules = parse_rules(Source("\n".join(lines)))

    def first() -> tuple[Rule, Captures] | None:
        for rule in rules:
            for source in rule.sources:
                captures = source.match(name)
                if captures is not None and all(other.holes <= captures.keys() for other in rule.sources):
                    return rule, captures
        return None

    assert _RuleBook(rules).first(name) == first()


def test_nothing_leaves_a_tensor_out() -> None:
    assert renamed("*.position_ids -> nothing", tensors(text__position_ids=(4,))) == {}


def test_several_become_one_below_one_another() -> None:
    given = tensors(l__0__v=(1, 4), l__0__q=(3, 4), l__0__k=(2, 4))
    made = renamed("(l.{i}.q, l.{i}.k, l.{i}.v) -> h[{i}].qkv", given)
    expected = np.concatenate([given[f"l.0.{name}"].numpy() for name in "qkv"])
    assert list(made) == ["h.0.qkv"]
    np.testing.assert_array_equal(made["h.0.qkv"], expected)


def test_one_becomes_several_in_the_sizes_that_the_text_expects() -> None:
    given = tensors(c_attn=(4, 6))
    made = renamed("transpose(c_attn) -> (q, k, v)", given, q=(2, 4), k=(1, 4), v=(3, 4))
    np.testing.assert_array_equal(np.concatenate([made["q"], made["k"], made["v"]]), given["c_attn"].numpy().T)
    assert [made[name].shape for name in "qkv"] == [(2, 4), (1, 4), (3, 4)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b", "a rule must be a name"),
        ("a -> ", "a rule must be a name"),
        ("a.{i} -> b.{j}", "`{j}` in `b.{j}` is not in `a.{i}`"),
        ("(a, b) -> (c, d)", "or one name to several paths"),
        ("a.*.* -> b", "more than one `*`"),
        ("(a, b -> c", "`(` is not closed"),
        ("a.{1x} -> b", "is not the name of a weight"),
        ("(a, ) -> b", "a name is missing"),
    ],
)
def test_a_line_that_is_no_rule_is_pointed_at(text: str, message: str) -> None:
    with pytest.raises(ArchcError) as raised:
        parse_rules(Source(f"# comment\n  {text}  # more\nx -> y"))
    (found,) = raised.value.diagnostics
    assert found.code == "rename-syntax" and message in found.message
    assert found.span is not None and found.span.line == 2 and found.span.text == text.strip()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a -> c\nb -> c", "rename-clash"),
        ("(a, gone) -> c", "rename-mismatch"),
        ("(a, b) -> c", "rename-mismatch"),  # `a` has 2 columns, `b` has 3
        ("a -> (x, y)", "rename-mismatch"),  # `a` has 3 rows, `x` and `y` together 4
    ],
)
def test_clashes_and_wrong_shapes_are_refused(text: str, code: str) -> None:
    with pytest.raises(ArchcError) as raised:
        renamed(text, tensors(a=(3, 2), b=(3, 3)), x=(2, 2), y=(2, 2))
    assert codes(raised.value) == [code]


def test_a_model_takes_the_weights_of_another_module(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    save_file({name: value.detach().numpy() for name, value in theirs.state_dict().items()}, tmp_path / "w.safetensors")
    (tmp_path / "names").write_text(
        """
        in_proj_weight -> (q.weight, k.weight, v.weight)
        in_proj_bias   -> (q.bias, k.bias, v.bias)
        out_proj.*     -> out.*
        """
    )
    text = """model m { input x: f32[B, T, 8]
        output y = (x -> q: linear(8), x -> k: linear(8), x -> v: linear(8)) -> attention(2) -> out: linear(8) }"""
    compiled = archc.compile(text, weights=tmp_path / "w.safetensors", renaming=tmp_path / "names")
    from archc.interpreter.evaluate import evaluate

    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        expected, _ = theirs(x, x, x)
    torch.testing.assert_close(evaluate(compiled.graph, {"x": x})["y"], expected, rtol=1e-5, atol=1e-6)


def test_unmatched_tensors_and_weights_are_listed(tmp_path: Path) -> None:
    """Tensors of the file without a rule are listed, and weights of the text that no rule fills."""
    tensors = {"fc.w": np.zeros((2, 2), np.float32), "head.w": np.zeros(3, np.float32)}
    save_file(tensors, tmp_path / "w.safetensors")
    (tmp_path / "names").write_text("fc.w -> fc.weight")
    with pytest.raises(ArchcError) as raised:
        archc.compile(
            "model m { input x: f32[N, 2]  output y = x -> fc: linear(2) }",
            weights=tmp_path / "w.safetensors",
            renaming=tmp_path / "names",
        )
    messages = {diagnostic.code: diagnostic.message for diagnostic in raised.value.diagnostics}
    assert messages.keys() == {"weights-missing", "weights-surplus"}
    assert "`fc.bias`" in messages["weights-missing"]
    assert "`head.w`" in messages["weights-surplus"]
    # A tensor with the target `nothing` is not listed.
    (tmp_path / "names").write_text("fc.w -> fc.weight\nhead.* -> nothing")
    with pytest.raises(ArchcError) as raised:
        archc.compile(
            "model m { input x: f32[N, 2]  output y = x -> fc: linear(2) }",
            weights=tmp_path / "w.safetensors",
            renaming=tmp_path / "names",
        )
    assert codes(raised.value) == ["weights-missing"]


def test_tensors_that_no_rule_fits_are_listed(tmp_path: Path) -> None:
    save_file({"fc.w": np.zeros((2, 2), np.float32)}, tmp_path / "w.safetensors")
    (tmp_path / "names").write_text("nets.{i} -> fc.{i}")
    with pytest.raises(ArchcError) as raised:
        archc.compile(
            "model m { input x: f32[N, 2]  output y = x -> fc: linear(2) }",
            weights=tmp_path / "w.safetensors",
            renaming=tmp_path / "names",
        )
    assert set(codes(raised.value)) == {"weights-missing"}
    assert "add the line `fc.w -> fc.weight` to the file of `--rename`" in str(raised.value)


def corrections(rules: str, given: dict[str, ArrayTensor], **expected: tuple[int, ...]) -> list[Diagnostic]:
    shapes = {name.replace("__", "."): (shape, "f32") for name, shape in expected.items()}
    origins: dict[str, Origin] = {}
    made = rename(given, parse_rules(Source(rules)), shapes, origins=origins)
    with pytest.raises(ArchcError) as raised:
        match(shapes, made, origins=origins)
    return list(raised.value.diagnostics)


@pytest.mark.parametrize(
    ("rule", "corrected"),
    [
        ("a.0.w -> hh.0.w", "a.0.w -> h.0.w"),
        ("a.{i}.w -> hh[{i}].w", "a.{i}.w -> h.{i}.w"),
        ("a.* -> hh.*", "a.* -> h.*"),
        ("a.* -> *", "a.* -> h.*"),
        ("transpose(a.{i}.{p}) -> h.{i}.c.{p}", "transpose(a.{i}.{p}) -> h.{i}.{p}"),
        ("* -> m.*", None),
    ],
)
def test_a_wrong_target_is_corrected_in_its_rule(rule: str, corrected: str | None) -> None:
    given = tensors(a__0__w=(4, 4))
    (found,) = corrections(f"# map\n{rule}", given, h__0__w=(4, 4))
    (note,) = found.notes
    assert found.code == "weights-missing" and "`a.0.w`" in note.text
    assert note.span is not None and note.span.line == 2
    if corrected is None:
        assert found.help == "change the target of the rule, so that it gives `h.0.w` and not `m.a.0.w`"
    else:
        assert found.help == f"change the rule to `{corrected}`"
        assert list(renamed(corrected, given, h__0__w=(4, 4))) == ["h.0.w"]


def test_the_wrong_target_of_a_rule_for_all_layers_is_reported_once() -> None:
    given = {f"a.{i}.w": ArrayTensor(np.zeros(1, np.float32)) for i in range(30)}
    (found,) = corrections("a.{i}.w -> hh[{i}].w", given, **{f"h__{i}__w": (1,) for i in range(30)})
    assert found.help == "change the rule to `a.{i}.w -> h.{i}.w`"


def test_a_wrong_target_in_a_split_is_corrected() -> None:
    (found,) = corrections("a -> (q.w, kk.w)", tensors(a=(4,)), q__w=(2,), k__w=(2,))
    assert found.help == "change the rule to `a -> (q.w, k.w)`"


def test_a_prefix_of_the_rules_is_corrected_in_the_rule() -> None:
    (found,) = corrections("m.* -> net.*", tensors(m__a__w=(1,), m__b__w=(2,)), a__w=(1,), b__w=(2,))
    assert found.help == "change the rule to `m.* -> *`"
    (found,) = corrections("m.* -> *", tensors(m__a__w=(1,), m__b__w=(2,)), net__a__w=(1,), net__b__w=(2,))
    assert found.help == "change the rule to `m.* -> net.*`"


def test_a_rule_for_a_surplus_tensor_is_named() -> None:
    given = tensors(a__w=(1,), b__w=(3,), c__w=(4,))
    missing, ruled, plain = corrections("a.w -> a.w\nb.w -> bb.w", given, a__w=(1,), z=(4, 4))
    assert missing.help is None
    assert ruled.message == "the rule gives `bb.w`, which is not in the model" and ruled.span is not None
    assert plain.help == "to drop it, add the line `c.w -> nothing` to the file of `--rename`"


@pytest.mark.parametrize(
    ("rule", "way"),
    [
        ("a -> w", "change the rule to `transpose(a) -> w`"),
        ("transpose(b) -> w", "change the rule to `b -> w`"),
        ("{x} -> w", "write `transpose(a) -> w` above this rule"),
    ],
)
def test_a_rule_for_a_transposed_weight_is_corrected(rule: str, way: str) -> None:
    given = tensors(b=(2, 3)) if "b" in rule else tensors(a=(3, 2))
    (found,) = corrections(rule, given, w=(2, 3))
    assert found.code == "weights-shape" and found.help == f"the transposed weight is expected: {way}"
    corrected = way.split("`")[1] + ("" if "{" not in rule else f"\n{rule}")
    assert renamed(corrected, given, w=(2, 3))["w"].shape == (2, 3)


def test_the_first_rule_that_fits_holds_with_and_without_captures() -> None:
    given = {name: ArrayTensor(np.zeros(1, np.float32)) for name in ("a.0", "a.1", "b.0")}
    rules = parse_rules(Source("a.1 -> first\na.{i} -> second.{i}\na.0 -> third\nb.0 -> fourth\n*.0 -> fifth.*"))
    assert set(rename(given, rules, {})) == {"first", "second.0", "fourth"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("".join(f"a.{k} -> b.{k}\n" for k in range(10_001)), "too-many-rules"),
        ("{a}{b}{c}{d} -> {a}", "rename-syntax"),
        ("x.{a}_{b}.y.{c}_{d}_{e}_{f} -> {a}", "rename-syntax"),
    ],
)
def test_maps_that_would_take_too_long(text: str, code: str) -> None:
    with pytest.raises(ArchcError) as raised:
        parse_rules(Source(text))
    assert codes(raised.value) == [code]
    assert len(parse_rules(Source("x.{a}_{b}_{c}.y.{d} -> {a}"))) == 1
