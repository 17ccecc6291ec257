"""Patterns: bound nodes, reasons of mismatches, and agreement with a search by brute force."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import archc
from archc.declaration.traits import RELU
from archc.ir.graph import Graph, Node
from archc.ir.match import (
    PASSED,
    Condition,
    Match,
    NodePattern,
    NoMatch,
    NoObstacle,
    all_of,
    any_value,
    chain_after,
    chain_before,
    match,
    match_value,
    one_of,
    pattern,
    result_of,
    unless,
)
from archc.ir.use_lists import UseLists
from archc.ops.activation import Relu


def graph_of(body: str) -> Graph:
    return archc.parse(f"model m {{ input x: f32[N, 8, 8]  {body} }}")


def last(graph: Graph) -> Node:
    return graph.nodes()[-1]


def matched(found: Match | NoMatch) -> Match:
    assert not isinstance(found, NoMatch), found.reason
    return found


def reason(found: Match | NoMatch) -> str:
    assert isinstance(found, NoMatch)
    return found.reason


RELU_OF_LINEAR = pattern("relu", result_of(pattern("linear", any_value("x"), bind="fc"), only_use=True), bind="relu")


def test_a_match_binds_nodes_and_values() -> None:
    graph = graph_of("output y = x -> fc: linear(4) -> relu")
    found = matched(match(RELU_OF_LINEAR, last(graph), graph))
    assert found == {"relu": graph.nodes()[1], "fc": graph.nodes()[0], "x": graph.inputs[0]}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("output y = x -> fc: linear(4) -> tanh", "`tanh (line 1)` is `tanh`, not `relu`"),
        ("output y = x -> softmax(-1) -> relu", "`softmax (line 1)` is `softmax`, not `linear`"),
        ("output y = x -> relu", "an operand is not the result of another operator"),
        ("h = x -> fc: linear(4)  output z = h  output y = h -> relu", "the result of `fc` has other uses"),
        ("h = x -> fc: linear(4)  output z = h -> tanh  output y = h -> relu", "the result of `fc` has other uses"),
    ],
)
def test_a_mismatch_has_a_reason(body: str, text: str) -> None:
    graph = graph_of(body)
    assert reason(match(RELU_OF_LINEAR, last(graph), graph)) == text


def test_reasons_of_the_pattern_name_bound_nodes() -> None:
    before = pattern("linear", bind="fc", otherwise="`{fc}` has no weight")
    form = pattern(
        "relu",
        result_of(before, only_use=True, otherwise="it is the first operator", shared="`{fc}` is used elsewhere"),
    )
    texts = {
        "output y = x -> relu": "it is the first operator",
        "output y = x -> tanh -> relu": "`tanh (line 1)` has no weight",
        "h = x -> fc: linear(4)  output z = h  output y = h -> relu": "`fc` is used elsewhere",
    }
    for body, text in texts.items():
        graph = graph_of(body)
        assert reason(match(form, last(graph), graph)) == text


def test_attributes_and_conditions() -> None:
    graph = graph_of("output y = x -> softmax(dim = 1)")
    assert match(pattern("softmax", attributes={"dim": 1}), last(graph), graph) == {}
    assert (
        reason(match(pattern(attributes={"dim": 2}), last(graph), graph)) == "`dim` of `softmax (line 1)` is 1, not 2"
    )
    wide = Condition(lambda found: found.types[0].rank > 3, "`{s}` has a matrix")
    assert reason(match(pattern(where=wide, bind="s"), last(graph), graph)) == "`softmax (line 1)` has a matrix"
    assert match(pattern(where=lambda found: found.types[0].rank == 3), last(graph), graph) == {}
    named = NoObstacle(lambda found: "" if found.kind == "relu" else f"`{found.kind}` {{is}} not a relu")
    assert reason(match(pattern(where=named), last(graph), graph)) == "`softmax` {is} not a relu"
    two = pattern("softmax", any_value(), any_value())
    assert reason(match(two, last(graph), graph)) == "`softmax (line 1)` has 1 operand"


def test_operands_of_a_commutative_pattern_match_in_any_order() -> None:
    sides = (result_of(pattern("relu", bind="r")), result_of(pattern("tanh", bind="t")))
    for body in ("(x -> relu) + (x -> tanh)", "(x -> tanh) + (x -> relu)"):
        graph = graph_of(f"output y = {body}")
        found = matched(match(pattern("add", *sides, commutative=True), last(graph), graph))
        assert (found["r"].kind, found["t"].kind) == ("relu", "tanh")
    fixed = match(pattern("add", *sides), last(graph), graph)
    assert reason(fixed) == "`tanh (line 1)` is `tanh`, not `relu`"


def test_the_reason_of_the_deepest_alternative_counts() -> None:
    shallow = pattern("tanh", bind="other")
    deep = pattern("relu", result_of(pattern("linear", result_of(pattern("softmax")))))
    graph = graph_of("output y = x -> sigmoid -> fc: linear(4) -> relu")
    for form in (one_of(shallow, deep), one_of(deep, shallow)):
        assert reason(match(form, last(graph), graph)) == "`sigmoid (line 1)` is `sigmoid`, not `softmax`"


MOVE = pattern(("flatten", "reshape", "transpose"))


def test_a_result_may_pass_through_other_nodes() -> None:
    form = pattern("relu", result_of(pattern("linear", bind="fc"), through=MOVE, only_use=True))
    graph = graph_of("output y = x -> fc: linear(4) -> transpose(1, 2) -> flatten -> relu")
    assert matched(match(form, last(graph), graph))["fc"].path == "fc"
    graph = graph_of("h = x -> fc: linear(4) -> transpose(1, 2)  output z = h  output y = h -> flatten -> relu")
    assert reason(match(form, last(graph), graph)) == "the result of `transpose (line 1)` has other uses"
    graph = graph_of("output y = x -> flatten -> relu")
    assert reason(match(form, last(graph), graph)) == "an operand is not the result of another operator"


def test_a_node_between_passes_on_the_operand_that_its_pattern_binds() -> None:
    second = pattern("sub", any_value(), any_value(PASSED))
    form = pattern("relu", result_of(pattern("tanh", bind="t"), through=second))
    graph = graph_of("output y = (x - (x - (x -> tanh))) -> relu")
    assert matched(match(form, last(graph), graph))["t"].kind == "tanh"


def test_a_value_that_is_used_twice_by_one_node_has_two_uses() -> None:
    form = pattern("add", result_of(pattern("relu"), only_use=True))
    graph = graph_of("r = x -> relu  output y = r + r")
    text = "`add (line 1)` uses the result of `relu (line 1)` more than once"
    assert reason(match(form, last(graph), graph)) == text


def test_excluded_operands() -> None:
    form = pattern("relu", unless(result_of(pattern("linear")), "it follows a layer"))
    graph = graph_of("output y = x -> fc: linear(4) -> relu")
    assert reason(match(form, last(graph), graph)) == "it follows a layer"
    graph = graph_of("output y = x -> relu")
    assert match(form, last(graph), graph) == {}


def test_values_match_without_a_node() -> None:
    graph = graph_of("output y = x -> fc: linear(4) -> flatten")
    form = result_of(pattern("linear"), through=MOVE, bind="v")
    assert matched(match_value(form, graph.outputs["y"], graph)) == {"v": graph.outputs["y"]}


def test_chains() -> None:
    graph = graph_of("h = x -> relu -> transpose(1, 2) -> flatten  output z = h  output y = h -> tanh")
    relu, transpose, flatten, _ = graph.nodes()
    assert list(chain_before(graph.outputs["z"], MOVE, graph)) == [flatten, transpose]
    assert list(chain_before(graph.outputs["z"], MOVE, graph, only_use=True)) == []
    assert list(chain_before(flatten.operands[0], MOVE, graph, only_use=True)) == [transpose]
    assert list(chain_after(relu.result, MOVE, graph)) == [transpose, flatten]
    assert list(chain_after(graph.inputs[0], MOVE, graph)) == []


def test_names_from_outside_do_not_choose_the_operand_that_is_passed_on() -> None:
    through = result_of(pattern("linear", bind="fc"), through=pattern("abs"))
    graph = graph_of("output y = (x -> tanh) * (x -> fc: linear(8) -> abs)")
    found = matched(match(pattern("mul", any_value(PASSED), through), last(graph), graph))
    assert found == {PASSED: last(graph).operands[0], "fc": graph.layers()["fc"]}


def test_nodes_that_pass_nothing_on_do_not_match() -> None:
    form = result_of(pattern("linear"), through=pattern())
    graph = graph_of("output y = x + (ones((8, 8)) -> relu)")
    value = last(graph).operands[1]
    assert reason(match_value(form, value, graph)) == "`ones (line 1)` is `ones`, not `linear`"
    assert [node.kind for node in chain_before(value, pattern(), graph)] == ["relu"]
    graph = graph_of("a, b = x -> relu -> split([4, 4], -1)  output y = b -> tanh  output z = a")
    value = last(graph).operands[0]
    assert reason(match_value(result_of(pattern("relu"), through=pattern("split")), value, graph)) == (
        "`split (line 1)` is `split`, not `relu`"
    )
    assert matched(match_value(result_of(pattern("split"), bind="second"), value, graph)) == {"second": value}


@pytest.mark.parametrize(
    ("otherwise", "text"),
    [
        ("`{after}` is not in {1, 3}, {}", "`{after}` is not in {1, 3}, {}"),
        ("{ {r} } after {t}", "{ relu (line 1) } after {t}"),
        ("{r.kind} {0} {", "{r.kind} {0} {"),
    ],
)
def test_other_braces_stay(otherwise: str, text: str) -> None:
    graph = graph_of("h = x -> tanh  output z = h  output y = h -> relu")
    relu = last(graph) if last(graph).kind == "relu" else graph.nodes()[-2]
    for before in (
        result_of(pattern("exp", otherwise=otherwise)),
        result_of(pattern("tanh"), only_use=True, shared=otherwise),
        unless(any_value(), otherwise),
    ):
        assert reason(match(pattern("relu", before, bind="r"), relu, graph)) == text


def test_equal_names_match_only_the_same_value() -> None:
    square = pattern("mul", any_value("a"), any_value("a"))
    graph = graph_of("r = x -> relu  output y = r * r")
    assert match(square, last(graph), graph) == {"a": last(graph).operands[0]}
    graph = graph_of("r = x -> relu  output y = r * x")
    text = "`<r: f32[N, 8, 8]>` and `<x: f32[N, 8, 8]>` differ, but the pattern binds both to `a`"
    assert reason(match(square, last(graph), graph)) == text
    same_node = pattern("mul", result_of(pattern("relu", bind="a")), result_of(pattern("relu", bind="a")))
    graph = graph_of("output y = (x -> relu) * (x -> relu)")
    assert "differ, but" in reason(match(same_node, last(graph), graph))


def test_a_later_name_chooses_among_the_matches_of_an_earlier_pattern() -> None:
    either = pattern("add", any_value("a"), any_value("b"), commutative=True)
    for operand, other in (("p", "q"), ("q", "p")):
        graph = graph_of(f"p = x -> relu  q = x -> tanh  output y = (p + q) * {operand}")
        found = matched(match(pattern("mul", result_of(either), any_value("a")), last(graph), graph))
        assert (found["a"].name, found["b"].name) == (operand, other)
        forms = (pattern("add", any_value("a")), pattern("add", any_value(), any_value("a")))
        found = matched(match(pattern("mul", result_of(one_of(*forms)), any_value("a")), last(graph), graph))
        assert found["a"].name == operand


def test_a_commutative_pattern_tries_each_operand_once_for_its_first_pattern() -> None:
    tried = []
    never = any_value(where=lambda found: bool(tried.append(found)))
    graph = graph_of(f"output y = ({', '.join(['x -> relu'] * 9)}) -> concat(dim = 1)")
    assert isinstance(match(pattern("concat", never, any_value(), commutative=True), last(graph), graph), NoMatch)
    assert tried == list(last(graph).operands)


def test_a_result_without_uses_has_a_reason() -> None:
    graph = graph_of("a, b = x -> split([4, 4], -1)  output y = a")
    unused = graph.nodes()[0].results[1]
    assert reason(match_value(result_of(pattern(), only_use=True), unused, graph)).endswith("has no use")


def test_an_absent_operand_is_a_value() -> None:
    assert match_value(any_value("bias"), None, graph_of("output y = x -> relu")) == {"bias": None}


def test_conditions_may_be_in_a_sequence() -> None:
    graph = graph_of("output y = x -> relu")
    form = pattern(where=[lambda node: True, Condition(lambda node: node.kind == "tanh", "it is no tanh")])
    assert reason(match(form, last(graph), graph)) == "it is no tanh"


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: pattern("relu", pattern("linear")), "a ValuePattern is needed"),
        (lambda: unless(pattern("linear")), "a ValuePattern is needed"),
        (lambda: all_of(any_value(), pattern("linear")), "a ValuePattern is needed"),
        (lambda: result_of(any_value()), "a NodePattern is needed"),
        (lambda: result_of(pattern(), through=any_value()), "a NodePattern is needed"),
        (lambda: one_of(pattern(), any_value()), "a NodePattern is needed"),
        (lambda: one_of(), "at least one pattern"),
        (lambda: pattern(where=3), "not 3"),
        (lambda: any_value(where=["relu"]), "not 'relu'"),
        (lambda: pattern(RELU), '`pattern` takes names of operators, such as "relu", not Flag; for a trait'),
        (lambda: pattern(Relu), "not the class `Relu`"),
        (lambda: pattern(("relu", Relu)), "not the class `Relu`"),
    ],
)
def test_wrong_patterns_are_refused(build: Callable[[], object], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        build()


def test_wrong_arguments_of_a_match_are_refused() -> None:
    graph = graph_of("output y = x -> relu")
    node, form = last(graph), pattern("relu")
    call = 'write `match(pattern("relu"), node, graph)`: the pattern is the first argument; the arguments are '
    for first, second, types in (("relu", node, "str, Node"), (node, form, "Node, NodePattern")):
        with pytest.raises(TypeError, match=re.escape(call + types)):
            match(first, second, graph)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`match` takes a node, not a Value"):
        match(form, node.result, graph)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the arguments are NodePattern, Value"):
        match_value(form, node.result, graph)  # type: ignore[arg-type]


# Laws ---------------------------------------------------------------------------------------------------------

UNARY = ("relu", "tanh", "flatten", "abs")


@st.composite
def chains(draw: st.DrawFn) -> Graph:
    """A few values of x, each the result of an operator on an earlier one; some are outputs."""
    lines, names = [], ["x"]
    for number in range(draw(st.integers(1, 7))):
        lines.append(f"v{number} = {draw(st.sampled_from(names))} -> {draw(st.sampled_from(UNARY))}")
        names.append(f"v{number}")
    outputs = draw(st.sets(st.sampled_from(names[1:]), min_size=1)) | {names[-1]}
    return graph_of("  ".join([*lines, *(f"output o{name} = {name}" for name in sorted(outputs))]))


@given(chains(), st.sampled_from(UNARY), st.sets(st.sampled_from(UNARY)), st.booleans())
def test_results_agree_with_a_search(graph: Graph, wanted: str, between: set[str], only_use: bool) -> None:
    form = pattern(
        (),
        result_of(pattern(wanted, bind="found"), through=pattern(sorted(between) or "no_operator"), only_use=only_use),
    )
    for one in graph.nodes():
        found = match(form, one, graph)
        assert (None if isinstance(found, NoMatch) else found["found"]) is _search(
            graph, one, wanted, between, only_use
        )


def _search(graph: Graph, start: Node, wanted: str, between: set[str], only_use: bool) -> Node | None:
    current = start.operands[0]
    while current.producer is not None:
        uses = sum(list(user.operands).count(current) for user in graph.nodes())
        uses += sum(output is current for output in graph.outputs.values())
        if only_use and uses > 1:
            return None
        if current.producer.op.name == wanted:
            return current.producer
        if current.producer.op.name not in between:
            return None
        current = current.producer.operands[0]
    return None


def test_a_value_can_match_several_patterns() -> None:
    graph = graph_of("y = x -> fc: linear(8) -> relu  output y")
    of_linear = result_of(pattern("linear"), bind="result")
    found = matched(match(pattern("relu", all_of(any_value("x"), of_linear)), last(graph), graph))
    assert found["x"] is found["result"] is last(graph).operands[0]
    both = all_of(of_linear, result_of(pattern("conv2d")))
    assert reason(match(pattern("relu", both), last(graph), graph)) == "`fc` is `linear`, not `conv2d`"


def test_the_kinds_of_alternatives_are_those_of_each() -> None:
    assert one_of(pattern("relu"), one_of(pattern(("tanh", "gelu")))).kinds == {"relu", "tanh", "gelu"}
    assert one_of(pattern("relu"), pattern()).kinds == pattern().kinds == frozenset()


def test_what_a_match_needs() -> None:
    wide = any_value(mark="wide")
    scaled = one_of(pattern("mul", wide), pattern("div", any_value(), wide))
    form = pattern(("relu", "tanh"), result_of(scaled, through=pattern("abs")), unless(result_of(pattern("exp"))))
    assert form.can_match({"tanh", "div", "wide"}) and form.can_match({"relu", "mul", "wide", "add"})
    for present in ({"div", "wide"}, {"tanh", "wide", "abs"}, {"tanh", "mul", "exp"}):
        assert not form.can_match(present)
    assert pattern().can_match(set()) and one_of(pattern("mul"), pattern()).can_match(set())
    assert not pattern("relu", all_of(any_value(), result_of(pattern("mul")))).can_match({"relu"})


@given(chains(), st.sampled_from(UNARY), st.sampled_from(UNARY))
def test_a_pattern_can_match_if_a_node_matches(graph: Graph, first: str, second: str) -> None:
    form = pattern(first, result_of(pattern(second), through=pattern("abs")))
    if not all(isinstance(match(form, node, graph), NoMatch) for node in graph.nodes()):
        assert form.can_match({node.kind for node in graph.nodes()})


@given(st.lists(st.tuples(st.sampled_from("+-o"), st.integers(0, 3), st.lists(st.integers(0, 4), max_size=3))))
def test_use_lists_agree_with_a_count(steps: list[tuple[str, int, list[int]]]) -> None:
    """Nodes 0 to 3 get, lose and change operands among the values 0 to 4."""
    uses: UseLists[int, int] = UseLists()
    operands: dict[int, list[int]] = {}
    outputs: list[int] = []
    for kind, one, values in steps:
        if kind == "o":
            for entry in values:
                uses.add_output(entry)
            outputs += values
            continue
        uses.disconnect(one, operands.pop(one, []))
        if kind == "+":
            uses.connect(one, values)
            operands[one] = values
    check(uses, operands, outputs)
    for entry in outputs[::2]:
        uses.remove_output(entry)
    check(uses, operands, outputs[1::2])


def check(uses: UseLists[int, int], operands: dict[int, list[int]], outputs: list[int]) -> None:
    for entry in range(5):
        users = [one for one, values in operands.items() if entry in values]
        assert sorted(uses.consumers(entry)) == sorted(users)
        assert uses.is_output(entry) == (entry in outputs)
        total = sum(values.count(entry) for values in operands.values()) + outputs.count(entry)
        assert uses.only_consumer(entry) == (users[0] if total == 1 and users else None)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (pattern("linaer"), "the operator `linaer`, which does not exist; did you mean `linear`?"),
        (pattern("relu", result_of(pattern(("conv2d", "liner")))), "the operator `liner`, which does not exist"),
        (
            pattern(("relu", "tanh"), attributes={"aproximate": "none"}),
            "the attribute `aproximate`, which `relu` or `tanh` does not have; leave it out",
        ),
        (
            pattern(("relu", "softmax"), attributes={"dmi": 1}),
            "the attribute `dmi`, which `relu` or `softmax` does not have; did you mean `dim`?",
        ),
    ],
)
def test_a_name_that_does_not_exist_is_an_error_at_the_first_use(form: NodePattern, message: str) -> None:
    graph = graph_of("output y = x -> fc: linear(4) -> relu")
    for _ in range(2):
        with pytest.raises(ValueError, match=re.escape(message)):
            match(form, last(graph), graph)


def test_names_of_operators_that_may_be_loaded_later_are_accepted() -> None:
    graph = graph_of("output y = x -> fc: linear(4) -> relu")
    for form in (
        pattern("wavelet_transform", attributes={"levels": 2}),
        pattern(("relu", "softmax"), attributes={"dim": 1}),
        pattern(attributes={"levels": 2}),
    ):
        assert isinstance(match(form, last(graph), graph), NoMatch)
