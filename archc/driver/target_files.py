"""Files of targets, written with a diagnostic for each failure of a target from outside archc."""

from __future__ import annotations

import glob
import traceback
from pathlib import Path

from archc.codegen.target import ModelToEmit, Target
from archc.diagnostics import ArchcError, error
from archc.driver.output_folder import OutputFolder
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
    try:
        target.write_file(model, path)
    except (ArchcError, MemoryError):
        raise
    except (Exception, SystemExit) as failure:  # code of the user may raise any exception
        if isinstance(failure, OSError) and failure.errno in DISK_FULL:
            raise
        raise _failed(target, f"{type(failure).__name__}: {failure}", failure) from failure
    if not path.is_file():
        raise _failed(target, f"it wrote no file `{path.name}`")
    for made in path.parent.iterdir():
        if made.is_dir():
            raise _failed(target, f"it made the folder `{made.name}`, but a target writes files only")


def _failed(target: Target, reason: str, failure: BaseException | None = None) -> ArchcError:
    frames = traceback.extract_tb(failure.__traceback__) if failure is not None else []
    function = target.text or target.write
    code = getattr(function, "__code__", None)
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    return error(
        "target-failed",
        f"the target `{target.name}` failed: {reason}",
        notes=[f"in line {own[-1].lineno} of `{own[-1].filename}`"] if own else (),
        help=f"correct the target, or leave `{target.name}` out of `--emit`",
    )
