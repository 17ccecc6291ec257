"""`--load`: Python files that define operators, passes or targets of the user."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from archc.diagnostics import error


def load_plugins(paths: Sequence[str]) -> None:
    """Run the files, which register operators, passes and targets.

    Raises:
        ArchcError: a file cannot be read (see `archc.language.elaboration.loading.load`) or fails (`plugin-failed`).
    """
    for path in paths:
        _load(Path(path))


def _load(path: Path) -> None:
    from archc.language.elaboration.loading import load

    source = load(path, suffix=".py")
    # With the prefix, a file called `torch.py` does not hide the module `torch`.
    name = f"archc_plugins.{path.stem}"
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None, "without a loader there is always a spec"
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look the module up here to resolve annotations
    try:
        exec(compile(source.text, str(path), "exec"), module.__dict__)
    except Exception as failure:  # the user's code may raise any exception
        del sys.modules[name]
        line = _line(failure, str(path))
        raise error(
            "plugin-failed",
            f"`{path}` cannot be loaded: {type(failure).__name__}: {failure}",
            notes=[f"in line {line} of `{path}`"] if line is not None else (),
        ) from failure


def _line(failure: Exception, path: str) -> int | None:
    """The line number in a file at which a failure occurred; None if the line is unknown.

    For a failure in a module that the file imports, this is the line of the import.
    """
    if isinstance(failure, SyntaxError) and failure.filename == path:
        return failure.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(failure.__traceback__) if frame.filename == path]
    return lines[-1] if lines else None
