"""Run emitted programs in the runtimes of their targets, whole or in stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from archc.codegen.target import RunError, Runtime, Target
from archc.diagnostics import ArchcError, error, silent
from archc.frozen_dataclass import frozen_dataclass
from archc.targets.registry import BUILT_IN, REGISTERED, names_of, runnable_targets

if TYPE_CHECKING:
    import torch

    from archc.ir.graph import Graph

Inputs = Mapping[str, "torch.Tensor"]
Files = Mapping[str, Path]
"""Paths of the emitted files of a model or a stage by suffix (`.py`, `.onnx`).

The weights are in the same folder.
"""

_STAGES = " stages"


@frozen_dataclass
class Programs:
    """The files of a model, and the files of each of its stages.

    The key of a program is the name of its runtime, such as `onnxruntime`, or for stages `onnxruntime stages`.

    Attributes:
        folder: None to run the files as they are; with a folder for temporary files, only runtimes that saturate sums
            of 8-bit products run, with exact sums (`Runtime.exact_sums`).
    """

    files: Files
    stages: Sequence[Files] = ()
    folder: Path | None = None

    def results(
        self, graph: Graph, inputs: Inputs, tell: Callable[[str], None] = silent
    ) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """Run each program; yield its key and its outputs by name.

        Args:
            tell: called with the key of a program before the program runs.

        Raises:
            ArchcError: a program does not run (`check-failed`).
        """
        for key, target, paths in self._programs():
            tell(key)
            values = tuple(inputs.values())
            for path in paths:
                values = self._run(target, path, values)
            if len(values) != len(graph.outputs):
                count = f"{len(values)} tensors, not {len(graph.outputs)}"
                raise _refusal(target, "returns a wrong result for", count)
            yield key, dict(zip(graph.outputs, values, strict=True))

    def _programs(self) -> Iterator[tuple[str, Target, list[Path]]]:
        """The key, the target and the files of each program, which run one after another."""
        for target in runnable_targets(self.files):
            yield _runtime(target).name, target, [self.files[target.suffix]]
        for target in runnable_targets(set.intersection(*map(set, self.stages)) if self.stages else ()):
            yield _runtime(target).name + _STAGES, target, [files[target.suffix] for files in self.stages]

    def exactly(self, folder: Path) -> Programs:
        """Programs with exact sums of 8-bit products, for the runtimes that otherwise saturate such sums.

        Args:
            folder: a folder for temporary files.
        """
        saturating = {target.suffix for target in REGISTERED.values() if target.runtime and target.runtime.exact_sums}
        files, *stages = (
            {suffix: path for suffix, path in each.items() if suffix in saturating}
            for each in (self.files, *self.stages)
        )
        return replace(self, files=files, stages=stages, folder=folder)

    def _run(self, target: Target, path: Path, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        import torch

        runtime = _runtime(target)
        try:
            with torch.no_grad():
                if self.folder is None or runtime.exact_sums is None:
                    outputs = runtime.run(path, inputs)
                else:
                    outputs = runtime.exact_sums.run(path, inputs, self.folder)
        except MemoryError:
            raise  # the command line reports a lack of memory
        except RunError as failure:
            verb = "refuses" if failure.refused else "cannot run"
            raise _refusal(target, verb, str(failure).strip()) from failure
        except (Exception, SystemExit) as failure:
            raise _refusal(target, "cannot run", f"{type(failure).__name__}: {str(failure).strip()}") from failure
        given = [outputs] if isinstance(outputs, torch.Tensor) else outputs
        if not isinstance(given, Sequence) or not all(isinstance(each, torch.Tensor) for each in given):
            raise _refusal(target, "returns a wrong result for", f"{type(outputs).__name__}, not tensors")
        # An output that is a parameter requires gradients even under `no_grad`, so it is detached.
        return tuple(each.detach() for each in given)


def _runtime(target: Target) -> Runtime:
    assert target.runtime is not None, "only targets with a runtime are run"
    return target.runtime


def _refusal(target: Target, verb: str, message: str) -> ArchcError:
    lines = message.splitlines() or [""]
    what = f"{_runtime(target).title} {verb} the {target.title}: {lines[0]}"
    return error("check-failed", what, notes=lines[1:4], help=_without(target))


def target_of(program: str) -> Target:
    """Target of a program, given its key."""
    name = program.removesuffix(_STAGES)
    return next(target for target in REGISTERED.values() if target.runtime and target.runtime.name == name)


def title_of(program: str) -> str:
    """Title of a program for messages, given its key."""
    title = _runtime(target_of(program)).title
    return f"the stages in {title}" if program.endswith(_STAGES) else title


def without(program: str) -> str:
    """Help for a program that fails, given its key."""
    return _without(target_of(program))


def _without(target: Target) -> str:
    kept = names_of(other for other in BUILT_IN if other is not target)
    return (
        f"leave `{target.name}` out of `--emit`, for instance `--emit {kept}`, or write it unchecked with `--no-check`"
    )
