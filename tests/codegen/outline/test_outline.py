"""Outlines: each node of a graph occurs once, with its operands, and equal uses share a definition."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archc
from archc.codegen.outline.alignment import text_key
from archc.codegen.outline.build import outline
from archc.codegen.outline.definitions import BlockDefinition, BlockStep, Local, Loop, OperatorStep, Outline, Statement
from archc.declaration.base import OPERATORS
from archc.ir.graph import Graph, Node, Scope
from archc.ir.rewriter import Rewriter
from archc.ops.linear import Linear
from archc.types.dims import symbol
from archc.types.tensor_type import DType, TensorType
from tests.language.random_graphs import random_graph

Meaning = tuple[object, ...]
"""Key of an input, of a node with the numbers of its operands, or of one result of a node.

Graph and outline number equal keys equally, so equal numbers mean equal values.
"""


def meaning(node: Node, operands: tuple[int, ...], numbers: dict[Meaning, int]) -> int:
    """Return the number of a node whose operands have these numbers."""
    return numbers.setdefault((node.op, node.path, tuple(sorted(node.weights.items())), operands), len(numbers))


def in_graph(graph: Graph, numbers: dict[Meaning, int]) -> tuple[list[int], list[int]]:
    """Return the numbers of the nodes and of the outputs of a graph."""
    known = {value: numbers.setdefault((value.name,), len(numbers)) for value in graph.inputs}
    found = []
    for node in graph.nodes():
        found.append(meaning(node, tuple(known[value] for value in node.operands), numbers))
        for value in node.results:
            known[value] = numbers.setdefault((found[-1], value.index), len(numbers))
    return found, [known[value] for value in graph.outputs.values()]


def in_program(program: Outline, numbers: dict[Meaning, int]) -> tuple[list[int], list[int]]:
    """Return the numbers of the nodes and of the outputs, found by executing an outline."""
    found: list[int] = []

    def run(definition: BlockDefinition, instance: int, values: list[int]) -> list[int]:
        known = dict(zip(definition.inputs, values, strict=True))
        body(definition.body, instance, known)
        return [known[local] for local in definition.outputs]

    def body(statements: tuple[Statement, ...], instance: int, known: dict[Local, int]) -> None:
        for statement in statements:
            if isinstance(statement, OperatorStep):
                operands = tuple(known[local] for local in statement.operands)
                found.append(meaning(statement.nodes[instance], operands, numbers))
                for index, local in enumerate(statement.results):
                    known[local] = numbers.setdefault((found[-1], index), len(numbers))
            elif isinstance(statement, BlockStep):
                operands = [known[local] for local in statement.operands]
                results = run(statement.definition, statement.instances[instance], operands)
                known.update(zip(statement.results, results, strict=True))
            else:
                carried = [known[local] for local in statement.carried]
                for parameters, steps, yields in zip(statement.parameters, statement.iterations, statement.yields):
                    known.update(zip(parameters, carried, strict=True))
                    body(steps, instance, known)
                    carried = [known[local] for local in yields]
                known.update(zip(statement.results, carried, strict=True))

    inputs = [numbers[(local.name,)] for local in program.model.inputs]
    outputs = run(program.model, 0, inputs)
    return found, outputs


@pytest.mark.parametrize("self_contained", [False, True])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_node_occurs_once_with_its_operands(self_contained: bool, seed: int) -> None:
    graph = random_graph(seed)
    program = outline(graph, self_contained=self_contained, mixed_loops=not self_contained)
    numbers: dict[Meaning, int] = {}
    nodes, outputs = in_graph(graph, numbers)
    executed, results = in_program(program, numbers)
    assert results == outputs
    assert sorted(executed) == sorted(nodes)
    names = [definition.name for definition in program.definitions]
    assert len(set(names)) == len(names) and all(name.isidentifier() for name in names)


def parsed(text: str) -> Outline:
    return outline(archc.parse(text))


def members(definition: BlockDefinition) -> list[str]:
    found = []
    for statement in definition.body:
        for step in statement.iterations[0] if isinstance(statement, Loop) else (statement,):
            if not isinstance(step, Loop) and step.member is not None:
                found.append(step.member.name)
    return found


def only_loop(definition: BlockDefinition) -> Loop:
    (loop,) = [statement for statement in definition.body if isinstance(statement, Loop)]
    return loop


GPT = """
    # One layer.
    block Block(width) { input x  output x + (x -> up: linear(width) -> gelu -> down: linear(8)) }
    model gpt {
        input x: f32[N, 8]
        for i in 0..4 { x = x -> h[i]: Block(16 * (i + 1)) }
        output y = x -> head: linear(3)
    }
"""


def test_equal_uses_share_a_definition() -> None:
    block, model = parsed(GPT).definitions
    assert (block.name, block.doc, model.name) == ("Block", "One layer.", "gpt")
    assert [scope.path for scope in block.scopes] == ["h.0", "h.1", "h.2", "h.3"]
    up = block.body[0]
    assert isinstance(up, OperatorStep) and up.member is not None and up.member.name == "up"
    assert [node.op.out_features for node in up.nodes] == [16, 32, 48, 64]  # type: ignore[attr-defined]


def test_repeated_statements_are_a_loop() -> None:
    loop = only_loop(parsed(GPT).model)
    assert loop.lists == ("h",) and loop.count == 4 and loop.uniform
    assert [step.instances for (step,) in loop.iterations if isinstance(step, BlockStep)] == [(0,), (1,), (2,), (3,)]
    assert [local.uses for local in (*loop.carried, *loop.results)] == [1, 1]


def test_names_of_definitions_say_their_structure() -> None:
    program = parsed("""
        block B(extra = false, more = 0) {
            input x
            x = x -> a: linear(8)
            if extra { x = x -> gate: linear(8) }
            for i in 0..more { x = x -> h[i]: linear(8) }
            output x
        }
        model m {
            input x: f32[N, 8]
            output y = x -> p: B -> q: B(extra = true) -> r: B -> s: B(more = 2) -> t: B(more = 3)
        }
    """)
    assert [definition.name for definition in program.definitions] == ["B", "BWithGate", "BWithH", "m"]


def test_uses_that_differ_in_numbers_count_as_one_structure() -> None:
    # The slices give `a` and `b` two definitions, but `c` is the use with another structure.
    program = parsed("""
        block B(size) { input x  y = x[:, :size]  if size > 4 { y = y -> wide: linear(8) }  output y }
        model m { input x: f32[N, 8]  output y = x -> c: B(8) -> a: B(4) -> b: B(2) }
    """)
    assert [definition.name for definition in program.definitions] == ["BWithWide", "B", "B2", "m"]


@pytest.mark.parametrize(
    "inside, together",
    [
        ("x -> max_pool2d(size)", True),
        ("x -> pool: max_pool2d(size)", True),
        ("x -> conv: conv2d(4, 1, stride = size)", True),
        ("x -> reshape((N, 4, 16 * size, -1))", True),
        ("x[:, :, size:]", False),
    ],
)
def test_attributes_may_differ_but_not_in_operators_with_their_own_notation(inside: str, together: bool) -> None:
    program = parsed(f"""
        block B(size) {{ input x: f32[N, 4, H, W]  output {inside} }}
        model m {{ input x: f32[N, 4, 32, 32]  output y = x -> a: B(1) -> b: B(2) }}
    """)
    assert [definition.name for definition in program.definitions] == (["B", "m"] if together else ["B", "B2", "m"])


@pytest.mark.parametrize("crossed", ["(y, x) -> b: B", "(x, y) -> b: B -> c: Other"])
def test_another_use_shows_the_inputs_of_a_use_with_one_tensor_twice(crossed: str) -> None:
    block = "block B { input p  input q  output p + (q -> fc: linear(8)) }\n"
    model = "model m { input x: f32[N, 8]  input y: f32[N, 8]  u = (x, x) -> a: B  v = %s  output z = u * v }"
    other = "block Other { input x  output x -> relu }\n"
    program = parsed(block + other + model % crossed)
    definition = next(found for found in program.definitions if found.name == "B")
    assert len(definition.scopes) == 2 and [local.name for local in definition.inputs] == ["p", "q"]
    uses = {step.member.name: step for step in program.model.body if isinstance(step, BlockStep)}
    assert uses["a"].definition is uses["b"].definition is definition
    assert len(set(uses["a"].operands)) == 1 and len(uses["a"].operands) == 2


def test_uses_that_all_receive_one_tensor_twice_have_one_input() -> None:
    """If both inputs of each use are one tensor, the input that an operator reads is not known."""
    other_wiring = "if swap { output q + (p -> fc: linear(8)) } else { output p + (q -> fc: linear(8)) }"
    block = f"block B(swap) {{ input p  input q  {other_wiring} }}\n"
    model = "model m { input x: f32[N, 8]  output z = ((x, x) -> a: B(true)) * ((x, x) -> b: B(false)) }"
    program = parsed(block + model)
    (definition,) = (found for found in program.definitions if found.name == "B")
    assert len(definition.inputs) == 1 and len(definition.scopes) == 2


def test_a_layer_used_twice_is_one_instance_with_two_uses() -> None:
    block, model = parsed("""
        block Encoder { input x  output x -> fc: linear(8) -> relu }
        model m {
            input a: f32[N, 8]
            input b: f32[N, 8]
            layer encoder = Encoder
            output y = (a -> encoder) + (b -> encoder)
        }
    """).definitions
    first, second, _ = model.body
    assert len(block.scopes) == 1
    assert isinstance(first, BlockStep) and isinstance(second, BlockStep)
    assert first.member is second.member and first.member.shared and first.instances == second.instances == (0,)


def test_shared_weights_are_ties_of_the_innermost_definition_that_holds_both() -> None:
    inner, outer, model = parsed("""
        block Pair { input x  output x -> a: linear(8) -> b: linear(8, weight = a.weight) }
        block Outer { input x  output x -> pair: Pair -> c: linear(8) }
        model m {
            input x: f32[N, 8]
            output y = x -> p: Outer -> d: linear(8) -> e: linear(8, bias = false, weight = d.weight)
        }
    """).definitions
    assert [(tie.weight, tie.source) for tie in inner.ties] == [("b.weight", "a.weight")]
    assert [(tie.weight, tie.source) for tie in model.ties] == [("e.weight", "d.weight")]
    assert not outer.ties


def leaking() -> Graph:
    """A block with a weight that belongs to a layer outside it."""
    graph = Graph("m")
    rewriter = Rewriter(graph)
    value = rewriter.input("x", TensorType(DType.f32, (symbol("N"), 8)))
    value = rewriter.add(Linear(8), [value], name="own").result
    for number in range(2):
        scope = Scope(f"h.{number}", "Block", graph.scope)
        value = rewriter.add(Linear(8), [value], name="fc", scope=scope, weights={"weight": "own.weight"}).result
    rewriter.output("y", value)
    return graph


def test_a_weight_from_outside_is_a_tie_of_the_outer_definition() -> None:
    block, model = outline(leaking()).definitions
    assert len(block.scopes) == 2 and not block.ties
    assert [(tie.weight, tie.source) for tie in model.ties] == [
        ("h.0.fc.weight", "own.weight"),
        ("h.1.fc.weight", "own.weight"),
    ]


def test_self_contained_definitions_have_no_weight_from_outside() -> None:
    (model,) = outline(leaking(), self_contained=True).definitions
    assert members(model) == ["own", "h.0.fc"]
    assert only_loop(model).lists == ("h",)


def test_a_block_that_data_leaves_and_reenters_is_taken_apart() -> None:
    graph = Graph("m")
    rewriter = Rewriter(graph)
    x = rewriter.input("x", TensorType(DType.f32, (symbol("N"), 8)))
    attn = Scope("attn", "Attention", graph.scope)
    inner = Scope("attn.inner", "Inner", attn)
    query = rewriter.add(Linear(8), [x], name="query", scope=inner).result
    between = rewriter.add(OPERATORS["relu"](), [query]).result  # between the layers of `attn`, but outside it
    out = rewriter.add(Linear(8), [between], name="out", scope=attn).result
    rewriter.output("y", out)
    program = outline(graph)
    assert [definition.name for definition in program.definitions] == ["Inner", "m"]
    assert members(program.model) == ["attn.inner", "attn.out"]


def test_a_node_changed_by_a_pass_splits_a_definition() -> None:
    """Uses of two definitions are in one loop only with `mixed_loops`."""
    graph = archc.parse(GPT)
    rewriter = Rewriter(graph, by="test")
    gelu = next(node for node in graph.nodes() if node.op.name == "gelu" and node.scope.path == "h.2")
    rewriter.set_operator(gelu, OPERATORS["relu"]())
    mixed = outline(graph)
    assert [(d.name, len(d.scopes)) for d in mixed.definitions] == [("Block", 3), ("Block2", 1), ("gpt", 1)]
    loop = only_loop(mixed.model)
    assert loop.count == 4 and not loop.uniform
    unrolled = outline(graph, mixed_loops=False).model
    assert not any(isinstance(statement, Loop) for statement in unrolled.body)


def test_nodes_with_different_keys_split_definitions() -> None:
    program = outline(archc.parse(GPT), key=lambda node, op: (text_key(node, op), node.scope.path == "h.1"))
    assert [(d.name, len(d.scopes)) for d in program.definitions] == [("Block", 3), ("Block2", 1), ("gpt", 1)]


@pytest.mark.parametrize(
    ("body", "lists"),
    [
        # An iteration may begin with a function, and run over several lists at once.
        ("for i in 0..3 { x = x -> relu -> conv[i]: linear(8) -> norm[i]: layer_norm }", ("conv", "norm")),
        ("for i in 0..3 { x = x -> conv[i]: linear(8) -> tanh }", ("conv",)),
        ("layer both = linear(8)\n for i in 0..3 { x = x -> both -> conv[i]: linear(8) }", ("conv",)),
        # The first tensor is read in every iteration.
        ("m = x\n for i in 0..3 { x = (x -> conv[i]: linear(8)) + m }", ("conv",)),
        # A loop may begin with a later element.  Here, the result `a` of the first element is used after the list.
        ("a = x -> conv[0]: linear(8)\n b = a -> conv[1]: linear(8)\n x = a + (b -> conv[2]: linear(8))", ("conv",)),
        # One element is not a loop, and elements without an element 0 are not a list.
        ("x = x -> conv[0]: linear(8)", None),
        ("x = x -> conv[1]: linear(8) -> conv[2]: linear(8)", None),
        # A loop runs to the last element of a list, but another statement precedes `conv[2]`.
        ("x = x -> conv[0]: linear(8) -> conv[1]: linear(8) -> relu -> conv[2]: linear(8)", None),
        # Each iteration reads the result of the iteration before the previous one.
        ("a = x\n for i in 0..4 { t = x -> conv[i]: linear(8)\n x = a\n a = t }\n x = x + a", None),
    ],
)
def test_repetitions_that_are_loops(body: str, lists: tuple[str, ...] | None) -> None:
    graph = archc.parse(f"model m {{ input x: f32[N, 8]\n {body}\n output y = x }}")
    loops = [statement for statement in outline(graph).model.body if isinstance(statement, Loop)]
    assert [loop.lists for loop in loops] == ([] if lists is None else [lists])


def test_twenty_thousand_nodes_in_a_row() -> None:
    """The outline of a deep graph needs neither recursion nor quadratic time."""
    graph = Graph("m")
    rewriter = Rewriter(graph)
    value = rewriter.input("x", TensorType(DType.f32, (symbol("N"), 8)))
    relu = OPERATORS["relu"]()
    for _ in range(20_000):
        value = rewriter.add(relu, [value]).result
    rewriter.output("y", value)
    assert len(outline(graph).model.body) == 20_000
