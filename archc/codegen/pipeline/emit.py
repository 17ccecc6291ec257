"""Emit the program that runs each stage of a model in its own process.

The program uses `torch.distributed.pipelining`.  It is the same for every model, except for names and the constants at
its start.
"""

from __future__ import annotations

from collections.abc import Sequence

from archc.codegen.pipeline.split import ModelStage
from archc.codegen.python_source import compiled
from archc.codegen.templates import template
from archc.codegen.torch.formatting import lines_of, safe_text
from archc.codegen.torch.names import identifier
from archc.codegen.torch.parameters import is_trained
from archc.declaration.spelling import literal
from archc.ir.graph import Graph
from archc.types.dims import as_symbol
from archc.types.tensor_type import TensorType


def emit(graph: Graph, stages: Sequence[ModelStage], *, source_name: str, compilation: str = "") -> str:
    """The source of the program.

    Args:
        graph: the whole model; stages: its stages.
        source_name: the name of the source text, for the docstring.
        compilation: identifier of the compilation; the modules of the stages have the same identifier.
    """
    names = [identifier(value.name or "x") for value in graph.inputs]
    batched = has_samples(graph)
    source = template("archc.codegen.pipeline", "pipeline.py.jinja").render(
        title=f"Run `{graph.name}` as a pipeline of {len(stages)} stages.",
        file=f"{graph.name}_pipeline.py",
        count=len(stages),
        source=safe_text(source_name),
        inputs_text=" and ".join(f"`{value.name}`" for value in graph.inputs),
        arguments=", ".join(names),
        example=", ".join(f"{name}[:8]" if batched else name for name in names),
        model=literal(graph.name),
        compilation=compilation,
        stages=_constant("STAGES", tuple(stage.name for stage in stages)),
        devices=_constant("DEVICES", tuple(stage.device for stage in stages)),
        inputs=_dictionary("INPUTS", {value.name or "": _type(value.type) for value in graph.inputs}),
        outputs=_constant("OUTPUTS", tuple(graph.outputs)),
        batched=_constant("BATCHED", batched),
        shared=_dictionary("SHARED", {name: literal(held) for name, held in shared(stages).items()}),
    )
    return compiled(source, f"{graph.name}_pipeline")


def has_samples(graph: Graph) -> bool:
    """Return whether the first axis of all inputs and outputs is the batch, which can be split."""
    types = [value.type for value in (*graph.inputs, *graph.outputs.values())]
    first = [as_symbol(type.shape[0]) if type.rank else None for type in types]
    return first[0] is not None and all(found == first[0] for found in first)


def shared(stages: Sequence[ModelStage]) -> dict[str, tuple[int, ...]]:
    """The parameters with copies in several stages, each with the numbers of the stages."""
    found: dict[str, list[int]] = {}
    for stage in stages:
        for path, weight in stage.graph.weights.items():
            if is_trained(weight):
                found.setdefault(path, []).append(stage.number)
    return {path: tuple(held) for path, held in found.items() if len(held) > 1}


def _type(type: TensorType) -> str:
    shape = tuple(dim if isinstance(dim, int) else str(dim) for dim in type.shape)
    return f"({literal(type.dtype)}, {literal(shape)})"


def _constant(name: str, value: object) -> str:
    return "\n".join(lines_of(f"{name} = ", literal(value), 0))


def _dictionary(name: str, items: dict[str, str]) -> str:
    """The source of a dictionary whose values are expressions."""
    text = ", ".join(f"{literal(key)}: {value}" for key, value in items.items())
    annotation = "" if items else ": dict[str, tuple[int, ...]]"
    return "\n".join(lines_of(f"{name}{annotation} = ", f"{{{text}}}", 0))
