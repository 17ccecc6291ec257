"""Warnings of options of `Compiled.write` that have no effect (`option-without-effect`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from archc.declaration.traits import DECODES
from archc.driver.compilation import Compilation

if TYPE_CHECKING:
    from archc.codegen.target import Target


def warn_of_activations(compiled: Compilation, targets: Sequence[Target]) -> None:
    """Warn that activations cannot become modules."""
    nodes = compiled.graph.nodes()
    if not any(target.has_activations for target in targets):
        reason, help = "has no effect: no target with modules is written", "add `torch`, or leave the option out"
    elif not any(node.op.activation_module() is not None for node in nodes):
        reason, help = f"has no effect: `{compiled.name}` has no activation", "leave the option out"
    elif any(node.op.has(DECODES) for node in nodes):
        reason = "has no effect in layers that compute in int8: their kernels apply activations"
        help = 'use a float model for attribution, or `quant(scheme = "weight")`'
    else:
        return
    _warn(compiled, f"`--activations modules` {reason}", help)


def warn_of_onnx(compiled: Compilation, targets: Sequence[Target]) -> None:
    """Warn that only standard operators were requested, although no file can have others."""
    if not any(target.contributed is not None for target in targets):
        _warn(
            compiled,
            "`--onnx standard` has no effect: no target with operators outside its standard is written",
            "add `onnx`, or leave the option out",
        )


def warn_of_single_file(compiled: Compilation) -> None:
    """Warn that a single file was requested, although no emitted file imports another file."""
    _warn(
        compiled,
        f"`--single-file` has no effect: no program of `{compiled.name}` imports a file, as quantized ones do",
        "leave the option out, or emit `torch` after the pass `quant`",
    )


def warn_of_check(compiled: Compilation) -> None:
    """Warn that a check was requested, although no emitted file can be run."""
    _warn(
        compiled,
        "`--check` has no effect: no emitted file can be run",
        "leave the option out, or emit a target with a runtime, such as `torch`",
    )


def warn_of_measure(compiled: Compilation, targets: Sequence[Target]) -> None:
    """Warn that no latency can be measured."""
    from archc.driver.latency import can_be_measured

    if compiled.graph.tensors is None:
        _warn(compiled, "`--measure` has no effect: there are no weights", "leave out `--weights none`")
    elif not any(map(can_be_measured, targets)):
        help = "leave the option out, or emit a target with a runtime, such as `torch`"
        _warn(compiled, "`--measure` has no effect: no emitted file can be measured", help)


def _warn(compiled: Compilation, message: str, help: str) -> None:
    compiled.diagnostics.warn("option-without-effect", message, help=help)
