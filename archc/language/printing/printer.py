"""Graph printer: the text of a graph after passes, with blocks, loops and names."""

from __future__ import annotations

import keyword

from archc.codegen.outline.build import outline
from archc.codegen.outline.definitions import BlockDefinition, BlockStep, OperatorStep, Outline
from archc.declaration.base import OPERATORS
from archc.ir.graph import Graph, Node, Order
from archc.language.elaboration.arithmetic import FUNCTIONS
from archc.language.printing import syntax_nodes
from archc.language.printing.body_printer import BodyPrinter, PrintContext
from archc.language.printing.parameterization import Parameters, parameterize
from archc.language.syntax import tree
from archc.language.syntax.formatter import format as format_file
from archc.language.syntax.parser import keywords
from archc.types.dims import symbols
from archc.types.storage import STORAGES
from archc.types.tensor_type import DType

_MOST_ORDERS = 5
"""Maximum number of times that `print_graph` writes a graph.

Two times are enough unless the new order of the nodes leads to new loops.
"""


def print_graph(graph: Graph) -> str:
    """Text of a graph; elaboration of the text gives an equal graph, and that graph has the same text.

    A value is written at its use, so the order of the text may differ from the order of the nodes.  Names, loops and
    the order of blocks depend on the order of the nodes.  Therefore the graph is printed again, with its nodes in the
    order of the text, until both orders agree.
    """
    order: dict[Node, Order] = {}
    for _ in range(_MOST_ORDERS):
        program = outline(graph, self_contained=True, mixed_loops=False, order=order)
        text, written = _write(graph, program)
        if all(tuple(rows) == definition.rows for definition, rows in written.items()):
            break
        order = {node: (place,) for place, node in enumerate(program.nodes(written))}
    return text


def _write(graph: Graph, program: Outline) -> tuple[str, dict[BlockDefinition, list[OperatorStep | BlockStep]]]:
    """Text of a program, and the statements of each definition in the order of the text."""
    words = keywords() | frozenset(keyword.kwlist) | {"self"}
    builtins = frozenset((*OPERATORS, *STORAGES, *DType.__members__, *FUNCTIONS))
    names = {definition: _block_name(definition.name, words | builtins) for definition in program.definitions[:-1]}
    names[program.model] = graph.name
    sizes = {name for value in graph.inputs for dim in value.type.shape for name in symbols(dim)}
    reserved = words | builtins | frozenset(names.values())
    parameters = parameterize(program, words | sizes)
    context = PrintContext(graph.weights, names, parameters, reserved | sizes)
    texts: list[str] = []
    written: dict[BlockDefinition, list[OperatorStep | BlockStep]] = {}
    for definition in program.definitions:
        is_model = definition is program.model
        printer = BodyPrinter(definition, is_model, context)
        body = printer.statements()
        written[definition] = printer.written
        texts.append(
            _text(definition, "model" if is_model else "block", names[definition], parameters[definition], body)
        )
    return "\n".join(texts), written


def _block_name(name: str, taken: frozenset[str]) -> str:
    """Printed name of a block, which must differ from keywords, operators and functions."""
    return f"{name}_block" if name in taken else name


def _text(
    definition: BlockDefinition,
    kind: str,
    name: str,
    parameters: Parameters,
    body: list[tree.Statement],
) -> str:
    """Text of a definition, after a comment with its documentation."""
    defaults = {attribute: syntax_nodes.value(value) for attribute, value in parameters.defaults.items()}
    attributes = tuple(
        tree.Attribute(syntax_nodes.NOWHERE, syntax_nodes.name(attribute), defaults.get(attribute))
        for attribute in parameters.values
    )
    item = tree.Definition(syntax_nodes.NOWHERE, kind, syntax_nodes.name(name), attributes, tuple(body))
    text = format_file(tree.File(syntax_nodes.NOWHERE, syntax_nodes.NOWHERE.source, (item,), ()))
    return "".join(f"# {line}".rstrip() + "\n" for line in definition.doc.splitlines()) + text
