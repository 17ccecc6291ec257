"""Files of targets, written with a diagnostic for each failure of a target from outside archc."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from archc.codegen.target import ModelToEmit, Target
from archc.diagnostics import ArchcError, error
from archc.driver.output_folder import OutputFolder
from archc.extension_failure import line_of, reason_of
from archc.targets.registry import BUILT_IN
from archc.weights.input_files import DISK_FULL


def write_target(target: Target, model: ModelToEmit, out: OutputFolder) -> dict[str, Path]:
    """Write a model into an output folder; return the paths of the written files by suffix.

    Raises:
        ArchcError: the target cannot express the model; a target from outside archc fails, or writes no file
            (`target-failed`); or a file would replace an input (`output-replaces-input`).
    """
    name = model.graph.name
    path = out.file(f"{name}{target.suffix}")
    _write(target, model, path)
    return {file.name.removeprefix(name): out.file(file.name) for file in with_data_files(path)}


def with_data_files(path: Path) -> list[Path]:
    """The file of a target, and the further files that the target wrote; see `Target.write`."""
    return [path, *sorted(path.parent.glob(f"{glob.escape(path.name)}.*"))]


def _write(target: Target, model: ModelToEmit, path: Path) -> None:
    if target in BUILT_IN:
        target.write_file(model, path)
        return
    with reported(target, target.text or target.write):
        target.write_file(model, path)
    if not path.is_file():
        raise _failed(target, f"it wrote no file `{path.name}`")
    for made in path.parent.iterdir():
        if made.is_dir():
            raise _failed(target, f"it made the folder `{made.name}`, but a target writes files only")


def contributed_report(targets: Sequence[Target], files: Iterable[Path]) -> dict[str, Any]:
    """Entry `contributed` of `report.json`: operators outside the standard of a file's format, by file.

    There is no such entry without a target whose files can have such operators.
    """
    found: dict[str, list[str]] = {}
    for target in targets:
        if target.contributed is not None:
            with reported(target, target.contributed):
                own = (path for path in files if path.name.endswith(target.suffix))
                found |= {path.name: list(target.contributed(path)) for path in own}
    return {"contributed": found} if found else {}


@contextmanager
def reported(target: Target, function: Callable[..., Any] | None) -> Iterator[None]:
    """Report an exception in a function of a target from outside archc.

    Raises:
        ArchcError: the function fails (`target-failed`).
    """
    try:
        yield
    except (ArchcError, MemoryError):
        raise
    except (Exception, SystemExit) as failure:  # code of the user may raise any exception
        if target in BUILT_IN or (isinstance(failure, OSError) and failure.errno in DISK_FULL):
            raise
        line = line_of(failure, function)
        raise _failed(target, reason_of(failure), [f"in {line}"] if line is not None else []) from failure


def _failed(target: Target, reason: str, notes: Sequence[str] = ()) -> ArchcError:
    return error(
        "target-failed",
        f"the target `{target.name}` failed: {reason}",
        notes=notes,
        help=f"correct the target, or leave `{target.name}` out of `--emit`",
    )
