"""The source of a PyTorch module: ordinary Python that imports torch, and nothing of archc.

The graph is folded back into the definitions of its text; each becomes a class.  Everything is decided here and in
the modules that this one calls; the template only puts the parts in their places.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from archc.codegen.outline import outline
from archc.codegen.program import Definition, Local, Program
from archc.codegen.torch.classes import ClassPlan, Context, plan
from archc.codegen.torch.local_types import local_types
from archc.codegen.torch.lower import lower
from archc.codegen.torch.names import VARIABLES, Names, class_name, is_reserved_member
from archc.codegen.torch.spell import module_of
from archc.codegen.torch.docstrings import docstring
from archc.codegen.torch.formatting import has_name, signature
from archc.diagnostics import Diagnostics
from archc.ir.graph import Graph
from archc.ops.spelling import literal

if TYPE_CHECKING:
    import jinja2


def emit(graph: Graph, *, source_name: str, weights_name: str) -> str:
    """The Python source of a module for a graph.

    Args:
        source_name: what the docstring calls the text that it was made from.
        weights_name: the safetensors file beside the module.

    Raises:
        ArchcError: a layer has a name that PyTorch needs for itself.
    """
    _check_names(graph)
    lowered = lower(outline(graph), graph, lambda node: module_of(node, graph) is not None)
    program = lowered.program
    _name_classes(program)
    context = Context(graph, local_types(program), lowered.own, names=Names([*VARIABLES, class_name(graph.name)]))
    for definition in program.definitions[:-1]:
        plan(definition, context)
    context.names.taken.discard(class_name(graph.name))
    plan(program.model, context)
    plans = [made for definition in program.definitions for made in context.plans[definition]]
    (model,) = context.plans[program.model]
    classes = [_class(made, "model" if made is model else "block", source_name) for made in plans]
    code = [line for lines in classes for line in lines]
    template = _templates().get_template("module.py.jinja")
    return template.render(
        docstring="\n".join(_module_docstring(model, graph, source_name)),
        functional=has_name(code, "F"),
        classes=["\n".join(lines) for lines in classes],
        model=model.name,
        weights_name=literal(weights_name),
    )


@cache
def _templates() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("archc.codegen.torch", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )


def _check_names(graph: Graph) -> None:
    found = Diagnostics()
    for path, node in graph.layers().items():
        for segment in path.split("."):
            if is_reserved_member(segment):
                found.error(
                    "reserved-name",
                    f"`{path}` cannot be a layer of a PyTorch module: `{segment}` is a name that modules have themselves",
                    node.span,
                    help="choose another name",
                )
    found.check()


def _name_classes(program: Program) -> None:
    for definition in program.definitions[:-1]:
        name = definition.name
        definition.name = name if name[:1].isupper() else class_name(name)
    program.model.name = class_name(program.model.name)


def _class(made: ClassPlan, kind: str, source_name: str) -> list[str]:
    definition = made.definition
    lines = [f"class {made.name}(nn.Module):"]
    lines += docstring(_class_docstring(made, kind, source_name), 1)
    if made.init:
        lines += ["", *signature("__init__", ["self", *made.arguments.parameters()], "", 1)]
        lines += ["        super().__init__()", *made.init]
    parameters = [f"{name}: Tensor" for name in made.inputs]
    parameters += [f"{extra.name}: {'int' if extra.symbol is not None else 'Tensor'}" for extra in made.extras]
    count = len(definition.outputs)
    result = " -> Tensor" if count == 1 else f" -> tuple[{', '.join(['Tensor'] * count)}]"
    return [*lines, "", *signature("forward", ["self", *parameters], result, 1), *made.forward]


def _class_docstring(made: ClassPlan, kind: str, source_name: str) -> list[str]:
    definition = made.definition
    title = _sentence(definition.doc) or f"The {kind} `{definition.scopes[0].definition}`."
    if kind == "model":
        return [title]
    shapes = [made.notes.described(local, name) for local, name in zip(definition.inputs, made.inputs)]
    results = [made.notes.shape(made.notes.types(local)) for local in definition.outputs]
    if None in results:
        return [title]
    return [title, f"{'; '.join(shapes)} -> {', '.join(result or '' for result in results)}"]


def _module_docstring(model: ClassPlan, graph: Graph, source_name: str) -> list[str]:
    definition = model.definition
    parameters = sum(weight.size for weight in graph.weights.values() if weight.trainable)
    title = _sentence(definition.doc) or f"The model `{graph.name}`."
    return docstring(
        [
            title,
            "Inputs:\n" + _listed(model, definition.inputs, model.inputs),
            "Outputs:\n" + _listed(model, definition.outputs, list(graph.outputs)),
            f"{parameters:,} parameters; generated by archc from {source_name}.",
        ],
        0,
    )


def _listed(model: ClassPlan, locals_: tuple[Local, ...], names: list[str]) -> str:
    return "\n".join(f"    {model.notes.described(local, name)}" for local, name in zip(locals_, names)) or "    none"


def _sentence(doc: str) -> str:
    doc = doc.strip()
    return doc if not doc or doc[-1] in ".!?" else f"{doc}."
