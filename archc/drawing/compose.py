"""A graph as a scene: the model from its outline, and each block that it uses drawn once, beside it."""

from __future__ import annotations

from collections.abc import Collection
from itertools import count

from archc.analysis.cost import cost
from archc.codegen.outline.outline import outline
from archc.codegen.outline.program import Definition, Program
from archc.diagnostics import did_you_mean, error
from archc.drawing.drafting import Draft
from archc.drawing.scene import Panel, Scene
from archc.drawing.stages import StageFinder
from archc.ir.graph import Graph


def compose(graph: Graph, depth: int = 0, opened: Collection[str] = ()) -> Scene:
    """What there is to draw of a model.

    Args:
        depth: how many levels of blocks are open in the places where they are used.
        opened: names of blocks that are open wherever they are used.

    Raises:
        ArchcError: a block of that name is not used (`unknown-block`), or the stages are wrong.
    """
    program = outline(graph, self_contained=True, mixed_loops=False)
    _check(program, opened)
    book = Book(graph, depth, frozenset(opened))
    panels: dict[Definition, Panel] = {}
    waiting = [program.model]
    for definition in waiting:  # grows meanwhile
        panels[definition] = book.panel(definition, definition is program.model)
        waiting += [inner for inner in book.closed if inner not in waiting]
    figures = cost(graph)
    note = f"{figures.parameters:,} parameters" if figures.parameters else ""
    return Scene(graph.name, note, list(panels.values()), book.stages.devices)


class Book:
    """What the panels of a scene have in common: numbers of marks, stages, and which blocks they show closed."""

    def __init__(self, graph: Graph, depth: int, opened: frozenset[str]):
        self.graph, self.depth, self.opened = graph, depth, opened
        self.stages = StageFinder(graph)
        self.marks = count(1)
        self.closed: dict[Definition, None] = {}

    def panel(self, definition: Definition, is_model: bool) -> Panel:
        """The panel of a definition in all its instances."""
        instances = tuple(range(len(definition.scopes)))
        note = "" if is_model else f"{len(instances)} uses" if len(instances) > 1 else "1 use"
        panel = Panel(definition.name, note, banded=is_model and self.stages.count > 1)
        Draft(self, definition, panel, level=0, is_model=is_model).draw_definition(instances)
        return panel

    def opens(self, definition: Definition, level: int) -> bool:
        """Whether a use of a block stands open, that many levels of open blocks deep."""
        return level < self.depth or bool(self.opened & _names(definition))


def _names(definition: Definition) -> set[str]:
    """What a person may call a definition: as it is titled, or as the text calls it."""
    return {definition.name, definition.scopes[0].definition}


def _check(program: Program, opened: Collection[str]) -> None:
    known = [name for definition in program.definitions[:-1] for name in sorted(_names(definition))]
    for name in opened:
        if name not in known:
            listed = ", ".join(f"`{one}`" for one in dict.fromkeys(known))
            way = did_you_mean(name, known) or (f"it uses {listed}" if known else "it uses no blocks")
            raise error("unknown-block", f"`{program.model.name}` uses no block `{name}`", help=way)
