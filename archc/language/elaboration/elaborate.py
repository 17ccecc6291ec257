"""Elaboration of a model: syntax tree to graph.

Elaboration continues after a mistake.  The names that a failed statement would have bound are bound to `POISON`, and
statements that use these names fail without a report.  Therefore one run reports several mistakes, each of them once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from archc.diagnostics import Diagnostics, Note, Span, listed
from archc.ir.graph import Graph, Scope
from archc.ir.rewriter import Rewriter
from archc.ir.verifier import verify
from archc.language.elaboration.context import Elaboration, Instance, Semantics
from archc.language.elaboration.control_flow import CONTROL_FLOW
from archc.language.elaboration.environment import Failed
from archc.language.elaboration.expressions import EXPRESSIONS
from archc.language.elaboration.instantiation import bind_attributes, report_no_output
from archc.language.elaboration.modules import DerivedModel, Module
from archc.language.elaboration.size_bound import allowed_parts, size_bound, text_length
from archc.language.elaboration.statements import STATEMENTS
from archc.language.elaboration.step_budget import BudgetExceeded, StepBudget
from archc.language.elaboration.user_names import check_instance_name, name_of, name_value
from archc.language.syntax import tree

SEMANTICS = Semantics(EXPRESSIONS, {**STATEMENTS, **CONTROL_FLOW})


def elaborate(
    module: Module,
    model: tree.Definition,
    values: Mapping[str, Any],
    diagnostics: Diagnostics,
    budget: StepBudget | None = None,
) -> Graph | None:
    """Graph of a model, without bound weights.

    Args:
        values: attribute values that replace the defaults.
        budget: counter of steps; all models of a file share one counter.

    Returns:
        The graph; None if errors were added to `diagnostics`.
    """
    errors = len(diagnostics.errors)
    elaboration = build_graph(module, model, values, diagnostics, budget)
    if len(diagnostics.errors) > errors:
        return None
    graph = elaboration.rewriter.graph
    remove_dead_layers(graph, diagnostics, elaboration.unused.reported)
    verify(graph)
    return graph


def build_graph(
    module: Module,
    model: tree.Definition,
    values: Mapping[str, Any],
    diagnostics: Diagnostics,
    budget: StepBudget | None = None,
) -> Elaboration:
    """Elaborate a model; the graph is incomplete if errors were added to `diagnostics`."""
    name = model.name.name
    scope = Scope("", name, doc=model.doc)
    derived = module.derived.get(name, DerivedModel(module, {}))
    instance = Instance(model, derived.home, scope)
    derivation = [Note(f"in the model `{name}`, which is derived here", model.name.span)]
    elaboration = Elaboration(
        Rewriter(Graph(name, scope)),
        diagnostics,
        SEMANTICS,
        budget if budget is not None else StepBudget(),
        derivation if name in module.derived else (),
    )
    try:
        check_instance_name(elaboration, instance)
        _check_size(elaboration, instance, module, values)
        bind_attributes(elaboration, instance, values, model.name.span, derived.defaults, module)
        elaboration.run(instance, model.body)
        if not instance.outputs and not diagnostics.errors:
            report_no_output(elaboration, instance)
    except Failed:
        return elaboration
    except BudgetExceeded:
        _report_budget(elaboration, model)
        return elaboration
    _add_outputs(elaboration, instance)
    elaboration.unused.gather(instance.environment)
    if not diagnostics.errors:  # after a failed statement, not all uses of names are known
        elaboration.unused.warn(diagnostics)
    return elaboration


def _check_size(elaboration: Elaboration, instance: Instance, module: Module, values: Mapping[str, Any]) -> None:
    """Refuse a model with too many nested blocks or loops before its graph is built."""
    bound = size_bound(module, instance.definition, values)
    elaboration.allowed_parts = allowed_parts(module)
    elaboration.budget.allow(*bound.size, text_length(module))
    if bound.iterations_span is not None:
        elaboration.report_iterations(instance, bound.size.iterations, bound.iterations_span)
    if bound.parts_span is not None:
        elaboration.report_parts(instance, f"{bound.size.parts:,}", bound.parts_span)


def _report_budget(elaboration: Elaboration, definition: tree.Definition) -> None:
    name = definition.name.name
    elaboration.diagnostics.error(
        "model-too-large",
        f"`{name}` takes more than {elaboration.budget.allowed:,} steps to build, the limit for this text",
        definition.name.span,
        help="use shorter loops, shorter tuples, or sizes with fewer terms",
    )


def _add_outputs(elaboration: Elaboration, instance: Instance) -> None:
    """Add the outputs of a model to the graph.

    An output without a name takes the name of its value, or `result` if the value has no name either.
    """
    names = [name or name_of(instance, value) for name, value, _ in instance.outputs]
    received = {value.name for value in elaboration.rewriter.graph.inputs}
    for number, (name, _, _) in enumerate(instance.outputs):
        # ONNX names are unique, so an output cannot have the name of an input.  For example, a model has the input `x`,
        # and then the statements `x = x -> relu` and `output x`: the output gets the name `result`.
        if name is None and names[number] in received:
            names[number] = None
    places: dict[str, Span] = {}
    for number, (name, (_, value, span)) in enumerate(zip(names, instance.outputs)):
        fallback = "result" if names.count(None) == 1 else f"result_{names[: number + 1].count(None)}"
        while name is None and fallback in names:
            fallback += "_"
        name = name or fallback
        if name in places:
            elaboration.diagnostics.error(
                "duplicate-name",
                f"two outputs are called `{name}`",
                span,
                notes=[Note("this is the first", places[name])],
                help="give one of them another name",
            )
        places.setdefault(name, span)
        elaboration.rewriter.output(name, value)
        name_value(instance, value, name)


# Dead layers ---------------------------------------------------------------------------------------------


MOST_NAMED = 4
"""Limit on the layers that one warning names: a block with 100 instances may have 100 dead layers."""


def remove_dead_layers(graph: Graph, diagnostics: Diagnostics, reported: Collection[Span] = ()) -> None:
    """Remove dead nodes, and warn of dead layers with weights.

    Args:
        reported: statements with an `unused-value` warning; there is no second warning for their layers.
    """
    rewriter = Rewriter(graph)
    stored = {path: frozenset(weight.tensors) for path, weight in graph.weights.items()}
    dead: dict[tuple[str, int, int], tuple[Span, list[str]]] = {}
    for node in rewriter.remove_unused_nodes():
        if node.path is None or node.span is None or not node.weights:
            continue
        _, paths = dead.setdefault((node.span.source.name, node.span.start, node.span.end), (node.span, []))
        paths.append(node.path)
    removed = rewriter.remove_unused_weights()
    graph.dead_weights = frozenset(tensor for path in removed for tensor in stored[path])
    live = set(graph.layers())
    for _, (span, paths) in sorted(dead.items()):
        if any(one.source == span.source and one.start <= span.start and span.end <= one.end for one in reported):
            continue
        if names := [path for path in dict.fromkeys(paths) if path not in live]:
            shown = listed(sorted(names), MOST_NAMED)
            diagnostics.warn(
                "dead-layer",
                f"the layer{'s' if len(names) > 1 else ''} {shown} feed{'' if len(names) > 1 else 's'} no output",
                span,
                help="use its result, or remove it; the emitted files have neither the layer nor its weights",
            )
