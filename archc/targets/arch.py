"""The target `arch`: .arch text, which archc can compile again."""

from __future__ import annotations

from archc.codegen.target import ModelToEmit, Target


def _text(model: ModelToEmit) -> str:
    from archc.language.printing.printer import print_graph

    return print_graph(model.graph)


ARCH = Target("arch", ".arch", ".arch text", text=_text, needs_weights=False)
