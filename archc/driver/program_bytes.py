"""Bytes of emitted programs, for passes that keep a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from archc.codegen.target import DEFAULT_FORM, Form, ModelToEmit, Target
from archc.diagnostics import ArchcError
from archc.driver.target_files import reported
from archc.driver.weights_file import needs_weights_file, write_weights
from archc.ir.graph import Graph
from archc.passmanager.targets import ProgramBytes


def bytes_of(
    targets: Sequence[Target], source_name: str, passes: Sequence[str], form: Form = DEFAULT_FORM
) -> ProgramBytes:
    """Counter of the bytes of the programs of several targets, for `TargetFacts.program_bytes`.

    Args:
        source_name, passes: the name of the source file and the passes, which the programs contain as text.
        form: the form of the programs.
    """

    def measure(graph: Graph) -> dict[str, int]:
        model = ModelToEmit(graph, source_name, None, passes, form=form)
        try:
            return {target.name: _bytes(model, target) for target in targets}
        except ArchcError:  # reported again when the model is written
            return {}

    return measure


def _bytes(model: ModelToEmit, target: Target) -> int:
    """Bytes of all files of a program: those of the target, the weights, and the files that it imports."""
    graph = model.graph
    with TemporaryDirectory(prefix="archc-bytes-") as name:
        folder = Path(name)

        def write_beside(name: str, text: str) -> str | None:
            if model.form.single_file:
                return None
            (folder / name).write_text(text, encoding="utf-8")
            return name

        weights = write_weights(graph, folder / model.weights_name) if needs_weights_file([target]) else None
        with reported(target, target.text or target.write):
            path = folder / f"{graph.name}{target.suffix}"
            target.write_file(replace(model, weights=weights, write_beside=write_beside), path)
        return sum(path.stat().st_size for path in folder.iterdir())
