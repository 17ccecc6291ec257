"""A graph as text: the blocks, loops and names of what it was made from, as far as passes left them."""

from __future__ import annotations

import keyword

from archc.codegen.outline import outline
from archc.codegen.program import Definition
from archc.ir.dims import symbols
from archc.ir.graph import Graph
from archc.ir.storage import STORAGES
from archc.ir.types import DType
from archc.language import spelling, syntax
from archc.language.arithmetic import FUNCTIONS
from archc.language.formatter import format as format_file
from archc.language.layout import Layout, Surroundings
from archc.language.parametrize import Parameters, parametrize
from archc.language.parser import keywords
from archc.ops.operator import OPERATORS


def print_graph(graph: Graph) -> str:
    """The text of a graph: elaborating it gives an equal graph."""
    program = outline(graph, self_contained=True, mixed_loops=False)
    words = keywords() | frozenset(keyword.kwlist) | {"self"}
    meanings = frozenset((*OPERATORS, *STORAGES, *DType.__members__, *FUNCTIONS))
    names = {definition: _block_name(definition.name, words | meanings) for definition in program.definitions[:-1]}
    names[program.model] = graph.name
    sizes = {name for value in graph.inputs for dim in value.type.shape for name in symbols(dim)}
    reserved = words | meanings | frozenset(names.values())
    parameters = parametrize(program, words | sizes)
    surroundings = Surroundings(graph.weights, names, parameters, reserved | sizes)
    texts = []
    for definition in program.definitions:
        is_model = definition is program.model
        body = Layout(definition, is_model, surroundings).statements()
        texts.append(
            _text(definition, "model" if is_model else "block", names[definition], parameters[definition], body)
        )
    return "\n".join(texts)


def _block_name(name: str, taken: frozenset[str]) -> str:
    """The name of a block; the operator that may share it is needed under its own."""
    return f"{name}_block" if name in taken else name


def _text(
    definition: Definition,
    kind: str,
    name: str,
    parameters: Parameters,
    body: list[syntax.Statement],
) -> str:
    defaults = {attribute: spelling.value(value) for attribute, value in parameters.defaults.items()}
    heads = tuple(
        syntax.Attribute(spelling.NOWHERE, spelling.name(attribute), defaults.get(attribute))
        for attribute in parameters.values
    )
    item = syntax.Definition(spelling.NOWHERE, kind, spelling.name(name), heads, tuple(body))
    text = format_file(syntax.File(spelling.NOWHERE, spelling.NOWHERE.source, (item,), ()))
    return "".join(f"# {line}".rstrip() + "\n" for line in definition.doc.splitlines()) + text
